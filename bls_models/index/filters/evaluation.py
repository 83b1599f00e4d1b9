"""Which products a filter leaves, from the sorted entries of the fields that it names.

All conditions on one field are answered together. They cut the field's values, in their order, into
intervals; whether the values of an interval match is decided once for all of them, and the slots
of those that do are marked in one go. So a filter costs what its fields hold, however many
conditions it has, and that is known before anything is marked.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, TypeAlias

import numpy as np

from bls_models.errors import FilterError
from bls_models.index.filters.language import (
    ATTRIBUTE_KINDS,
    PRODUCT_ID,
    And,
    Exists,
    Node,
    Not,
    OneOf,
    Or,
    Range,
    Scalar,
    kind_of,
)
from bls_models.index.filters.sorted_entries import FrozenEntries, Ranks, SortedEntries
from bls_models.vectors import BoolArray

# The entries of one field, by kind of value; true is the number 1 among the booleans.
FrozenColumn: TypeAlias = Mapping[str, FrozenEntries]
# Making and joining a mask costs about as much as marking one of so many of its slots.
SLOTS_PER_STEP = 32
STRING, NUMBER, BOOLEAN = ATTRIBUTE_KINDS


@dataclass(frozen=True)
class FrozenColumns:
    """The filterable fields of numbered product slots, as they were at one moment.

    Attributes:
        columns: by field; one that no product has is missing.
        unindexed: fields that products have but that no column holds.
        size: all slots in the columns are below.
    """

    columns: Mapping[str, FrozenColumn]
    unindexed: frozenset[str]
    size: int

    def with_ids(self, slots: Mapping[str, int]) -> FrozenColumns:
        """The same with some product ids and their slots: those that filters name."""
        ids = sorted(slots)
        of = np.array([slots[name] for name in ids], np.int32)
        column = {STRING: SortedEntries.of(ids, of).frozen()}
        return replace(self, columns={**self.columns, PRODUCT_ID: column})

    def evaluate(self, node: Node, size: int, most: int | None = None) -> tuple[BoolArray, int]:
        """Which of the first ``size`` slots match a filter.

        A slot without values lacks every field, so a negation matches it: the caller masks the
        slots that hold no product.

        Args:
            node: what ``parse_filter`` returned.
            size: number of slots, 0 or more.
            most: values that it may look at; None: any number.

        Returns:
            (size,) bool, the caller's to change, and the number of values looked at.

        Raises:
            FilterError: it would look at more, or names a field that no column holds.
        """
        for field in sorted(fields_of(node) & self.unindexed):
            raise FilterError(
                "filter",
                f"the field {field!r} cannot be searched: this catalogue has more attribute keys "
                "than are kept",
                "a field that is kept",
                "Use fewer keys in the catalogue, or raise PRODUCT_MATCH_MAX_ATTRIBUTE_KEYS.",
            )
        length = max(size, self.size)
        plan = self._plan(node, length)
        if most is not None and plan.work > most:
            raise FilterError(
                "filter",
                f"it would look at {plan.work} values of this catalogue",
                f"at most {most} (PRODUCT_MATCH_MAX_FILTER_WORK)",
                "Use fewer conditions that many products match; those on one field cost least "
                "side by side in one $and or $or.",
            )
        return plan.mask(length)[:size], plan.work

    def _plan(self, node: Node, size: int) -> _Plan:
        fields = fields_of(node)
        if len(fields) <= 1:
            return _Picked.of(node, self.columns.get("".join(fields), {}), size)
        assert isinstance(node, And | Or)
        alone: dict[str, list[Node]] = {}
        plans = []
        for child in node.children:
            of = fields_of(child)
            if len(of) <= 1:
                alone.setdefault("".join(of), []).append(child)
            else:
                plans.append(self._plan(child, size))
        plans += [self._plan(type(node)(tuple(children)), size) for children in alone.values()]
        return _Joined(plans, np.logical_and if isinstance(node, And) else np.logical_or)


def ids_in(node: Node) -> frozenset[str]:
    """The product ids that a filter names."""
    return frozenset(
        value
        for leaf in _leaves(node)
        if isinstance(leaf, OneOf) and leaf.field == PRODUCT_ID
        for value in leaf.values
        if isinstance(value, str)
    )


def fields_of(node: Node) -> frozenset[str]:
    """The fields that a filter names."""
    if isinstance(node, Not):
        return fields_of(node.child)
    if isinstance(node, And | Or):
        return frozenset().union(*map(fields_of, node.children))
    return frozenset([node.field])


class _Joined:
    """Plans of which all, or any, must hold."""

    def __init__(self, plans: Sequence[_Plan], join: Callable[..., Any]) -> None:
        self._plans = plans
        self._join = join
        self.work: int = sum(plan.work for plan in plans)

    def mask(self, size: int) -> BoolArray:
        """The slots (size,) that match."""
        first, *others = self._plans
        mask = first.mask(size)
        for plan in others:
            self._join(mask, plan.mask(size), out=mask)
        return mask


@dataclass(frozen=True)
class _Picked:
    """Which values of one field match.

    Attributes:
        spans: (entries, begin, end) whose slots are unlike those that lack the field.
        missing: whether products without the field match.
        work: values that are looked at.
    """

    spans: Sequence[tuple[Ranks, int, int]]
    missing: bool
    work: int

    @classmethod
    def of(cls, node: Node, column: FrozenColumn, size: int) -> _Picked:
        """The plan for conditions that name one field, or none.

        Args:
            node: the conditions.
            column: the entries of that field.
            size: number of slots.
        """
        ranks = {kind: column[kind].ranks() for kind in ATTRIBUTE_KINDS if kind in column}
        # One count runs through the entries of all kinds.
        begins, total = {}, 0
        for kind, of in ranks.items():
            begins[kind] = total
            total += len(of)
        leaves = {id(leaf): _spans(leaf, ranks, begins) for leaf in _leaves(node)}
        bounds = {0, total, *begins.values()}
        bounds.update(bound for spans in leaves.values() for span in spans for bound in span)
        cuts = sorted(bounds)
        place = {cut: at for at, cut in enumerate(cuts)}

        def truth(node: Node) -> BoolArray:
            """Whether each interval between cuts matches, and at the end what lacks the field."""
            if isinstance(node, Not):
                return np.logical_not(truth(node.child))
            if isinstance(node, And | Or):
                every = isinstance(node, And)
                join = np.logical_and if every else np.logical_or
                matching = np.full(len(cuts), every)
                for child in node.children:
                    join(matching, truth(child), out=matching)
                return matching
            matching = np.zeros(len(cuts), np.bool_)
            for begin, end in leaves[id(node)]:
                matching[place[begin] : place[end]] = True
            return matching

        *matching, missing = truth(node).tolist()
        spans: list[tuple[Ranks, int, int]] = []
        for (begin, end), matches in zip(pairwise(cuts), matching, strict=True):
            if matches == missing:
                continue
            kind = max((kind for kind in begins if begins[kind] <= begin), key=begins.__getitem__)
            own, first = ranks[kind], begin - begins[kind]
            if spans and spans[-1][0] is own and spans[-1][2] == first:
                first = spans.pop()[1]
            spans.append((own, first, end - begins[kind]))
        looked_at = sum(end - begin for _, begin, end in spans)
        return cls(spans, missing, looked_at + size // SLOTS_PER_STEP)

    def mask(self, size: int) -> BoolArray:
        """The slots (size,) that match."""
        mask = np.full(size, self.missing)
        for ranks, begin, end in self.spans:
            ranks.mark(mask, begin, end, not self.missing)
        return mask


_Plan: TypeAlias = _Joined | _Picked


def _leaves(node: Node) -> Iterable[OneOf | Range | Exists]:
    if isinstance(node, Not):
        yield from _leaves(node.child)
    elif isinstance(node, And | Or):
        for child in node.children:
            yield from _leaves(child)
    else:
        yield node


def _spans(
    leaf: OneOf | Range | Exists, ranks: Mapping[str, Ranks], begins: Mapping[str, int]
) -> list[tuple[int, int]]:
    """What a condition picks, as (begin, end) of the count through all kinds."""
    if isinstance(leaf, Exists):
        return [(begins[kind], begins[kind] + len(of)) for kind, of in ranks.items()]
    values = leaf.values if isinstance(leaf, OneOf) else (leaf.value,)
    spans = []
    for value in values:
        kind = kind_of(value)
        if kind is None or kind not in ranks:
            continue
        of, base = ranks[kind], begins[kind]
        begin, end = _between(of, leaf, value)
        spans.append((base + begin, base + end))
    return spans


def _between(of: Ranks, leaf: OneOf | Range, value: Scalar) -> tuple[int, int]:
    if isinstance(leaf, OneOf):
        return of.below(value), of.up_to(value)
    if leaf.operator == "$gt":
        return of.up_to(value), len(of)
    if leaf.operator == "$gte":
        return of.below(value), len(of)
    return 0, of.below(value) if leaf.operator == "$lt" else of.up_to(value)
