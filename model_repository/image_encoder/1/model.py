"""``image_encoder`` on the CPU profile: the ONNX graph in OpenVINO."""

from __future__ import annotations

from bls_models.specs import IMAGE_ENCODER
from bls_models.triton.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """Served through the Python backend."""

    spec = IMAGE_ENCODER
    split_rows = True
