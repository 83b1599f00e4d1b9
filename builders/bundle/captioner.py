"""The captioner's part of a bundle: graphs, tokenizer, embedding table and manifest."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from bls_models.bundle import CAPTION_TOKENIZER_FILE, TOKEN_EMBEDDINGS_FILE, CaptionerBundle
from bls_models.files import atomic_write
from bls_models.images.preprocessing import Preprocess
from bls_models.specs import CAPTION_DECODER, CAPTION_ENGINE_SPECS, CAPTION_VISION
from builders.bundle.fingerprints import caption_fingerprint_of
from builders.captioners.families import captioner_from_config
from builders.captioners.graphs import (
    check_served,
    decoder_sizes,
    export_captioner,
    token_embeddings,
)
from builders.config import CaptionerConfig
from builders.engines.metadata import metadata_path
from builders.graphs.calibration import example_images
from reporting.progress import Report


class CaptionerBuild:
    """Builds the captioner of one bundle, in the order of the methods.

    Args:
        config: the bundle's ``[captioner]``.

    Raises:
        BundleError: the checkpoint is missing or does not fit.
    """

    def __init__(self, config: CaptionerConfig) -> None:
        self._config = config
        self._modules = captioner_from_config(config)

    @property
    def preprocess(self) -> Preprocess:
        """How its pictures become pixels."""
        return Preprocess(self._modules.image_size, self._modules.resize)

    def export(self, sources: Mapping[str, Path], report: Report) -> None:
        """Write the FP32 graphs, by model, and compare them with the original.

        Raises:
            BundleError: a graph is too large for a file or differs from the original.
        """
        self._checks = export_captioner(
            self._modules,
            self._config.max_new_tokens,
            example_images(self._modules.image_size),
            sources[CAPTION_VISION.name],
            sources[CAPTION_DECODER.name],
            report,
        )

    def check_served(self, graphs: Mapping[str, Path], report: Report) -> None:
        """Compare the graphs that are to be served, by model, with the original.

        Raises:
            BundleError: a graph's precision loses too much.
        """
        vision, decoder = graphs[CAPTION_VISION.name], graphs[CAPTION_DECODER.name]
        check_served(vision, self._checks.vision_cosine(vision), report)
        check_served(decoder, self._checks.decoder_cosine(decoder), report)

    def write_files(self, repository: Path) -> list[Path]:
        """Write tokenizer and embedding table; returns their paths."""
        tokenizer = repository / CAPTION_TOKENIZER_FILE
        embeddings = repository / TOKEN_EMBEDDINGS_FILE
        tokenizer.parent.mkdir(parents=True, exist_ok=True)
        tokenizer.write_text(self._modules.tokenizer_json, encoding="utf-8")
        # A server may have the old file mapped into memory.
        with atomic_write(embeddings) as stream:
            np.save(stream, token_embeddings(self._modules))
        return [tokenizer, embeddings]

    def manifest(self) -> CaptionerBundle:
        """What the serving code has to know."""
        modules, config = self._modules, self._config
        planes, heads, head_dim = decoder_sizes(modules.language)
        return CaptionerBundle(
            fingerprint=caption_fingerprint_of(config),
            image_size=modules.image_size,
            resize=modules.resize,
            visual_tokens=modules.visual_tokens,
            hidden=modules.language.config.hidden_size,
            kv_planes=planes,
            kv_heads=heads,
            head_dim=head_dim,
            vocabulary=modules.language.lm_head.out_features,
            prompt_ids=modules.prompt_ids,
            image_token_id=modules.image_token_id,
            stop_ids=modules.stop_ids,
            max_new_tokens=config.max_new_tokens,
            min_confidence=config.min_confidence,
        )


def remove_captioner(repository: Path) -> None:
    """Remove what the captioner of an earlier bundle left beside its graphs, engines included."""
    for name in (CAPTION_TOKENIZER_FILE, TOKEN_EMBEDDINGS_FILE):
        (repository / name).unlink(missing_ok=True)
    for spec in CAPTION_ENGINE_SPECS:
        plan = repository / spec.name / "1" / "model.plan"
        for path in (plan, metadata_path(plan)):
            path.unlink(missing_ok=True)
