"""BLS calls whose large tensors stay in GPU memory from one call to the next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import triton_python_backend_utils as pb_utils

from bls_models.errors import CaptionerError
from bls_models.specs import ModelSpec
from bls_models.triton.bridge import run_model

# What the captioner hands back to the decoder as it is; all else is read by numpy.
RESIDENT = frozenset({"new_kv"})


class GpuCaptionEngines:
    """Runs caption engines; keys and values stay on the GPU.

    It is a ``bls_models.engines.encoders.Caller``.

    Args:
        cupy: from ``bls_models.engines.gpu_arrays.cupy_for``.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy

    def __call__(self, model: ModelSpec, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Outputs by name, those in ``RESIDENT`` as CuPy arrays.

        Raises:
            CaptionerError: the engine failed or is not loaded.
        """
        tensors = [self._tensor(name, array) for name, array in inputs.items()]
        outputs = run_model(model, tensors, CaptionerError, pb_utils.TRITONSERVER_MEMORY_GPU)
        arrays = {tensor.name(): self._array(tensor) for tensor in outputs}
        # The engine's memory is free for others once its tensors are gone; copies of it must be
        # complete by then.
        self._cupy.cuda.get_current_stream().synchronize()
        return arrays

    def _tensor(self, name: str, array: Any) -> Any:
        if isinstance(array, self._cupy.ndarray):
            return pb_utils.Tensor.from_dlpack(name, self._cupy.ascontiguousarray(array))
        return pb_utils.Tensor(name, array)

    def _array(self, tensor: Any) -> Any:
        if tensor.is_cpu():
            array = tensor.as_numpy()
            return self._cupy.asarray(array) if tensor.name() in RESIDENT else array
        view = self._cupy.from_dlpack(tensor.to_dlpack())
        return view.copy() if tensor.name() in RESIDENT else self._cupy.asnumpy(view)
