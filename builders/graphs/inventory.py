"""The graphs that engines are compiled from, and the precision that each of them has."""

from __future__ import annotations

from pathlib import Path

from bls_models.bundle import BUILD_HINT, Bundle, graph_file
from bls_models.errors import BundleError
from bls_models.specs import ModelSpec
from builders.graphs.precisions import PRECISIONS, graph_path


def graph_precision(path: Path) -> str:
    """The precision that an ONNX graph has by its own types.

    Returns:
        ``int8`` if it quantises anything, else ``fp16`` if a weight is FP16, else ``fp32``.

    Raises:
        BundleError: there is no such file, or it is not ONNX.
    """
    import onnx

    if not path.is_file():
        raise BundleError(f"{path} is missing: build the graphs with `make models`")
    try:
        graph = onnx.load(str(path), load_external_data=False).graph
    except Exception as error:  # protobuf's errors share no base but Exception
        raise BundleError(
            f"{path} is not an ONNX graph ({error}): `make models` writes it"
        ) from None
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in graph.node):
        return "int8"
    if any(weight.data_type == onnx.TensorProto.FLOAT16 for weight in graph.initializer):
        return "fp16"
    return "fp32"


def graphs_by_precision(
    spec: ModelSpec, bundle: Bundle, repository: Path, build: Path
) -> dict[str, Path]:
    """Every graph of a model: those to serve, and the quantised ones of the build folder.

    Args:
        spec: the model.
        bundle: its bundle.
        repository: the model repository.
        build: the folder with ``graphs/<bundle>/<model>.<precision>.onnx``.

    Raises:
        BundleError: a graph to serve is missing.
    """
    folder = build / "graphs"
    built = {name: graph_path(folder, bundle.name, spec.name, name) for name in PRECISIONS}
    found = {name: path for name, path in built.items() if path.is_file()}
    served = {
        precision: repository / graph_file(spec.name, precision)
        for precision in bundle.precisions[spec.name]
    }
    for path in served.values():
        if not path.is_file():
            raise BundleError(f"{path} is missing. {BUILD_HINT}")
    return found | served
