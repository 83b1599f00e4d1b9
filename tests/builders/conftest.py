"""Tiny checkpoints of the hub architectures, written anew for each test."""

from __future__ import annotations

from pathlib import Path

import pytest


def tiny_checkpoint(name: str, folder: Path) -> Path:
    # Only where a test asks for one: torch and transformers take seconds to import.
    from architectures import TINY, write_checkpoint

    return write_checkpoint(TINY[name], folder)


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return tiny_checkpoint("clip", tmp_path / "clip")


@pytest.fixture
def siglip(tmp_path: Path) -> Path:
    return tiny_checkpoint("siglip2", tmp_path / "siglip")


@pytest.fixture
def dinov2(tmp_path: Path) -> Path:
    return tiny_checkpoint("dinov2", tmp_path / "dinov2")
