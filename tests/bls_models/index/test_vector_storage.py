"""Vectors survive BSON bit by bit, as float32 binary vectors."""

from __future__ import annotations

import bson
import numpy as np
import pytest
from bson.binary import Binary, BinaryVectorDtype
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bls_models.vectors import FloatArray, binary_from_vector, vector_from_binary

any_number = st.floats(allow_nan=False, width=32)


@given(arrays(np.float32, st.integers(0, 64), elements=any_number))
def test_a_vector_comes_back_bit_by_bit_through_a_bson_document(vector: FloatArray) -> None:
    document = bson.decode(bson.encode({"vector": binary_from_vector(vector)}))
    found = vector_from_binary(document["vector"])
    assert found.dtype == np.float32
    assert found.tobytes() == vector.tobytes()


def test_the_stored_form_is_the_drivers_own_float32_vector() -> None:
    vector = np.array([0.25, -1.5, 3.0], np.float32)
    stored = binary_from_vector(vector)
    assert stored.as_vector().dtype is BinaryVectorDtype.FLOAT32
    assert list(stored.as_vector().data) == [0.25, -1.5, 3.0]


def test_a_vector_of_the_other_byte_order_is_stored_right() -> None:
    swapped = np.array([0.25, -1.5], ">f4")
    assert vector_from_binary(binary_from_vector(swapped)).tolist() == [0.25, -1.5]


@pytest.mark.parametrize(
    "binary",
    [
        b"",
        b"\x27",
        b"some other binary",
        Binary.from_vector([1, 2, 3], BinaryVectorDtype.INT8),
    ],
    ids=["empty", "header cut", "no vector", "int8"],
)
def test_what_is_no_float32_vector_is_refused(binary: bytes) -> None:
    with pytest.raises(ValueError, match="not a BSON binary vector of float32"):
        vector_from_binary(binary)
