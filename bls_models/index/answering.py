"""The answers to queries from the index of one moment: ranked, sorted, counted."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from bls_models.errors import RequestError
from bls_models.index.asked_query import AskedQuery
from bls_models.index.facets import count_facets
from bls_models.index.filters.evaluation import FrozenColumns
from bls_models.index.ordering import DESCENDING, field_of, kind_of_field, slots_in_order
from bls_models.index.query import IndexAnswer, IndexMatch
from bls_models.index.search import FrozenIndex
from bls_models.vectors import BoolArray


@dataclass(frozen=True)
class Answering:
    """What answers are made from.

    Attributes:
        frozen: the vectors.
        columns: the fields that the queries need.
        most: values of fields that one query may look at; None: any number.
    """

    frozen: FrozenIndex
    columns: FrozenColumns
    most: int | None

    def answers(self, asked: Sequence[AskedQuery]) -> list[IndexAnswer]:
        """The answer to each query, whose filters were evaluated."""
        ranked = [item for item in asked if item.refusal is None and item.by_score]
        found = iter(
            self.frozen.search([item.query for item in ranked], [item.eligible for item in ranked])
        )
        answers = []
        for item in asked:
            if item.refusal is not None:
                answers.append(IndexAnswer(refusal=item.refusal))
                continue
            answer = next(found) if item.by_score else IndexAnswer()
            if answer.refusal is None and (item.facets or not item.by_score):
                answer = self._browsed(item, answer)
            answers.append(replace(answer, filtered=item.filtered) if item.filtered else answer)
        return answers

    def _browsed(self, item: AskedQuery, answer: IndexAnswer) -> IndexAnswer:
        """With what takes a look at all products that are found."""
        try:
            passing, scored = self.frozen.passing(item.query, item.eligible)
            matches = answer.matches if item.by_score else self._sorted(item, passing)
            most = math.inf if self.most is None else self.most
            facets = count_facets(item.facets, self.columns, passing, most)
        except RequestError as error:
            return IndexAnswer(refusal=error)
        return replace(answer, matches=matches, scored=answer.scored + scored, facets=facets)

    def _sorted(self, item: AskedQuery, passing: BoolArray) -> list[IndexMatch]:
        query = item.query
        field = field_of(query.sort)
        entries = self.columns.columns.get(field, {}).get(kind_of_field(field))
        slots = slots_in_order(
            entries,
            passing,
            self.frozen.ids,
            query.offset,
            query.offset + query.top_k,
            query.sort.startswith(DESCENDING),
        )
        return self.frozen.scored_matches(query, slots)
