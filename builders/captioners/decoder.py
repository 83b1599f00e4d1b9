"""``caption_decoder``: one step of a causal language model, with its keys and values outside."""

from __future__ import annotations

from typing import Any

import torch

# Hides a slot. Far below any attention score, and within the range of FP16.
HIDDEN = -1e4


class CaptionDecoder(torch.nn.Module):
    """Embeddings and past to the next token's logits and the new keys and values.

    Args:
        language: a causal language model of transformers with rotary positions, whose ``model``
            takes embeddings. It computes the same afterwards, but for ``positions`` alone.
        positions: positions 0 to ``positions - 1`` can be fed.
    """

    def __init__(self, language: Any, positions: int) -> None:
        super().__init__()
        self.trunk = language.model
        self.head = language.lm_head
        self.trunk.rotary_emb = RotaryTable(self.trunk.rotary_emb, positions)

    def forward(
        self,
        inputs_embeds: torch.Tensor,
        attention_mask: torch.Tensor,
        position_ids: torch.Tensor,
        past_kv: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Feed N positions after P slots of the past.

        Args:
            inputs_embeds: FP32 (B, N, H).
            attention_mask: INT64 (B, P + N); 0 hides a slot of the past or of the new.
            position_ids: INT64 (B, N).
            past_kv: FP32 (B, 2 L, heads, P, head length): the keys of layer 0, its values, the
                keys of layer 1 and so on.

        Returns:
            Logits FP32 (B, V) after the last position, and the new slots of the past
            (B, 2 L, heads, N, head length).
        """
        past, new = past_kv.shape[3], inputs_embeds.shape[1]
        slots = torch.arange(past + new)
        causal = slots[None] <= slots[past:, None]  # (N, P + N)
        seen = causal[None, None] & (attention_mask[:, None, None] > 0)  # (B, 1, N, P + N)
        cache = _StackedCache(past_kv)
        states = self.trunk(
            inputs_embeds=inputs_embeds,
            attention_mask=torch.where(seen, 0.0, HIDDEN),
            position_ids=position_ids,
            past_key_values=cache,
            use_cache=True,
        ).last_hidden_state  # (B, N, H)
        return self.head(states[:, -1]), torch.stack(cache.new, dim=1)


class RotaryTable(torch.nn.Module):
    """A model's rotary embedding, looked up instead of computed.

    Angles of large positions lose their meaning in FP16, their sines and cosines do not. A table
    also leaves out what scaled embeddings decide by the length of a text at run time.

    Args:
        rotary: the model's own, from states and positions to cosines and sines.
        positions: rows of the table.
    """

    cosines: torch.Tensor
    sines: torch.Tensor

    def __init__(self, rotary: torch.nn.Module, positions: int) -> None:
        super().__init__()
        with torch.no_grad():
            cosines, sines = rotary(torch.zeros(1), torch.arange(positions)[None])
        self.register_buffer("cosines", cosines[0], persistent=False)  # (positions, head length)
        self.register_buffer("sines", sines[0], persistent=False)

    def forward(
        self, states: torch.Tensor, position_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines (B, N, head length) of positions (B, N)."""
        return self.cosines[position_ids], self.sines[position_ids]


class _StackedCache:
    """What the layers see as their cache: the past in one tensor, new keys and values in a list.

    transformers' own cache would give the past back with the new in every step.
    """

    def __init__(self, past_kv: torch.Tensor) -> None:
        self._past = past_kv
        self.new: list[torch.Tensor] = []

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Slots of the past."""
        return self._past.shape[3]

    def update(
        self, keys: torch.Tensor, values: torch.Tensor, layer_idx: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """All keys and values of a layer (B, heads, P + N, head length)."""
        self.new += [keys, values]
        return (
            torch.cat([self._past[:, 2 * layer_idx], keys], dim=2),
            torch.cat([self._past[:, 2 * layer_idx + 1], values], dim=2),
        )
