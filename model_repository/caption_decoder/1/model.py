"""``caption_decoder`` on the CPU profile: the ONNX graph in OpenVINO."""

from __future__ import annotations

from bls_models.engine_model import EngineModel
from bls_models.specs import CAPTION_DECODER


class TritonPythonModel(EngineModel):
    """Served through the Python backend."""

    spec = CAPTION_DECODER
    # The demo captioner's decoder has 3 MB; a general one's has a hundred times that.
    one_thread_below = 16 * 2**20
