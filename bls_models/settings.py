"""Settings of the serving models, read once from the environment.

Each field names its environment variable, so that the reference in ``docs/configuration.md``
is generated from here (``make docs``) and cannot drift.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import AfterValidator, BeforeValidator, Field, NonNegativeInt, ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    InitSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from bls_models.cpus import CPUS
from bls_models.errors import SetupError

TEXT, JSON = "text", "json"
CPU, GPU = "cpu", "gpu"
FAISS, MILVUS = "faiss", "milvus"
AUTO, INT8, FP32 = "auto", "int8", "fp32"
LogFormat = Literal["text", "json"]

Count = Annotated[int, Field(ge=1)]
Share = Annotated[float, Field(ge=0, le=1)]
# What pydantic takes for yes and no, also with spaces around.
Flag = Annotated[bool, BeforeValidator(lambda word: str(word).strip())]

REPORT_ENTRIES = "PRODUCT_MATCH_REPORT_ENTRIES"
SNAPSHOT_FOLDER = "PRODUCT_MATCH_SNAPSHOT_FOLDER"
PROFILE = "PRODUCT_MATCH_PROFILE"
CPU_PRECISION = "PRODUCT_MATCH_CPU_PRECISION"
INDEX_ENGINE = "PRODUCT_MATCH_INDEX_ENGINE"
INDEX_PROCESS = "PRODUCT_MATCH_INDEX_PROCESS"
METRIC = "PRODUCT_MATCH_METRIC"
# A variable with it names a file with the value, which a secret should be in.
FILE_SUFFIX = "_FILE"
PICTURE_SECRET = "PRODUCT_MATCH_PICTURE_SECRET"


def setting(default: Any, env: str, doc: str, secret: bool = False) -> Any:
    """A field with the name of its environment variable and its documentation.

    Args:
        default: its value where nothing is said.
        env: the variable.
        doc: a sentence or more for ``docs/configuration.md``.
        secret: no message shows its value.
    """
    return Field(default, validation_alias=env, description=doc, repr=not secret)


def matching(pattern: str, expected: str) -> AfterValidator:
    """Of a text: that the pattern fits all of it.

    Args:
        pattern: a regular expression.
        expected: what to set instead where it does not.
    """

    def check(text: str) -> str:
        if not re.fullmatch(pattern, text):
            raise ValueError(expected)
        return text

    return AfterValidator(check)


# A secret that also stands in configurations, where a quote would be syntax.
Secret = Annotated[str, matching(r"([A-Za-z0-9_-]{32,})?", "at least 32 letters, digits, - and _")]
PictureUrl = Annotated[
    str, matching(r"(https?://[^\s\"'<>?#\\]+)?", "an address as https://gateway.example/pictures")
]
LinkSeconds = Annotated[int, Field(ge=60, le=31_536_000)]


class EnvironmentSettings(BaseSettings):
    """Settings that ``from_environment`` reads; made otherwise, they read nothing.

    Raises:
        SetupError: values cannot be used; the message names their variables.
    """

    model_config = SettingsConfigDict(frozen=True, case_sensitive=True, populate_by_name=True)
    # Where the values come from, for messages.
    told_by: ClassVar[str] = "environment variable"

    def __init__(self, *others: PydanticBaseSettingsSource, **values: Any) -> None:
        given = InitSettingsSource(type(self), values)
        try:
            super().__init__(_build_sources=((given, *others), {}))
        except ValidationError as error:
            raise SetupError("\n".join(map(self._refusal, error.errors()))) from None

    @classmethod
    def variables(cls) -> dict[str, str]:
        """The environment variable of each field."""
        return {name: str(field.validation_alias) for name, field in cls.model_fields.items()}

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None, **given: Any) -> Self:
        """Settings from the environment; unset and empty variables keep their defaults.

        Args:
            environ: the environment, by default that of the process.
            given: values by field, which win over the environment.

        Raises:
            SetupError: a value cannot be used.
        """
        environ = os.environ if environ is None else environ
        source = EnvSettingsSource(cls)
        # The source would also take variables that are called as the fields are.
        source.env_vars = {
            name: environ[name] for name in cls.variables().values() if environ.get(name)
        }
        return cls(source, **given)

    @classmethod
    def _refusal(cls, error: ErrorDetails) -> str:
        variable, value = error["loc"][0], error["input"]
        (field,) = (f for f in cls.model_fields.values() if f.validation_alias == variable)
        shown = f"={value!r}" if field.repr else ""
        kind, _, detail = error["type"].partition("_")
        if kind == "literal":
            problem = f"{shown} is unknown; set {' or '.join(get_args(field.annotation))}"
        elif kind == "value":
            problem = f"{shown} cannot be used; set {error['ctx']['error']}"
        elif detail.endswith("than_equal"):
            bounds = [str(bound) for limit in field.metadata for bound in astuple(limit)]
            problem = f"={value} is " + (
                f"out of range; expected a number from {' to '.join(bounds)}"
                if bounds[1:]
                else f"too small; the least is {bounds[0]}"
            )
        else:
            problem = (
                f"{shown} is not a valid {kind}; set it to a {kind} or unset it to use the default"
            )
        return f"{cls.told_by} {variable}{problem}"


def add_flags(
    kind: type[EnvironmentSettings], parser: argparse.ArgumentParser, secrets: bool
) -> None:
    """One flag for each setting (``--http-port`` and so on).

    Args:
        kind: the settings.
        parser: gets the flags.
        secrets: also for those that would then stand in a list of processes.
    """
    for name, field in kind.model_fields.items():
        if field.repr or secrets:
            parser.add_argument(
                f"--{name.replace('_', '-')}",
                type=type(field.default),
                help=f"{field.description} [{field.validation_alias}; {field.default or 'unset'}]",
            )


def given_flags(kind: type[EnvironmentSettings], arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that flags give, by field, for ``from_environment``."""
    flags = {name: getattr(arguments, name, None) for name in kind.model_fields}
    return {name: flag for name, flag in flags.items() if flag is not None}


