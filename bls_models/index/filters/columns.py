"""The filterable fields of the indexed products, kept so that filters find them."""

from __future__ import annotations

import math
from array import array
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from bls_models.errors import ProductError, SnapshotError
from bls_models.index.filters.evaluation import BOOLEAN, STRING, FrozenColumn, FrozenColumns
from bls_models.index.filters.language import (
    ATTRIBUTE_KINDS,
    ATTRIBUTE_PREFIX,
    FIELDS,
    VALUE_FIELDS,
    Scalar,
    kind_of,
    shown,
)
from bls_models.index.filters.sorted_entries import SortedEntries
from bls_models.index.snapshot.files import SnapshotReader, SnapshotWriter
from bls_models.product import ATTRIBUTE_KEY, ATTRIBUTE_KEY_RULE, MAX_INTEGER, as_float
from bls_models.settings import Settings
from bls_models.text import one_line

MAX_ATTRIBUTE_KEYS = Settings().max_attribute_keys


class Columns:
    """The filterable fields of numbered product slots, held field by field.

    A field takes memory for the values that there are, and none when the last of them is gone.
    Not locked: the caller keeps its calls from running together. What ``frozen`` returns is read
    without a lock.

    Args:
        max_attribute_keys: attribute keys that are kept. The values of further ones are known by
            ``get``, and a filter that names one is refused.

    Attributes:
        attribute_keys: how many attribute keys are kept.
    """

    def __init__(self, max_attribute_keys: int = MAX_ATTRIBUTE_KEYS) -> None:
        """Start without slots; they come with ``set``."""
        self._most = max_attribute_keys
        self._columns: dict[str, dict[str, SortedEntries]] = {}
        # By slot the names of its fields, then their values.
        self._held: dict[int, tuple[Any, ...]] = {}
        self.attribute_keys = 0
        # Values of fields that have no column.
        self._unindexed: Counter[str] = Counter()
        self._size = 0

    @property
    def unindexed_keys(self) -> int:
        """Attribute keys that have none, because there are too many."""
        return len(self._unindexed)

    def set(self, slot: int, fields: Mapping[str, object]) -> None:
        """Replace a slot's values.

        Args:
            slot: the product's number, 0 or more.
            fields: ``category``, ``currency``, ``name`` (str), ``price`` (int or float),
                ``description_generated`` (bool) and ``attributes`` (a mapping of keys to str,
                int, float or bool), each optional; other keys are not for filtering and are
                ignored.

        Raises:
            ProductError: a declared field with a value it cannot hold; the slot is unchanged.
        """
        values = declared_values(fields)
        self.clear(slot)
        held = [self._put(slot, name, value) for name, value in values.items()]
        if values:
            self._held[slot] = (*values, *held)
        self._size = max(self._size, slot + 1)

    def clear(self, slot: int) -> None:
        """Take all values from a slot, as if it had never been set."""
        for name, value in _pairs(self._held.pop(slot, ())):
            column = self._columns.get(name)
            if column is None:
                self._unindexed[name] -= 1
                if not self._unindexed[name]:
                    del self._unindexed[name]
                continue
            kind = _kind(value)
            column[kind].remove(_as_entry(value), slot)
            if not column[kind]:
                del column[kind]
            if not column:
                del self._columns[name]
                self.attribute_keys -= _is_attribute(name)

    def get(self, slot: int) -> dict[str, Scalar]:
        """A slot's values by declared field, as ``declared_values`` gives them.

        A whole number comes back as a float.
        """
        return dict(_pairs(self._held.get(slot, ())))

    def frozen(self, fields: Iterable[str] | None = None) -> FrozenColumns:
        """What is there now, untouched by later changes here.

        Args:
            fields: those that are wanted; None: all.
        """
        names = self._columns.keys() if fields is None else self._columns.keys() & fields
        columns: dict[str, FrozenColumn] = {
            name: {kind: entries.frozen() for kind, entries in self._columns[name].items()}
            for name in names
        }
        return FrozenColumns(columns, frozenset(self._unindexed), self._size)

    @classmethod
    def restored(
        cls,
        saved: Iterable[tuple[str, str]],
        snapshot: SnapshotReader,
        max_attribute_keys: int = MAX_ATTRIBUTE_KEYS,
    ) -> Columns:
        """The columns that ``save_columns`` wrote; values without a column were not saved.

        Raises:
            SnapshotError: a file is missing or damaged.
        """
        columns = cls(max_attribute_keys)
        held: dict[int, tuple[list[str], list[Scalar]]] = {}
        for number, (name, kind) in enumerate(saved):
            file = f"column_{number}"
            slots = snapshot.array(f"{file}_slots", np.int32, (None,))
            values: Sequence[Any]
            if kind == STRING:
                counts = snapshot.array(f"{file}_counts", np.int32, (None,)).tolist()
                words = snapshot.lines(f"{file}_strings")
                if len(words) != len(counts):
                    raise SnapshotError(f"the snapshot's column {name} is damaged")
                values = [
                    word for word, count in zip(words, counts, strict=True) for _ in range(count)
                ]
            else:
                values = array(
                    "d", snapshot.array(f"{file}_numbers", np.float64, (None,)).tobytes()
                )
            if len(values) != len(slots) or slots.min(initial=0) < 0:
                raise SnapshotError(f"the snapshot's column {name} is damaged")
            columns._columns.setdefault(name, {})[kind] = SortedEntries.of(values, slots)
            for slot, value in zip(slots.tolist(), values, strict=True):
                names, own = held.setdefault(slot, ([], []))
                names.append(name)
                own.append(bool(value) if kind == BOOLEAN else value)
        columns._held = {slot: (*names, *own) for slot, (names, own) in held.items()}
        columns._size = max(held, default=-1) + 1
        columns.attribute_keys = sum(map(_is_attribute, columns._columns))
        return columns

    def _put(self, slot: int, name: str, value: Scalar) -> Scalar:
        """Hold a value in its field's column, if that has one; returns what is held."""
        column = self._columns.get(name)
        if column is None:
            is_attribute = _is_attribute(name)
            # A column has all values of its field or none.
            if name in self._unindexed or (is_attribute and self.attribute_keys >= self._most):
                self._unindexed[name] += 1
                return value
            column = self._columns[name] = {}
            self.attribute_keys += is_attribute
        kind = _kind(value)
        entries = column.get(kind)
        if entries is None:
            entries = column[kind] = SortedEntries()
        added = entries.add(_as_entry(value), slot)
        return value if kind == BOOLEAN else added


