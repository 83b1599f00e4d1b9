"""How pictures become a model's pixels: by the bundle file or the checkpoint's own settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.errors import BundleError
from bls_models.images.preprocessing import Preprocess
from builders.checkpoints.pretrained import read_settings
from builders.config import CaptionerConfig, DetectorConfig, ImageEncoderConfig

SETTINGS_FILE = "preprocessor_config.json"

# What transformers assumes where a file does not say.
DEFAULT_RESCALE = 1 / 255


@dataclass(frozen=True)
class PixelSettings:
    """From UINT8 pixels (S, S, 3) to what a model takes.

    Attributes:
        image_size: side S of the pixels that the graph takes.
        model_size: side of the centre part that the model sees, at most ``image_size``.
        resize: how a picture becomes the S x S square (see
            ``bls_models.images.preprocessing.Preprocess``).
        rescale: factor on 0..255, before mean and standard deviation.
        mean: of each channel (R, G, B), after rescaling.
        std: standard deviation of each channel, after rescaling.
        keep: the part of a picture that is used (see
            ``bls_models.images.preprocessing.Preprocess``).
    """

    image_size: int
    model_size: int
    resize: str
    rescale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    keep: float = 1.0

    def __post_init__(self) -> None:
        """Refuse sizes and ways to resize that the serving code does not know."""
        self.preprocess  # noqa: B018

    @property
    def preprocess(self) -> Preprocess:
        """From a picture to the S x S pixels."""
        return Preprocess(self.image_size, self.resize, self.keep)


def pixel_settings(config: ImageEncoderConfig | DetectorConfig, folder: Path) -> PixelSettings:
    """Settings of a checkpoint folder, with the bundle file's values in place of its own.

    A checkpoint may resize to more than its model sees and cut off the border. That is done in
    the graph. Where the bundle file gives ``image_size`` or ``resize``, nothing is cut off.

    Raises:
        BundleError: the settings are missing, contradictory or of a kind that is not supported.
    """
    settings = read_settings(folder, SETTINGS_FILE)
    image_size, model_size, resize = _geometry(settings, folder)
    if config.image_size is not None or config.resize is not None:
        image_size = model_size = model_size if config.image_size is None else config.image_size
        resize = resize if config.resize is None else config.resize
    # Objects stand anywhere, so a detector sees the whole picture.
    keep = config.keep if isinstance(config, ImageEncoderConfig) else 1.0
    return PixelSettings(
        image_size, model_size, resize, *_normalisation(settings, folder), keep=keep
    )


def whole_picture_settings(config: CaptionerConfig, folder: Path, size: int) -> PixelSettings:
    """Settings for a model that sees a whole picture as one square of a fixed size.

    The normalisation is the checkpoint's; the picture is stretched unless the bundle file says
    otherwise, which is what such models' own processors do with a picture they do not split.

    Args:
        config: a captioner.
        folder: its checkpoint.
        size: side of the square that the model was made for.

    Raises:
        BundleError: the bundle file has another size, or the settings are of no use.
    """
    if config.image_size not in (None, size):
        raise BundleError(
            f"{config.family}: image_size {config.image_size}, but the model of {folder} sees "
            f"{size} x {size} pixels; set image_size = {size} or leave it out"
        )
    settings = read_settings(folder, SETTINGS_FILE)
    resize = config.resize or "stretch"
    return PixelSettings(size, size, resize, *_normalisation(settings, folder))


def _normalisation(
    settings: dict[str, Any], folder: Path
) -> tuple[float, tuple[float, ...], tuple[float, ...]]:
    """Factor on 0..255, mean and standard deviation."""
    rescale = settings.get("rescale_factor", DEFAULT_RESCALE)
    if not settings.get("do_rescale", True):
        rescale = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    if settings.get("do_normalize", True):
        mean, std = (_channels(settings, key, folder) for key in ("image_mean", "image_std"))
    return float(rescale), mean, std


def _geometry(settings: dict[str, Any], folder: Path) -> tuple[int, int, str]:
    """Side of the resized square, side of its part that the model sees, and how to resize."""
    if not settings.get("do_resize", True):
        raise _unsupported(folder, "do_resize is false, so that pictures keep their sizes")
    crops = settings.get("do_center_crop")
    if crops is None:
        crops = "crop_size" in settings
    size = settings.get("size")
    # Old files have a number: with a crop the shorter side, without one the square's side.
    if isinstance(size, int):
        size = {"shortest_edge": size} if crops else {"height": size, "width": size}
    match size:
        case {"shortest_edge": int(side)} if crops:
            resize = "center_crop"
        case {"height": int(side), "width": int(width)} if side == width:
            resize = "stretch"
        case _:
            raise _unsupported(folder, f"size {size} gives no square")
    if not crops:
        return side, side, resize
    match settings.get("crop_size"):
        case int(crop):
            pass
        case {"height": int(crop), "width": int(width)} if crop == width:
            pass
        case other:
            raise _unsupported(folder, f"crop_size {other} is no square")
    if crop > side:
        raise _unsupported(folder, f"crop_size {crop} exceeds size {side}")
    return side, crop, resize


def _channels(settings: dict[str, Any], key: str, folder: Path) -> tuple[float, ...]:
    values = settings.get(key)
    if not isinstance(values, list) or len(values) != 3:
        raise _unsupported(folder, f"{key} is {values}, expected three numbers (R, G, B)")
    return tuple(float(value) for value in values)


def _unsupported(folder: Path, what: str) -> BundleError:
    return BundleError(
        f"{folder / SETTINGS_FILE}: {what}; use a checkpoint of a model with square pictures of "
        "a fixed size"
    )
