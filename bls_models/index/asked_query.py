"""A query on its way through the index: what it may match, and why it is refused."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bls_models.errors import RequestError
from bls_models.index.facets import Facet, parse_facets
from bls_models.index.filters.evaluation import FrozenColumns, fields_of, ids_in
from bls_models.index.filters.language import Node, parse_filter
from bls_models.index.ordering import BY_SCORE, check_sort, field_of
from bls_models.index.query import IndexQuery
from bls_models.vectors import BoolArray


@dataclass
class AskedQuery:
    """A query on its way.

    Attributes:
        query: what is asked.
        filter: its filter, None for none.
        facets: what it wants counted.
        eligible: (slots,) which products may match; None: all.
        filtered: values that its filter looked at.
        refusal: what is wrong with it.
    """

    query: IndexQuery
    filter: Node | None = None
    facets: Mapping[str, Facet] = field(default_factory=dict)
    eligible: BoolArray | None = None
    filtered: int = 0
    refusal: RequestError | None = None

    @classmethod
    def of(cls, query: IndexQuery, max_filter_bytes: int) -> AskedQuery:
        """Read what it asks for; one that is not valid is refused."""
        asked = cls(query)
        try:
            if query.filter:
                asked.filter = parse_filter(query.filter, max_filter_bytes)
            check_sort(query.sort)
            asked.facets = parse_facets(query.facets)
        except RequestError as error:
            asked.refusal = error
        return asked

    @property
    def fields(self) -> frozenset[str]:
        """The fields whose values it needs."""
        filtered = frozenset() if self.filter is None else fields_of(self.filter)
        return filtered | self.facets.keys() | ({field_of(self.query.sort)} - {""})

    @property
    def ids(self) -> frozenset[str]:
        """The product ids that its filter names."""
        return frozenset() if self.filter is None else ids_in(self.filter)

    @property
    def by_score(self) -> bool:
        """Whether its matches come in the order of their scores."""
        return self.query.sort == BY_SCORE

    def evaluate(self, columns: FrozenColumns, slot_count: int, most: int | None) -> None:
        """Find out which slots may match.

        Args:
            columns: at least the fields that it needs.
            slot_count: number of slots.
            most: values that it may look at; None: any number.
        """
        if self.filter is None:
            return
        try:
            self.eligible, self.filtered = columns.evaluate(self.filter, slot_count, most)
        except RequestError as error:
            self.refusal = error

    def evaluate_as(self, other: AskedQuery) -> None:
        """The same for a query with the filter of another one, which was evaluated."""
        self.eligible, self.filtered = other.eligible, other.filtered
        self.refusal = other.refusal

    def leave_out(self, slots: Sequence[int], slot_count: int) -> None:
        """Let these slots not match."""
        if slots:
            # Others may have the same mask.
            known = np.ones(slot_count, np.bool_) if self.eligible is None else self.eligible.copy()
            known[slots] = False
            self.eligible = known