def save_columns(columns: FrozenColumns, snapshot: SnapshotWriter) -> list[tuple[str, str]]:
    """Write the values.

    Returns:
        What ``Columns.restored`` needs beside the files: field and kind of each column.
    """
    saved = [(name, kind) for name, column in columns.columns.items() for kind in column]
    for number, (name, kind) in enumerate(saved):
        entries, file = columns.columns[name][kind], f"column_{number}"
        snapshot.array(f"{file}_slots", entries.slots())
        if kind == STRING:
            counts = Counter(entries.values())
            snapshot.lines(f"{file}_strings", counts)
            snapshot.array(f"{file}_counts", np.fromiter(counts.values(), np.int32))
        else:
            snapshot.array(f"{file}_numbers", np.fromiter(entries.values(), np.float64))
    return saved


def _pairs(held: tuple[Any, ...]) -> Iterable[tuple[str, Scalar]]:
    half = len(held) // 2
    return zip(held[:half], held[half:], strict=True)


def _is_attribute(name: str) -> bool:
    return name.startswith(ATTRIBUTE_PREFIX)


def _kind(value: Scalar) -> str:
    kind = kind_of(value)
    assert kind is not None
    return kind


def _as_entry(value: Scalar) -> str | float:
    return value if isinstance(value, str) else float(value)


def declared_values(fields: Mapping[str, object]) -> dict[str, Scalar]:
    """A product's values by declared field, attributes as ``attributes.<key>``.

    Raises:
        ProductError: a declared field with a value it cannot hold.
    """
    found = {name: fields[name] for name in VALUE_FIELDS if name in fields}
    attributes = fields.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise ProductError("attributes", shown(attributes), "an object of keys and values")
    for key, value in attributes.items():
        if not (isinstance(key, str) and ATTRIBUTE_KEY.fullmatch(key)):
            raise ProductError("attributes", f"the key {key!r:.80}", ATTRIBUTE_KEY_RULE)
        found[ATTRIBUTE_PREFIX + key] = value
    values: dict[str, Scalar] = {}
    for name, value in found.items():
        kinds = FIELDS.get(name, ATTRIBUTE_KINDS)
        value = one_line(value) if isinstance(value, str) else as_float(value)
        if not isinstance(value, str | int | float) or kind_of(value) not in kinds:
            raise ProductError(name, shown(value), f"a {' or '.join(kinds)}")
        if (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) > MAX_INTEGER
        ):
            expected = "a finite number, an integer at most 2**53"
            raise ProductError(name, f"{value!r:.80}", expected, "Store it as a string.")
        values[name] = value
    return values
