"""The manifest of the bundle that a model repository was built with."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from bls_models.errors import BundleError, CaptionerError
from bls_models.files import atomic_write
from bls_models.images.preprocessing import Preprocess
from bls_models.specs import BASE_SPECS, CAPTION_SPECS, OBJECT_DETECTOR

MANIFEST_FILE = "bundle.json"
# Beside the text encoder's graph, for whose tokens it is.
TOKENIZER_FILE = "text_encoder/1/tokenizer.json"
# Beside the model that runs the caption engines.
CAPTION_TOKENIZER_FILE = "image_captioner/1/tokenizer.json"
TOKEN_EMBEDDINGS_FILE = "image_captioner/1/token_embeddings.npy"
BUILD_HINT = "Build the models with `make models`."


@dataclass(frozen=True)
class CaptionerBundle:
    """What the serving code knows of a bundle's captioner.

    Attributes:
        fingerprint: 16 hex digits over everything that decides a caption.
        image_size: side S of the square pixels that ``caption_vision`` takes.
        resize: how a picture becomes that square (see
            ``bls_models.images.preprocessing.Preprocess``).
        visual_tokens: tokens T that stand for a picture.
        hidden: length H of a token's embedding.
        kv_planes: key and value planes of the decoder, two a layer.
        kv_heads: key and value heads of a layer.
        head_dim: length of a head's key.
        vocabulary: logits a step.
        prompt_ids: the prompt's tokens; ``image_token_id`` stands T times where the visual
            tokens go.
        image_token_id: see ``prompt_ids``.
        stop_ids: tokens that end a caption.
        max_new_tokens: tokens after which a caption is cut.
        min_confidence: a caption of less (0 to 1) is returned, but not used.
    """

    fingerprint: str
    image_size: int
    resize: str
    visual_tokens: int
    hidden: int
    kv_planes: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    prompt_ids: list[int]
    image_token_id: int
    stop_ids: list[int]
    max_new_tokens: int
    min_confidence: float

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the pixels of ``caption_vision``."""
        return Preprocess(self.image_size, self.resize)


@dataclass(frozen=True)
class DetectorBundle:
    """What the serving code knows of a bundle's object detector.

    Attributes:
        fingerprint: 16 hex digits over everything that decides a box.
        image_size: side S of the square pixels that ``object_detector`` takes.
        resize: how a picture becomes that square (see
            ``bls_models.images.preprocessing.Preprocess``).
        boxes: boxes N that it gives for each picture, whatever is on it.
        min_score: what scores less (0 to 1) is no object.
    """

    fingerprint: str
    image_size: int
    resize: str
    boxes: int
    min_score: float

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the pixels of ``object_detector``."""
        return Preprocess(self.image_size, self.resize)


@dataclass(frozen=True)
class Bundle:
    """What the serving code knows of a bundle.

    Attributes:
        name: the bundle's name.
        fingerprint: 16 hex digits over everything that decides a vector's value; vectors of
            two fingerprints are never compared.
        image_size: side S of the square pixels that ``image_encoder`` takes.
        resize: how a picture becomes that square (see
            ``bls_models.images.preprocessing.Preprocess``).
        image_dim: length of an image vector.
        text_dim: length of a text vector.
        max_tokens: tokens after which a text is cut.
        shared_space: whether text and image vectors can be compared.
        files: sha256 of each built file, by its path in the model repository.
        precisions: of the graphs that the CPU profile chooses from, by model: the one for CPUs
            whose INT8 products are exact, then the one for the others, if that is another (see
            ``bls_models.engines.precisions``). TensorRT's engines have the first. Not part of the
            fingerprint.
        captioner: None: the bundle has none.
        detector: None: the bundle has none.
        keep: the part of a picture that is used (see
            ``bls_models.images.preprocessing.Preprocess``).
        languages: that the text encoder reads, as ISO 639 codes; empty: nothing is known.
        min_scores: the least score of a match where a request names none, by kind of query
            (``image``, ``text``, ``both``); a kind that is left out has none.
    """

    name: str
    fingerprint: str
    image_size: int
    resize: str
    image_dim: int
    text_dim: int
    max_tokens: int
    shared_space: bool
    files: dict[str, str]
    precisions: dict[str, list[str]] = field(default_factory=dict)
    captioner: CaptionerBundle | None = None
    detector: DetectorBundle | None = None
    keep: float = 1.0
    min_scores: dict[str, float] = field(default_factory=dict)
    languages: list[str] = field(default_factory=list)

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes the pixels of ``image_encoder``."""
        return Preprocess(self.image_size, self.resize, self.keep)

    @property
    def models(self) -> tuple[str, ...]:
        """Names of the models that a server of this bundle loads."""
        specs = BASE_SPECS if self.captioner is None else (*BASE_SPECS, *CAPTION_SPECS)
        detector = () if self.detector is None else (OBJECT_DETECTOR,)
        return tuple(spec.name for spec in (*specs, *detector))

    def require_captioner(self) -> CaptionerBundle:
        """The bundle's captioner.

        Raises:
            CaptionerError: it has none.
        """
        if self.captioner is None:
            raise CaptionerError(
                f"bundle {self.name!r} has no captioner; build a bundle that has one, or ask for "
                "no captions"
            )
        return self.captioner

    def size(self, dim: str) -> int:
        """The size that a named dimension of ``bls_models.specs`` has in this bundle.

        Raises:
            BundleError: a size of the captioner or the detector, and the bundle has none.
        """
        for prefix, name in (("caption_", "captioner"), ("detector_", "detector")):
            if dim.startswith(prefix):
                part = getattr(self, name)
                if part is None:
                    raise BundleError(f"bundle {self.name!r} has no {name}")
                return int(getattr(part, dim.removeprefix(prefix)))
        return int(getattr(self, dim))

    def write(self, repository: Path) -> None:
        """Write the manifest into a model repository, at once or not at all."""
        with atomic_write(repository / MANIFEST_FILE) as stream:
            stream.write((json.dumps(asdict(self), indent=2) + "\n").encode())

    @classmethod
    def read(cls, repository: Path) -> Bundle:
        """Read the manifest of a model repository.

        Raises:
            BundleError: there is none, or it is of another version of this code.
        """
        path = repository / MANIFEST_FILE
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            if not isinstance(content, dict):
                raise ValueError(f"it is a JSON {type(content).__name__}, not an object")
            if content.get("captioner") is not None:
                content["captioner"] = CaptionerBundle(**content["captioner"])
            if content.get("detector") is not None:
                content["detector"] = DetectorBundle(**content["detector"])
            return cls(**content)
        except FileNotFoundError:
            raise BundleError(f"{path} is missing: no bundle is built. {BUILD_HINT}") from None
        except (ValueError, TypeError) as error:
            raise BundleError(f"{path} cannot be used: {error}. {BUILD_HINT}") from error

    def check_files(self, repository: Path) -> None:
        """Check that every built file is there, unchanged.

        Raises:
            BundleError: a file is missing or differs from the manifest.
        """
        for name, expected in self.files.items():
            path = repository / name
            if not path.is_file():
                raise BundleError(f"{path} is missing. {BUILD_HINT}")
            if file_sha256(path) != expected:
                raise BundleError(f"{path} differs from the manifest. {BUILD_HINT}")


def graph_file(model: str, precision: str) -> str:
    """Where a graph lies in a model repository."""
    return f"{model}/1/model.{precision}.onnx"


def file_sha256(path: Path) -> str:
    """Hash of a file's content, in hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
