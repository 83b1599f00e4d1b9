"""``text_encoder``: token ids to an L2-normalised vector, with the pooling in the graph."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from bls_models.errors import BundleError
from builders.config import TextEncoderConfig, find_checkpoint


class MeanPoolingEncoder(torch.nn.Module):
    """INT64 ids and mask (B, L) to FP32 unit vectors (B, D): the mean of unmasked last states."""

    def __init__(self, transformer: torch.nn.Module) -> None:
        super().__init__()
        self.transformer = transformer

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Encode a batch."""
        states = self.transformer(
            input_ids=input_ids, attention_mask=attention_mask
        ).last_hidden_state  # (B, L, D)
        mask = attention_mask.unsqueeze(-1).to(states.dtype)  # (B, L, 1)
        mean = (states * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1.0)
        return torch.nn.functional.normalize(mean, dim=1)


def bert_from_checkpoint(path: Path) -> MeanPoolingEncoder:
    """A BERT encoder with mean pooling from a Hugging Face checkpoint folder.

    Raises:
        BundleError: the folder's config is not BERT's.
    """
    from transformers import AutoConfig, BertModel
    from transformers.utils import logging

    # The checkpoint's unused pooler would otherwise be reported as a problem.
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    model_type = AutoConfig.from_pretrained(path).model_type
    if model_type != "bert":
        raise BundleError(f"{path} is a {model_type!r} checkpoint; bert_mean_pooling needs 'bert'")
    model = BertModel.from_pretrained(path, add_pooling_layer=False, attn_implementation="eager")
    return MeanPoolingEncoder(model).eval()


FAMILIES: dict[str, Callable[[Path], torch.nn.Module]] = {
    "bert_mean_pooling": bert_from_checkpoint,
}


def text_encoder_from_config(config: TextEncoderConfig) -> torch.nn.Module:
    """The torch module that a bundle's ``[text_encoder]`` describes.

    Raises:
        BundleError: unknown family, or a checkpoint that is missing or does not fit.
    """
    if config.family not in FAMILIES:
        raise BundleError(
            f"unknown text_encoder family {config.family!r}; known: {', '.join(FAMILIES)}"
        )
    return FAMILIES[config.family](find_checkpoint(config.checkpoint))


def tokenizer_from_checkpoint(path: Path, max_tokens: int) -> str:
    """The checkpoint's tokenizer as JSON, cutting at ``max_tokens`` and padding to the longest."""
    from tokenizers import Tokenizer

    file = path / "tokenizer.json"
    if not file.is_file():
        raise BundleError(f"{path} has no tokenizer.json; use a checkpoint with a fast tokenizer")
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.enable_truncation(max_length=max_tokens)
    padding = tokenizer.padding or {}
    tokenizer.enable_padding(
        pad_id=padding.get("pad_id", 0), pad_token=padding.get("pad_token", "[PAD]")
    )
    return str(tokenizer.to_str())
