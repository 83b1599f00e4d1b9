"""Checkpoints of the captioner families with random weights, tiny or at true size."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from architectures import spread_weights
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    InternVLConfig,
    InternVLForConditionalGeneration,
)

from builders.config import CaptionerConfig

PROMPT = "Describe the product."

# As they stand in the original repositories.
SMOLVLM_TEMPLATE = (
    "<|im_start|>{% for message in messages %}{{message['role'] | capitalize}}"
    "{% if message['content'][0]['type'] == 'image' %}{{':'}}{% else %}{{': '}}{% endif %}"
    "{% for line in message['content'] %}{% if line['type'] == 'text' %}{{line['text']}}"
    "{% elif line['type'] == 'image' %}{{ '<image>' }}{% endif %}{% endfor %}"
    "<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
INTERNVL_TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\n'}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for content in message['content'] %}{% if content['type'] == 'image' %}"
    "{{ '<IMG_CONTEXT>\n' }}{% elif content['type'] == 'text' %}{{ content['text'] }}"
    "{% endif %}{% endfor %}{% endif %}{{'<|im_end|>\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\n' }}{% endif %}"
)


@dataclass(frozen=True)
class CaptionArchitecture:
    """What a captioner's checkpoint is made of.

    Attributes:
        family: of the bundle file.
        model: makes the model.
        special: its tokenizer's special tokens; the last ones of the vocabulary, in this order.
        end: the one that ends a caption.
        vocabulary: rows of the embedding table.
        template: chat template.
        settings: ``preprocessor_config.json``.
        tokenizer_settings: ``tokenizer_config.json`` without the template.
    """

    family: str
    model: Callable[[], Any]
    special: tuple[str, ...]
    end: str
    vocabulary: int
    template: str
    settings: dict[str, Any]
    tokenizer_settings: dict[str, Any]

    def first_special(self) -> int:
        """Id of the first special token."""
        return self.vocabulary - len(self.special)


SMOLVLM_SPECIAL = (
    "<|im_start|>",
    "<|im_end|>",
    "<global-img>",
    "<fake_token_around_image>",
    "<image>",
    "<end_of_utterance>",
)
INTERNVL_SPECIAL = ("<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>")


def idefics3(text: dict[str, Any], vision: dict[str, Any], scale: int) -> CaptionArchitecture:
    """An Idefics3 with SmolVLM's tokens; ``text`` and ``vision`` are the parts' sizes."""
    vocabulary = text["vocab_size"]
    first = vocabulary - len(SMOLVLM_SPECIAL)
    ids = {token: first + number for number, token in enumerate(SMOLVLM_SPECIAL)}

    def make() -> Any:
        config = Idefics3Config(
            text_config={"model_type": "llama", "pad_token_id": ids["<|im_end|>"]} | text,
            vision_config=vision,
            scale_factor=scale,
            image_token_id=ids["<image>"],
        )
        return Idefics3ForConditionalGeneration(config)

    side = vision["image_size"]
    return CaptionArchitecture(
        family="idefics3",
        model=make,
        special=SMOLVLM_SPECIAL,
        end="<end_of_utterance>",
        vocabulary=vocabulary,
        template=SMOLVLM_TEMPLATE,
        settings={
            "do_convert_rgb": True,
            "do_image_splitting": True,
            "do_normalize": True,
            "do_pad": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.5, 0.5, 0.5],
            "image_processor_type": "Idefics3ImageProcessor",
            "image_std": [0.5, 0.5, 0.5],
            "max_image_size": {"longest_edge": side},
            "processor_class": "Idefics3Processor",
            "resample": 1,
            "rescale_factor": 0.00392156862745098,
            "size": {"longest_edge": 4 * side},
        },
        tokenizer_settings={
            "bos_token": "<|im_start|>",
            "eos_token": "<end_of_utterance>",
            "pad_token": "<|im_end|>",
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


def internvl(text: dict[str, Any], vision: dict[str, Any]) -> CaptionArchitecture:
    """An InternVL; ``text`` and ``vision`` are the parts' sizes."""
    vocabulary = text["vocab_size"]
    first = vocabulary - len(INTERNVL_SPECIAL)

    def make() -> Any:
        config = InternVLConfig(
            # Frequencies that change with the length of a text, as the original has them.
            text_config={
                "model_type": "qwen2",
                "rope_parameters": {"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e6},
            }
            | text,
            vision_config=vision,
            image_token_id=first + INTERNVL_SPECIAL.index("<IMG_CONTEXT>"),
            image_seq_length=(vision["image_size"] // vision["patch_size"] // 2) ** 2,
        )
        return InternVLForConditionalGeneration(config)

    side = vision["image_size"]
    return CaptionArchitecture(
        family="internvl",
        model=make,
        special=INTERNVL_SPECIAL,
        end="<|im_end|>",
        vocabulary=vocabulary,
        template=INTERNVL_TEMPLATE,
        settings={
            "crop_size": None,
            "crop_to_patches": False,
            "do_center_crop": None,
            "do_convert_rgb": True,
            "do_normalize": True,
            "do_rescale": True,
            "do_resize": True,
            "image_mean": [0.485, 0.456, 0.406],
            "image_processor_type": "GotOcr2ImageProcessorFast",
            "image_std": [0.229, 0.224, 0.225],
            "max_patches": 12,
            "min_patches": 1,
            "processor_class": "InternVLProcessor",
            "resample": 3,
            "rescale_factor": 0.00392156862745098,
            "size": {"height": side, "width": side},
        },
        tokenizer_settings={
            "eos_token": "<|im_end|>",
            "pad_token": "<|im_end|>",
            "extra_special_tokens": {
                "context_image_token": "<IMG_CONTEXT>",
                "end_image_token": "</img>",
                "start_image_token": "<img>",
                "video_token": "<video>",
            },
            "tokenizer_class": "PreTrainedTokenizerFast",
        },
    )


TINY_TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 300,
    "max_position_embeddings": 512,
}
TINY_VISION = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 64,
    "patch_size": 8,
}
TINY = {
    "idefics3": idefics3(TINY_TEXT, TINY_VISION, scale=2),
    "internvl": internvl(TINY_TEXT, TINY_VISION),
}

