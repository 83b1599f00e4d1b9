"""Facets: how many products have which value, and which lie in which range.

What is counted is exact: the sorted entries of a field give its values one after the other, and the
slots that each of them has.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from bls_models.errors import RequestError
from bls_models.index.filters.evaluation import BOOLEAN, NUMBER, FrozenColumns
from bls_models.index.filters.language import ATTRIBUTE_PREFIX, VALUE_FIELDS
from bls_models.index.filters.sorted_entries import FrozenEntries
from bls_models.product import ATTRIBUTE_KEY
from bls_models.vectors import BoolArray, LongArray

TENSOR = "facets"
MAX_BYTES = 4096
MAX_FIELDS = 16
MAX_VALUES = 100
# Finding where a value ends costs as much as looking at so many entries.
ENTRIES_PER_VALUE = 256
EXPECTED = (
    "an object of fields with the number of values that are wanted, or with the bounds of ranges, "
    'as in {"category": 10, "price": [10, 50]}'
)


@dataclass(frozen=True)
class Facet:
    """What is to be counted of one field.

    Attributes:
        values: the most frequent values that are wanted; 0: ranges are.
        bounds: of the ranges, growing.
    """

    values: int = 0
    bounds: tuple[float, ...] = ()


def parse_facets(text: bytes) -> Mapping[str, Facet]:
    """What a request wants counted, by field; nothing for an empty text.

    Raises:
        RequestError: it is not valid.
    """
    if not text:
        return {}
    if len(text) > MAX_BYTES:
        raise RequestError(TENSOR, f"{len(text)} bytes", f"at most {MAX_BYTES} bytes")
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RequestError(TENSOR, f"not JSON ({error})"[:200], EXPECTED) from error
    if not isinstance(content, dict):
        raise RequestError(TENSOR, f"a JSON {type(content).__name__}", EXPECTED)
    if len(content) > MAX_FIELDS:
        raise RequestError(TENSOR, f"{len(content)} fields", f"at most {MAX_FIELDS}")
    return {field: _facet(field, wanted) for field, wanted in content.items()}


def _facet(field: str, wanted: object) -> Facet:
    key = field.removeprefix(ATTRIBUTE_PREFIX)
    is_attribute = field.startswith(ATTRIBUTE_PREFIX) and ATTRIBUTE_KEY.fullmatch(key)
    if field not in VALUE_FIELDS and not is_attribute:
        names = ", ".join((*VALUE_FIELDS, "attributes.<key>"))
        raise RequestError(TENSOR, f"the field {field!r:.80}", f"fields of {names}")
    if isinstance(wanted, int) and not isinstance(wanted, bool):
        if not 1 <= wanted <= MAX_VALUES:
            raise RequestError(TENSOR, f"{field}: {wanted!s:.20} values", f"1 to {MAX_VALUES}")
        return Facet(values=wanted)
    if not isinstance(wanted, list) or not 1 <= len(wanted) <= MAX_VALUES:
        raise RequestError(TENSOR, f"{field}: {wanted!r}"[:100], EXPECTED)
    numbers = [item for item in wanted if isinstance(item, int | float)]
    try:
        bounds = tuple(map(float, filter(lambda item: not isinstance(item, bool), numbers)))
    except OverflowError:  # a whole number of hundreds of digits
        bounds = ()
    growing = all(low < high for low, high in pairwise(bounds))
    if len(bounds) < len(wanted) or not (growing and all(map(math.isfinite, bounds))):
        raise RequestError(TENSOR, f"{field}: {wanted}"[:100], "bounds that grow")
    return Facet(bounds=bounds)


def count_facets(
    facets: Mapping[str, Facet],
    columns: FrozenColumns,
    passing: BoolArray,
    most: float = math.inf,
) -> dict[str, Any]:
    """What a request wants counted.

    Args:
        facets: by field.
        columns: the fields, those of ``facets`` at least.
        passing: (slots,) which products count.
        most: values of the catalogue that counting may look at.

    Returns:
        By field, JSON-compatible, for values ``values`` (``value``, ``count``, the most frequent
        first) and ``others`` (products with further values), for ranges ``ranges`` (``from``,
        ``to``, ``count``; a value that equals ``to`` is in the next), ``least`` and ``most``; and
        ``missing``, the products that have no value of the kind.

    Raises:
        RequestError: it would look at more, or a field is not kept.
    """
    for field in sorted(facets.keys() & columns.unindexed):
        raise RequestError(
            TENSOR,
            f"the field {field!r} cannot be counted: this catalogue has more attribute keys than "
            "are kept",
            "a field that is kept",
            "Use fewer keys in the catalogue, or raise PRODUCT_MATCH_MAX_ATTRIBUTE_KEYS.",
        )
    total, work = int(np.count_nonzero(passing)), _Work(most)
    counted = {}
    for field, facet in facets.items():
        column = columns.columns.get(field, {})
        work.add(sum(len(entries.ranks()) for entries in column.values()))
        counted[field] = (
            _ranges(facet, column, passing, total)
            if facet.bounds
            else _values(facet, column, passing, total, work)
        )
    return counted


@dataclass
class _Work:
    """Counts what counting looks at."""

    most: float
    done: int = 0

    def add(self, values: int) -> None:
        self.done += values
        if self.done > self.most:
            raise RequestError(
                TENSOR,
                f"counting would look at more than {self.most:.0f} values of this catalogue",
                f"at most {self.most:.0f} (PRODUCT_MATCH_MAX_FILTER_WORK)",
                "Ask for fewer fields, or for ranges of those that have many values.",
            )


def _values(
    facet: Facet,
    column: Mapping[str, FrozenEntries],
    passing: BoolArray,
    total: int,
    work: _Work,
) -> dict[str, Any]:
    counts: list[tuple[int, Any]] = []
    for kind, entries in column.items():
        for value, count in _counted(entries, _before(entries, passing), work):
            counts.append((count, bool(value) if kind == BOOLEAN else value))
    # Values of several kinds do not compare; their JSON does.
    counts.sort(key=lambda item: (-item[0], json.dumps(item[1], ensure_ascii=False)))
    kept = counts[: facet.values]
    counted = sum(count for count, _ in counts)
    return {
        "values": [{"value": value, "count": count} for count, value in kept],
        "others": counted - sum(count for count, _ in kept),
        "missing": total - counted,
    }


def _counted(entries: FrozenEntries, before: LongArray, work: _Work) -> Sequence[tuple[Any, int]]:
    """Each value that any product has that counts, and how many."""
    ranks, at = entries.ranks(), 0
    found = []
    while at < len(ranks):
        # On to the next entry that counts.
        at = int(np.searchsorted(before, before[at], "right")) - 1
        if at >= len(ranks):
            break
        work.add(ENTRIES_PER_VALUE)
        value = ranks.value(at)
        end = ranks.up_to(value)
        found.append((value, int(before[end] - before[at])))
        at = end
    return found


def _ranges(
    facet: Facet, column: Mapping[str, FrozenEntries], passing: BoolArray, total: int
) -> dict[str, Any]:
    entries = column.get(NUMBER)
    cuts: list[float | None] = [None, *facet.bounds, None]
    if entries is None:
        counts, counted, least, most = [0] * (len(cuts) - 1), 0, None, None
    else:
        ranks, before = entries.ranks(), _before(entries, passing)
        places = [0, *(ranks.below(bound) for bound in facet.bounds), len(ranks)]
        counts = [int(before[end] - before[begin]) for begin, end in pairwise(places)]
        counted = int(before[-1])
        least = most = None
        if counted:
            least = ranks.value(int(np.searchsorted(before, 0, "right")) - 1)
            most = ranks.value(int(np.searchsorted(before, counted, "left")) - 1)
    return {
        "ranges": [
            {"from": low, "to": high, "count": count}
            for (low, high), count in zip(pairwise(cuts), counts, strict=True)
        ],
        "least": least,
        "most": most,
        "missing": total - counted,
    }


def _before(entries: FrozenEntries, passing: BoolArray) -> LongArray:
    """(n + 1,) how many of the first entries are of products that count."""
    counts: LongArray = np.concatenate([[0], np.cumsum(passing[entries.slots()])])
    return counts
