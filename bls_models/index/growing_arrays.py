"""Arrays that grow by doubling, so that filling one costs time in proportion to its length."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)
LEAST = 64


def grown(array: npt.NDArray[Scalar], length: int, missing: float) -> npt.NDArray[Scalar]:
    """The array if it is that long, else a copy at least twice as long as it was.

    Args:
        array: (n,).
        length: what is needed.
        missing: what stands in the new places.
    """
    if length <= len(array):
        return array
    longer = np.full(max(length, 2 * len(array), LEAST), missing, array.dtype)
    longer[: len(array)] = array
    return longer
