"""Searches a catalogue whose vectors lie in Milvus.

Milvus proposes products by the codes that it has of their vectors. Every score that is returned is
computed here from the vectors in the database, by the same code as that of the index in memory:
those that promise most are read and scored first, until none of the others can reach the page.

Of a product that was written again, Milvus has the earlier write alone for a moment. The product is
scored by what is stored, and was let through by the filter as it was before.

A text's words count nothing here, and what needs a look at every product's fields (facets, other
orders than that of scores) is refused.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

from bls_models.database.embeddings import StoredVectors
from bls_models.database.store import Store
from bls_models.errors import RequestError
from bls_models.index.asked_query import AskedQuery
from bls_models.index.query import IndexAnswer, IndexQuery, any_reads_fields
from bls_models.index.scored_query import MAX_WANTED, QueryPart, ScoredQuery
from bls_models.index.search import CODE_ERROR, SCORED_AT_ONCE
from bls_models.milvus.candidates import Candidate, Candidates, PartLists
from bls_models.milvus.collections import Collections
from bls_models.milvus.connection import MilvusConnection
from bls_models.milvus.filters import Expressions
from bls_models.milvus.lists import MOST_ROWS, NearestRows, WantedList
from bls_models.milvus.scoring import SomeProducts
from bls_models.milvus.vectors import ProductVectors
from bls_models.vectors import FloatArray

# Lists that tell too little are asked for anew, so many times as long.
LONGER = 8
IN_MEMORY = "The index in memory can do it (PRODUCT_MATCH_INDEX_ENGINE=faiss)."


@dataclass(frozen=True)
class MilvusSearchOptions:
    """How to search.

    Attributes:
        consistency: how new what Milvus answers must be, by its own name.
        lists_in_filters: see ``Expressions``.
        max_filter_bytes: longest filter JSON.
        max_search_work: products of a query vector and a stored one that a query may take; None:
            any number.
        proof: make lists longer until no product that is in none of them can reach the page, or
            Milvus gives no more rows.
    """

    consistency: str
    lists_in_filters: bool
    max_filter_bytes: int
    max_search_work: int | None
    proof: bool


@dataclass(frozen=True)
class _Asked:
    """A query that can be answered.

    Attributes:
        query: what is asked, without words.
        scored: the same with its vectors.
        expression: its filter; empty: none.
    """

    query: IndexQuery
    scored: ScoredQuery
    expression: str

    @property
    def count(self) -> int:
        """Rows of a list, at first."""
        return min(self.scored.candidates, MOST_ROWS)


class MilvusSearch:
    """Answers queries; for any thread.

    Args:
        connection: to Milvus.
        collections: what is searched.
        store: where products are read.
        vectors: of the same bundle and metric as the collections.
        options: how to search.
    """

    def __init__(
        self,
        connection: MilvusConnection,
        collections: Collections,
        store: Store,
        vectors: ProductVectors,
        options: MilvusSearchOptions,
    ) -> None:
        self._collections = collections
        self._store = store
        self._vectors = vectors
        self._options = options
        self._expressions = Expressions(options.lists_in_filters)
        self._nearest = NearestRows(connection, options.consistency)
        self._none = self._no_products().frozen()

    def answers(self, queries: Sequence[IndexQuery]) -> list[IndexAnswer]:
        """What each query finds, or why it is refused: each for itself.

        Raises:
            IndexUnavailableError: Milvus does not answer.
            DatabaseError: the database does not answer in time.
        """
        answers: dict[int, IndexAnswer] = {}
        asked: dict[int, _Asked] = {}
        for number, query in enumerate(queries):
            try:
                asked[number] = self._asked(query)
            except RequestError as error:
                answers[number] = IndexAnswer(refusal=error)
        found = self._lists([(item, item.count) for item in asked.values()])
        for (number, item), parts in zip(asked.items(), found, strict=True):
            answers[number] = self._answer(item, parts)
        return [answers[number] for number in range(len(queries))]

    def mean_vectors(
        self, product_ids: Sequence[str]
    ) -> list[tuple[FloatArray, FloatArray] | None]:
        """What stands for each of these products in a query; see ``SearchableIndex``.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        writes = self._stored_writes(product_ids)
        found = self._vectors.of(writes.values())
        return [
            None
            if (vectors := found.get(writes.get(product_id, ""))) is None
            else (_mean(vectors.images), _mean(vectors.texts))
            for product_id in product_ids
        ]

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these: Milvus looks at fields, or many are scored."""
        return any_reads_fields(queries) or any(
            query.offset + query.top_k > MAX_WANTED for query in queries
        )

    def close(self) -> None:
        """Nothing runs in the background."""

    # --- one query ------------------------------------------------------------------------

    def _asked(self, query: IndexQuery) -> _Asked:
        """A query as it is searched for.

        Raises:
            RequestError: it is refused.
        """
        asked = AskedQuery.of(query, self._options.max_filter_bytes)
        if asked.refusal is not None:
            raise asked.refusal
        if asked.facets:
            raise RequestError(
                "facets", "this server's index (milvus) counts no facets", "none", IN_MEMORY
            )
        if not asked.by_score:
            raise RequestError(
                "sort",
                f"this server's index (milvus) has no order by {query.sort}",
                "the order of scores",
                IN_MEMORY,
            )
        if query.offset + query.top_k > MOST_ROWS:
            raise RequestError(
                "offset",
                f"matches up to the {query.offset + query.top_k}th are asked for",
                f"at most the {MOST_ROWS}th",
                "Ask for earlier matches, or narrow the filter.",
            )
        plain = replace(query, text_words=(), word_weight=0.0)
        scored = ScoredQuery.of(plain, self._none.images, self._none.texts, self._none.words)
        expression = "" if asked.filter is None else self._expressions.of(asked.filter)
        return _Asked(plain, scored, expression)

    def _lists(self, asked: Sequence[tuple[_Asked, int]]) -> list[list[PartLists]]:
        """What Milvus proposes for each query, in lists of so many rows."""
        wanted: list[WantedList] = []
        for item, count in asked:
            for collection, part in self._parts(item.scored):
                vectors = [part.asking().vectors]
                if len(vectors[0]) > 1:
                    vectors.append(part.summed().vectors)
                # What only pushes away wants what is far. And under a filter Milvus looks at the
                # fields of every row anyway, which takes longer than a look through all lists.
                far = bool(item.expression) or not item.scored.pulls
                thorough = self._options.proof or far
                wanted += [
                    WantedList(collection, vector, count, item.expression, thorough)
                    for vector in np.concatenate(vectors)
                ]
        found = iter(self._nearest.of(wanted))
        return [
            [
                PartLists(
                    part,
                    list(islice(found, number := len(part.asking().vectors))),
                    list(islice(found, int(number > 1))),
                )
                for _, part in self._parts(item.scored)
            ]
            for item, _ in asked
        ]

    def _parts(self, query: ScoredQuery) -> list[tuple[str, QueryPart]]:
        """The parts of a query, with the collections that they search."""
        parts = ((self._collections.images, query.images), (self._collections.texts, query.texts))
        return [(collection, part) for collection, part in parts if part is not None]

    def _answer(self, asked: _Asked, parts: list[PartLists]) -> IndexAnswer:
        """What is best of what the lists propose, which are made longer where they tell too little.

        Args:
            asked: the query.
            parts: the lists of ``asked.count`` rows.
        """
        query, count, work = asked.scored, asked.count, 0
        error = CODE_ERROR * query.length if query.parts else 0.0
        left_out = {product_id for product_id, _ in asked.query.like}
        while True:
            candidates = Candidates.of(query, parts, left_out)
            longest = count == MOST_ROWS or candidates.others == -math.inf
            few = len(candidates.products) < query.wanted
            if longest or not (few or any(own.ends_among_equals(query.wanted) for own in parts)):
                answer, short = self._ranked(asked, candidates, error)
                work += answer.scored
                proved = candidates.others + error < _least(asked.query, answer)
                enough = proved if self._options.proof else not short
                if longest or enough or answer.refusal:
                    return replace(answer, scored=work)
            # Where lists promise nothing of others, only the longest will do.
            count = MOST_ROWS if candidates.others == math.inf else min(LONGER * count, MOST_ROWS)
            (parts,) = self._lists([(asked, count)])

    def _ranked(
        self, asked: _Asked, candidates: Candidates, error: float
    ) -> tuple[IndexAnswer, bool]:
        """Score what promises most, until nothing better can follow.

        Returns:
            The answer, and whether fewer of the candidates than are wanted are still stored.
        """
        query = asked.scored
        some, answer, work = self._no_products(), IndexAnswer(), 0
        waiting = iter(candidates.products.items())
        step = max(SCORED_AT_ONCE, 2 * query.wanted)
        if query.pushes:
            # A product may score above what its views promise singly.
            step = len(candidates.products)
        scored = stored = 0
        while scored < len(candidates.products) and answer.refusal is None:
            if _least(asked.query, answer) >= candidates.promises[scored] + error:
                return replace(answer, scored=work), False
            some.add(found := self._stored(islice(waiting, step)))
            scored += step
            stored += len(found)
            answer = some.answer(asked.query)
            work += answer.scored
            step *= 2
        return replace(answer, scored=work), stored < query.wanted

    def _stored(
        self, products: Iterable[tuple[str, Candidate]]
    ) -> list[tuple[str, int, StoredVectors]]:
        """Products with version and vectors of their newest write; without those that are gone."""
        writes = {product_id: item.newest_first() for product_id, item in products}
        vectors = self._vectors.of(write for own in writes.values() for write, _ in own)
        lacking = [
            product_id
            for product_id, own in writes.items()
            if not any(write in vectors for write, _ in own)
        ]
        if lacking:
            newer = self._stored_writes(lacking)
            vectors |= self._vectors.of(newer.values())
            writes |= {name: [(write, _unknown_version(write))] for name, write in newer.items()}
        stored = []
        for product_id, own in writes.items():
            for write, version in own:
                if write in vectors:
                    stored.append((product_id, version, vectors[write]))
                    break
        return stored

    def _stored_writes(self, product_ids: Sequence[str]) -> dict[str, str]:
        """The writes that the database has of some products."""
        return {
            product_id: write_id
            for product_id, document in self._store.find_products(
                product_ids, ("write_id",)
            ).items()
            if isinstance(write_id := document.get("write_id"), str)
        }

    def _no_products(self) -> SomeProducts:
        return SomeProducts(
            self._collections.image_dim, self._collections.text_dim, self._options.max_search_work
        )


def _least(query: IndexQuery, answer: IndexAnswer) -> float:
    """What others must score to be on the page."""
    full = len(answer.matches) >= query.top_k
    return max(query.min_score, answer.matches[-1].score if full else -math.inf)


def _unknown_version(write_id: str) -> int:
    """A product's version as a write has it that has none yet: below 0, unlike all others."""
    return -int.from_bytes(hashlib.sha256(write_id.encode()).digest()[:7])


def _mean(vectors: FloatArray) -> FloatArray:
    """The mean (1, dim) of vectors (n, dim); of none (0, dim)."""
    return vectors.mean(axis=0, keepdims=True) if len(vectors) else vectors
