"""What the product index is asked, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bls_models.errors import RequestError
from bls_models.index.view_scores import POWER
from bls_models.vectors import FloatArray


@dataclass(frozen=True)
class IndexQuery:
    """One query: vectors with weights, and which part of the ranking is wanted.

    Attributes:
        image_vectors: (n, image_dim) FP32, L2-normalised.
        image_weights: (n,) FP32, any sign.
        text_vectors: (m, text_dim) FP32, L2-normalised.
        text_weights: (m,) FP32, any sign.
        top_k: matches wanted.
        offset: matches to skip.
        min_score: least score of a match.
        filter: filter JSON; empty for none.
        view_power: of the mean of a product's views, or the best alone
            (``bls_models.index.view_scores``).
        raw: compare image vectors as they are, whatever metric is served.
        like: products whose own vectors join the query, with weights; the answer has others.
        sort: one of ``bls_models.specs.SORTS``: the order of the matches.
        facets: JSON of what is to be counted (``bls_models.index.facets``); empty for nothing.
        work_share: how much of the work that one query may take, 0 to 1: the objects of one photo
            share it.
        text_words: the words behind each text vector; empty for none, as further vectors have.
        word_weight: how far a product that has all words of a text comes towards a cosine of 1 to
            it, 0 to 1 (``ScoredQuery``).
    """

    image_vectors: FloatArray
    image_weights: FloatArray
    text_vectors: FloatArray
    text_weights: FloatArray
    top_k: int
    offset: int = 0
    min_score: float = float("-inf")
    filter: bytes = b""
    view_power: float = POWER
    raw: bool = False
    like: tuple[tuple[str, float], ...] = ()
    sort: str = "score"
    facets: bytes = b""
    work_share: float = 1.0
    text_words: tuple[str, ...] = ()
    word_weight: float = 0.0

    @property
    def reads_fields(self) -> bool:
        """Whether it looks at the values of fields, which may take long."""
        return bool(self.filter or self.facets) or self.sort != "score"


@dataclass(frozen=True)
class IndexMatch:
    """One product that matches; a score is NaN where the modality takes no part.

    Attributes:
        product_id: the product.
        product_version: another number after each change of the product, also across restarts.
        score: weighted mean of the cosines.
        image_score: that of the image vectors alone.
        text_score: that of the text vectors alone.
        view: which of the product's pictures, from 0, is most like the image vectors; None where
            these take no part, or the product has none.
    """

    product_id: str
    product_version: int
    score: float
    image_score: float
    text_score: float
    view: int | None = None


@dataclass(frozen=True)
class IndexAnswer:
    """What a query found, or why it was refused.

    Attributes:
        matches: best first, or in the order that was asked for.
        scored: how often a vector of the query was compared with a stored one, exactly.
        filtered: values of the catalogue that its filter looked at.
        facets: what was to be counted, JSON-compatible; empty where nothing was.
        refusal: what is wrong with the query; None: it was answered.
    """

    matches: list[IndexMatch] = field(default_factory=list)
    scored: int = 0
    filtered: int = 0
    facets: Mapping[str, Any] = field(default_factory=dict)
    refusal: RequestError | None = None


class Search(Protocol):
    """The product index, wherever it runs."""

    def __call__(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The answer to each query, and the index's version, time and state.

        Raises:
            IndexUnavailableError: the index cannot answer now.
        """
        ...


def any_reads_fields(queries: Sequence[IndexQuery]) -> bool:
    """Whether any of the queries may take long to answer, wherever the index is."""
    return any(query.reads_fields for query in queries)
