"""The filterable fields of the indexed products, in columns that a filter is evaluated over."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import numpy as np
import numpy.typing as npt

from bls_models.errors import ProductError
from bls_models.index.filters.language import (
    ATTRIBUTE_KINDS,
    ATTRIBUTE_PREFIX,
    COMPARISONS,
    FIELDS,
    PLAIN_FIELDS,
    And,
    Node,
    Not,
    OneOf,
    Or,
    Range,
    Scalar,
    kind_of,
    shown,
)
from bls_models.index.growing_arrays import grown
from bls_models.index.snapshot.files import SnapshotReader, SnapshotWriter
from bls_models.product import ATTRIBUTE_KEY, ATTRIBUTE_KEY_RULE, MAX_INTEGER
from bls_models.vectors import BoolArray


class Columns:
    """The filterable fields of numbered product slots, held column by column.

    Not locked: the caller keeps ``evaluate`` from running beside ``set`` and ``clear``.
    """

    def __init__(self) -> None:
        """Start without slots; they come with ``set``."""
        self._columns: dict[str, _Column] = {}
        self._fields_of_slot: dict[int, tuple[str, ...]] = {}

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
        for name, value in values.items():
            self._columns.setdefault(name, _Column()).put(slot, value)
        if values:
            self._fields_of_slot[slot] = tuple(values)

    def clear(self, slot: int) -> None:
        """Take all values from a slot, as if it had never been set."""
        for name in self._fields_of_slot.pop(slot, ()):
            self._columns[name].remove(slot)

    def get(self, slot: int) -> dict[str, Scalar]:
        """A slot's values by declared field, as ``declared_values`` gives them."""
        return {name: self._columns[name].get(slot) for name in self._fields_of_slot.get(slot, ())}

    def to_save(self) -> ColumnsToSave:
        """The values as they are now, untouched by later changes here."""
        return ColumnsToSave({name: column.to_save() for name, column in self._columns.items()})

    @classmethod
    def restored(cls, names: Iterable[str], snapshot: SnapshotReader) -> Columns:
        """The columns that ``ColumnsToSave.save`` wrote.

        Raises:
            SnapshotError: a file is missing or damaged.
        """
        columns = cls()
        fields: dict[int, list[str]] = {}
        for number, name in enumerate(names):
            column = _Column.restored(snapshot, f"column_{number}")
            columns._columns[name] = column
            present = np.zeros(column.size, np.bool_)
            column.mark_present(present)
            for slot in np.flatnonzero(present).tolist():
                fields.setdefault(slot, []).append(name)
        columns._fields_of_slot = {slot: tuple(held) for slot, held in fields.items()}
        return columns

    def evaluate(self, node: Node, size: int) -> BoolArray:
        """Which of the first ``size`` slots match a filter.

        A slot without values lacks every field, so a negation matches it: the caller masks the
        slots that hold no product.

        Args:
            node: what ``parse_filter`` returned.
            size: number of slots, 0 or more.

        Returns:
            (size,) bool, the caller's to change.
        """
        if isinstance(node, Not):
            mask = self.evaluate(node.child, size)
            return np.logical_not(mask, out=mask)
        if isinstance(node, And | Or):
            join = np.logical_and if isinstance(node, And) else np.logical_or
            mask = np.full(size, isinstance(node, And))
            for child in node.children:
                join(mask, self.evaluate(child, size), out=mask)
            return mask
        mask = np.zeros(size, np.bool_)
        column = self._columns.get(node.field)
        if column is None:
            return mask
        if isinstance(node, OneOf):
            column.mark_one_of(node.values, mask)
        elif isinstance(node, Range):
            column.mark_range(node.operator, node.value, mask)
        else:
            column.mark_present(mask)
        return mask


class ColumnsToSave:
    """What ``Columns`` held at one moment.

    Args:
        columns: arrays by name, and strings, of each field.
    """

    def __init__(self, columns: dict[str, tuple[dict[str, npt.NDArray[Any]], list[str]]]) -> None:
        self._columns = columns

    def save(self, snapshot: SnapshotWriter) -> list[str]:
        """Write the values.

        Returns:
            What ``Columns.restored`` needs beside the files: the fields.
        """
        for number, (arrays, strings) in enumerate(self._columns.values()):
            for name, array in arrays.items():
                snapshot.array(f"column_{number}_{name}", array)
            snapshot.lines(f"column_{number}_strings", strings)
        return list(self._columns)


