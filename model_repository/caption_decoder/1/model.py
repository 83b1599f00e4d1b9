"""``caption_decoder`` on the CPU profile: the ONNX graph in OpenVINO."""

from __future__ import annotations

from bls_models.specs import CAPTION_DECODER
from bls_models.triton.engine_model import EngineModel


class TritonPythonModel(EngineModel):
    """Served through the Python backend."""

    spec = CAPTION_DECODER
    # The demo captioner's decoder has 3 MB; a general one's has a hundred times that.
    one_thread_below = 16 * 2**20
