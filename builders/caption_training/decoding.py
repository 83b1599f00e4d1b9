"""Captions by the torch modules, greedily, from visual features or visual tokens."""

from __future__ import annotations

from typing import Any

import torch
from tokenizers import Tokenizer

from bls_models.captions.captioner import Caption

# Of a caption, its end included.
MAX_NEW_TOKENS = 16


@torch.inference_mode()
def greedy_captions(
    language: Any,
    tokenizer: Tokenizer,
    visual: torch.Tensor,
    prompt_ids: list[int],
    image_token_id: int,
    stop_ids: list[int],
) -> list[Caption]:
    """Caption a batch as ``bls_models.captions.captioner`` does, without a KV cache.

    Args:
        language: the language model.
        tokenizer: its tokenizer.
        visual: visual tokens (B, T, H).
        prompt_ids: see ``bls_models.bundle.CaptionerBundle``, like all that follows.
        image_token_id: in place of which ``visual`` goes.
        stop_ids: tokens that end a caption.
    """
    embed = language.get_input_embeddings()
    prompt = torch.tensor(prompt_ids)
    embeds = embed(prompt).repeat(len(visual), 1, 1)
    embeds[:, prompt == image_token_id] = visual
    stops = torch.tensor(stop_ids)
    alive = torch.ones(len(visual), dtype=torch.bool)
    tokens: list[list[int]] = [[] for _ in range(len(visual))]
    logs: list[list[float]] = [[] for _ in range(len(visual))]
    for _ in range(MAX_NEW_TOKENS):
        logits = language(inputs_embeds=embeds).logits[:, -1]
        best, chosen = torch.log_softmax(logits.double(), dim=1).max(dim=1)
        ends = torch.isin(chosen, stops)
        for row in alive.nonzero().flatten().tolist():
            logs[row].append(float(best[row]))
            if not ends[row]:
                tokens[row].append(int(chosen[row]))
        alive &= ~ends
        if not alive.any():
            break
        embeds = torch.cat([embeds, embed(chosen)[:, None]], dim=1)
    return [
        Caption(
            tokenizer.decode(ids).strip(),
            float(torch.tensor(values, dtype=torch.float64).mean().exp()),
            tuple(ids),
        )
        for ids, values in zip(tokens, logs, strict=True)
    ]
