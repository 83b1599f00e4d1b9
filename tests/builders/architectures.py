"""Checkpoints of the hub bundles' architectures with random weights, tiny or at true size.

The weights are drawn so that different inputs give different vectors: as transformers initialises
a model, all its vectors would be nearly the same, and nothing could fail.

For a graph at true size, in a file that is not committed::

    python tests/builders/architectures.py dinov2-small build/dinov2-small
"""

from __future__ import annotations

import argparse
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import pre_tokenizers
from transformers import (
    BertConfig,
    BertModel,
    BertTokenizer,
    CLIPConfig,
    CLIPModel,
    CLIPTokenizer,
    Dinov2Config,
    Dinov2Model,
    GemmaTokenizer,
    SiglipConfig,
    SiglipModel,
)

from bls_models.bundle import Bundle
from builders.bundle.building import build_bundle
from builders.config import BUNDLES_FOLDER, BundleConfig, read_bundle_config

LETTERS = "abcdefghijklmnopqrstuvwxyzüABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789,.-"
WORD_PIECES = [("m", "u"), ("mu", "g"), ("r", "e"), ("re", "d"), ("t", "h"), ("a", "n")]

# The files as they stand in the original repositories.
PIXEL_SETTINGS: dict[str, dict[str, Any]] = {
    "dinov2": {
        "crop_size": {"height": 224, "width": 224},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.485, 0.456, 0.406],
        "image_processor_type": "BitImageProcessor",
        "image_std": [0.229, 0.224, 0.225],
        "resample": 3,
        "rescale_factor": 0.00392156862745098,
        "size": {"shortest_edge": 256},
    },
    "siglip": {
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_processor_type": "SiglipImageProcessor",
        "image_std": [0.5, 0.5, 0.5],
        "processor_class": "SiglipProcessor",
        "resample": 2,
        "rescale_factor": 0.00392156862745098,
        "size": {"height": 224, "width": 224},
    },
    # Of the time before sizes had names and the rescale factor was written down.
    "clip": {
        "crop_size": 224,
        "do_center_crop": True,
        "do_normalize": True,
        "do_resize": True,
        "feature_extractor_type": "CLIPFeatureExtractor",
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
        "resample": 3,
        "size": 224,
    },
}


@dataclass(frozen=True)
class Architecture:
    """What a bundle's checkpoints are made of.

    Attributes:
        bundle: name of the bundle file.
        image: kind of the image checkpoint: ``dinov2``, ``siglip`` or ``clip``.
        model: makes the image checkpoint's model, or the whole of one with two towers.
        tokenizer: makes the tokenizer of one with two towers; None where texts are MiniLM's.
    """

    bundle: str
    image: str
    model: Callable[[], torch.nn.Module]
    tokenizer: Callable[[], Any] | None = None


def _dinov2(**sizes: int) -> Callable[[], torch.nn.Module]:
    # Position embeddings of the originals are for 518 pixels, so every use interpolates them.
    return lambda: Dinov2Model(Dinov2Config(image_size=518, patch_size=14, **sizes))


def _clip(text: dict[str, Any], vision: dict[str, Any], dim: int) -> Callable[[], torch.nn.Module]:
    text, vision = text | {"projection_dim": dim}, vision | {"projection_dim": dim}
    return lambda: CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=dim))


def _siglip(text: dict[str, Any], vision: dict[str, Any]) -> Callable[[], torch.nn.Module]:
    return lambda: SiglipModel(SiglipConfig(text_config=text, vision_config=vision))


def clip_tokenizer(vocab_size: int) -> Callable[[], Any]:
    """CLIP's tokenizer with few words; the start and end tokens are the two highest ids."""

    def make() -> Any:
        symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
        pieces = [*symbols, *(f"{symbol}</w>" for symbol in symbols)]
        merges = [*WORD_PIECES, ("mu", "g</w>"), ("re", "d</w>")]
        pieces += [left + right for left, right in merges]
        vocab = {piece: number for number, piece in enumerate(pieces)}
        vocab |= {"<|startoftext|>": vocab_size - 2, "<|endoftext|>": vocab_size - 1}
        return CLIPTokenizer(vocab=vocab, merges=merges)

    return make


def gemma_tokenizer() -> Any:
    """Gemma's tokenizer with few words, with the settings of SigLIP 2's repositories."""
    pieces = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    pieces += [f"<0x{number:02X}>" for number in range(256)]
    pieces += [*LETTERS, "▁", *(left + right for left, right in WORD_PIECES)]
    return GemmaTokenizer(
        vocab={piece: number for number, piece in enumerate(pieces)},
        merges=WORD_PIECES,
        add_bos_token=False,
        add_eos_token=True,
        do_lower_case=True,
        padding_side="right",
    )


