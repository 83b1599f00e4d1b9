"""Products in the order of a field's values, page by page."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Any

import numpy as np

from bls_models.errors import RequestError
from bls_models.index.filters.language import ATTRIBUTE_KINDS, FIELDS
from bls_models.index.filters.sorted_entries import FrozenEntries
from bls_models.specs import SORTS
from bls_models.vectors import BoolArray

TENSOR = "sort"
BY_SCORE = SORTS[0]
DESCENDING = "-"


def field_of(sort: str) -> str:
    """The field that an order of ``SORTS`` is by; empty for that of scores."""
    return "" if sort == BY_SCORE else sort.removeprefix(DESCENDING)


def kind_of_field(field: str) -> str:
    """The kind of a field's values, for those that have one."""
    (kind,) = FIELDS.get(field, ATTRIBUTE_KINDS[:1])
    return kind


def check_sort(sort: str) -> None:
    """Refuse what is no order.

    Raises:
        RequestError: it is none of ``SORTS``.
    """
    if sort not in SORTS:
        raise RequestError(TENSOR, f"{sort!r:.80}", " | ".join(SORTS))


def slots_in_order(
    entries: FrozenEntries | None,
    passing: BoolArray,
    ids: Sequence[str],
    first: int,
    end: int,
    descending: bool = False,
) -> list[int]:
    """A page of the products that pass, in the order of their values, then of their ids.

    Those that have no value come last.

    Args:
        entries: the values; None: no product has one.
        passing: (slots,) which products are wanted.
        ids: by slot.
        first: products to skip.
        end: where the page ends, counted from the first product.
        descending: the largest values first.
    """
    page: list[int] = []
    without = passing.copy()
    have = 0
    if entries is not None:
        slots = entries.slots()
        without[slots] = False
        wanted = passing[slots]
        have = int(np.count_nonzero(wanted))
        if first < have:
            page = _page(entries, wanted, ids, first, min(end, have), descending)
    if end > have:
        rest = np.flatnonzero(without).tolist()
        last = heapq.nsmallest(end - have, rest, key=ids.__getitem__)
        page += last[max(first - have, 0) :]
    return page


def _page(
    entries: FrozenEntries,
    wanted: BoolArray,
    ids: Sequence[str],
    first: int,
    end: int,
    descending: bool,
) -> list[int]:
    """The page of entries that are wanted, ``first < end`` at most as many as there are."""
    ranks, slots = entries.ranks(), entries.slots()
    places = np.flatnonzero(wanted)
    count = len(places)
    # From the front, whichever way it is read.
    low, high = (count - end, count - first) if descending else (first, end)
    # All that equal the first and the last of the page belong to what is sorted by ids.
    begin = int(np.searchsorted(places, ranks.below(ranks.value(int(places[low])))))
    stop = int(np.searchsorted(places, ranks.up_to(ranks.value(int(places[high - 1])))))
    groups: list[tuple[Any, list[int]]] = []
    at = begin
    while at < stop:
        value = ranks.value(int(places[at]))
        after = int(np.searchsorted(places, ranks.up_to(value)))
        groups.append((value, slots[places[at:after]].tolist()))
        at = after
    if descending:
        groups.reverse()
    skipped = first - (count - stop if descending else begin)
    page: list[int] = []
    for _, group in groups:
        # Of very many equals not all are sorted.
        most = skipped + end - first
        page += heapq.nsmallest(most - len(page), group, key=ids.__getitem__)
        if len(page) >= most:
            break
    return page[skipped:]
