"""How near an encoder's vectors are to another's, and whether they find the same products."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from bls_models.vectors import FloatArray

Names = npt.NDArray[np.str_]
DEPTH = 10


@dataclass(frozen=True)
class Vectors:
    """A retrieval set's vectors by one runner: catalogue views (N, D) and queries (Q, D)."""

    catalogue: FloatArray
    queries: FloatArray


@dataclass(frozen=True)
class Retrieval:
    """How well a runner's vectors retrieve; all are shares of the queries, 0 to 1.

    Attributes:
        top1_accuracy: the first match is the product that the query shows.
        top1_agreement: the first match is the reference's.
        top10_agreement: mean share of the reference's first ten products that are among its own.
        mixed_top1_accuracy: accuracy of its queries against the reference's catalogue, as after
            a change of precision without re-embedding.
    """

    top1_accuracy: float
    top1_agreement: float
    top10_agreement: float
    mixed_top1_accuracy: float


def cosines(vectors: FloatArray, reference: FloatArray) -> FloatArray:
    """Cosine (N,) of each unit vector (N, D) to its counterpart."""
    products: FloatArray = (vectors * reference).sum(axis=1)
    return products


def ranked_products(
    queries: FloatArray, catalogue: FloatArray, catalogue_ids: Sequence[str]
) -> Names:
    """The products that each query finds, best first.

    Args:
        queries: (Q, D), L2-normalised.
        catalogue: (N, D), L2-normalised; a product's score is its best view's.
        catalogue_ids: the product of each view.

    Returns:
        (Q, K) product ids, K the smaller of 10 and the number of products.
    """
    ids: Names = np.array(catalogue_ids)
    products, owners = np.unique(ids, return_inverse=True)  # (P,), (N,)
    order = np.argsort(owners, kind="stable")
    starts = np.searchsorted(owners[order], np.arange(len(products)))
    scores = np.maximum.reduceat((queries @ catalogue.T)[:, order], starts, axis=1)  # (Q, P)
    best = np.argsort(-scores, axis=1, kind="stable")[:, :DEPTH]
    found: Names = products[best]
    return found


def retrieval(
    own: Vectors,
    reference: Vectors,
    catalogue_ids: Sequence[str],
    query_ids: Sequence[str],
) -> Retrieval:
    """Compare what a runner's vectors retrieve with the truth and with a reference runner's."""
    wanted = np.array(query_ids)
    found = ranked_products(own.queries, own.catalogue, catalogue_ids)
    usual = ranked_products(reference.queries, reference.catalogue, catalogue_ids)
    mixed = ranked_products(own.queries, reference.catalogue, catalogue_ids)
    overlap = (found[:, :, None] == usual[:, None, :]).any(axis=2)  # (Q, K)
    return Retrieval(
        top1_accuracy=float((found[:, 0] == wanted).mean()),
        top1_agreement=float((found[:, 0] == usual[:, 0]).mean()),
        top10_agreement=float(overlap.mean()),
        mixed_top1_accuracy=float((mixed[:, 0] == wanted).mean()),
    )