SMOLVLM_256M = idefics3(
    {
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49_280,
        "max_position_embeddings": 8192,
        "rope_parameters": {"rope_type": "default", "rope_theta": 100_000},
    },
    {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "image_size": 512,
        "patch_size": 16,
    },
    scale=4,
)


def write_captioner(architecture: CaptionArchitecture, folder: Path, seed: int = 0) -> Path:
    """Write a checkpoint like a hub repository's, with weights that keep inputs apart."""
    torch.manual_seed(seed)
    model = architecture.model()
    spread_weights(model, seed)
    with torch.no_grad():
        # Where the table is the output layer too, a token of large embedding would repeat itself.
        model.get_input_embeddings().weight.mul_(0.2)
    model.generation_config.eos_token_id = _id_of(architecture, architecture.end)
    model.generation_config.pad_token_id = _id_of(architecture, "<|im_end|>")
    model.save_pretrained(folder)
    _tokenizer(architecture).save(str(folder / "tokenizer.json"))
    for name, content in (
        ("preprocessor_config.json", architecture.settings),
        ("tokenizer_config.json", architecture.tokenizer_settings),
        ("chat_template.json", {"chat_template": architecture.template}),
    ):
        (folder / name).write_text(json.dumps(content))
    return folder


def captioner_config(
    architecture: CaptionArchitecture, folder: Path, max_new_tokens: int = 12
) -> CaptionerConfig:
    """``[captioner]`` of a checkpoint folder."""
    return CaptionerConfig(
        architecture.family, str(folder), prompt=PROMPT, max_new_tokens=max_new_tokens
    )


def _id_of(architecture: CaptionArchitecture, token: str) -> int:
    return architecture.first_special() + architecture.special.index(token)


def _tokenizer(architecture: CaptionArchitecture) -> Tokenizer:
    """Bytes, unused words, and the special tokens at the ids that the model has for them."""
    symbols = sorted(pre_tokenizers.ByteLevel.alphabet())
    words = [f"<unused{number}>" for number in range(architecture.first_special() - len(symbols))]
    vocabulary = {piece: number for number, piece in enumerate([*symbols, *words])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [AddedToken(token, normalized=False) for token in architecture.special]
    )
    return tokenizer
