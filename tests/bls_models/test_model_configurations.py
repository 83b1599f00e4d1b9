"""The specs, every Triton configuration and the client name the same tensors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from caption_support import CAPTIONED_BUNDLE
from google.protobuf import text_format  # type: ignore[import-untyped]
from serving_support import REPOSITORY, SMALL_BUNDLE, picture
from tritonclient.grpc import model_config_pb2

from bls_models.bundle import DetectorBundle
from bls_models.specs import (
    CAPTION_ENGINE_SPECS,
    ENGINE_SPECS,
    IMAGE_CAPTIONER,
    MODEL_SPECS,
    NUMPY_DTYPES,
    OBJECT_DETECTOR,
    PRODUCT_FEEDBACK,
    PRODUCT_INGEST,
    PRODUCT_MATCH,
    PRODUCT_PICTURE,
    PRODUCT_REPORT,
    ModelSpec,
    TensorSpec,
)
from product_match_client.calls import (
    delete_call,
    feedback_call,
    get_call,
    match_call,
    picture_call,
    report_call,
    upsert_call,
)

CONFIGURATIONS = sorted([*REPOSITORY.glob("*/config.pbtxt"), *REPOSITORY.glob("*/configs/*.pbtxt")])
TRITON_TYPES = {dtype: f"TYPE_{dtype}" for dtype in NUMPY_DTYPES} | {"BYTES": "TYPE_STRING"}


def model_name(path: Path) -> str:
    return path.relative_to(REPOSITORY).parts[0]


def parsed(path: Path) -> model_config_pb2.ModelConfig:
    return text_format.Parse(path.read_text(encoding="utf-8"), model_config_pb2.ModelConfig())


def described(tensor: TensorSpec) -> tuple[str, str, tuple[int, ...], bool]:
    return (tensor.name, TRITON_TYPES[tensor.dtype], tensor.config_dims, tensor.optional)


def configured_dims(dims: Iterable[int], tensor: TensorSpec) -> tuple[int, ...]:
    """Dims with -1 for a size that is the bundle's, which ``gpu.pbtxt`` has as a number."""
    return tuple(
        -1 if isinstance(wanted, str) else size
        for size, wanted in zip(dims, tensor.dims, strict=True)
    )


@pytest.fixture(params=CONFIGURATIONS, ids=lambda path: str(path.relative_to(REPOSITORY)))
def configuration(request: pytest.FixtureRequest) -> Path:
    path: Path = request.param
    return path


def test_every_model_has_a_configuration_and_every_configuration_a_spec() -> None:
    assert {model_name(path) for path in CONFIGURATIONS} == set(MODEL_SPECS)


def test_every_model_folder_holds_a_model_with_a_spec() -> None:
    folders = {path.parent.parent.name for path in REPOSITORY.glob("*/1/model.py")}
    assert folders == set(MODEL_SPECS)


def test_a_bundle_serves_every_model_but_those_of_parts_that_it_does_not_have() -> None:
    detector = DetectorBundle("0" * 16, 64, "pad", 4, 0.5)
    captions = {spec.name for spec in (*CAPTION_ENGINE_SPECS, IMAGE_CAPTIONER)}
    for bundle, lacking in ((CAPTIONED_BUNDLE, set()), (SMALL_BUNDLE, captions)):
        served = set(MODEL_SPECS) - lacking
        assert set(replace(bundle, detector=detector).models) == served
        assert set(bundle.models) == served - {OBJECT_DETECTOR.name}


def test_every_engine_has_a_cpu_profile_and_no_other_model_has_profiles() -> None:
    with_profiles = {model_name(path) for path in REPOSITORY.glob("*/configs/cpu.pbtxt")}
    assert with_profiles == {spec.name for spec in ENGINE_SPECS}


def test_a_configuration_has_the_name_of_its_folder(configuration: Path) -> None:
    assert parsed(configuration).name == model_name(configuration)


def test_a_configuration_has_exactly_the_inputs_of_its_spec(configuration: Path) -> None:
    types = model_config_pb2.DataType
    wanted = MODEL_SPECS[model_name(configuration)].inputs
    found = [
        (item.name, types.Name(item.data_type), configured_dims(item.dims, tensor), item.optional)
        for item, tensor in zip(parsed(configuration).input, wanted, strict=True)
    ]
    assert found == [described(item) for item in wanted]


def test_a_configuration_has_exactly_the_outputs_of_its_spec(configuration: Path) -> None:
    types = model_config_pb2.DataType
    wanted = MODEL_SPECS[model_name(configuration)].outputs
    found = [
        (item.name, types.Name(item.data_type), configured_dims(item.dims, tensor), False)
        for item, tensor in zip(parsed(configuration).output, wanted, strict=True)
    ]
    assert found == [described(item) for item in wanted]


