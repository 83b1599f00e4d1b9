"""``image_encoder`` on the CPU profile: the ONNX graph in OpenVINO."""

from __future__ import annotations

from bls_models.engine_model import EngineModel
from bls_models.specs import IMAGE_ENCODER


class TritonPythonModel(EngineModel):
    """Served through the Python backend."""

    spec = IMAGE_ENCODER
    split_rows = True
