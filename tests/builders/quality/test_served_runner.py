"""What a running Triton serves is compared with the graphs it should serve."""

from __future__ import annotations

import numpy as np
import pytest
from serving_support import REPOSITORY, Serving

from bls_models.engines.cpu import CpuEngine
from bls_models.engines.precisions import graph_on_cpu
from bls_models.errors import SetupError
from bls_models.specs import ENCODER_SPECS, IMAGE_ENCODER, ModelSpec
from builders.quality.served_runner import ServedRunner
from local_server.processes import free_port

pytestmark = pytest.mark.server


def feed_of(spec: ModelSpec) -> dict[str, np.ndarray]:
    random = np.random.default_rng(3)
    if spec is IMAGE_ENCODER:
        return {"image": random.integers(0, 256, (5, 224, 224, 3)).astype(np.uint8)}
    ids = random.integers(1000, 20_000, (5, 9))
    mask = np.ones_like(ids)
    mask[2, 4:] = 0
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.parametrize("spec", ENCODER_SPECS, ids=lambda spec: spec.name)
def test_served_vectors_are_those_of_the_graph(server: Serving, spec: ModelSpec) -> None:
    runner = ServedRunner(server.triton.grpc_url.removeprefix("grpc://"), spec, REPOSITORY)
    path = graph_on_cpu(REPOSITORY, spec.name)
    assert runner.backend == "python"
    assert runner.size == path.stat().st_size
    (name,) = spec.output_names
    expected = CpuEngine(path, spec).infer(feed_of(spec))[name]
    np.testing.assert_allclose(runner.encode(feed_of(spec)), expected, atol=1e-5)


def test_a_server_on_another_platform_is_refused_with_the_remedy(server: Serving) -> None:
    address = server.triton.grpc_url.removeprefix("grpc://")
    with pytest.raises(SetupError, match="runs on python, expected tensorrt_plan"):
        ServedRunner(address, IMAGE_ENCODER, REPOSITORY, "tensorrt_plan")


def test_a_server_that_is_not_there_is_named() -> None:
    address = f"127.0.0.1:{free_port()}"
    with pytest.raises(SetupError, match=address):
        ServedRunner(address, IMAGE_ENCODER, REPOSITORY)
