"""Hub bundles and hub checkpoints, without a network: cache, remedies, what is downloaded."""

from __future__ import annotations

from pathlib import Path

import pytest

from bls_models.errors import BundleError
from builders.checkpoints.references import find_checkpoint
from builders.config import (
    BUNDLES_FOLDER,
    BundleConfig,
    ImageEncoderConfig,
    TextEncoderConfig,
    check_shared_space,
    read_bundle_config,
)

REVISION = "0123456789abcdef0123456789abcdef01234567"

HUB_BUNDLES = {
    "clip-vit-b32": ("clip_vision", "clip_text", True),
    "dinov2-base": ("dinov2", "bert_mean_pooling", False),
    "dinov2-small": ("dinov2", "bert_mean_pooling", False),
    "internvl3-1b": ("siglip_vision", "siglip_text", True),
    "siglip2-base": ("siglip_vision", "siglip_text", True),
    "smolvlm-500m": ("dinov2", "bert_mean_pooling", False),
}


@pytest.mark.parametrize("name", HUB_BUNDLES)
def test_a_hub_bundle_is_known_by_name_and_leaves_sizes_to_its_checkpoint(name: str) -> None:
    config = read_bundle_config(name)
    families = (config.image_encoder.family, config.text_encoder.family)
    assert (*families, config.shared_space) == HUB_BUNDLES[name]
    assert config.name == name
    assert config.image_encoder.checkpoint.startswith("hub:")
    assert (config.image_encoder.image_size, config.image_encoder.resize) == (None, None)
    check_shared_space(config)


def test_every_bundle_file_is_tested() -> None:
    assert {path.stem for path in BUNDLES_FOLDER.glob("*.toml")} == {
        *HUB_BUNDLES,
        # These have encoders of packages.
        "mini",
        "multilingual",
        "smolvlm-256m",
    }


def test_every_bundle_says_which_languages_it_reads() -> None:
    languages = {
        path.stem: read_bundle_config(path.stem).text_encoder.languages
        for path in BUNDLES_FOLDER.glob("*.toml")
    }
    assert languages["mini"] == languages["clip-vit-b32"] == ["en"]
    assert languages["siglip2-base"] == ["mul"]
    assert {"de", "ru", "ja", "en"} <= set(languages["multilingual"])
    assert all(languages.values())
    text = TextEncoderConfig("bert_mean_pooling", "a", 8, languages=["English"])
    with pytest.raises(BundleError, match="languages has 'English'; expected codes"):
        BundleConfig("odd", "", False, ImageEncoderConfig("dinov2", "a"), text)


def test_the_multilingual_bundle_is_mini_with_another_text_encoder() -> None:
    config, mini = read_bundle_config("multilingual"), read_bundle_config("mini")
    assert config.image_encoder == mini.image_encoder
    assert config.text_encoder.family == mini.text_encoder.family
    assert config.text_encoder.checkpoint.startswith("hub:")


@pytest.mark.parametrize(
    ("image", "text"),
    [
        (ImageEncoderConfig("clip_vision", "a"), TextEncoderConfig("bert_mean_pooling", "a", 8)),
        (ImageEncoderConfig("clip_vision", "a"), TextEncoderConfig("siglip_text", "a", 8)),
        (ImageEncoderConfig("clip_vision", "a"), TextEncoderConfig("clip_text", "b", 8)),
    ],
)
def test_encoders_that_were_not_trained_together_share_no_space(
    image: ImageEncoderConfig, text: TextEncoderConfig
) -> None:
    with pytest.raises(BundleError, match=r"'odd' has shared_space = true, but .* share none"):
        check_shared_space(BundleConfig("odd", "", True, image, text))
    check_shared_space(BundleConfig("odd", "", False, image, text))


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache, and no network behind it."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    return tmp_path / "hub"


def fill(cache: Path, files: list[str], revision: str = "main") -> Path:
    """A repository as the hub's client stores it."""
    repository = cache / "models--owner--name"
    snapshot = repository / "snapshots" / REVISION
    snapshot.mkdir(parents=True)
    for name in files:
        (snapshot / name).write_text("{}")
    (repository / "refs").mkdir()
    (repository / "refs" / revision).write_text(REVISION)
    return snapshot


def test_a_hub_checkpoint_comes_from_the_cache_without_a_network(hub_cache: Path) -> None:
    snapshot = fill(hub_cache, ["config.json", "model.safetensors"])
    assert find_checkpoint("hub:owner/name") == snapshot
    assert find_checkpoint(f"hub:owner/name@{REVISION}") == snapshot


def test_a_revision_is_found_by_its_name(hub_cache: Path) -> None:
    snapshot = fill(hub_cache, ["config.json", "pytorch_model.bin"], revision="v1.0")
    assert find_checkpoint("hub:owner/name@v1.0") == snapshot
    with pytest.raises(BundleError, match="hub:owner/name cannot be downloaded"):
        find_checkpoint("hub:owner/name")


@pytest.mark.parametrize("files", [[], ["config.json"], ["model.safetensors"]])
def test_a_hub_checkpoint_that_is_not_to_be_had_says_what_to_do(
    hub_cache: Path, files: list[str]
) -> None:
    if files:
        fill(hub_cache, files)
    with pytest.raises(BundleError) as error:
        find_checkpoint("hub:owner/name@main")
    message = str(error.value)
    assert "hub:owner/name@main cannot be downloaded" in message
    assert "hf download owner/name --revision main --local-dir FOLDER" in message
    assert "HF_HOME" in message


@pytest.mark.parametrize("reference", ["hub:", "hub:name", "hub:a/b/c", "hub:a/b@", "hub:a b/c"])
def test_a_malformed_hub_reference_is_refused(reference: str) -> None:
    with pytest.raises(BundleError, match=r"is not hub:<owner>/<name>"):
        find_checkpoint(reference)


def test_only_the_files_that_are_needed_are_downloaded(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import huggingface_hub
    from huggingface_hub.errors import LocalEntryNotFoundError

    asked: list[list[str]] = []

    def download(
        repository: str, revision: str | None, allow_patterns: list[str], local_files_only: bool
    ) -> str:
        if local_files_only:
            raise LocalEntryNotFoundError("not here")
        asked.append(allow_patterns)
        hub_cache.mkdir(exist_ok=True)
        (hub_cache / "config.json").touch()
        if "pytorch_model*.bin" in allow_patterns:
            (hub_cache / "pytorch_model.bin").touch()
        return str(hub_cache)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    assert find_checkpoint("hub:owner/name") == hub_cache
    # Pickled weights only where there are no others.
    assert ["pytorch_model*.bin" in patterns for patterns in asked] == [False, True]
    assert "config.json" in asked[0]
    assert find_checkpoint("hub:owner/name") == hub_cache
    assert len(asked) == 3
