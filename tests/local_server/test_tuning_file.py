"""The tuner's file, and the model repository and settings that a server gets from it."""

from __future__ import annotations

import dataclasses
import json
import uuid
from pathlib import Path
from typing import Any

import pytest
from google.protobuf import text_format  # type: ignore[import-untyped]
from serving_support import REPOSITORY, SampleProduct, serving, stubs_of, wait_for
from tritonclient.grpc import model_config_pb2

from bls_models.bundle import Bundle
from bls_models.cpus import cpu_count
from bls_models.errors import SetupError
from local_server.options import Options
from local_server.stack import apply_tuning
from local_server.tuning import (
    Tuning,
    instance_count,
    read_tuning,
    tuned_repository,
    write_tuning,
)

SHARED_INDEX = {"PRODUCT_MATCH_INDEX_PROCESS": "product_index"}
TUNING = Tuning({"product_match": 3}, {"PRODUCT_MATCH_DECODE_THREADS": "2"})
CONFIGURATION = """# Two, {reason}.
max_batch_size: 2
instance_group [{{ count: {count}, kind: KIND_CPU }}]
dynamic_batching {{}}
"""


def configuration(count: int) -> str:
    return CONFIGURATION.format(reason="count: 2", count=count)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model with a plain configuration, and an engine with one for each profile."""
    folder = tmp_path / "repository"
    for path, text in {
        "bundle.json": "{}",
        "plain/config.pbtxt": configuration(2),
        "plain/1/model.py": "plain",
        "engine/configs/cpu.pbtxt": configuration(1),
        "engine/configs/gpu.pbtxt": configuration(1),
        "engine/1/model.py": "engine",
        "other/config.pbtxt": configuration(1),
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


def plain(text: str) -> str:
    """A configuration as Triton understands it, whatever its layout and comments."""
    return str(text_format.Parse(text, model_config_pb2.ModelConfig()))


def contents(folder: Path) -> dict[str, str]:
    """Every file's text by its path, links followed; a configuration's without its comments."""
    found: dict[str, str] = {}
    for path in folder.iterdir():
        if path.is_dir():
            found |= {f"{path.name}/{name}": text for name, text in contents(path).items()}
        else:
            text = path.read_text(encoding="utf-8")
            found[path.name] = plain(text) if path.suffix == ".pbtxt" else text
    return found


# --- the file ---------------------------------------------------------------------------------


def test_a_tuning_is_read_as_it_was_written_and_told(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "tuning.json"
    write_tuning(path, TUNING, "mini")
    lines: list[str] = []
    assert read_tuning(path, "mini", lines.append) == TUNING
    assert lines == [f"tuning: product_match x 3, PRODUCT_MATCH_DECODE_THREADS=2 ({path})"]


def test_where_there_is_no_file_nothing_is_said(tmp_path: Path) -> None:
    lines: list[str] = []
    assert read_tuning(tmp_path / "tuning.json", "mini", lines.append) is None
    assert lines == []


def test_a_tuning_of_another_number_of_cpus_is_ignored_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "tuning.json"
    write_tuning(path, TUNING, "mini")
    monkeypatch.setattr("local_server.tuning.cpu_count", lambda: cpu_count() + 1)
    lines: list[str] = []
    assert read_tuning(path, "mini", lines.append) is None
    (line,) = lines
    assert f"ignored, it was measured with CPUs {cpu_count()}, not {cpu_count() + 1}" in line


def test_a_tuning_of_another_bundle_is_ignored_and_that_is_said(tmp_path: Path) -> None:
    path = tmp_path / "tuning.json"
    write_tuning(path, TUNING, "mini")
    lines: list[str] = []
    assert read_tuning(path, "siglip", lines.append) is None
    assert lines == [f"tuning: {path} is ignored, it was measured with bundle mini, not siglip"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"instances": {"product_match": 0}}, "positive whole numbers"),
        ({"instances": {"product_match": True}}, "positive whole numbers"),
        ({"instances": ["product_match"]}, "positive whole numbers"),
        ({"settings": {"LD_PRELOAD": "x"}}, "variables of the serving models"),
        ({"settings": {"PRODUCT_MATCH_DECODE_THREADS": 2}}, "texts in 'settings'"),
        ({"threads": 2}, "an object of bundle, cpus, instances, settings"),
    ],
)
def test_a_file_that_the_tuner_would_not_write_is_refused(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    path = tmp_path / "tuning.json"
    write_tuning(path, TUNING, "mini")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(SetupError, match=rf"{message}.*; run `make tune`"):
        read_tuning(path, "mini", print)


@pytest.mark.parametrize("text", ["", "{", "[]"])
def test_a_torn_file_is_refused_with_the_remedy(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tuning.json"
    path.write_text(text)
    with pytest.raises(SetupError, match=r"tuning\.json .*run `make tune`"):
        read_tuning(path, "mini", print)


# --- the repository ---------------------------------------------------------------------------


def test_a_tuned_repository_differs_in_the_counts_alone(repository: Path, tmp_path: Path) -> None:
    before = contents(repository)
    tuned_repository(repository, tmp_path / "tuned", {"plain": 12, "engine": 3})
    assert contents(tmp_path / "tuned") == before | {
        "plain/config.pbtxt": plain(configuration(12)),
        "engine/configs/cpu.pbtxt": plain(configuration(3)),
    }
    assert contents(repository) == before
    copied = [path for path in (tmp_path / "tuned").rglob("*") if not path.is_symlink()]
    assert sorted(path.name for path in copied if path.is_file()) == ["config.pbtxt", "cpu.pbtxt"]
    assert (tmp_path / "tuned" / "other").is_symlink()


def test_the_number_of_instances_is_read_from_the_configuration(repository: Path) -> None:
    assert instance_count(repository, "plain") == 2
    assert instance_count(repository, "engine") == 1


@pytest.mark.parametrize("times", [0, 2])
def test_a_configuration_without_just_one_count_is_refused(
    repository: Path, tmp_path: Path, times: int
) -> None:
    path = repository / "plain" / "config.pbtxt"
    path.write_text("instance_group [{ count: 2, kind: KIND_CPU }]\n" * times)
    with pytest.raises(SetupError, match=rf"plain/config\.pbtxt has .* {times} times"):
        tuned_repository(repository, tmp_path / "tuned", {"engine": 2, "plain": 1})
    assert not (tmp_path / "tuned").exists()


def test_a_file_that_is_no_configuration_is_refused(repository: Path) -> None:
    (repository / "plain" / "config.pbtxt").write_text("instances: 2")
    with pytest.raises(SetupError, match=r"plain/config\.pbtxt is not a configuration of Triton"):
        instance_count(repository, "plain")


def test_a_model_that_is_not_there_is_refused(repository: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="missing has no configuration"):
        tuned_repository(repository, tmp_path / "tuned", {"missing": 1})


# --- what a start makes of it -----------------------------------------------------------------

BUNDLE = Bundle("mini", "0" * 16, 32, "stretch", 48, 8, 16, False, {})


def test_a_start_without_a_tuning_serves_the_built_repository(
    repository: Path, tmp_path: Path
) -> None:
    options = Options(state=str(tmp_path / "state"), repository=str(repository))
    assert apply_tuning(options, BUNDLE, print) == (repository, {})


def test_a_start_takes_the_tuning_of_its_state_folder_anew_each_time(
    repository: Path, tmp_path: Path
) -> None:
    options = Options(state=str(tmp_path / "state"), repository=str(repository))
    for count in (3, 4):
        tuning = dataclasses.replace(TUNING, instances={"plain": count})
        write_tuning(tmp_path / "state" / "tuning.json", tuning, "mini")
        folder, settings = apply_tuning(options, BUNDLE, print)
        assert folder.is_relative_to(tmp_path / "state")
        assert instance_count(folder, "plain") == count
        assert settings == TUNING.settings
    assert instance_count(repository, "plain") == 2


def test_a_thread_count_of_the_environment_beats_the_tuning(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "mine.json"
    write_tuning(path, dataclasses.replace(TUNING, instances={}), "mini")
    options = Options(state=str(tmp_path / "state"), repository=str(repository), tuning=str(path))
    assert apply_tuning(options, BUNDLE, print) == (repository, TUNING.settings)
    monkeypatch.setenv("PRODUCT_MATCH_DECODE_THREADS", "1")
    assert apply_tuning(options, BUNDLE, print) == (repository, {})


def test_a_tuning_file_that_was_named_must_be_there(repository: Path, tmp_path: Path) -> None:
    options = Options(state=str(tmp_path), repository=str(repository), tuning="missing.json")
    with pytest.raises(SetupError, match=r"no tuning file .*missing\.json; write it with"):
        apply_tuning(options, BUNDLE, print)


@pytest.mark.server
def test_triton_serves_a_tuned_repository_with_as_many_instances_as_it_says(
    bundle: Bundle, database_uri: str, sample: list[SampleProduct], tmp_path: Path
) -> None:
    assert instance_count(REPOSITORY, "product_match") != 2
    tuned = tmp_path / "tuned"
    tuned_repository(REPOSITORY, tuned, {"product_match": 2})
    name = f"tuned_{uuid.uuid4().hex}"
    with (
        serving(tmp_path / "state", database_uri, name, tuned, **SHARED_INDEX) as server,
        server.client() as client,
    ):
        assert len(stubs_of(server, "product_match")) == 2
        product = sample[0]
        assert client.upsert(product.product, product.images).status == "created"
        wait_for(lambda: client.match(texts="a").matches, "the product is in the index")
        (match,) = client.match(product.queries[0]).matches
        assert match.product_id == product.product_id
