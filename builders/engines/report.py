"""``reports/engines.json``: a row an engine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bls_models.files import atomic_write
from builders.engines.building import BuiltEngine

_KEY = ("bundle", "model", "precision", "target")


def report_row(engine: BuiltEngine) -> dict[str, Any]:
    """What a report says of an engine; ``seconds`` are those of the build that made it."""
    recipe = engine.metadata.recipe
    return {
        "bundle": recipe.bundle,
        "model": recipe.model,
        "precision": recipe.precision,
        "target": recipe.target,
        "bytes": engine.metadata.bytes,
        "seconds": engine.metadata.seconds,
        "tensorrt": recipe.tensorrt,
        "tensorrt_version": recipe.tensorrt_version,
        "compute_capabilities": list(recipe.compute_capabilities),
        "gpu": recipe.gpu,
        "reused": engine.reused,
        "plan": str(engine.path),
    }


def write_engine_report(path: Path, rows: Sequence[dict[str, Any]]) -> None:
    """Write rows, keeping those of other bundles, models, precisions and targets.

    Args:
        path: the report; other rows stay if it exists already.
        rows: of ``report_row``.
    """
    merged = {}
    known = json.loads(path.read_text(encoding="utf-8"))["engines"] if path.is_file() else []
    for row in (*known, *rows):
        merged[tuple(row[key] for key in _KEY)] = row
    content = {"engines": [merged[key] for key in sorted(merged)]}
    with atomic_write(path) as stream:
        stream.write(json.dumps(content, indent=2).encode() + b"\n")