def values_from_files(environ: Mapping[str, str], names: Iterable[str]) -> dict[str, str]:
    """The values of variables that name a file instead, as ``MONGODB_URI_FILE``.

    Args:
        environ: the environment.
        names: the variables, without the ending.

    Raises:
        SetupError: a file cannot be read, or a setting is given both ways.
    """
    values = {}
    for name in sorted(names):
        path = environ.get(name + FILE_SUFFIX, "")
        if not path:
            continue
        if environ.get(name):
            raise SetupError(f"{name} and {name}{FILE_SUFFIX} are both set; unset one")
        try:
            values[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise SetupError(f"{name}{FILE_SUFFIX}={path} cannot be read: {reason}") from error
    return values


class Settings(EnvironmentSettings):
    """What the models read at load time. Sizes in bytes, times in the unit the name says."""

    mongodb_uri: str = setting(
        "mongodb://127.0.0.1:27017",
        "MONGODB_URI",
        "MongoDB server (a replica set: the index follows its change stream), 7.0 or newer. Its "
        "options for read preference, read and write concern, retries and times are not used.",
        secret=True,
    )
    database: str = setting("product_match", "PRODUCT_MATCH_DATABASE", "Database name.")
    mongodb_timeout_ms: Count = setting(
        2000, "PRODUCT_MATCH_MONGODB_TIMEOUT_MS", "Longest wait for one database operation."
    )
    call_timeout_ms: Count = setting(
        10_000,
        "PRODUCT_MATCH_CALL_TIMEOUT_MS",
        "Longest wait of a match or an ingest for one answer of an engine or of the index.",
    )
    queue_size: Count = setting(
        64,
        "PRODUCT_MATCH_QUEUE_SIZE",
        "Most requests that wait, for each of `product_match`, `product_ingest`, "
        "`product_feedback`, `product_picture` and `product_report`, beside those that are worked "
        "on; further ones are refused at once (503).",
    )
    queue_timeout_ms: Count = setting(
        5000,
        "PRODUCT_MATCH_QUEUE_TIMEOUT_MS",
        "Longest wait there; a request that has waited longer when its turn comes is refused "
        "(503). A request may ask for less with its parameter `timeout`, in microseconds.",
    )
    hang_seconds: Count = setting(
        120,
        "PRODUCT_MATCH_HANG_SECONDS",
        "A model's process whose work does not move for so long (no picture, call or database "
        "operation ends) is taken for one that hangs: it writes where it stands to the log and "
        "ends, and is brought back.",
    )
    max_image_bytes: Count = setting(
        10 * 2**20, "PRODUCT_MATCH_MAX_IMAGE_BYTES", "Largest encoded image."
    )
    max_image_pixels: Count = setting(
        50_000_000,
        "PRODUCT_MATCH_MAX_IMAGE_PIXELS",
        "Most pixels of an image, checked before it is decoded.",
    )
    decode_bytes: Count = setting(
        512 * 2**20,
        "PRODUCT_MATCH_DECODE_BYTES",
        "Most memory that pictures take together while they are decoded, in each process of "
        "`product_match`, `product_ingest` (two) and `product_picture` (two); further ones wait. "
        "One that would take more alone is refused: a pixel takes 9 bytes, 12 in HEIC and AVIF, "
        "17 in a WebP, and up to 8 more in a progressive JPEG.",
    )
    max_images: Count = setting(8, "PRODUCT_MATCH_MAX_IMAGES", "Most images in one match request.")
    max_texts: Count = setting(8, "PRODUCT_MATCH_MAX_TEXTS", "Most texts in one match request.")
    max_like: Count = setting(
        8, "PRODUCT_MATCH_MAX_LIKE", "Most products that one match request may ask for more of."
    )
    max_objects: Count = setting(
        20,
        "PRODUCT_MATCH_MAX_OBJECTS",
        "Most objects of one photo that a match request may ask for; each is encoded and searched "
        "for like a photo of its own.",
    )
    max_text_bytes: Count = setting(
        4096, "PRODUCT_MATCH_MAX_TEXT_BYTES", "Longest query text, in UTF-8 bytes."
    )
    max_filter_bytes: Count = setting(
        16384, "PRODUCT_MATCH_MAX_FILTER_BYTES", "Longest filter JSON, in UTF-8 bytes."
    )
    refuse_unknown_fields: Flag = setting(
        True,
        "PRODUCT_MATCH_REFUSE_UNKNOWN_FIELDS",
        "Whether a request with a field or parameter that is no input is refused: with `generate` "
        "a misspelt `filter` would be ignored otherwise, and everything found.",
    )
    max_answer_bytes: Count = setting(
        4_000_000,
        "PRODUCT_MATCH_MAX_ANSWER_BYTES",
        "Most bytes of products in one answer; a page that has more is refused, and a report tells "
        "of fewer entries. gRPC clients take messages of 4 MiB unless they are told otherwise.",
    )
    max_product_bytes: Count = setting(
        2**20, "PRODUCT_MATCH_MAX_PRODUCT_BYTES", "Longest JSON of a product, in UTF-8 bytes."
    )
    max_product_images: Count = setting(
        32, "PRODUCT_MATCH_MAX_PRODUCT_IMAGES", "Most pictures of one product."
    )
    write_lease_seconds: Count = setting(
        120,
        "PRODUCT_MATCH_WRITE_LEASE_SECONDS",
        "How long a write of products may take; what one that was cut off has left over is removed "
        "by any server after this time.",
    )
    duplicate_cosine: Share = setting(
        0.95,
        "PRODUCT_MATCH_DUPLICATE_COSINE",
        "Cosine, 0 to 1, from which on pictures of two products count as near duplicates; for "
        "another bundle than mini, measure it with `make duplicate-threshold`.",
    )
    metric: Literal["auto", "manual", "none"] = setting(
        AUTO,
        METRIC,
        "What image vectors are compared by: `auto` has a metric fitted from the catalogue's own "
        "views, anew when a fifth of the catalogue has changed, and serves it where it finds more "
        "(docs/quality.md); `manual` serves what `make metric` has fitted or chosen; `none` "
        "compares raw vectors.",
    )
    cross_modal_weight: Share = setting(
        0.5,
        "PRODUCT_MATCH_CROSS_MODAL_WEIGHT",
        "Share of a query text's weight, 0 to 1, that goes to products' pictures where the "
        "bundle's text and image vectors share a space; the rest goes to their texts.",
    )
    default_min_scores: Flag = setting(
        True,
        "PRODUCT_MATCH_DEFAULT_MIN_SCORES",
        "Whether a request that names no `min_score` gets the bundle's for its kind of query, so "
        "that a photo of something else finds nothing. With `no` the best products are returned "
        "however weak, and `likely` in the details says what the bundle's would have done.",
    )
    word_weight: Share = setting(
        0.7,
        "PRODUCT_MATCH_WORD_WEIGHT",
        "How far, 0 to 1, a product that has all words of a query's text comes towards a cosine of "
        "1 to it: what finds article numbers, brands and names. With 0 only vectors count.",
    )
    caption_weight: Share = setting(
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
        "word_weight, caption_weight, cross_modal_weight, view_power, min_score, and "
        '`"metric": "none"` for raw vectors, which takes a second index. Example: '
        '`{"words-first": {"share": 0.1, "text_weight": 2}}`.',
    )
    caption_timeout_ms: Count = setting(
        2000, "PRODUCT_MATCH_CAPTION_TIMEOUT_MS", "Longest wait of a match for its caption."
    )
    caption_queue_size: Count = setting(
        64,
        "PRODUCT_MATCH_CAPTION_QUEUE",
        "Most photos that wait for a caption in one model instance; further ones are matched "
        "without.",
    )
    caption_past_on_gpu: Flag = setting(
        False,
        "PRODUCT_MATCH_CAPTION_PAST_ON_GPU",
        "Keep the caption decoder's keys and values in GPU memory from step to step (GPU profile, "
        "needs CuPy), instead of sending them with each.",
    )
    ingest_caption_timeout_ms: Count = setting(
        30_000,
        "PRODUCT_MATCH_INGEST_CAPTION_TIMEOUT_MS",
        "Longest wait of an ingest batch for the descriptions that it asks for.",
    )
    cpus: NonNegativeInt = setting(
        0,
        CPUS,
        "CPUs by which threads are counted: of search, engines and decoding; 0: as many as the "
        "process's affinity and its cgroup's quota leave it.",
    )
    decode_threads: NonNegativeInt = setting(
        0, "PRODUCT_MATCH_DECODE_THREADS", "Image decoding threads a model; 0: one a CPU."
    )
    profile: Literal["cpu", "gpu"] = setting(
        CPU,
        PROFILE,
        "What runs the engines: `cpu` (OpenVINO) or `gpu` (TensorRT). Local start-up always sets "
        "`cpu`.",
    )
    cpu_precision: Literal["auto", "int8", "fp32"] = setting(
        AUTO,
        CPU_PRECISION,
        "With the CPU profile: `auto` serves a bundle's INT8 graphs where the CPU's INT8 products "
        "are exact (VNNI, AMX), and elsewhere the FP32 graphs beside them; `int8` and `fp32` "
        "choose without looking at the CPU.",
    )
    engine_threads: NonNegativeInt = setting(
        0, "PRODUCT_MATCH_ENGINE_THREADS", "Inference threads of a CPU engine; 0: one a CPU."
    )
    document_cache_bytes: Count = setting(
        32 * 2**20,
        "PRODUCT_MATCH_DOCUMENT_CACHE_BYTES",
        "Bytes of product documents (JSON) that each instance of product_match keeps; the index "
        "tells when one has changed.",
    )
    picture_cache_bytes: Count = setting(
        32 * 2**20,
        "PRODUCT_MATCH_PICTURE_CACHE_BYTES",
        "Bytes of scaled pictures that each of the two processes of `product_picture` keeps.",
    )
    picture_url: PictureUrl = setting(
        "",
        "PRODUCT_MATCH_PICTURE_URL",
        "Where pictures are had, as `https://gateway.example/pictures`: with it the products of a "
        "match have a `picture_url` of their first picture. Empty: they have none.",
    )
    picture_secret: Secret = setting(
        "",
        PICTURE_SECRET,
        "Signs these links, so that browsers need no key; the gateway needs the same. Empty: links "
        "are not signed, and whoever follows one sends a key.",
        secret=True,
    )
    picture_link_seconds: LinkSeconds = setting(
        86_400,
        "PRODUCT_MATCH_PICTURE_LINK_SECONDS",
        "A signed link is good for so long at least, and twice as long at most; for so long a "
        "picture's link stays the same, which lets browsers keep what is behind it.",
    )
    vector_cache: Count = setting(
        2_000,
        "PRODUCT_MATCH_VECTOR_CACHE",
        "Image vectors that each instance of product_match keeps for pictures that come again.",
    )
    index_flat_rows: Count = setting(
        100_000,
        "PRODUCT_MATCH_INDEX_FLAT_ROWS",
        "Vectors of one kind (views, or texts) up to which a search scores all of them. From "
        "there on inverted lists of 8-bit codes (FAISS IVF, SQ8) propose candidates, which are "
        "scored exactly.",
    )
    index_probed_share: Share = setting(
        0.04,
        "PRODUCT_MATCH_INDEX_PROBED_SHARE",
        "Share of the inverted lists, 0 to 1, that a search looks through: more find more and "
        "take longer (docs/benchmarks.md).",
    )
    index_exact_rows: Count = setting(
        20_000,
        "PRODUCT_MATCH_INDEX_EXACT_ROWS",
        "A filter that leaves so many vectors or fewer has all of them scored; a wider one is "
        "applied within the inverted lists.",
    )
    max_attribute_keys: Count = setting(
        10_000,
        "PRODUCT_MATCH_MAX_ATTRIBUTE_KEYS",
        "Distinct attribute keys of the catalogue that filters can name. Products with further "
        "keys are searched as all others, but a filter on such a key is refused.",
    )
    max_filter_work: Count = setting(
        20_000_000,
        "PRODUCT_MATCH_MAX_FILTER_WORK",
        "Values of the catalogue that one filter may look at; some 15 ns each. A condition looks "
        "at those that match, or that do not, and conditions on one field share them.",
    )
    max_search_work: Count = setting(
        2_000_000,
        "PRODUCT_MATCH_MAX_SEARCH_WORK",
        "Products of a query vector and a stored one that one query may take where all of the "
        "catalogue is scored (a page past 500 matches in a large catalogue, for example).",
    )
    index_process: Literal["product_match", "product_index"] = setting(
        "product_match",
        INDEX_PROCESS,
        "The model whose process holds the index: `product_match`, which then has one instance, or "
        "`product_index`, which several instances of `product_match` ask.",
    )
    index_device: Literal["cpu", "gpu"] = setting(
        "cpu",
        "PRODUCT_MATCH_INDEX_DEVICE",
        "Where candidates are searched: `cpu`, or `gpu`, which needs a GPU and an environment with "
        "the extra `gpu` (the GPU image has faiss-cpu and refuses it), and keeps searches under a "
        "filter on the CPU.",
    )
    index_engine: Literal["faiss", "milvus"] = setting(
        FAISS,
        INDEX_ENGINE,
        "What holds and searches the vectors: `faiss`, in the memory of each server, or `milvus`, "
        "a Milvus server or cluster that all servers share, for a catalogue that outgrows one "
        "machine (needs an environment with the extra `milvus`).",
    )
    milvus_uri: str = setting(
        "http://127.0.0.1:19530",
        "MILVUS_URI",
        "With the engine `milvus`: its address; `https://` for TLS. A path that ends in `.db` is a "
        "file of Milvus Lite, for trying things with some thousand products.",
        secret=True,
    )
    milvus_token: str = setting(
        "",
        "MILVUS_TOKEN",
        "What Milvus knows this server by: `user:password`, or an API key.",
        secret=True,
    )
    milvus_certificate: str = setting(
        "",
        "MILVUS_CERTIFICATE",
        "File with the certificates (PEM) of the authority that signed Milvus's, for an `https://` "
        "address. Empty: those that gRPC brings.",
    )
    milvus_consistency: Literal["Strong", "Bounded", "Session", "Eventually"] = setting(
        "Bounded",
        "MILVUS_CONSISTENCY",
        "How fresh what a search sees must be, in Milvus's words; `Strong` waits until everything "
        "that was written is there, some 0.2 s.",
    )
    milvus_timeout_ms: Count = setting(
        2000,
        "PRODUCT_MATCH_MILVUS_TIMEOUT_MS",
        "Longest wait for one operation of Milvus; below 5000, half of the lease of who follows.",
    )
    milvus_proof: Flag = setting(
        False,
        "PRODUCT_MATCH_MILVUS_PROOF",
        "Whether a search asks Milvus for more candidates until no product beyond them can reach "
        "the page: slower, and as good as Milvus's own lists are.",
    )
    milvus_cache_bytes: Count = setting(
        512 * 2**20,
        "PRODUCT_MATCH_MILVUS_CACHE_BYTES",
        "Bytes of vectors from MongoDB that a server keeps, with which it scores what Milvus "
        "proposes.",
    )
    milvus_keep_seconds: Count = setting(
        3600,
        "PRODUCT_MATCH_MILVUS_KEEP_SECONDS",
        "How long collections in Milvus stay that no server has used since: of another bundle, or "
        "of a metric that is not served any more.",
    )
    snapshot_folder: str = setting(
        "",
        SNAPSHOT_FOLDER,
        "Folder for snapshots of the index, from which a server starts faster than by reading all "
        "vectors from MongoDB; each server needs its own. Local start-up and the container choose "
        "one below their state folder unless this is set. Empty: no snapshots.",
    )
    snapshot_bytes: NonNegativeInt = setting(
        0,
        "PRODUCT_MATCH_SNAPSHOT_BYTES",
        "Most bytes that the folder may hold; 0: any number. A snapshot that does not fit beside "
        "the one before is written after that was removed, and one that does not fit at all is not "
        "written. The chart sets it.",
    )
    snapshot_seconds: Count = setting(
        300,
        "PRODUCT_MATCH_SNAPSHOT_SECONDS",
        "Longest time from a change of the index to a snapshot that has it.",
    )
    snapshot_changes: Count = setting(
        10_000,
        "PRODUCT_MATCH_SNAPSHOT_CHANGES",
        "Changes of the index after which a snapshot is written earlier; but never do snapshots "
        "take more than a tenth of the time.",
    )
    log_days: Count = setting(
        30, "PRODUCT_MATCH_LOG_DAYS", "Days after which log entries expire (TTL index)."
    )
    report_entries: Count = setting(
        50_000,
        REPORT_ENTRIES,
        "Entries of the match log that one report of `product_report` reads at most, the newest "
        "ones, or a tenth as much feedback. With the local database, which reads fewer in the same "
        "time, `make run` takes 10000.",
    )
    log_queue_folder: str = setting(
        str(Path(__file__).resolve().parent.parent / ".state" / "log-queue"),
        "PRODUCT_MATCH_LOG_QUEUE_FOLDER",
        "Folder where log entries wait for the database; it should outlive the server. Local "
        "start-up and containers use `log-queue` in their state folder.",
    )
    log_queue_bytes: Count = setting(
        128 * 2**20,
        "PRODUCT_MATCH_LOG_QUEUE_BYTES",
        "Bytes on disk in which each process of `product_match`, `product_ingest` and "
        "`product_feedback` holds its log entries while the database is away; further ones are "
        "dropped and counted (feedback: refused with 503).",
    )

    log_format: LogFormat = setting(
        "text",
        "PRODUCT_MATCH_LOG_FORMAT",
        "Log lines of the models: `text`, in Triton's own form, or `json`, one object a line.",
    )
