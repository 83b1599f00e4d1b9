"""Captioner checkpoints and settings that do not fit are refused in words."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from architectures import TINY as TINY_ENCODERS
from architectures import write_checkpoint
from caption_architectures import (
    PROMPT,
    TINY,
    TINY_TEXT,
    TINY_VISION,
    captioner_config,
    write_captioner,
)
from caption_architectures import idefics3 as idefics3_of

from bls_models.bundle import Bundle
from bls_models.errors import BundleError
from builders.bundle.captioner import CaptionerBuild
from builders.bundle.fingerprints import caption_fingerprint_of
from builders.captioners import graphs
from builders.captioners.families import FAMILIES, captioner_from_config
from builders.captioners.graphs import check_served
from builders.config import BUNDLES_FOLDER, CaptionerConfig, read_bundle_config


@pytest.fixture
def idefics3(tmp_path: Path) -> CaptionerConfig:
    return tiny("idefics3", tmp_path)


@pytest.fixture
def internvl(tmp_path: Path) -> CaptionerConfig:
    return tiny("internvl", tmp_path)


def tiny(family: str, folder: Path) -> CaptionerConfig:
    (folder / family).mkdir()
    return captioner_config(TINY[family], write_captioner(TINY[family], folder / family))


def change(config: CaptionerConfig, name: str, edit: Callable[[Any], None]) -> None:
    path = Path(config.checkpoint) / name
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def test_an_unknown_family_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        BundleError, match="captioner family 'blip'; known: efficientnet_llama, ide"
    ):
        captioner_from_config(CaptionerConfig("blip", "."))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens is 0, expected 1 or more"),
        ({"max_new_tokens": 500}, r"58 tokens and max_new_tokens 500 exceed .* 512 positions"),
        ({"min_confidence": 1.5}, r"min_confidence is 1\.5, expected 0 to 1"),
        ({"prompt": None}, "idefics3 needs a prompt in the bundle's"),
        ({"prompt": "<image> again"}, "writes '<image>' 2 times for one picture"),
        ({"image_size": 32}, "sees 64 x 64 pixels; set image_size = 64 or leave it out"),
        ({"family": "internvl"}, "is a 'idefics3' checkpoint .*; internvl needs 'internvl'"),
    ],
)
def test_settings_that_do_not_fit_are_named(
    idefics3: CaptionerConfig, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        captioner_from_config(replace(idefics3, **changes))


@pytest.mark.parametrize("family", ["idefics3", "internvl"])
def test_a_checkpoint_of_another_architecture_is_refused(family: str, tmp_path: Path) -> None:
    folder = write_checkpoint(TINY_ENCODERS["dinov2"], tmp_path / "dinov2")
    config = CaptionerConfig(family, str(folder), prompt=PROMPT)
    with pytest.raises(
        BundleError, match=rf"is a 'dinov2' checkpoint .*; {family} needs '{family}'"
    ):
        captioner_from_config(config)


def test_a_checkpoint_without_a_chat_template_is_refused(idefics3: CaptionerConfig) -> None:
    (Path(idefics3.checkpoint) / "chat_template.json").unlink()
    with pytest.raises(BundleError, match="has no chat template"):
        captioner_from_config(idefics3)


def test_the_chat_template_may_stand_where_newer_checkpoints_have_it(
    idefics3: CaptionerConfig,
) -> None:
    expected = captioner_from_config(idefics3).prompt_ids
    folder = Path(idefics3.checkpoint)
    template = json.loads((folder / "chat_template.json").read_text())["chat_template"]
    (folder / "chat_template.json").unlink()
    (folder / "chat_template.jinja").write_text(template)
    assert captioner_from_config(idefics3).prompt_ids == expected


def test_a_template_without_a_picture_is_refused(idefics3: CaptionerConfig) -> None:
    change(idefics3, "chat_template.json", lambda item: item.update(chat_template="User: hello"))
    with pytest.raises(BundleError, match="writes '<image>' 0 times for one picture"):
        captioner_from_config(idefics3)


def test_a_template_that_fails_is_named(idefics3: CaptionerConfig) -> None:
    broken = "{{ raise_exception('only text') }}"
    change(idefics3, "chat_template.json", lambda item: item.update(chat_template=broken))
    with pytest.raises(BundleError, match=r"cannot be used for a picture .*only text"):
        captioner_from_config(idefics3)


def test_a_tokenizer_of_another_model_is_refused(
    idefics3: CaptionerConfig, internvl: CaptionerConfig
) -> None:
    other = Path(internvl.checkpoint) / "tokenizer.json"
    (Path(idefics3.checkpoint) / "tokenizer.json").write_bytes(other.read_bytes())
    with pytest.raises(BundleError, match="has no token '<"):
        captioner_from_config(idefics3)


def test_an_image_token_of_another_id_is_refused(idefics3: CaptionerConfig) -> None:
    change(idefics3, "config.json", lambda item: item.update(image_token_id=7))
    with pytest.raises(BundleError, match=r"id of '<image>' is 298, config\.json says .* = 7"):
        captioner_from_config(idefics3)


def test_patches_that_cannot_be_shuffled_are_refused(tmp_path: Path) -> None:
    odd = idefics3_of(TINY_TEXT, TINY_VISION | {"image_size": 72}, scale=2)
    with pytest.raises(BundleError, match="9 patches a side cannot be shuffled by scale_factor 2"):
        captioner_from_config(captioner_config(odd, write_captioner(odd, tmp_path)))


def test_layers_that_see_a_window_alone_are_refused(internvl: CaptionerConfig) -> None:
    def edit(content: Any) -> None:
        content["text_config"]["layer_types"] = ["full_attention", "sliding_attention"]
        content["text_config"]["use_sliding_window"] = True
        content["text_config"]["sliding_window"] = 8

    change(internvl, "config.json", edit)
    with pytest.raises(BundleError, match="layers of full_attention, sliding_attention; expected"):
        captioner_from_config(internvl)


def test_another_language_model_is_refused(internvl: CaptionerConfig) -> None:
    change(internvl, "config.json", lambda item: item["text_config"].update(model_type="mistral"))
    with pytest.raises(BundleError, match="is a 'mistral', expected 'llama' or 'qwen2' or"):
        captioner_from_config(internvl)


def test_features_of_another_layer_are_refused(internvl: CaptionerConfig) -> None:
    change(internvl, "config.json", lambda item: item.update(vision_feature_layer=-2))
    with pytest.raises(BundleError, match="features 'default' of layer -2; internvl needs"):
        captioner_from_config(internvl)


def test_weights_that_are_missing_are_not_drawn_at_random(idefics3: CaptionerConfig) -> None:
    from safetensors.torch import load_file, save_file

    path = Path(idefics3.checkpoint) / "model.safetensors"
    weights = load_file(path)
    del weights["model.connector.modality_projection.proj.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(BundleError, match="lacks 1 weights that idefics3 needs"):
        captioner_from_config(idefics3)


def test_a_checkpoint_without_an_end_token_is_refused(idefics3: CaptionerConfig) -> None:
    change(idefics3, "generation_config.json", lambda item: item.pop("eos_token_id"))
    with pytest.raises(BundleError, match="names no eos_token_id"):
        captioner_from_config(idefics3)


def test_a_model_too_large_for_an_onnx_file_is_refused(
    idefics3: CaptionerConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graphs, "MAX_GRAPH_BYTES", 100_000)
    build = CaptionerBuild(idefics3)
    sources = {name: tmp_path / name for name in ("caption_vision", "caption_decoder")}
    with pytest.raises(BundleError, match=r"GB of FP32 weights, but an ONNX file holds at most"):
        build.export(sources, print)
    assert not any(path.exists() for path in sources.values())


def test_a_precision_that_loses_too_much_is_not_served() -> None:
    with pytest.raises(BundleError, match=r"0\.5000, expected .*cannot be served as fp16"):
        check_served(Path("b/caption_decoder.fp16.onnx"), 0.5, print)


# --- fingerprints and bundle files ------------------------------------------------------------


def test_the_fingerprint_changes_with_all_that_decides_a_caption(
    idefics3: CaptionerConfig,
) -> None:
    folder = Path(idefics3.checkpoint)
    found = {caption_fingerprint_of(idefics3)}
    for variant in (
        replace(idefics3, prompt="Name it."),
        replace(idefics3, max_new_tokens=5),
        replace(idefics3, resize="pad"),
        replace(idefics3, image_size=64),
    ):
        found.add(caption_fingerprint_of(variant))
    for name in ("chat_template.json", "generation_config.json", "tokenizer.json", "config.json"):
        content = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(content | {"further": 1}))
        found.add(caption_fingerprint_of(idefics3))
    (folder / "model.safetensors").write_bytes(b"other weights")
    found.add(caption_fingerprint_of(idefics3))
    assert len(found) == 10


def test_the_fingerprint_does_not_change_with_how_a_caption_is_computed_or_used(
    idefics3: CaptionerConfig,
) -> None:
    other = replace(idefics3, vision_precision="int8", decoder_precision="fp16", min_confidence=0.9)
    assert caption_fingerprint_of(other) == caption_fingerprint_of(idefics3)


def test_the_fingerprint_covers_the_checkpoint_that_another_builds_upon(tmp_path: Path) -> None:
    trunk, folder = tmp_path / "trunk.pth", tmp_path / "captioner"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"head")
    (folder / "config.json").write_text(json.dumps({"trunk": str(trunk)}))
    config = CaptionerConfig("efficientnet_llama", str(folder))
    trunk.write_bytes(b"trunk")
    before = caption_fingerprint_of(config)
    trunk.write_bytes(b"another trunk")
    assert caption_fingerprint_of(config) != before


def test_every_bundle_with_a_captioner_names_a_family_and_a_prompt_where_it_needs_one() -> None:
    captioners = {
        path.stem: read_bundle_config(path.stem).captioner for path in BUNDLES_FOLDER.glob("*.toml")
    }
    found = {name: item for name, item in captioners.items() if item is not None}
    assert set(found) == {"mini", "smolvlm-256m", "smolvlm-500m", "internvl3-1b"}
    for item in found.values():
        assert item.family in FAMILIES
        assert bool(item.prompt) == (item.family != "efficientnet_llama")


def test_a_bundle_without_a_captioner_has_no_sizes_of_one() -> None:
    bundle = Bundle("b", "f" * 16, 224, "pad", 4, 4, 8, False, {})
    with pytest.raises(BundleError, match="bundle 'b' has no captioner"):
        bundle.size("caption_hidden")
    assert bundle.size("image_dim") == 4


def test_the_embedding_table_is_halved_only_where_that_loses_nothing(
    idefics3: CaptionerConfig,
) -> None:
    modules = captioner_from_config(idefics3)
    assert graphs.token_embeddings(modules).dtype == "float32"
    table = modules.language.get_input_embeddings().weight
    with torch.no_grad():
        table.copy_(table.bfloat16().float())
        table[table.abs() < 1e-4] = 0
    assert graphs.token_embeddings(modules).dtype == "float16"
