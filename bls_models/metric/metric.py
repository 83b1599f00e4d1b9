"""The metric: what of an image vector counts when two are compared.

``whitened = (vector - centre) @ matrix`` has the features in which views of one product differ
made small, and those in which products differ made large (``fitting.py``). A constant beside it
keeps its length, which tells how usual a picture is in this catalogue, when both are brought to
length 1. Cosines of such vectors are close together, so they are spread: ``1 - spread * (1 - cos)``
is 1 for the very picture, and as far from it as raw cosines are for another product. The spread is
in the vectors of queries and a constant in those of rows, so an index needs nothing but the inner
product of the two.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from bls_models.vectors import FloatArray, unit

# Beside whitened vectors of a length of about 1.
CONSTANT = 1.5
# Coordinates of an index row beside the whitened ones.
FURTHER = 2


@dataclass(frozen=True)
class Metric:
    """A fitted metric.

    Attributes:
        version: names it.
        centre: (D,) FP32, of raw vectors.
        matrix: (D, d) FP32.
        spread: above 0; see the module.
    """

    version: str
    centre: FloatArray
    matrix: FloatArray
    spread: float

    @property
    def dim(self) -> int:
        """Length of projected vectors."""
        return self.matrix.shape[1] + FURTHER

    def rows(self, vectors: FloatArray) -> FloatArray:
        """Vectors of views as an index holds them.

        Args:
            vectors: (n, D) FP32, L2-normalised.

        Returns:
            (n, dim) FP32.
        """
        return self._with(self._unit(vectors), 1.0)

    def queries(self, vectors: FloatArray) -> FloatArray:
        """Vectors (n, D) of queries, to be multiplied with ``rows``; (n, dim) FP32."""
        return self._spread(self._unit(vectors))

    def queries_of_rows(self, rows: FloatArray) -> FloatArray:
        """Rows, or means of some, (n, dim), as queries; (n, dim) FP32."""
        return self._spread(unit(rows[:, :-1]))

    def _spread(self, vectors: FloatArray) -> FloatArray:
        return self._with(vectors * np.float32(self.spread), 1 - self.spread)

    def _unit(self, vectors: FloatArray) -> FloatArray:
        return unit(self._with((vectors - self.centre) @ self.matrix, CONSTANT))

    @staticmethod
    def _with(vectors: FloatArray, value: float) -> FloatArray:
        return np.pad(vectors, ((0, 0), (0, 1)), constant_values=np.float32(value))
