"""The captioner's two graphs from its torch modules, and the check that both give the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from bls_models.errors import BundleError
from bls_models.specs import CAPTION_DECODER, CAPTION_VISION
from bls_models.vectors import FloatArray, Pixels
from builders.captioners.decoder import CaptionDecoder
from builders.captioners.modules import CaptionerModules
from builders.graphs.calibration import Feed
from builders.graphs.export import MIN_COSINE, onnx_from_torch
from builders.graphs.onnx_runtime import literal_session
from reporting.progress import Report

# What a served graph may differ from the original: far more than INT8 and FP16 do to a model that
# can be rounded so, far less than one that overflows or that is wired wrongly.
MIN_SERVED_COSINE = 0.95

# A protobuf message, and so an ONNX file with its weights, ends at 2 GiB.
MAX_GRAPH_BYTES = 2**31 - 2**24

DECODER_DIMS = {
    "inputs_embeds": {0: "batch", 1: "new"},
    "attention_mask": {0: "batch", 1: "past+new"},
    "position_ids": {0: "batch", 1: "new"},
    "past_kv": {0: "batch", 3: "past"},
}
# Steps that the check decodes after the prompt, and slots that pad its second row on the left.
CHECKED_STEPS = 2
PADDING = 2


class CaptionChecks:
    """Compares a captioner's graphs, as they are, with its torch modules.

    Args:
        modules: the captioner.
        images: pictures (B, S, S, 3) UINT8, two at least.
    """

    def __init__(self, modules: CaptionerModules, images: Pixels) -> None:
        self._language = modules.language
        self._images = images
        with torch.inference_mode():
            tokens: torch.Tensor = modules.vision(torch.from_numpy(images))  # (B, T, H)
            prompt = torch.tensor(modules.prompt_ids)
            embeds = modules.language.get_input_embeddings()(prompt)  # (L, H)
            self._embeds = embeds.repeat(2, 1, 1)
            self._embeds[:, prompt == modules.image_token_id] = tokens[:2]
        self._tokens = tokens.numpy()

    def vision_cosine(self, path: Path) -> float:
        """Least cosine of a visual token to the original's.

        Raises:
            BundleError: the graph gives numbers that are not finite.
        """
        (found,) = literal_session(path).run(["visual_tokens"], {"image": self._images})
        return _least_cosine(found, self._tokens, path)

    def decoder_cosine(self, path: Path) -> float:
        """Least cosine of a step's logits to those of the whole sequence at once.

        The second row is padded on the left, and the first slot of the past is hidden, as the
        serving code has it.

        Raises:
            BundleError: the graph gives numbers that are not finite.
        """
        session = literal_session(path)
        embeds = self._embeds
        mask = torch.ones(embeds.shape[:2], dtype=torch.int64)
        mask[1, :PADDING] = 0
        past = np.zeros((2, *_past_dims(self._language)), np.float32)
        hidden = np.zeros((2, 1), np.int64)
        start, least = 0, 1.0
        for _ in range(1 + CHECKED_STEPS):
            positions = (mask.cumsum(1) - 1).clamp(min=0)
            with torch.inference_mode():
                expected = self._language(
                    inputs_embeds=embeds, attention_mask=mask, position_ids=positions
                ).logits[:, -1]
            logits, new = session.run(
                ["logits", "new_kv"],
                {
                    "inputs_embeds": embeds[:, start:].numpy(),
                    "attention_mask": np.concatenate([hidden, mask.numpy()], axis=1),
                    "position_ids": positions[:, start:].numpy(),
                    "past_kv": past,
                },
            )
            least = min(least, _least_cosine(logits, expected.numpy(), path))
            past = np.concatenate([past, new], axis=3)
            start = embeds.shape[1]
            chosen = self._language.get_input_embeddings()(expected.argmax(dim=1, keepdim=True))
            embeds = torch.cat([embeds, chosen.detach()], dim=1)
            mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.int64)], dim=1)
        return least


def export_captioner(
    modules: CaptionerModules,
    max_new_tokens: int,
    images: Pixels,
    vision: Path,
    decoder: Path,
    report: Report,
) -> CaptionChecks:
    """Write both FP32 graphs.

    Args:
        modules: the captioner.
        max_new_tokens: tokens that may follow the prompt.
        images: pictures (B, S, S, 3) UINT8 to trace and check with, two at least.
        vision: where ``caption_vision`` goes.
        decoder: where ``caption_decoder`` goes.
        report: called with a line on each step.

    Returns:
        The comparison with the torch modules, for the graphs made from these.

    Raises:
        BundleError: a graph would be too large for a file, or differs from its module.
    """
    step = CaptionDecoder(modules.language, len(modules.prompt_ids) + max_new_tokens)
    _check_size(CAPTION_VISION.name, modules.vision)
    # The embedding table stays outside of the graph.
    _check_size(CAPTION_DECODER.name, step.trunk.layers, step.head)
    report("caption_vision: exporting")
    onnx_from_torch(
        modules.vision, CAPTION_VISION, {"image": images}, vision, {"image": {0: "batch"}}
    )
    report("caption_decoder: exporting")
    onnx_from_torch(step, CAPTION_DECODER, _example_step(modules.language), decoder, DECODER_DIMS)
    checks = CaptionChecks(modules, images)
    for path, cosine in (
        (vision, checks.vision_cosine(vision)),
        (decoder, checks.decoder_cosine(decoder)),
    ):
        if cosine < MIN_COSINE:
            raise BundleError(
                f"{path}: cosine similarity to the torch original is {cosine:.6f}, expected at "
                f"least {MIN_COSINE}; the export is wrong, do not serve it"
            )
        report(f"{path.name.partition('.')[0]}: cosine to the original at least {cosine:.6f}")
    return checks


def check_served(path: Path, cosine: float, report: Report) -> None:
    """Check that a graph in the precision that is served still does what the original does.

    Raises:
        BundleError: it does not.
    """
    model, precision, _ = path.name.split(".")
    if cosine < MIN_SERVED_COSINE:
        raise BundleError(
            f"{path}: cosine similarity to the original is {cosine:.4f}, expected at least "
            f"{MIN_SERVED_COSINE}: {model} cannot be served as {precision}; choose another "
            "precision in the bundle's [captioner]"
        )
    report(f"{model}: cosine of {precision} to the original at least {cosine:.4f}")


def token_embeddings(modules: CaptionerModules) -> npt.NDArray[np.floating[Any]]:
    """The language model's embedding table (vocabulary, H), in FP16 where that loses nothing."""
    table: FloatArray = modules.language.get_input_embeddings().weight.detach().numpy()
    half = table.astype(np.float16)
    return half if np.array_equal(half.astype(np.float32), table) else table


