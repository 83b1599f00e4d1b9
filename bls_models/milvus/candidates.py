"""Products that the lists of one query propose, and what these promise of them."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np

from bls_models.index.scored_query import QueryPart, ScoredQuery, cut_among_equals, promised
from bls_models.index.storage.frozen_rows import NONE
from bls_models.milvus.lists import RowList
from bls_models.vectors import FloatArray


@dataclass(frozen=True)
class PartLists:
    """What Milvus proposes for a part of a query.

    Attributes:
        part: what is asked for.
        asked: a list for each vector of ``part.asking()``.
        further: that of the weighted sum, where these are several: what is like all of them a
            little may be in none of their lists.
    """

    part: QueryPart
    asked: Sequence[RowList]
    further: Sequence[RowList]

    def cosines(self) -> FloatArray:
        """Of the asked lists' rows, (n, k); -inf behind the end of a list."""
        longest = max((len(found.rows) for found in self.asked), default=0)
        cosines = np.full((len(self.asked), longest), -np.inf, np.float32)
        for line, found in zip(cosines, self.asked, strict=True):
            line[: len(found.rows)] = [row.cosine for row in found.rows]
        return cosines

    def ends_among_equals(self, wanted: int) -> bool:
        """Whether a product in no list may be as good as one of so many that are wanted."""
        cosines = self.cosines()
        left_out = np.array([not found.whole for found in self.asked], np.bool_)
        return cut_among_equals(cosines[left_out], wanted)

    def score_of_others(self) -> float:
        """What this part gives at most to a product that is in none of the lists."""
        if any(found.whole for found in self.asked):
            return -math.inf
        if len(self.part.vectors) > 1 and (self.part.weights < 0).any():
            # Views together may score above what each of them promises.
            return math.inf
        if not all(found.rows for found in self.asked):
            return math.inf
        last = np.array([[found.rows[-1].cosine] for found in self.asked], np.float32)
        return float(self.part.asking().scores(last)[0])


@dataclass
class Candidate:
    """A product that is proposed.

    Attributes:
        versions: by write, one or more; the newest that is still stored counts.
    """

    versions: dict[str, int] = field(default_factory=dict)

    def newest_first(self) -> list[tuple[str, int]]:
        """Writes with their versions."""
        return sorted(self.versions.items(), key=lambda item: -item[1])


@dataclass(frozen=True)
class Candidates:
    """What the lists propose, best first.

    Attributes:
        products: by id.
        promises: (n,) what each scores at most, by the codes that Milvus has of its vectors.
        others: what any other product scores at most, likewise; -inf where there is no other.
    """

    products: dict[str, Candidate]
    promises: FloatArray
    others: float

    @classmethod
    def of(
        cls, query: ScoredQuery, parts: Sequence[PartLists], left_out: Collection[str]
    ) -> Candidates:
        """What these lists propose for a query, without some products."""
        products: dict[str, Candidate] = {}
        # Of each part the products that have vectors of its kind, and of the other one.
        have: list[set[str]] = [set() for _ in parts]
        both: set[str] = set()
        for own, lists in zip(have, parts, strict=True):
            for found in (*lists.asked, *lists.further):
                for row in found.rows:
                    if row.product_id not in left_out:
                        known = products.setdefault(row.product_id, Candidate())
                        known.versions[row.write_id] = row.version
                        own.add(row.product_id)
                        if not row.alone:
                            both.add(row.product_id)
        ids = list(products)
        places = {product_id: place for place, product_id in enumerate(ids)}
        every = np.arange(len(ids), dtype=np.int32)
        best = []
        for own, lists in zip(have, parts, strict=True):
            cosines = lists.cosines()
            owners = np.full(cosines.shape, NONE, np.int32)
            for line, found in zip(owners, lists.asked, strict=True):
                line[: len(found.rows)] = [places.get(row.product_id, NONE) for row in found.rows]
            promises = promised(every, cosines, owners)
            lacking = [product_id not in own and product_id not in both for product_id in ids]
            promises[:, np.array(lacking, np.bool_)] = np.nan
            best.append(promises)
        scores = query.asking().scores(best)[0]
        order = np.argsort(-scores, kind="stable")
        return cls(
            {ids[place]: products[ids[place]] for place in order.tolist()},
            scores[order],
            max((lists.score_of_others() for lists in parts), default=-math.inf),
        )
