"""Every engine of the built bundle, in every precision, compiled for RTX GPUs and read back."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from serving_support import REPOSITORY, ROOT

from bls_models.bundle import Bundle
from bls_models.errors import BundleError, SetupError
from bls_models.specs import CAPTION_DECODER, TEXT_ENCODER, ModelSpec
from builders.commands.engines import build_engines, engine_specs_of, main
from builders.engines.building import BuiltEngine
from builders.engines.metadata import check_tensors
from builders.engines.profiles import bundle_dims, profiles_for
from builders.engines.reading import describe_engine
from builders.engines.tensorrt_api import compiler_for_target
from builders.graphs.calibration import Calibration, Feed
from builders.graphs.inventory import graph_precision, graphs_by_precision
from builders.graphs.precisions import DECODER_RECIPE, PrecisionRecipe, graph_from_fp32

PRECISIONS = ("fp16", "fp32", "int8")


def feeds(spec: ModelSpec, bundle: Bundle) -> Iterator[Feed]:
    """Enough for ranges; that vectors stay right is for the quantiser's own tests."""
    random = np.random.default_rng(0)
    if spec is TEXT_ENCODER:
        ids = random.integers(1000, 20_000, (2, 12))
        yield {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    else:
        shape = (2, *bundle_dims(spec.input("image"), bundle))
        yield {"image": random.integers(0, 256, shape).astype(np.uint8)}


@pytest.fixture(scope="module")
def build(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder with the graphs of the other precisions."""
    folder = tmp_path_factory.mktemp("build")
    graphs = folder / "graphs" / bundle.name
    graphs.mkdir(parents=True)
    for spec in engine_specs_of(bundle):
        found = graphs_by_precision(spec, bundle, REPOSITORY, ROOT / "build")
        if "fp32" not in found:
            pytest.fail(f"there is no FP32 graph of {spec.name}: build it with `make models`")
        source = graphs / f"{spec.name}.fp32.onnx"
        source.symlink_to(found["fp32"].resolve())
        recipe = DECODER_RECIPE if spec is CAPTION_DECODER else PrecisionRecipe()
        for precision in ("fp16", "int8"):
            graph_from_fp32(source, precision, recipe, calibration(spec, bundle), print)
    return folder


def calibration(spec: ModelSpec, bundle: Bundle) -> Callable[[], Calibration]:
    return lambda: Calibration("random", lambda: feeds(spec, bundle))


@pytest.fixture(scope="module")
def engines(build: Path) -> list[BuiltEngine]:
    return build_engines(
        "rtx",
        lambda line: None,
        precisions=PRECISIONS,
        repository=REPOSITORY,
        build=build,
        reports=build / "reports",
    )


def test_every_engine_compiles_in_every_precision(
    engines: list[BuiltEngine], bundle: Bundle
) -> None:
    built = {(item.metadata.recipe.model, item.metadata.recipe.precision) for item in engines}
    specs = engine_specs_of(bundle)
    assert built == {(spec.name, precision) for spec in specs for precision in PRECISIONS}
    assert not any(engine.reused for engine in engines)


def test_engines_read_back_have_the_tensors_and_profiles_of_their_spec(
    engines: list[BuiltEngine], bundle: Bundle
) -> None:
    specs = {spec.name: spec for spec in engine_specs_of(bundle)}
    compiler = compiler_for_target("rtx")
    for engine in engines:
        found = describe_engine(engine.path, compiler)
        spec = specs[found.recipe.model]
        check_tensors(str(engine.path), found.inputs, found.outputs, spec, bundle)
        assert found.profiles == tuple(
            profile.as_json()["shapes"] for profile in profiles_for(spec, bundle)
        )


def test_an_engine_of_a_smaller_precision_is_smaller(
    engines: list[BuiltEngine], bundle: Bundle
) -> None:
    sizes = {
        (item.metadata.recipe.model, item.metadata.recipe.precision): item.path.stat().st_size
        for item in engines
    }
    for spec in engine_specs_of(bundle):
        for precision in ("fp16", "int8"):
            # The rest is code, and embedding tables that stay FP32 in INT8.
            assert sizes[spec.name, precision] < 0.8 * sizes[spec.name, "fp32"]


def test_a_second_build_uses_every_engine_again(engines: list[BuiltEngine], build: Path) -> None:
    lines: list[str] = []
    again = build_engines(
        "rtx",
        lines.append,
        precisions=PRECISIONS,
        repository=REPOSITORY,
        build=build,
        reports=build / "reports",
    )
    assert [engine.metadata for engine in again] == [engine.metadata for engine in engines]
    assert all(engine.reused for engine in again)
    assert sum("is up to date" in line for line in lines) == len(engines)


def test_the_report_has_a_row_an_engine(engines: list[BuiltEngine], build: Path) -> None:
    rows = json.loads((build / "reports" / "engines.json").read_text())["engines"]
    found = {(row["model"], row["precision"]): row for row in rows}
    assert len(rows) == len(engines)
    for engine in engines:
        recipe = engine.metadata.recipe
        row = found[recipe.model, recipe.precision]
        assert row["target"] == "rtx"
        assert row["bytes"] == engine.path.stat().st_size
        assert row["seconds"] == engine.metadata.seconds > 0
        assert row["tensorrt_version"] == recipe.tensorrt_version
        assert row["compute_capabilities"] == list(recipe.compute_capabilities)
        assert row["plan"] == str(engine.path)


def test_graphs_have_the_precision_that_their_names_say(build: Path, bundle: Bundle) -> None:
    for path in (build / "graphs" / bundle.name).iterdir():
        assert graph_precision(path) == path.suffixes[0].removeprefix(".")


# --- refusals ---------------------------------------------------------------------------------


def test_another_bundle_than_the_repositorys_is_refused(bundle: Bundle, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=f"holds bundle {bundle.name}; build other first"):
        build_engines("rtx", print, bundle_name="other", repository=REPOSITORY, reports=tmp_path)


def test_a_repository_without_models_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="`make models`"):
        build_engines("rtx", print, repository=tmp_path, reports=tmp_path)


@pytest.mark.usefixtures("bundle")
def test_a_precision_without_a_graph_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"no fp16 graph of text_encoder"):
        build_engines(
            "rtx",
            print,
            precisions=["fp16"],
            specs=[TEXT_ENCODER],
            repository=REPOSITORY,
            build=tmp_path,
            reports=tmp_path,
        )
    assert not list(tmp_path.iterdir())


def test_a_repository_serves_one_precision_on_the_gpu() -> None:
    with pytest.raises(SetupError, match="serves one precision, got fp16, int8; choose one"):
        build_engines("gpu", print, precisions=["fp16", "int8"], repository=REPOSITORY)


def test_the_command_says_what_is_wrong_and_fails(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--target", "rtx", "--repository", str(tmp_path)]) == 1
    assert "error: " in capsys.readouterr().err
