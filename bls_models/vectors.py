"""The types of arrays that packages hand to each other, and vectors as BSON.

A vector is stored in BSON's binary vector subtype, float32.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from bson.binary import Binary, BinaryVectorDtype

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int32]
LongArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
# Of pictures: (..., S, S, 3), RGB.
Pixels = npt.NDArray[np.uint8]
# Tensors by name.
Arrays = Mapping[str, npt.NDArray[Any]]

# dtype and padding stand before the numbers (BSON binary vector specification).
HEADER_BYTES = 2


def unit(vectors: FloatArray) -> FloatArray:
    """Vectors (n, D) brought to length 1; one of length 0 stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: FloatArray = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    return normalised


def binary_from_vector(vector: FloatArray) -> Binary:
    """A float32 vector (D,) as a BSON binary vector."""
    return Binary.from_vector(vector.astype("<f4", copy=False), BinaryVectorDtype.FLOAT32)


def vector_from_binary(binary: object) -> FloatArray:
    """A BSON binary vector as float32 (D,), without a Python object a number.

    Raises:
        ValueError: it is none, as what was put into the database by hand may be.
    """
    if (
        not isinstance(binary, bytes)
        or len(binary) < HEADER_BYTES
        or binary[0] != BinaryVectorDtype.FLOAT32.value[0]
    ):
        raise ValueError("not a BSON binary vector of float32")
    return np.frombuffer(binary, dtype="<f4", offset=HEADER_BYTES)


def vector_of_length(binary: object, dim: int) -> FloatArray:
    """A BSON binary vector as float32 (dim,).

    Raises:
        ValueError: it is none, of another length, or not finite.
    """
    vector = vector_from_binary(binary)
    if len(vector) != dim:
        raise ValueError(f"{len(vector)} numbers instead of {dim}")
    if not np.isfinite(vector).all():
        raise ValueError("a number that is not finite")
    return vector
