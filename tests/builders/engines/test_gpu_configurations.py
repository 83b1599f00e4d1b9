"""``configs/gpu.pbtxt`` says the same as the specs, the profiles and the bundle."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from engine_support import BUNDLE
from google.protobuf import text_format  # type: ignore[import-untyped]
from serving_support import REPOSITORY
from tritonclient.grpc import model_config_pb2

from bls_models.specs import (
    CAPTION_DECODER,
    ENGINE_SPECS,
    IMAGE_ENCODER,
    TEXT_ENCODER,
    ModelSpec,
)
from builders.engines.gpu_config import gpu_config_from_spec, write_gpu_config
from builders.engines.profiles import bundle_dims, profiles_for


@pytest.fixture(params=ENGINE_SPECS, ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> ModelSpec:
    found: ModelSpec = request.param
    return found


def parsed(text: str) -> model_config_pb2.ModelConfig:
    return text_format.Parse(text, model_config_pb2.ModelConfig())


def generated(spec: ModelSpec) -> model_config_pb2.ModelConfig:
    return gpu_config_from_spec(spec, BUNDLE)


def test_the_repository_holds_what_is_generated_for_mini(spec: ModelSpec) -> None:
    path = REPOSITORY / spec.name / "configs" / "gpu.pbtxt"
    assert parsed(path.read_text(encoding="utf-8")) == generated(spec)


def test_a_configuration_has_the_tensors_of_the_spec_with_the_sizes_of_the_bundle(
    spec: ModelSpec,
) -> None:
    config = generated(spec)
    types = model_config_pb2.DataType
    assert (config.name, config.platform) == (spec.name, "tensorrt_plan")
    assert config.max_batch_size == spec.max_batch_size
    for found, wanted in ((config.input, spec.inputs), (config.output, spec.outputs)):
        assert [(item.name, types.Name(item.data_type), tuple(item.dims)) for item in found] == [
            (tensor.name, f"TYPE_{tensor.dtype}", bundle_dims(tensor, BUNDLE)) for tensor in wanted
        ]


def test_preferred_batches_go_from_the_tuned_to_the_largest(spec: ModelSpec) -> None:
    if spec is CAPTION_DECODER:
        assert not generated(spec).HasField("dynamic_batching")
        return
    (profile,) = profiles_for(spec, BUNDLE)
    shape = next(iter(profile.shapes().values()))
    preferred = list(generated(spec).dynamic_batching.preferred_batch_size)
    assert (preferred[0], preferred[-1]) == (shape.optimum[0], shape.maximum[0])
    assert preferred == sorted(set(preferred))


def test_one_instance_runs_every_profile_on_the_gpu(spec: ModelSpec) -> None:
    (group,) = generated(spec).instance_group
    assert (group.count, group.kind) == (1, model_config_pb2.ModelInstanceGroup.KIND_GPU)
    profiles = profiles_for(spec, BUNDLE)
    # Without a choice Triton uses the first.
    assert list(group.profile) == ([] if len(profiles) == 1 else ["0", "1"])


def test_warm_up_stays_within_each_profile_and_sends_every_input(spec: ModelSpec) -> None:
    profiles = profiles_for(spec, BUNDLE)
    warm_ups = generated(spec).model_warmup
    assert [warm_up.batch_size for warm_up in warm_ups] == [1, 8] * len(profiles)
    assert len({warm_up.name for warm_up in warm_ups}) == len(warm_ups)
    for number, warm_up in enumerate(warm_ups):
        assert {name: tuple(item.dims) for name, item in warm_up.inputs.items()} == {
            name: shape.optimum[1:] for name, shape in profiles[number // 2].shapes().items()
        }
        assert all(item.zero_data for item in warm_up.inputs.values())


def test_cuda_graphs_cover_every_small_batch_of_fixed_pixels_once() -> None:
    cuda = generated(IMAGE_ENCODER).optimization.cuda
    assert cuda.graphs
    covered: list[int] = []
    for graph in cuda.graph_spec:
        shapes = [graph.input]
        smallest = graph.batch_size
        if graph.HasField("graph_lower_bound"):
            smallest = graph.graph_lower_bound.batch_size
            shapes.append(graph.graph_lower_bound.input)
        for shape in shapes:
            assert {name: list(item.dim) for name, item in shape.items()} == {
                "image": [224, 224, 3]
            }
        covered += range(smallest, graph.batch_size + 1)
    assert covered == list(range(1, 9))


def test_texts_of_any_length_get_no_cuda_graphs() -> None:
    assert not generated(TEXT_ENCODER).optimization.HasField("cuda")


def test_tensors_cross_to_the_gpu_through_pinned_memory(spec: ModelSpec) -> None:
    optimization = generated(spec).optimization
    assert optimization.input_pinned_memory.enable
    assert optimization.output_pinned_memory.enable


def test_another_bundle_gives_other_sizes(tmp_path: Path) -> None:
    other = dataclasses.replace(BUNDLE, name="other", image_size=384, image_dim=768)
    path = write_gpu_config(IMAGE_ENCODER, other, tmp_path)
    assert path == tmp_path / "image_encoder" / "configs" / "gpu.pbtxt"
    text = path.read_text(encoding="utf-8")
    assert text.startswith("# TensorRT, with the sizes of bundle other;")
    config = parsed(text)
    assert list(config.input[0].dims) == [384, 384, 3]
    assert list(config.output[0].dims) == [768]
    assert list(config.model_warmup[0].inputs["image"].dims) == [384, 384, 3]
