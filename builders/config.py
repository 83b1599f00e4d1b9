"""Reads a bundle's TOML file."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bls_models.errors import BundleError
from bls_models.specs import QUERY_KINDS

BUNDLES_FOLDER = Path(__file__).with_name("bundles")
# ISO 639; `mul` is the code of many.
LANGUAGE = re.compile("[a-z]{2,3}")

# Families whose image and text vectors can be compared when they are of one checkpoint.
SHARED_SPACE_FAMILIES = (("clip_vision", "clip_text"), ("siglip_vision", "siglip_text"))


@dataclass(frozen=True)
class ImageEncoderConfig:
    """``[image_encoder]`` of a bundle file.

    Attributes:
        family: a key of ``builders.encoders.image.FAMILIES``.
        checkpoint: see ``builders.checkpoints.references.find_checkpoint``.
        image_size: side of the pixels that the model sees; None: the checkpoint's own.
        resize: see ``bls_models.images.preprocessing.Preprocess``; None: the checkpoint's own.
        keep: the part of a picture that is used (see
            ``bls_models.images.preprocessing.Preprocess``).
        pooling_sigma: standard deviation of the weight that a cell of the feature map has by its
            distance from the centre, in cells; None: all count alike. Of efficientnet_lite0 only.
        precision: one of ``builders.graphs.precisions.PRECISIONS``, of the graph that is served.
    """

    family: str
    checkpoint: str
    image_size: int | None = None
    resize: str | None = None
    keep: float = 1.0
    pooling_sigma: float | None = None
    precision: str = "fp32"


@dataclass(frozen=True)
class TextEncoderConfig:
    """``[text_encoder]`` of a bundle file.

    Attributes:
        family: a key of ``builders.encoders.text.FAMILIES``.
        checkpoint: see ``builders.checkpoints.references.find_checkpoint``.
        max_tokens: tokens after which a text is cut.
        precision: one of ``builders.graphs.precisions.PRECISIONS``, of the graph that is served.
        languages: see ``bls_models.bundle.Bundle``.
    """

    family: str
    checkpoint: str
    max_tokens: int
    precision: str = "fp32"
    languages: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class CaptionerConfig:
    """``[captioner]`` of a bundle file.

    Attributes:
        family: a key of ``builders.captioners.families.FAMILIES``.
        checkpoint: see ``builders.checkpoints.references.find_checkpoint``.
        prompt: what the language model is asked for; None: the family has a prompt of its own.
        max_new_tokens: tokens after which a caption is cut.
        min_confidence: a caption of less (0 to 1) is returned, but not used.
        image_size: side of the pixels that the model sees; None: the checkpoint's own.
        resize: see ``bls_models.images.preprocessing.Preprocess``; None: the checkpoint's own.
        vision_precision: one of ``builders.graphs.precisions.PRECISIONS``, of the vision graph that
            is served.
        decoder_precision: likewise, of the decoder's graph.
    """

    family: str
    checkpoint: str
    prompt: str | None = None
    max_new_tokens: int = 32
    min_confidence: float = 0.0
    image_size: int | None = None
    resize: str | None = None
    vision_precision: str = "fp32"
    decoder_precision: str = "fp32"


@dataclass(frozen=True)
class DetectorConfig:
    """``[object_detector]`` of a bundle file.

    Attributes:
        family: a key of ``builders.detectors.families.FAMILIES``.
        checkpoint: see ``builders.checkpoints.references.find_checkpoint``.
        image_size: side of the pixels that the model sees; None: the checkpoint's own.
        resize: see ``bls_models.images.preprocessing.Preprocess``; None: the checkpoint's own.
        boxes: boxes that the graph gives for each picture, those of the best score.
        min_score: what scores less (0 to 1) is no object.
        precision: one of ``builders.graphs.precisions.PRECISIONS``, of the graph that is served.
        ignored_labels: names of classes that are no products, such as ``person``; of checkpoints
            that tell classes apart.
    """

    family: str
    checkpoint: str
    image_size: int | None = None
    resize: str | None = None
    boxes: int = 64
    min_score: float = 0.3
    precision: str = "fp32"
    ignored_labels: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class BundleConfig:
    """A bundle file: which models, from which checkpoints, with which sizes.

    Attributes:
        name: the bundle's name.
        description: one line on what it is.
        shared_space: whether text and image vectors can be compared.
        image_encoder: pictures to vectors.
        text_encoder: texts to vectors.
        captioner: pictures to texts; None: the bundle has none.
        object_detector: pictures to boxes of objects; None: the bundle has none.
        min_scores: see ``bls_models.bundle.Bundle``.
    """

    name: str
    description: str
    shared_space: bool
    image_encoder: ImageEncoderConfig
    text_encoder: TextEncoderConfig
    captioner: CaptionerConfig | None = None
    object_detector: DetectorConfig | None = None
    min_scores: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse what the server could not use.

        Raises:
            BundleError: least scores that no kind of query has, or that are no cosines, or
                languages that are no codes.
        """
        for language in self.text_encoder.languages:
            if not isinstance(language, str) or not LANGUAGE.fullmatch(language):
                raise BundleError(
                    f"bundle {self.name!r}: languages has {language!r}; expected codes of two or "
                    "three letters as ISO 639 has them"
                )
        for kind, value in self.min_scores.items():
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if kind not in QUERY_KINDS or not number or not -1 <= value <= 1:
                raise BundleError(
                    f"bundle {self.name!r}: min_scores has {kind} = {value!r}; expected numbers "
                    f"from -1 to 1 for {', '.join(QUERY_KINDS)}"
                )


def read_bundle_config(name_or_path: str) -> BundleConfig:
    """Read a bundle by its name (a file in ``builders/bundles``) or by the path of a TOML file.

    Raises:
        BundleError: there is no such bundle, or the file lacks or adds a key.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BUNDLES_FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in BUNDLES_FOLDER.glob("*.toml")))
        raise BundleError(
            f"no bundle {name_or_path!r} ({path} does not exist); "
            f"known bundles: {known}, or give the path of a TOML file"
        )
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        captioner = table.pop("captioner", None)
        detector = table.pop("object_detector", None)
        return BundleConfig(
            image_encoder=ImageEncoderConfig(**table.pop("image_encoder")),
            text_encoder=TextEncoderConfig(**table.pop("text_encoder")),
            captioner=None if captioner is None else CaptionerConfig(**captioner),
            object_detector=None if detector is None else DetectorConfig(**detector),
            **table,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not a valid bundle file: {error}") from error


def check_shared_space(config: BundleConfig) -> None:
    """Check that a bundle which says so really has both encoders in one space.

    Raises:
        BundleError: ``shared_space`` with encoders that were not trained together.
    """
    image, text = config.image_encoder, config.text_encoder
    together = (image.family, text.family) in SHARED_SPACE_FAMILIES
    if config.shared_space and not (together and image.checkpoint == text.checkpoint):
        raise BundleError(
            f"bundle {config.name!r} has shared_space = true, but {image.family} of "
            f"{image.checkpoint} and {text.family} of {text.checkpoint} share none; give both the "
            "same CLIP or SigLIP checkpoint, or set shared_space = false"
        )