class _Column:
    """One field: an array for each kind of value, as long as its highest slot demands.

    A string is held as a code; codes that no slot uses any more go to the next new strings.
    """

    def __init__(self) -> None:
        self.codes = np.empty(0, np.int32)  # (slots,), -1: no string
        self.numbers = np.empty(0, np.float64)  # (slots,), NaN: no number
        self.booleans = np.empty(0, np.int8)  # (slots,), -1: no boolean
        self._code_of: dict[str, int] = {}
        self._strings: list[str] = []  # by code
        self._uses: list[int] = []  # by code
        self._free: list[int] = []

    @property
    def size(self) -> int:
        """One more than the highest slot that has ever had a value, or above."""
        return max(len(self.codes), len(self.numbers), len(self.booleans))

    def to_save(self) -> tuple[dict[str, npt.NDArray[Any]], list[str]]:
        """Copies of the arrays by name, and of the strings."""
        arrays: dict[str, npt.NDArray[Any]] = {
            "codes": self.codes,
            "numbers": self.numbers,
            "booleans": self.booleans,
        }
        return {name: array.copy() for name, array in arrays.items()}, list(self._strings)

    @classmethod
    def restored(cls, snapshot: SnapshotReader, name: str) -> _Column:
        """The column that ``ColumnsToSave.save`` wrote under this name.

        Raises:
            SnapshotError: a file is missing or damaged.
        """
        column = cls()
        column.codes = snapshot.array(f"{name}_codes", np.int32, (None,)).copy()
        column.numbers = snapshot.array(f"{name}_numbers", np.float64, (None,)).copy()
        column.booleans = snapshot.array(f"{name}_booleans", np.int8, (None,)).copy()
        column._set_strings(snapshot.lines(f"{name}_strings"))
        return column

    def _set_strings(self, strings: list[str]) -> None:
        """Take over the strings by code; those that no slot uses are free."""
        used = self.codes[self.codes >= 0]
        self._uses = np.bincount(used, minlength=len(strings)).tolist()
        self._strings = strings
        self._code_of = {string: code for code, string in enumerate(strings) if self._uses[code]}
        self._free = [code for code, uses in enumerate(self._uses) if not uses]

    def put(self, slot: int, value: Scalar) -> None:
        """Store a value in a slot that has none."""
        if isinstance(value, str):
            self.codes = grown(self.codes, slot + 1, -1)
            self.codes[slot] = self._acquire(value)
        elif isinstance(value, bool):
            self.booleans = grown(self.booleans, slot + 1, -1)
            self.booleans[slot] = value
        else:
            self.numbers = grown(self.numbers, slot + 1, np.nan)
            self.numbers[slot] = value

    def get(self, slot: int) -> Scalar:
        """The value of a slot that has one; a whole number may come back as a float."""
        if slot < len(self.codes) and self.codes[slot] >= 0:
            return self._strings[int(self.codes[slot])]
        if slot < len(self.booleans) and self.booleans[slot] >= 0:
            return bool(self.booleans[slot])
        return float(self.numbers[slot])

    def remove(self, slot: int) -> None:
        """Take the value from a slot that has one."""
        if slot < len(self.numbers):
            self.numbers[slot] = np.nan
        if slot < len(self.booleans):
            self.booleans[slot] = -1
        if slot < len(self.codes) and self.codes[slot] >= 0:
            self._release(int(self.codes[slot]))
            self.codes[slot] = -1

    def mark_present(self, mask: BoolArray) -> None:
        """Set ``mask`` (size,) where there is a value."""
        size = len(mask)
        _mark(mask, self.codes[:size] >= 0)
        _mark(mask, self.booleans[:size] >= 0)
        _mark(mask, ~np.isnan(self.numbers[:size]))

    def mark_one_of(self, values: Iterable[Scalar], mask: BoolArray) -> None:
        """Set ``mask`` (size,) where the value is one of ``values``."""
        by_code = np.zeros(len(self._strings) + 1, np.bool_)
        numbers = []
        for value in values:
            if isinstance(value, str):
                if value in self._code_of:
                    by_code[self._code_of[value]] = True
            elif isinstance(value, bool):
                _mark(mask, self.booleans[: len(mask)] == value)
            else:
                numbers.append(value)
        if by_code.any():
            _mark(mask, by_code[self.codes[: len(mask)]])
        if numbers:
            column = self.numbers[: len(mask)]
            wanted = np.unique(numbers)
            nearest = np.searchsorted(wanted, column).clip(max=len(wanted) - 1)
            _mark(mask, wanted[nearest] == column)

    def mark_range(self, operator: str, value: Scalar, mask: BoolArray) -> None:
        """Set ``mask`` (size,) where the value is of the kind of ``value`` and in the range.

        Strings, ordered by code point, cost one comparison for each distinct one.
        """
        compare = COMPARISONS[operator]
        if isinstance(value, str):
            by_code = np.zeros(len(self._strings) + 1, np.bool_)
            by_code[:-1] = list(map(compare, self._strings, repeat(value)))
            _mark(mask, by_code[self.codes[: len(mask)]])
        elif isinstance(value, bool):
            booleans = self.booleans[: len(mask)]
            _mark(mask, compare(booleans, value) & (booleans >= 0))
        else:
            _mark(mask, compare(self.numbers[: len(mask)], value))

    def _acquire(self, string: str) -> int:
        code = self._code_of.get(string)
        if code is None:
            if self._free:
                code = self._free.pop()
                self._strings[code] = string
            else:
                code = len(self._strings)
                self._strings.append(string)
                self._uses.append(0)
            self._code_of[string] = code
        self._uses[code] += 1
        return code

    def _release(self, code: int) -> None:
        self._uses[code] -= 1
        if self._uses[code] == 0:
            del self._code_of[self._strings[code]]
            self._strings[code] = ""
            self._free.append(code)


def _mark(mask: BoolArray, found: BoolArray) -> None:
    """Add ``found``, which ends where its column does, to ``mask``."""
    mask[: len(found)] |= found


def declared_values(fields: Mapping[str, object]) -> dict[str, Scalar]:
    """A product's values by declared field, attributes as ``attributes.<key>``.

    Raises:
        ProductError: a declared field with a value it cannot hold.
    """
    found = {name: fields[name] for name in PLAIN_FIELDS if name in fields}
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
        if not isinstance(value, str | int | float) or kind_of(value) not in kinds:
            raise ProductError(name, shown(value), f"a {' or '.join(kinds)}")
        if (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) > MAX_INTEGER
        ):
            expected = "a finite number, an integer at most 2**53"
            raise ProductError(name, f"{value!r:.80}", expected, "Store it as a string.")
        values[name] = value
    return values
