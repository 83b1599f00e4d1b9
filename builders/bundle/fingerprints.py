"""What decides a bundle's vectors, captions and boxes, each in 16 hex digits."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

from builders.checkpoints.pretrained import read_settings
from builders.checkpoints.references import (
    CAPTIONER_SETTINGS_FILES,
    checkpoint_sha256,
    find_checkpoint,
)
from builders.config import BundleConfig, CaptionerConfig, DetectorConfig

# Raise when an encoder's mathematics changes: old vectors then no longer compare with new ones.
GRAPH_REVISION = 1
# Likewise for captions.
CAPTION_REVISION = 1
# And for boxes.
DETECTOR_REVISION = 1
# Image encoder settings that came later; where they change nothing, fingerprints stay as they were.
NEUTRAL = {"keep": 1.0, "pooling_sigma": None}


def fingerprint_of(config: BundleConfig) -> str:
    """16 hex digits over all that decides a vector: weights, sizes, preprocessing, graph code.

    The precision is left out: its rounding changes no more than near-ties, so vectors of two
    precisions may be compared (docs/quality.md), and a change of it needs no re-embedding. So is
    the captioner, which makes no vector of a product, and the detector.
    """
    content: dict[str, Any] = {"graph_revision": GRAPH_REVISION}
    for name, encoder in (
        ("image_encoder", config.image_encoder),
        ("text_encoder", config.text_encoder),
    ):
        content[name] = asdict(encoder)
        content[name]["checkpoint"] = checkpoint_sha256(find_checkpoint(encoder.checkpoint))
        del content[name]["precision"]
    for key, neutral in NEUTRAL.items():
        if content["image_encoder"][key] == neutral:
            del content["image_encoder"][key]
    return _digest(content)


def caption_fingerprint_of(config: CaptionerConfig) -> str:
    """16 hex digits over all that decides a caption; precisions are left out here too.

    So is ``min_confidence``, which decides not what a caption says but whether it is used.
    """
    content: dict[str, Any] = asdict(config)
    for name in ("vision_precision", "decoder_precision", "min_confidence"):
        del content[name]
    folder = find_checkpoint(config.checkpoint)
    content["checkpoint"] = checkpoint_sha256(folder, CAPTIONER_SETTINGS_FILES)
    trunk = _trunk_of(folder)
    if trunk is not None:
        content["trunk"] = checkpoint_sha256(find_checkpoint(trunk))
    return _digest(content | {"caption_revision": CAPTION_REVISION})


def detector_fingerprint_of(config: DetectorConfig) -> str:
    """16 hex digits over all that decides a box; the precision is left out here too.

    So is ``min_score``, which decides not what is found but whether it is used.
    """
    content: dict[str, Any] = asdict(config)
    for name in ("precision", "min_score"):
        del content[name]
    folder = find_checkpoint(config.checkpoint)
    content["checkpoint"] = checkpoint_sha256(folder)
    trunk = _trunk_of(folder)
    if trunk is not None:
        content["trunk"] = checkpoint_sha256(find_checkpoint(trunk))
    return _digest(content | {"detector_revision": DETECTOR_REVISION})


def _trunk_of(folder: Path) -> str | None:
    """The checkpoint that one of another kind builds upon, where its config names one."""
    trunk = read_settings(folder, "config.json").get("trunk")
    return trunk if isinstance(trunk, str) else None


def _digest(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]
