"""The manifest of a built bundle is read back as written, and damage is told from a build."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from caption_support import CAPTIONED_BUNDLE
from serving_support import SMALL_BUNDLE

from bls_models.bundle import MANIFEST_FILE, Bundle, file_sha256
from bls_models.errors import BundleError, CaptionerError
from bls_models.specs import CAPTION_SPECS

CONTENT = b"a graph"


@pytest.fixture
def built(tmp_path: Path) -> Bundle:
    (tmp_path / "engine").mkdir()
    (tmp_path / "engine" / "model.onnx").write_bytes(CONTENT)
    digest = hashlib.sha256(CONTENT).hexdigest()
    bundle = replace(SMALL_BUNDLE, files={"engine/model.onnx": digest})
    bundle.write(tmp_path)
    return bundle


def test_a_manifest_is_read_back_as_it_was_written(tmp_path: Path, built: Bundle) -> None:
    assert Bundle.read(tmp_path) == built


def test_a_manifest_with_a_captioner_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    CAPTIONED_BUNDLE.write(tmp_path)
    found = Bundle.read(tmp_path)
    assert found == CAPTIONED_BUNDLE
    assert found.require_captioner() == CAPTIONED_BUNDLE.captioner
    assert found.size("caption_hidden") == found.require_captioner().hidden


def test_a_manifest_of_the_time_before_captioners_is_still_read(
    tmp_path: Path, built: Bundle
) -> None:
    content = json.loads((tmp_path / MANIFEST_FILE).read_text())
    del content["captioner"], content["precisions"]
    (tmp_path / MANIFEST_FILE).write_text(json.dumps(content))
    assert Bundle.read(tmp_path) == replace(built, precisions={})


def test_only_a_bundle_with_a_captioner_has_its_models() -> None:
    assert {spec.name for spec in CAPTION_SPECS} <= set(CAPTIONED_BUNDLE.models)
    assert not {spec.name for spec in CAPTION_SPECS} & set(SMALL_BUNDLE.models)
    with pytest.raises(CaptionerError, match="'small' has no captioner"):
        SMALL_BUNDLE.require_captioner()


def test_writing_a_manifest_leaves_no_partial_file(tmp_path: Path, built: Bundle) -> None:
    assert [path.name for path in tmp_path.glob("bundle*")] == [MANIFEST_FILE]
    replace(built, name="other").write(tmp_path)
    assert Bundle.read(tmp_path).name == "other"


def test_a_missing_manifest_says_how_to_build(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"bundle\.json is missing.*make models"):
        Bundle.read(tmp_path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b"{}",
        b"\xff\xfe\x00",
        json.dumps(asdict(SMALL_BUNDLE) | {"further": 1}).encode(),
        json.dumps(asdict(CAPTIONED_BUNDLE) | {"captioner": {"hidden": 4}}).encode(),
        json.dumps({"name": "small"}).encode(),
    ],
    ids=[
        "empty",
        "cut",
        "list",
        "null",
        "no keys",
        "not UTF-8",
        "a key too many",
        "half a captioner",
        "one key",
    ],
)
def test_a_manifest_that_cannot_be_used_says_how_to_build(tmp_path: Path, content: bytes) -> None:
    (tmp_path / MANIFEST_FILE).write_bytes(content)
    with pytest.raises(BundleError, match=r"bundle\.json cannot be used: .*make models"):
        Bundle.read(tmp_path)


def test_unchanged_files_pass_the_check(tmp_path: Path, built: Bundle) -> None:
    built.check_files(tmp_path)
    assert file_sha256(tmp_path / "engine" / "model.onnx") == built.files["engine/model.onnx"]


def test_a_missing_file_is_named(tmp_path: Path, built: Bundle) -> None:
    (tmp_path / "engine" / "model.onnx").unlink()
    with pytest.raises(BundleError, match=r"engine/model\.onnx is missing.*make models"):
        built.check_files(tmp_path)


def test_a_changed_file_is_named(tmp_path: Path, built: Bundle) -> None:
    (tmp_path / "engine" / "model.onnx").write_bytes(CONTENT + b"!")
    with pytest.raises(BundleError, match=r"engine/model\.onnx differs.*make models"):
        built.check_files(tmp_path)
