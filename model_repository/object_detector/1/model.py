"""``object_detector`` on the CPU profile: the ONNX graph in OpenVINO."""

from __future__ import annotations

from bls_models.specs import OBJECT_DETECTOR
from bls_models.triton.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """Served through the Python backend."""

    spec = OBJECT_DETECTOR
    split_rows = True