def test_a_configuration_has_the_largest_batch_of_its_spec(configuration: Path) -> None:
    spec = MODEL_SPECS[model_name(configuration)]
    assert parsed(configuration).max_batch_size == spec.max_batch_size


def test_requests_of_different_shapes_can_share_a_batch_of_the_models_that_clients_call() -> None:
    for spec in (PRODUCT_MATCH, PRODUCT_INGEST):
        configured = parsed(REPOSITORY / spec.name / "config.pbtxt")
        ragged = {item.name for item in configured.input if item.allow_ragged_batch}
        assert ragged == {item.name for item in spec.inputs if -1 in item.config_dims}


def test_models_whose_queues_triton_keeps_leave_these_to_the_settings() -> None:
    for spec in (PRODUCT_INGEST, PRODUCT_FEEDBACK, PRODUCT_PICTURE, PRODUCT_REPORT):
        configured = parsed(REPOSITORY / spec.name / "config.pbtxt")
        # What a configuration says, Triton does not take from the model (public_model.py).
        assert configured.WhichOneof("scheduling_choice") is None
        # With one, Triton stalls where it bounds the queue.
        assert [group.count for group in configured.instance_group] == [2]


def test_one_process_of_product_match_holds_the_index() -> None:
    configured = parsed(REPOSITORY / PRODUCT_MATCH.name / "config.pbtxt")
    assert [group.count for group in configured.instance_group] == [1]


def test_a_full_match_call_of_the_client_has_every_input_of_the_spec() -> None:
    call = match_call(
        [picture(1)],
        ["red mug"],
        image_weights=[1],
        text_weights=[0.5],
        like=["p"],
        like_weights=[1],
        crops=[(0, 0, 1, 1)],
        top_k=3,
        offset=1,
        filter={"price": {"$lt": 5}},
        facets={"category": 3},
        sort="price",
        min_score=0.1,
        caption="auto",
        objects="auto",
        max_objects=3,
    )
    assert call.spec is PRODUCT_MATCH
    assert [(item.name, item.dtype) for item in call.tensors] == [
        (item.name, item.dtype) for item in PRODUCT_MATCH.inputs
    ]
    for tensor in call.tensors:
        spec = PRODUCT_MATCH.input(tensor.name)
        assert tensor.array.dtype == np.dtype(spec.numpy_dtype)
        assert tensor.array.ndim == 1 + len(spec.dims)


def test_the_ingest_calls_of_the_client_have_the_inputs_of_the_spec() -> None:
    required = [item.name for item in PRODUCT_INGEST.inputs if not item.optional]
    for call in (get_call("p"), delete_call("p"), upsert_call({"product_id": "p"})):
        assert [item.name for item in call.tensors] == required
    full = upsert_call({"product_id": "p"}, [picture(1)], "missing", "never")
    assert [item.name for item in full.tensors] == [item.name for item in PRODUCT_INGEST.inputs]


def test_the_feedback_call_of_the_client_has_the_inputs_of_the_spec() -> None:
    call = feedback_call("r", "p", "accepted")
    assert call.spec is PRODUCT_FEEDBACK
    assert [(item.name, item.dtype) for item in call.tensors] == [
        (item.name, item.dtype) for item in PRODUCT_FEEDBACK.inputs
    ]


def test_the_picture_calls_of_the_client_have_the_inputs_of_the_spec() -> None:
    by_product = picture_call("p", 1, size=100, format="webp")
    by_hash = picture_call(sha256="0" * 64)
    assert by_product.spec is PRODUCT_PICTURE
    names = [item.name for item in PRODUCT_PICTURE.inputs]
    assert [item.name for item in by_product.tensors] == [n for n in names if n != "sha256"]
    assert [item.name for item in by_hash.tensors] == ["sha256", "encoding"]
    for tensor in (*by_product.tensors, *by_hash.tensors):
        assert tensor.dtype == PRODUCT_PICTURE.input(tensor.name).dtype


def test_the_report_call_of_the_client_has_the_inputs_of_the_spec() -> None:
    call = report_call("history", 12, 6)
    assert call.spec is PRODUCT_REPORT
    assert [(item.name, item.dtype) for item in call.tensors] == [
        (item.name, item.dtype) for item in PRODUCT_REPORT.inputs
    ]
    assert [item.name for item in report_call("server").tensors] == ["report"]


def test_asking_a_spec_for_an_input_it_lacks_names_the_model_and_the_input() -> None:
    spec = ModelSpec("m", 0, inputs=(TensorSpec("a", "FP32", (1,)),), outputs=())
    assert spec.input("a").dtype == "FP32"
    with pytest.raises(KeyError, match="m has no input 'b'"):
        spec.input("b")
