"""Vectors as BSON: the binary vector subtype, float32."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from bson.binary import Binary, BinaryVectorDtype

FloatArray = npt.NDArray[np.float32]

# dtype and padding stand before the numbers (BSON binary vector specification).
HEADER_BYTES = 2


def binary_from_vector(vector: FloatArray) -> Binary:
    """A float32 vector (D,) as a BSON binary vector."""
    return Binary.from_vector(vector.astype("<f4", copy=False), BinaryVectorDtype.FLOAT32)


def vector_from_binary(binary: bytes) -> FloatArray:
    """A BSON binary vector as float32 (D,), without a Python object a number."""
    if len(binary) < HEADER_BYTES or binary[0] != BinaryVectorDtype.FLOAT32.value[0]:
        raise ValueError("not a BSON binary vector of float32")
    return np.frombuffer(binary, dtype="<f4", offset=HEADER_BYTES)