def decoder_sizes(language: Any) -> tuple[int, int, int]:
    """Key and value planes, heads a plane, and length of a head."""
    config = language.config
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers, config.num_key_value_heads, head_dim


def _past_dims(language: Any, slots: int = 1) -> tuple[int, int, int, int]:
    planes, heads, head_dim = decoder_sizes(language)
    return planes, heads, slots, head_dim


def _example_step(language: Any) -> Feed:
    """Inputs to trace a step with; no size is 1, and no two free sizes are equal."""
    batch, past, new = 2, 3, 5
    random = np.random.default_rng(0)
    positions = np.arange(past, past + new, dtype=np.int64)
    return {
        "inputs_embeds": random.standard_normal(
            (batch, new, language.config.hidden_size), np.float32
        ),
        "attention_mask": np.ones((batch, past + new), np.int64),
        "position_ids": np.tile(positions, (batch, 1)),
        "past_kv": random.standard_normal((batch, *_past_dims(language, past)), np.float32),
    }


def _check_size(name: str, *parts: torch.nn.Module) -> None:
    weights = {id(item): item for part in parts for item in part.parameters()}
    size = sum(item.numel() * item.element_size() for item in weights.values())
    if size > MAX_GRAPH_BYTES:
        raise BundleError(
            f"{name}: {size / 1e9:.1f} GB of FP32 weights, but an ONNX file holds at most "
            f"{MAX_GRAPH_BYTES / 1e9:.1f} GB; use a smaller checkpoint"
        )


def _least_cosine(found: FloatArray, expected: FloatArray, path: Path) -> float:
    """Least cosine of the last dimension's vectors."""
    if not np.isfinite(found).all():
        raise BundleError(
            f"{path} gives numbers that are not finite; choose a precision with a larger range "
            "in the bundle's [captioner]"
        )
    product = (found * expected).sum(axis=-1)
    lengths = np.linalg.norm(found, axis=-1) * np.linalg.norm(expected, axis=-1)
    return float((product / np.maximum(lengths, np.finfo(np.float32).tiny)).min())