TRUE_SIZE: dict[str, Architecture] = {
    "dinov2-small": Architecture(
        "dinov2-small",
        "dinov2",
        _dinov2(hidden_size=384, num_hidden_layers=12, num_attention_heads=6),
    ),
    "dinov2-base": Architecture(
        "dinov2-base",
        "dinov2",
        _dinov2(hidden_size=768, num_hidden_layers=12, num_attention_heads=12),
    ),
    # The defaults of both towers are the base model's sizes, but for the vocabulary.
    "siglip2-base": Architecture(
        "siglip2-base", "siglip", _siglip({"vocab_size": 256_000}, {}), gemma_tokenizer
    ),
    "clip-vit-b32": Architecture(
        "clip-vit-b32", "clip", _clip({"eos_token_id": 2}, {}, 512), clip_tokenizer(49_408)
    ),
}

_TINY = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
}

# The same bundle files and the same input sizes, so that only the width differs.
TINY: dict[str, Architecture] = {
    "dinov2": Architecture(
        "dinov2-small",
        "dinov2",
        _dinov2(hidden_size=32, num_hidden_layers=1, num_attention_heads=2),
    ),
    "siglip2": Architecture(
        "siglip2-base",
        "siglip",
        # In one layer, padding outweighs a short text.
        _siglip(
            _TINY | {"vocab_size": 400, "projection_size": 32, "num_hidden_layers": 2},
            _TINY | {"patch_size": 32},
        ),
        gemma_tokenizer,
    ),
    "clip": Architecture(
        "clip-vit-b32",
        "clip",
        _clip(_TINY | {"vocab_size": 600, "eos_token_id": 2}, _TINY, 24),
        clip_tokenizer(600),
    ),
}


def spread_weights(model: torch.nn.Module, seed: int = 0) -> None:
    """Draw weights that keep different inputs apart through all layers."""
    random = torch.Generator().manual_seed(seed)
    tables = {id(part.weight) for part in model.modules() if isinstance(part, torch.nn.Embedding)}
    with torch.no_grad():
        for name, weight in model.named_parameters():
            noise = torch.randn(weight.shape, generator=random)
            if weight.ndim < 2:
                # Biases are drawn around 0; norms, layer scales and the logit scale around 1.
                weight.copy_(0.1 * noise + (0.0 if name.endswith("bias") else 1.0))
            elif id(weight) in tables or weight.ndim == 3:
                # Positions and token types are the same for all inputs.
                shared = "position" in name or "type" in name
                weight.copy_(noise * (0.3 if shared else 1.0))
            else:
                # Attention that looks at some tokens more than at others.
                sharp = re.search(r"q_proj|k_proj|query|key|in_proj", name) is not None
                weight.copy_(noise * (3.0 if sharp else 1.5) / math.sqrt(weight[0].numel()))


def write_checkpoint(architecture: Architecture, folder: Path) -> Path:
    """Write config, weights, pixel settings and tokenizer like a hub repository's."""
    torch.manual_seed(0)
    model: Any = architecture.model()
    spread_weights(model)
    model.save_pretrained(folder)
    settings = PIXEL_SETTINGS[architecture.image]
    (folder / "preprocessor_config.json").write_text(json.dumps(settings))
    if architecture.tokenizer is not None:
        architecture.tokenizer().save_pretrained(folder)
    return folder


def write_bert(folder: Path) -> Path:
    """A tiny BERT with its tokenizer, in MiniLM's place."""
    torch.manual_seed(0)
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [*LETTERS, *(f"##{letter}" for letter in LETTERS)]
    tokenizer = BertTokenizer(vocab={word: number for number, word in enumerate(words)})
    model = BertModel(BertConfig(vocab_size=len(words), **_TINY), add_pooling_layer=False)
    spread_weights(model)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def bundle_config(architecture: Architecture, image: Path, text: Path) -> BundleConfig:
    """The bundle's own file with folders in place of its hub references, without a detector."""
    lines = (BUNDLES_FOLDER / f"{architecture.bundle}.toml").read_text().splitlines()
    folders = iter([image, text])
    lines = [
        f'checkpoint = "{next(folders, "")}"' if line.startswith("checkpoint = ") else line
        for line in lines
    ]
    path = image.parent / f"{architecture.bundle}.toml"
    path.write_text("\n".join(lines))
    return replace(read_bundle_config(str(path)), object_detector=None)


def build_random(
    architecture: Architecture, folder: Path, report: Callable[[str], None]
) -> tuple[BundleConfig, Bundle]:
    """Write checkpoints below ``folder`` and build them into ``folder / "repository"``."""
    image = write_checkpoint(architecture, folder / "checkpoint")
    text = image if architecture.tokenizer else write_bert(folder / "text")
    config = bundle_config(architecture, image, text)
    return config, build_bundle(config, folder / "repository", report)


def main() -> None:
    """Write one architecture's graphs at true size."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("name", choices=TRUE_SIZE)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    build_random(TRUE_SIZE[arguments.name], arguments.folder, print)


if __name__ == "__main__":
    main()
