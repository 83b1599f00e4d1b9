"""``caption_vision`` on the CPU profile: the ONNX graph in OpenVINO."""

from __future__ import annotations

from bls_models.specs import CAPTION_VISION
from bls_models.triton.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """Served through the Python backend."""

    spec = CAPTION_VISION
    split_rows = True
