"""Optimisation profiles: for which shapes TensorRT compiles and tunes an engine.

A profile names the free axes of a model and gives each a range. Inputs are written in terms of
those axes, so the shapes that TensorRT gets for several inputs always agree with each other
(TensorRT refuses a profile whose optimal shapes contradict the graph).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from typing import Any

from bls_models.bundle import Bundle
from bls_models.errors import BundleError
from bls_models.specs import (
    CAPTION_DECODER,
    CAPTION_VISION,
    IMAGE_ENCODER,
    OBJECT_DETECTOR,
    TEXT_ENCODER,
    Dim,
    ModelSpec,
    TensorSpec,
)

# A batch that a busy server forms often; tuned for, while every batch up to the largest runs.
OPTIMAL_BATCH = 8
# Product texts have a few dozen tokens.
OPTIMAL_SEQUENCE = 32


@dataclass(frozen=True)
class AxisRange:
    """The sizes that a free axis takes.

    Raises:
        BundleError: the three are not in ascending order.
    """

    minimum: int
    optimum: int
    maximum: int

    def __post_init__(self) -> None:
        if not 0 <= self.minimum <= self.optimum <= self.maximum:
            raise BundleError(
                f"axis range {self.minimum}/{self.optimum}/{self.maximum} is not in the order "
                "minimum, optimum, maximum; correct the model's profile"
            )


@dataclass(frozen=True)
class ShapeRange:
    """The smallest, the tuned and the largest shape of an input, batch first."""

    minimum: tuple[int, ...]
    optimum: tuple[int, ...]
    maximum: tuple[int, ...]


@dataclass(frozen=True)
class OptimizationProfile:
    """One optimisation profile of an engine.

    Attributes:
        name: what it is for; shown in reports.
        axes: the range of each free axis.
        inputs: each input's shape, batch first, of numbers, axis names, and sums of axes
            (``past+sequence``).
    """

    name: str
    axes: Mapping[str, AxisRange]
    inputs: Mapping[str, tuple[Dim, ...]]

    def shapes(self) -> dict[str, ShapeRange]:
        """Each input's shapes.

        Raises:
            BundleError: an input uses an axis that has no range.
        """
        return {
            name: ShapeRange(*zip(*map(self._sizes, dims), strict=True))
            for name, dims in self.inputs.items()
        }

    def _sizes(self, dim: Dim) -> tuple[int, ...]:
        """Minimum, optimum and maximum."""
        if isinstance(dim, int):
            return (dim, dim, dim)
        try:
            axes = [astuple(self.axes[axis]) for axis in dim.split("+")]
            return tuple(map(sum, zip(*axes, strict=True)))
        except KeyError as error:
            raise BundleError(
                f"profile {self.name!r} has no range for axis {error}; "
                f"it has {', '.join(self.axes)}"
            ) from None

    def as_json(self) -> dict[str, Any]:
        """The profile as it stands in an engine's metadata: minimum, optimum, maximum by input."""
        return {
            "name": self.name,
            "shapes": {
                name: [list(sizes) for sizes in astuple(shape)]
                for name, shape in self.shapes().items()
            },
        }


def bundle_dims(tensor: TensorSpec, bundle: Bundle) -> tuple[int, ...]:
    """A tensor's dims without the batch, with the bundle's sizes for names; -1 stays free."""
    return tuple(dim if isinstance(dim, int) else bundle.size(dim) for dim in tensor.dims)


def _batch(spec: ModelSpec) -> AxisRange:
    return AxisRange(1, min(OPTIMAL_BATCH, spec.max_batch_size), spec.max_batch_size)


def _image_profiles(spec: ModelSpec, bundle: Bundle) -> tuple[OptimizationProfile, ...]:
    (image,) = spec.inputs
    return (
        OptimizationProfile(
            "images",
            {"batch": _batch(spec)},
            {image.name: ("batch", *bundle_dims(image, bundle))},
        ),
    )


def _text_encoder_profiles(spec: ModelSpec, bundle: Bundle) -> tuple[OptimizationProfile, ...]:
    sequence = AxisRange(1, min(OPTIMAL_SEQUENCE, bundle.max_tokens), bundle.max_tokens)
    return (
        OptimizationProfile(
            "texts",
            {"batch": _batch(spec), "sequence": sequence},
            {tensor.name: ("batch", "sequence") for tensor in spec.inputs},
        ),
    )


def _caption_decoder_profiles(spec: ModelSpec, bundle: Bundle) -> tuple[OptimizationProfile, ...]:
    """The prompt at once after one hidden slot, and one position after the prompt and more."""
    captioner = bundle.require_captioner()
    prompt = len(captioner.prompt_ids)
    longest = prompt + captioner.max_new_tokens
    one = AxisRange(1, 1, 1)
    past_kv = spec.input("past_kv")
    planes, heads, _, head_dim = bundle_dims(past_kv, bundle)
    inputs: dict[str, tuple[Dim, ...]] = {
        "inputs_embeds": ("batch", "new", captioner.hidden),
        "attention_mask": ("batch", "past+new"),
        "position_ids": ("batch", "new"),
        past_kv.name: ("batch", planes, heads, "past", head_dim),
    }
    return (
        OptimizationProfile(
            "prefill",
            {"batch": _batch(spec), "past": one, "new": AxisRange(prompt, prompt, prompt)},
            inputs,
        ),
        OptimizationProfile(
            "decode",
            {
                "batch": _batch(spec),
                "past": AxisRange(prompt, (prompt + longest) // 2, longest),
                "new": one,
            },
            inputs,
        ),
    )


_PROFILES: dict[str, Callable[[ModelSpec, Bundle], tuple[OptimizationProfile, ...]]] = {
    IMAGE_ENCODER.name: _image_profiles,
    TEXT_ENCODER.name: _text_encoder_profiles,
    CAPTION_VISION.name: _image_profiles,
    CAPTION_DECODER.name: _caption_decoder_profiles,
    OBJECT_DETECTOR.name: _image_profiles,
}


def profiles_for(spec: ModelSpec, bundle: Bundle) -> tuple[OptimizationProfile, ...]:
    """The profiles of an engine model, with the largest batch of its spec.

    Raises:
        BundleError: the model has none, or it is of a part that the bundle does not have.
    """
    if spec.name not in _PROFILES:
        raise BundleError(
            f"no optimisation profiles for {spec.name}; known: {', '.join(_PROFILES)}"
        )
    return _PROFILES[spec.name](spec, bundle)
