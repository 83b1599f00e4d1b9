"""The vectors of products as they are stored: a document each, of the write that made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bls_models.bundle import Bundle
from bls_models.database.store import Document
from bls_models.vectors import FloatArray, vector_of_length

IMAGE = "image"
TEXT = "text"
KINDS = (IMAGE, TEXT)


@dataclass(frozen=True)
class StoredVectors:
    """What one write stored.

    Attributes:
        images: (views, image_dim), in the order of the product's pictures.
        texts: (texts, text_dim).
    """

    images: FloatArray
    texts: FloatArray


def stored_vectors(embeddings: Sequence[Document], bundle: Bundle) -> StoredVectors | None:
    """The vectors of a write from its embeddings, as ``Store.find_embeddings`` gives them.

    Returns:
        None if none of them is of this bundle.

    Raises:
        ValueError: one is damaged.
    """
    current = [item for item in embeddings if item.get("fingerprint") == bundle.fingerprint]
    if not current:
        return None
    for item in current:
        if item.get("kind") not in KINDS:
            raise ValueError(f"its kind is {item.get('kind')!r}")
    return StoredVectors(
        _stack(current, IMAGE, bundle.image_dim), _stack(current, TEXT, bundle.text_dim)
    )


def _stack(embeddings: Sequence[Document], kind: str, dim: int) -> FloatArray:
    """The vectors of one kind, (n, dim).

    Raises:
        ValueError: one is damaged.
    """
    own = sorted((item for item in embeddings if item.get("kind") == kind), key=_number)
    vectors = [vector_of_length(item.get("vector"), dim) for item in own]
    return np.stack(vectors) if vectors else np.zeros((0, dim), np.float32)


def _number(embedding: Document) -> int:
    """Which of its product's pictures it is of: the end of its id (``ingest/upserter.py``)."""
    _, _, number = str(embedding["_id"]).rpartition(":")
    return int(number) if number.isdecimal() else 0
