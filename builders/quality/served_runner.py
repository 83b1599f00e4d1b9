"""An encoder as a running Triton serves it, on whatever its profile runs it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from bls_models.engines.precisions import graph_on_cpu
from bls_models.errors import SetupError
from bls_models.specs import ModelSpec
from bls_models.vectors import FloatArray
from builders.graphs.calibration import Feed

TENSORRT = "tensorrt_plan"


class ServedRunner:
    """One engine model of a server, over gRPC.

    Args:
        address: the server's gRPC endpoint, ``host:port``.
        spec: the encoder.
        repository: the server's model repository, for the size of what it serves.
        platform: what must serve it, such as ``tensorrt_plan``; None: anything.

    Raises:
        SetupError: the server does not answer or serves it on another platform.
    """

    precision = "served"

    def __init__(
        self, address: str, spec: ModelSpec, repository: Path, platform: str | None = None
    ) -> None:
        self._spec = spec
        self._client = tritonclient.grpc.InferenceServerClient(address)
        try:
            config = self._client.get_model_config(spec.name).config
        except InferenceServerException as error:
            raise SetupError(
                f"{spec.name} at {address} cannot be asked: {error.message()}; start the server "
                "with the profile that is to be compared"
            ) from error
        self.backend: str = config.platform or config.backend
        if platform not in (None, self.backend):
            raise SetupError(
                f"{spec.name} at {address} runs on {self.backend}, expected {platform}; start "
                "Triton with --model-config-name=gpu"
            )
        plan = repository / spec.name / "1" / "model.plan"
        file = plan if self.backend == TENSORRT else graph_on_cpu(repository, spec.name)
        self.size = file.stat().st_size if file.is_file() else 0

    def encode(self, feed: Feed) -> FloatArray:
        """Vectors (B, D) of one batch.

        Raises:
            SetupError: the server failed.
        """
        inputs = []
        for tensor in self._spec.inputs:
            array = np.ascontiguousarray(feed[tensor.name])
            item = tritonclient.grpc.InferInput(tensor.name, array.shape, tensor.dtype)
            item.set_data_from_numpy(array)
            inputs.append(item)
        try:
            result = self._client.infer(self._spec.name, inputs)
        except InferenceServerException as error:
            raise SetupError(f"{self._spec.name} failed: {error.message()}") from error
        (name,) = self._spec.output_names
        vectors: FloatArray = result.as_numpy(name)
        return vectors
