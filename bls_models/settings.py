"""Settings of the serving models, read once from the environment.

Each field names its environment variable, so that the reference in ``docs/configuration.md``
is generated from here (``make docs``) and cannot drift.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from bls_models.errors import SetupError

TRUE_WORDS = frozenset({"1", "true", "yes", "on"})
FALSE_WORDS = frozenset({"0", "false", "no", "off"})
TEXT, JSON = LOG_FORMATS = ("text", "json")
CPU, GPU = PROFILES = ("cpu", "gpu")
AUTO, INT8, FP32 = CPU_PRECISIONS = ("auto", "int8", "fp32")
# Fields with a few words to choose from.
CHOICES = {"log_format": LOG_FORMATS, "profile": PROFILES, "cpu_precision": CPU_PRECISIONS}

SNAPSHOT_FOLDER = "PRODUCT_MATCH_SNAPSHOT_FOLDER"
PROFILE = "PRODUCT_MATCH_PROFILE"
CPU_PRECISION = "PRODUCT_MATCH_CPU_PRECISION"


def setting(default: Any, env: str, doc: str) -> Any:
    """A dataclass field with the name of its environment variable and its documentation."""
    return field(default=default, metadata={"env": env, "doc": doc})


def parse_value(name: str, text: str, kind: type) -> Any:
    """Read one environment variable as ``kind``.

    Raises:
        SetupError: the text is not a value of that kind.
    """
    try:
        if kind is bool:
            word = text.strip().lower()
            if word in TRUE_WORDS:
                return True
            if word in FALSE_WORDS:
                return False
            raise ValueError
        return kind(text)
    except ValueError:
        raise SetupError(
            f"environment variable {name}={text!r} is not a valid {kind.__name__}; "
            f"set it to a {kind.__name__} or unset it to use the default"
        ) from None


def values_from_environment(kind: type, environ: Mapping[str, str]) -> dict[str, Any]:
    """The fields of a dataclass of settings whose variables are set and not empty.

    Raises:
        SetupError: a variable does not parse.
    """
    return {
        item.name: parse_value(item.metadata["env"], text, type(item.default))
        for item in fields(kind)
        if (text := environ.get(item.metadata["env"], ""))
    }


@dataclass(frozen=True)
class Settings:
    """What the models read at load time. Sizes in bytes, times in the unit the name says."""

    mongodb_uri: str = setting(
        "mongodb://127.0.0.1:27017",
        "MONGODB_URI",
        "MongoDB server (a replica set: the index follows its change stream).",
    )
    database: str = setting("product_match", "PRODUCT_MATCH_DATABASE", "Database name.")
    mongodb_timeout_ms: int = setting(
        2000, "PRODUCT_MATCH_MONGODB_TIMEOUT_MS", "Longest wait for one database operation."
    )
    call_timeout_ms: int = setting(
        10_000,
        "PRODUCT_MATCH_CALL_TIMEOUT_MS",
        "Longest wait of a match or an ingest for one answer of an engine or of the index.",
    )
    max_image_bytes: int = setting(
        10 * 2**20, "PRODUCT_MATCH_MAX_IMAGE_BYTES", "Largest encoded image."
    )
    max_image_pixels: int = setting(
        50_000_000,
        "PRODUCT_MATCH_MAX_IMAGE_PIXELS",
        "Most pixels of an image, checked before it is decoded.",
    )
    max_images: int = setting(8, "PRODUCT_MATCH_MAX_IMAGES", "Most images in one match request.")
    max_texts: int = setting(8, "PRODUCT_MATCH_MAX_TEXTS", "Most texts in one match request.")
    max_text_bytes: int = setting(
        4096, "PRODUCT_MATCH_MAX_TEXT_BYTES", "Longest query text, in UTF-8 bytes."
    )
    max_filter_bytes: int = setting(
        16384, "PRODUCT_MATCH_MAX_FILTER_BYTES", "Longest filter JSON, in UTF-8 bytes."
    )
    max_product_bytes: int = setting(
        2**20, "PRODUCT_MATCH_MAX_PRODUCT_BYTES", "Longest JSON of a product, in UTF-8 bytes."
    )
    max_product_images: int = setting(
        32, "PRODUCT_MATCH_MAX_PRODUCT_IMAGES", "Most pictures of one product."
    )
    write_lease_seconds: int = setting(
        120,
        "PRODUCT_MATCH_WRITE_LEASE_SECONDS",
        "How long a write of products may take; what one that was cut off has left over is removed "
        "by any server after this time.",
    )
    duplicate_cosine: float = setting(
        0.95,
        "PRODUCT_MATCH_DUPLICATE_COSINE",
        "Cosine, 0 to 1, from which on pictures of two products count as near duplicates; for "
        "another bundle than mini, measure it with `make duplicate-threshold`.",
    )
    cross_modal_weight: float = setting(
        0.5,
        "PRODUCT_MATCH_CROSS_MODAL_WEIGHT",
        "Share of a query text's weight, 0 to 1, that goes to products' pictures where the "
        "bundle's text and image vectors share a space; the rest goes to their texts.",
    )
    default_min_scores: bool = setting(
        True,
        "PRODUCT_MATCH_DEFAULT_MIN_SCORES",
        "Whether a request that names no `min_score` gets the bundle's for its kind of query, so "
        "that a photo of something else finds nothing. With `no` the best products are returned "
        "however weak, and `likely` in the details says what the bundle's would have done.",
    )
    caption_weight: float = setting(
        0.0,
        "PRODUCT_MATCH_CAPTION_WEIGHT",
        "Weight, 0 to 1, with which a photo's caption joins the query as a further text, as a "
        "share of the photo's own weight. At 0 captions are only shown, and the search does not "
        "wait for them.",
    )
    variants: str = setting(
        "",
        "PRODUCT_MATCH_VARIANTS",
        "A/B test: JSON of named variants, each with its share of the requests and what it does "
        "otherwise: image_weight and text_weight (factors on the query's own weights), "
        "caption_weight, cross_modal_weight, view_power, min_score. Example: "
        '`{"words-first": {"share": 0.1, "text_weight": 2}}`.',
    )
    caption_timeout_ms: int = setting(
        2000, "PRODUCT_MATCH_CAPTION_TIMEOUT_MS", "Longest wait of a match for its caption."
    )
    caption_queue_size: int = setting(
        64,
        "PRODUCT_MATCH_CAPTION_QUEUE",
        "Most photos that wait for a caption in one model instance; further ones are matched "
        "without.",
    )
    caption_past_on_gpu: bool = setting(
        False,
        "PRODUCT_MATCH_CAPTION_PAST_ON_GPU",
        "Keep the caption decoder's keys and values in GPU memory from step to step (GPU profile, "
        "needs CuPy), instead of sending them with each.",
    )
    ingest_caption_timeout_ms: int = setting(
        30_000,
        "PRODUCT_MATCH_INGEST_CAPTION_TIMEOUT_MS",
        "Longest wait of an ingest batch for the descriptions that it asks for.",
    )
    decode_threads: int = setting(
        0, "PRODUCT_MATCH_DECODE_THREADS", "Image decoding threads a model; 0: one a CPU."
    )
    profile: str = setting(
        CPU,
        PROFILE,
        "What runs the engines: `cpu` (OpenVINO) or `gpu` (TensorRT). Local start-up always sets "
        "`cpu`.",
    )
    cpu_precision: str = setting(
        AUTO,
        CPU_PRECISION,
        "With the CPU profile: `auto` serves a bundle's INT8 graphs where the CPU's INT8 products "
        "are exact (VNNI, AMX), and elsewhere the FP32 graphs beside them; `int8` and `fp32` "
        "choose without looking at the CPU.",
    )
    engine_threads: int = setting(
        0, "PRODUCT_MATCH_ENGINE_THREADS", "Inference threads of a CPU engine; 0: one a CPU."
    )
    document_cache_bytes: int = setting(
        32 * 2**20,
        "PRODUCT_MATCH_DOCUMENT_CACHE_BYTES",
        "Bytes of product documents (JSON) that each instance of product_match keeps; the index "
        "tells when one has changed.",
    )
    vector_cache: int = setting(
        2_000,
        "PRODUCT_MATCH_VECTOR_CACHE",
        "Image vectors that each instance of product_match keeps for pictures that come again.",
    )
    index_flat_rows: int = setting(
        100_000,
        "PRODUCT_MATCH_INDEX_FLAT_ROWS",
        "Vectors of one kind (views, or texts) up to which a search scores all of them. From "
        "there on inverted lists of 8-bit codes (FAISS IVF, SQ8) propose candidates, which are "
        "scored exactly.",
    )
    index_probed_share: float = setting(
        0.04,
        "PRODUCT_MATCH_INDEX_PROBED_SHARE",
        "Share of the inverted lists, 0 to 1, that a search looks through: more find more and "
        "take longer (docs/benchmarks.md).",
    )
    index_exact_rows: int = setting(
        20_000,
        "PRODUCT_MATCH_INDEX_EXACT_ROWS",
        "A filter that leaves so many vectors or fewer has all of them scored; a wider one is "
        "applied within the inverted lists.",
    )
    index_device: str = setting(
        "cpu",
        "PRODUCT_MATCH_INDEX_DEVICE",
        "Where candidates are searched: `cpu`, or `gpu`, which needs a GPU and an environment with "
        "the extra `gpu` (the GPU image has faiss-cpu and refuses it), and keeps searches under a "
        "filter on the CPU.",
    )
    snapshot_folder: str = setting(
        "",
        SNAPSHOT_FOLDER,
        "Folder for snapshots of the index, from which a server starts faster than by reading all "
        "vectors from MongoDB; each server needs its own. Local start-up and the container choose "
        "one below their state folder unless this is set. Empty: no snapshots.",
    )
    snapshot_seconds: int = setting(
        300,
        "PRODUCT_MATCH_SNAPSHOT_SECONDS",
        "Longest time from a change of the index to a snapshot that has it.",
    )
    snapshot_changes: int = setting(
        10_000,
        "PRODUCT_MATCH_SNAPSHOT_CHANGES",
        "Changes of the index after which a snapshot is written earlier; but never do snapshots "
        "take more than a tenth of the time.",
    )
    log_days: int = setting(
        30, "PRODUCT_MATCH_LOG_DAYS", "Days after which log entries expire (TTL index)."
    )
    log_queue_folder: str = setting(
        str(Path(__file__).resolve().parent.parent / ".state" / "log-queue"),
        "PRODUCT_MATCH_LOG_QUEUE_FOLDER",
        "Folder where log entries wait for the database; it should outlive the server. Local "
        "start-up and containers use `log-queue` in their state folder.",
    )
    log_queue_bytes: int = setting(
        128 * 2**20,
        "PRODUCT_MATCH_LOG_QUEUE_BYTES",
        "Bytes on disk in which each process of `product_match`, `product_ingest` and "
        "`product_feedback` holds its log entries while the database is away; further ones are "
        "dropped and counted (feedback: refused with 503).",
    )

    log_format: str = setting(
        "text",
        "PRODUCT_MATCH_LOG_FORMAT",
        "Log lines of the models: `text`, in Triton's own form, or `json`, one object a line.",
    )

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> Settings:
        """Settings from the environment; unset variables keep their defaults.

        Raises:
            SetupError: a variable does not parse or is out of range.
        """
        environ = os.environ if environ is None else environ
        values = values_from_environment(cls, environ)
        variables = {item.name: item.metadata["env"] for item in fields(cls)}
        for name, value in values.items():
            minimum = 0 if name.endswith("_threads") else 1
            if isinstance(value, int) and value < minimum:
                raise SetupError(
                    f"environment variable {variables[name]}={value} is too small; "
                    f"the least is {minimum}"
                )
            if isinstance(value, float) and not 0 <= value <= 1:
                raise SetupError(
                    f"environment variable {variables[name]}={environ[variables[name]]} is out of "
                    "range; expected a number from 0 to 1"
                )
        for name, words in CHOICES.items():
            if values.get(name, words[0]) not in words:
                raise SetupError(
                    f"environment variable {variables[name]}={values[name]!r} is unknown; "
                    f"set {' or '.join(words)}"
                )
        return cls(**values)


def cpu_count() -> int:
    """CPUs this process may use (cgroup pinning and affinity respected)."""
    return len(os.sched_getaffinity(0)) or 1
