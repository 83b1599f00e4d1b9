"""What is known of an engine, as JSON beside its plan."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bls_models.bundle import Bundle
from bls_models.errors import BundleError
from bls_models.files import atomic_write
from bls_models.specs import CAPTION_ENGINE_SPECS, OBJECT_DETECTOR, ModelSpec, TensorSpec
from builders.engines.profiles import bundle_dims


@dataclass(frozen=True)
class TensorDescription:
    """An input or output of a network or an engine: KServe dtype, shape with -1 for free."""

    name: str
    dtype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class EngineRecipe:
    """Everything that decides an engine; an engine of an equal recipe is used again.

    Attributes:
        model: the model's name.
        bundle: the bundle's name.
        fingerprint: see ``fingerprint_of_model``.
        precision: ``fp32``, ``fp16`` or ``int8``, as the graph is.
        target: ``gpu`` or ``rtx``.
        tensorrt: the package that compiled it.
        tensorrt_version: its version.
        compute_capabilities: of the GPUs that it runs on.
        gpu: the GPU that it was tuned on; None if it was compiled without one.
        graph_sha256: of the ONNX graph.
        profiles: name and shapes (minimum, optimum, maximum by input) of each profile.
        builder_revision: of the code that builds engines.
    """

    model: str
    bundle: str
    fingerprint: str
    precision: str
    target: str
    tensorrt: str
    tensorrt_version: str
    compute_capabilities: tuple[str, ...]
    gpu: str | None
    graph_sha256: str
    profiles: tuple[dict[str, Any], ...]
    builder_revision: int


@dataclass(frozen=True)
class EngineMetadata:
    """The recipe, and what came out.

    Attributes:
        recipe: what the engine was built from.
        inputs: as TensorRT read them from the graph.
        outputs: likewise.
        plan_sha256: of the plan.
        bytes: size of the plan.
        seconds: that compiling took.
    """

    recipe: EngineRecipe
    inputs: tuple[TensorDescription, ...]
    outputs: tuple[TensorDescription, ...]
    plan_sha256: str
    bytes: int
    seconds: float

    def write(self, plan: Path) -> None:
        """Write it beside a plan, at once or not at all."""
        with atomic_write(metadata_path(plan)) as stream:
            stream.write(json.dumps(asdict(self), indent=2).encode() + b"\n")

    @classmethod
    def read(cls, plan: Path) -> EngineMetadata:
        """Read what stands beside a plan.

        Raises:
            BundleError: there is nothing, or it is of another version of this code.
        """
        path = metadata_path(plan)
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            recipe = content.pop("recipe")
            for key in ("compute_capabilities", "profiles"):
                recipe[key] = tuple(recipe[key])
            inputs, outputs = (
                tuple(
                    TensorDescription(item["name"], item["dtype"], tuple(item["shape"]))
                    for item in content.pop(key)
                )
                for key in ("inputs", "outputs")
            )
            return cls(recipe=EngineRecipe(**recipe), inputs=inputs, outputs=outputs, **content)
        except FileNotFoundError:
            raise BundleError(
                f"{path} is missing, so nothing is known of the engine. {engine_hint()}"
            ) from None
        except (ValueError, TypeError, KeyError) as error:
            raise BundleError(f"{path} cannot be used: {error!r}. {engine_hint()}") from error


def fingerprint_of_model(spec: ModelSpec, bundle: Bundle) -> str:
    """The fingerprint that a model's engine belongs to: the bundle's or that of its part.

    Raises:
        BundleError: a model of the captioner or the detector, and the bundle has none.
    """
    if spec in CAPTION_ENGINE_SPECS:
        return bundle.require_captioner().fingerprint
    if spec == OBJECT_DETECTOR:
        if bundle.detector is None:
            raise BundleError(f"bundle {bundle.name!r} has no detector; build one that has")
        return bundle.detector.fingerprint
    return bundle.fingerprint


def metadata_path(plan: Path) -> Path:
    """Where a plan's metadata stands: ``model.plan.json``."""
    return plan.with_name(f"{plan.name}.json")


def engine_hint(target: str = "gpu") -> str:
    """How to build engines of a target."""
    return f"Build the engines with `make engines{' TARGET=rtx' if target == 'rtx' else ''}`."


def check_tensors(
    what: str,
    inputs: Sequence[TensorDescription],
    outputs: Sequence[TensorDescription],
    spec: ModelSpec,
    bundle: Bundle,
) -> None:
    """Check that inputs and outputs are those of a spec.

    Args:
        what: the graph or engine, for the message.
        inputs: found ones.
        outputs: found ones.
        spec: the tensors that there should be.
        bundle: the sizes of the spec's named dims.

    Raises:
        BundleError: a tensor is missing, added, or of another dtype or shape.
    """
    for kind, found, wanted in (
        ("input", inputs, spec.inputs),
        ("output", outputs, spec.outputs),
    ):
        by_name = {tensor.name: tensor for tensor in found}
        expected = {tensor.name: _described(tensor, spec, bundle) for tensor in wanted}
        for name in sorted(by_name.keys() | expected.keys()):
            if by_name.get(name) != expected.get(name):
                raise BundleError(
                    f"{what} does not fit {spec.name} of bundle {bundle.name}: {kind} {name!r} is "
                    f"{_words(by_name.get(name))}, expected {_words(expected.get(name))}; "
                    "build the graphs anew with `make models` and then the engines"
                )


def _described(tensor: TensorSpec, spec: ModelSpec, bundle: Bundle) -> TensorDescription:
    batch = (-1,) if spec.max_batch_size else ()
    return TensorDescription(tensor.name, tensor.dtype, batch + bundle_dims(tensor, bundle))


def _words(tensor: TensorDescription | None) -> str:
    return "absent" if tensor is None else f"{tensor.dtype} {list(tensor.shape)}"
