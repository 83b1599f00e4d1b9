"""What an index is to whoever fills it and to whoever asks it, whichever engine it is made with."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, Protocol

from bls_models.index.filters.language import Scalar
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.vectors import FloatArray


@dataclass(frozen=True)
class IndexedProduct:
    """What the index keeps of a product.

    Attributes:
        product_id: the product.
        write_id: the write that stored it.
        fields: values that filters can name.
        image_vectors: (views, image_dim).
        text_vectors: (texts, text_dim).
    """

    product_id: str
    write_id: str
    fields: Mapping[str, Any]
    image_vectors: FloatArray
    text_vectors: FloatArray


class IdRanges(Protocol):
    """Product ids in their order, as of one moment or later."""

    def between(self, after: str | None, last: str | None) -> Sequence[str]:
        """Ids behind ``after``, up to and with ``last``; None: from the first, to the last."""
        ...


@dataclass(frozen=True)
class SortedIds:
    """Ranges of ids that are all in memory.

    Attributes:
        ids: in ascending order, by code points, which is also the order of UTF-8.
    """

    ids: Sequence[str]

    def between(self, after: str | None, last: str | None) -> Sequence[str]:
        """See ``IdRanges``."""
        begin = 0 if after is None else bisect_right(self.ids, after)
        return self.ids[begin : len(self.ids) if last is None else bisect_right(self.ids, last)]


class WritableIndex(Protocol):
    """What a follower keeps equal to the database; it alone changes it."""

    def info(self) -> dict[str, Any]:
        """``version`` (changes applied), ``time`` of the last one, sizes, ``type``."""
        ...

    def attribute_keys(self) -> tuple[int, int]:
        """How many attribute keys filters can name, and how many are beyond the limit."""
        ...

    @property
    def has_first_lists(self) -> bool:
        """Whether what is in it can be searched as fast as it should be."""
        ...

    def upsert(self, products: Sequence[IndexedProduct]) -> None:
        """Add products or replace them; each product at most once a call."""
        ...

    def refresh(self, fields: Mapping[str, Mapping[str, Any]]) -> Set[str]:
        """Give products, by id, the fields that they have now; one that is not there is no error.

        Returns:
            Ids of those that must be put anew with their vectors to have them.
        """
        ...

    def remove(self, *product_ids: str) -> None:
        """Take products out; one that is not there is no error."""
        ...

    def write_ids(self, product_ids: Sequence[str]) -> dict[str, str]:
        """The writes that the index holds of some products; those not there are left out.

        A write is empty where the product is there, but not as it should be.
        """
        ...

    def fields(self, product_ids: Sequence[str]) -> dict[str, dict[str, Scalar]]:
        """What filters see of some products; those not there are left out."""
        ...

    def kept_fields(self, document: Mapping[str, Any]) -> dict[str, Scalar]:
        """What ``fields`` has to say of a product that is stored like this.

        Raises:
            ProductError: the index cannot keep it.
        """
        ...

    def id_ranges(self) -> IdRanges:
        """The ids in the index, by ranges: nobody needs all of them at once."""
        ...


class SearchableIndex(Protocol):
    """What answers queries."""

    def answers(self, queries: Sequence[IndexQuery]) -> list[IndexAnswer]:
        """What each query finds, or why it is refused: each for itself."""
        ...

    def mean_vectors(
        self, product_ids: Sequence[str]
    ) -> list[tuple[FloatArray, FloatArray] | None]:
        """What stands for each of these products in a query.

        Returns:
            The mean of its views (0 or 1, image_dim) and of its texts (0 or 1, text_dim); None for
            a product that is not there.
        """
        ...

    def may_take_long(self, queries: Sequence[IndexQuery]) -> bool:
        """Whether others should not wait for these."""
        ...

    def close(self) -> None:
        """End what runs in the background."""
        ...
