"""Checkpoint folders that do not fit are refused in words, and nothing is overwritten."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import (
    TINY,
    bundle_config,
    write_bert,
)
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from bls_models.errors import BundleError
from builders.bundle.building import build_bundle
from builders.checkpoints.references import checkpoint_sha256
from builders.checkpoints.tokenizer import tokenizer_from_checkpoint
from builders.config import ImageEncoderConfig, TextEncoderConfig
from builders.encoders.image import image_encoder_from_config
from builders.encoders.text import text_encoder_from_config, tokenizer_from_config


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    return write_bert(tmp_path / "bert")


def image(family: str, folder: Path, **sizes: Any) -> Any:
    return image_encoder_from_config(ImageEncoderConfig(family, str(folder), **sizes))


def text(family: str, folder: Path, max_tokens: int) -> Any:
    return text_encoder_from_config(TextEncoderConfig(family, str(folder), max_tokens))


def change_json(path: Path, **values: Any) -> None:
    """Set keys of a JSON file; None removes one."""
    content = json.loads(path.read_text()) | values
    content = {key: value for key, value in content.items() if value is not None}
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("family", "found"),
    [("dinov2", "clip"), ("siglip_vision", "clip"), ("clip_vision", "siglip")],
)
def test_an_image_checkpoint_of_another_architecture_is_refused_unread(
    request: pytest.FixtureRequest, family: str, found: str
) -> None:
    folder: Path = request.getfixturevalue(found)
    (folder / "model.safetensors").write_bytes(b"would not load")
    with pytest.raises(BundleError, match=rf"is a '{found}' checkpoint .*; {family} needs '"):
        image(family, folder)


@pytest.mark.parametrize(
    ("family", "found"),
    [("bert_mean_pooling", "clip"), ("siglip_text", "clip"), ("clip_text", "siglip")],
)
def test_a_text_checkpoint_of_another_architecture_is_refused_unread(
    request: pytest.FixtureRequest, family: str, found: str
) -> None:
    folder: Path = request.getfixturevalue(found)
    (folder / "model.safetensors").write_bytes(b"would not load")
    with pytest.raises(BundleError, match=rf"is a '{found}' checkpoint .*; {family} needs '"):
        text(family, folder, 64)


def test_siglip_2_of_any_resolution_is_named_as_another_architecture(siglip: Path) -> None:
    change_json(siglip / "config.json", model_type="siglip2", architectures=["Siglip2Model"])
    with pytest.raises(BundleError, match=r"is a 'siglip2' checkpoint \(Siglip2Model\)"):
        image("siglip_vision", siglip)


def test_missing_weights_are_named_and_not_drawn_at_random(clip: Path) -> None:
    path = clip / "model.safetensors"
    weights = load_file(path)
    del weights["visual_projection.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BundleError, match=r"lacks 1 weights .*\(visual_projection\.weight\)"):
        image("clip_vision", clip)
    text("clip_text", clip, 77)


def test_weights_of_another_size_are_refused(clip: Path) -> None:
    path = clip / "model.safetensors"
    weights = load_file(path)
    weights["visual_projection.weight"] = torch.zeros(3, 32)
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BundleError, match="cannot be loaded as CLIPVisionModelWithProjection"):
        image("clip_vision", clip)


def test_damaged_weights_are_refused(dinov2: Path) -> None:
    path = dinov2 / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(BundleError, match=r"weights of .* cannot be loaded.*download .* again"):
        image("dinov2", dinov2)


def test_an_image_family_needs_its_kind_of_file(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"no weights")
    with pytest.raises(BundleError, match=r"weights\.pth does not hold EfficientNet-Lite0"):
        image("efficientnet_lite0", tmp_path / "weights.pth", image_size=224, resize="pad")
    with pytest.raises(BundleError, match=r"has no config\.json; give a folder"):
        image("clip_vision", tmp_path / "weights.pth")


def test_efficientnet_needs_its_sizes_in_the_bundle_file(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="efficientnet_lite0 needs image_size and resize"):
        image("efficientnet_lite0", tmp_path)


@pytest.mark.parametrize("name", ["config.json", "preprocessor_config.json", "model.safetensors"])
def test_a_folder_without_a_file_that_images_need_is_refused(clip: Path, name: str) -> None:
    (clip / name).unlink()
    with pytest.raises(BundleError, match=rf"clip has no .*{name}"):
        image("clip_vision", clip)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "model.safetensors"])
def test_a_folder_without_a_file_that_texts_need_is_refused(clip: Path, name: str) -> None:
    (clip / name).unlink()
    with pytest.raises(BundleError, match=rf"clip has no .*{name}"):
        text("clip_text", clip, 77)


@pytest.mark.parametrize("content", ["{", "[]", ""])
def test_settings_that_are_no_json_object_are_refused(clip: Path, content: str) -> None:
    (clip / "preprocessor_config.json").write_text(content)
    with pytest.raises(BundleError, match=r"preprocessor_config\.json .*download it again"):
        image("clip_vision", clip)


def test_a_checkpoint_that_does_not_fit_leaves_a_built_repository_alone(
    tmp_path: Path, clip: Path
) -> None:
    (tmp_path / "repository").mkdir()
    manifest = tmp_path / "repository" / "bundle.json"
    manifest.write_text("built before")
    config = bundle_config(TINY["siglip2"], clip, clip)
    with pytest.raises(BundleError, match="siglip_vision needs"):
        build_bundle(config, tmp_path / "repository", lambda line: None)
    assert manifest.read_text() == "built before"
    assert list((tmp_path / "repository").iterdir()) == [manifest]


@pytest.mark.parametrize("name", ["preprocessor_config.json", "tokenizer_config.json"])
def test_the_hash_of_a_checkpoint_covers_its_settings(clip: Path, name: str) -> None:
    before = checkpoint_sha256(clip)
    change_json(clip / name, further=1)
    assert checkpoint_sha256(clip) != before


@pytest.mark.parametrize(
    ("found", "family", "max_tokens", "words"),
    [
        ("bert", "bert_mean_pooling", 513, "reads 1 to 512"),
        ("clip", "clip_text", 78, "reads 1 to 77"),
        ("clip", "clip_text", 0, "reads 1 to 77"),
        ("siglip", "siglip_text", 63, "set max_tokens = 64"),
    ],
)
def test_texts_longer_or_shorter_than_the_model_reads_are_refused(
    request: pytest.FixtureRequest, found: str, family: str, max_tokens: int, words: str
) -> None:
    folder: Path = request.getfixturevalue(found)
    with pytest.raises(BundleError, match=words):
        text(family, folder, max_tokens)


def test_a_tokenizer_of_another_checkpoint_is_refused(clip: Path) -> None:
    change_text_config(clip, lambda settings: settings.update(eos_token_id=598))
    with pytest.raises(BundleError, match="ends texts with token 599, the model pools token 598"):
        text("clip_text", clip, 77)


def test_a_tokenizer_whose_end_token_is_not_the_highest_is_refused_for_an_old_config(
    clip: Path,
) -> None:
    path = clip / "tokenizer.json"
    tokenizer = json.loads(path.read_text())
    tokenizer["model"]["vocab"]["added</w>"] = 600
    path.write_text(json.dumps(tokenizer))
    with pytest.raises(BundleError, match="ends texts with token 599, the model pools token 600"):
        text("clip_text", clip, 77)


@pytest.mark.parametrize(
    ("found", "family", "size"), [("clip", "clip_text", 77), ("siglip", "siglip_text", 64)]
)
def test_a_tokenizer_that_ends_no_text_is_refused(
    request: pytest.FixtureRequest, found: str, family: str, size: int
) -> None:
    folder: Path = request.getfixturevalue(found)
    change_json(folder / "tokenizer.json", post_processor=None)
    with pytest.raises(BundleError, match=r"not with its eos_token '<.*>'"):
        text(family, folder, size)


def test_a_tokenizer_without_a_token_to_pad_with_is_refused(clip: Path) -> None:
    (clip / "tokenizer_config.json").unlink()
    with pytest.raises(BundleError, match="has no token to pad with"):
        tokenizer_from_config(TextEncoderConfig("clip_text", str(clip), 77))


def test_a_padding_token_may_be_written_in_the_old_way(clip: Path) -> None:
    config = TextEncoderConfig("clip_text", str(clip), 77)
    before = tokenizer_from_config(config)
    wrapped = {"__type": "AddedToken", "content": "<|endoftext|>", "lstrip": False}
    change_json(clip / "tokenizer_config.json", pad_token=wrapped)
    assert tokenizer_from_config(config) == before


def test_a_tokenizer_of_many_languages_is_padded_and_cut_as_any_other(tmp_path: Path) -> None:
    """XLM-R's kind, which multilingual MiniLM has: pieces of any script, with their chances."""
    pieces = ["<s>", "<pad>", "</s>", "<unk>", "▁жи", "л", "▁rot", "e", "▁カ", "ップ", "▁"]
    tokenizer = Tokenizer(
        models.Unigram([(piece, -float(at)) for at, piece in enumerate(pieces)], unk_id=3)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    settings = {"tokenizer_class": "XLMRobertaTokenizer", "pad_token": "<pad>"}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(settings))
    made = Tokenizer.from_str(tokenizer_from_checkpoint(tmp_path, 5))
    encoded = made.encode_batch(["rote カップ rote rote", "жил"])
    assert [item.tokens for item in encoded] == [
        ["<s>", "▁rot", "e", "▁カ", "</s>"],
        ["<s>", "▁жи", "л", "</s>", "<pad>"],
    ]
    assert encoded[1].ids[-1] == 1


def test_only_siglip_2_lower_cases_by_itself(siglip: Path) -> None:
    from tokenizers import Tokenizer

    config = TextEncoderConfig("siglip_text", str(siglip), 64)
    settings = siglip / "tokenizer_config.json"
    words = ("Red MUG", "red mug")

    def ids() -> list[list[int]]:
        tokenizer = Tokenizer.from_str(tokenizer_from_config(config))
        return [tokenizer.encode(word).ids for word in words]

    change_json(settings, do_lower_case=None, tokenizer_class="GemmaTokenizerFast")
    upper, lower = ids()
    assert upper == lower
    change_json(settings, tokenizer_class="SiglipTokenizer")
    upper, lower = ids()
    assert upper != lower


def change_text_config(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "config.json"
    content = json.loads(path.read_text())
    change(content["text_config"])
    path.write_text(json.dumps(content))
