"""The pre-filter language and the columns it is evaluated over, before the vector search.

The language is the part of MongoDB's query language that Atlas ``$vectorSearch`` filters accept,
with MongoDB's semantics, over declared fields only. ``parse_filter`` gives a small tree whose
nodes are all that ``Columns.evaluate`` needs to know: ``$eq`` is ``$in`` of one value, and
``$ne``, ``$nin`` and ``{"$exists": false}`` are negations.
"""

from __future__ import annotations

import difflib
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import repeat
from operator import ge, gt, le, lt
from typing import Any, NoReturn, TypeAlias

import numpy as np
import numpy.typing as npt

from bls_models.errors import FilterError, ProductError

Scalar: TypeAlias = str | float | bool
BoolArray: TypeAlias = npt.NDArray[np.bool_]

# Declared field -> the kinds of value it may hold.
FIELDS: Mapping[str, tuple[str, ...]] = {
    "category": ("string",),
    "currency": ("string",),
    "name": ("string",),
    "price": ("number",),
    "attributes.<key>": ("string", "number", "boolean"),
}
ATTRIBUTE_PREFIX = "attributes."
ATTRIBUTE_KINDS = FIELDS["attributes.<key>"]
ATTRIBUTE_KEY = re.compile(r"[A-Za-z0-9_]{1,64}")
KEY_RULE = "keys of 1 to 64 letters, digits and underscores"
PLAIN_FIELDS = tuple(name for name in FIELDS if not name.startswith(ATTRIBUTE_PREFIX))

COMPARISONS: Mapping[str, Callable[[Any, Any], Any]] = {
    "$gt": gt,
    "$gte": ge,
    "$lt": lt,
    "$lte": le,
}
LOGICAL_OPERATORS = ("$and", "$or")
FIELD_OPERATORS = ("$eq", "$ne", "$in", "$nin", *COMPARISONS, "$not", "$exists")
OPERATORS = FIELD_OPERATORS + LOGICAL_OPERATORS

MAX_DEPTH = 8
MAX_LEAVES = 256
MAX_LIST = 1000
# Up to here every integer has a double of its own.
MAX_INTEGER = 2**53


@dataclass(frozen=True)
class OneOf:
    """The field equals one of ``values`` (a number is never a string, nor true 1)."""

    field: str
    values: tuple[Scalar, ...]


@dataclass(frozen=True)
class Range:
    """The field is of the kind of ``value`` and on the side of it that ``operator`` names."""

    field: str
    operator: str
    value: Scalar


@dataclass(frozen=True)
class Exists:
    """The product has the field."""

    field: str


@dataclass(frozen=True)
class And:
    """All of ``children`` hold; without children, everything matches."""

    children: tuple[Node, ...]


@dataclass(frozen=True)
class Or:
    """At least one of ``children`` holds."""

    children: tuple[Node, ...]


@dataclass(frozen=True)
class Not:
    """``child`` does not hold, which is also so where the field is missing."""

    child: Node


Node: TypeAlias = OneOf | Range | Exists | And | Or | Not


def kind_of(value: object) -> str | None:
    """``string``, ``number`` or ``boolean``; None for any other value."""
    if isinstance(value, str):
        return "string"
    if isinstance(value, bool):
        return "boolean"
    return "number" if isinstance(value, int | float) else None


def parse_filter(text: str | bytes, max_bytes: int) -> Node:
    """Parse a filter's JSON.

    Args:
        text: a JSON object in UTF-8; ``{}`` matches everything.
        max_bytes: the most bytes ``text`` may have.

    Returns:
        The filter's tree: at most 8 levels of nesting and 256 conditions, numbers as float.

    Raises:
        FilterError: too long, not JSON, or outside the declared fields and operators.
    """
    try:
        data = text.encode() if isinstance(text, str) else text
        if len(data) > max_bytes:
            _refuse(f"{len(data)} bytes", f"at most {max_bytes} bytes")
        document = json.loads(
            data.decode(),
            object_pairs_hook=_object_without_duplicates,
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_finite,
        )
    except UnicodeError as error:
        _refuse(f"not UTF-8 ({error})", "JSON in UTF-8", cause=error)
    except json.JSONDecodeError as error:
        found = f"malformed JSON at line {error.lineno} column {error.colno} ({error.msg})"
        _refuse(found, "a JSON object", "Send {} for no filter.", error)
    except RecursionError as error:
        _refuse_depth(error)
    node = _parse_object(document, "the filter", 1)
    leaves = _count_leaves(node)
    if leaves > MAX_LEAVES:
        _refuse(f"{leaves} conditions", f"at most {MAX_LEAVES}", "Join equalities with $in.")
    return node


def _parse_object(document: object, where: str, depth: int) -> Node:
    """An object of fields, ``$and`` and ``$or``, all of which must hold."""
    if depth > MAX_DEPTH:
        _refuse_depth()
    if not isinstance(document, dict):
        _refuse(
            f"{_shown(document)} as {where}", "an object", "An empty object matches everything."
        )
    children: list[Node] = []
    for name, operand in document.items():
        if name in LOGICAL_OPERATORS:
            if not isinstance(operand, list) or not operand:
                _refuse(f"{name} with {_shown(operand)}", "a list of one filter or more")
            place = f"a member of {name}"
            members = tuple(_parse_object(member, place, depth + 1) for member in operand)
            children.append(And(members) if name == "$and" else Or(members))
        elif name in FIELD_OPERATORS:
            example = (
                '{"price": {"$not": {"$gt": 5}}}' if name == "$not" else '{"price": {"$gt": 5}}'
            )
            _refuse(f"{name} without a field", "it inside a field", f"Write it as in {example}.")
        elif name.startswith("$"):
            _refuse_operator(name)
        else:
            _check_declared(name)
            children.append(_parse_condition(name, operand, depth))
    return _all_of(children)


def _parse_condition(field: str, operand: object, depth: int) -> Node:
    """What is asked of one field: a value, or an object of operators."""
    if depth > MAX_DEPTH:
        _refuse_depth()
    if not isinstance(operand, dict):
        return OneOf(field, (_scalar(operand, field),))
    if not operand:
        _refuse(f"{field} with an empty object", "a value or operators")
    return _all_of([_parse_operator(field, *item, depth) for item in operand.items()])


def _parse_operator(field: str, operator: str, operand: object, depth: int) -> Node:
    where = f"{field} {operator}"
    if operator in ("$eq", "$ne"):
        equal = OneOf(field, (_scalar(operand, where),))
        return equal if operator == "$eq" else Not(equal)
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list):
            _refuse(f"{where} with {_shown(operand)}", "a list of values")
        if len(operand) > MAX_LIST:
            _refuse(f"{where} with {len(operand)} values", f"at most {MAX_LIST}")
        one_of = OneOf(field, tuple(_scalar(value, where) for value in operand))
        return one_of if operator == "$in" else Not(one_of)
    if operator in COMPARISONS:
        return Range(field, operator, _scalar(operand, where))
    if operator == "$exists":
        if not isinstance(operand, bool):
            _refuse(f"{where} with {_shown(operand)}", "true or false")
        return Exists(field) if operand else Not(Exists(field))
    if operator == "$not":
        if not isinstance(operand, dict):
            _refuse(f"{where} with {_shown(operand)}", "an object of operators", "Or use $ne.")
        return Not(_parse_condition(field, operand, depth + 1))
    if operator in LOGICAL_OPERATORS:
        _refuse(f"{operator} inside {field}", "it around fields, not inside one")
    _refuse_operator(operator)


def _scalar(value: object, where: str) -> Scalar:
    """A value to compare with, integers as float."""
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return float(value)
    remedy = "Use $exists for missing fields and $in for several values."
    _refuse(f"{where} with {_shown(value)}", "a string, number or boolean", remedy)


def _check_declared(name: str) -> None:
    if name in PLAIN_FIELDS:
        return
    shown = _shown(name)
    if name.startswith(ATTRIBUTE_PREFIX):
        if ATTRIBUTE_KEY.fullmatch(name.removeprefix(ATTRIBUTE_PREFIX)):
            return
        _refuse(f"the field {shown}", f"{ATTRIBUTE_PREFIX}<key> with {KEY_RULE}")
    key = name.rpartition(".")[2]
    close = difflib.get_close_matches(name[:64].lower(), PLAIN_FIELDS, 1, 0.75)
    if name == "attributes":
        remedy = "Name the key too, as in 'attributes.colour'."
    elif close:
        remedy = f"Did you mean {close[0]!r}?"
    elif ATTRIBUTE_KEY.fullmatch(key):
        remedy = f"Did you mean {ATTRIBUTE_PREFIX + key!r}?"
    else:
        remedy = ""
    _refuse(f"the undeclared field {shown}", f"one of {', '.join(FIELDS)}", remedy)


def _all_of(children: list[Node]) -> Node:
    return children[0] if len(children) == 1 else And(tuple(children))


def _count_leaves(node: Node) -> int:
    if isinstance(node, Not):
        return _count_leaves(node.child)
    return sum(map(_count_leaves, node.children)) if isinstance(node, And | Or) else 1


def _object_without_duplicates(pairs: list[tuple[str, object]]) -> dict[str, object]:
    document = dict(pairs)
    if len(document) < len(pairs):
        (twice, _), *_ = Counter(name for name, _ in pairs).most_common(1)
        _refuse(f"the key {_shown(twice)} twice in one object", "each key once", "Use $and.")
    return document


def _integer(text: str) -> int:
    # The length first: Python refuses to convert thousands of digits.
    if len(text) > 17 or abs(int(text)) > MAX_INTEGER:
        remedy = "Numbers are compared as 64-bit floats; store identifiers as strings."
        _refuse(f"the integer {text[:40]}", "at most 2**53 in size", remedy)
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        _refuse(f"the number {text[:40]}", "a finite number")
    return value


def _shown(value: object) -> str:
    """A value for a message: scalars as JSON and cut short, others by their kind."""
    if value is None or kind_of(value):
        text = json.dumps(value)
        return text if len(text) <= 80 else f"{text[:77]}..."
    if isinstance(value, dict):
        return "an object" if value else "an empty object"
    if isinstance(value, list):
        return "a list" if value else "an empty list"
    return f"a {type(value).__name__}"


def _refuse_operator(name: str) -> NoReturn:
    close = difflib.get_close_matches(name[:64].lower(), OPERATORS, 1)
    remedy = f"Did you mean {close[0]}?" if close else ""
    _refuse(f"the unknown operator {_shown(name)}", f"one of {', '.join(OPERATORS)}", remedy)


def _refuse_depth(cause: Exception | None = None) -> NoReturn:
    found = f"nested more than {MAX_DEPTH} levels deep"
    _refuse(found, f"at most {MAX_DEPTH} levels", "Flatten nested $and, $or and $not.", cause)


def _refuse(got: str, expected: str, remedy: str = "", cause: Exception | None = None) -> NoReturn:
    raise FilterError("filter", got, expected, remedy) from cause


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
            fields: ``category``, ``currency``, ``name`` (str), ``price`` (int or float) and
                ``attributes`` (a mapping of keys to str, int, float or bool), each optional;
                other keys are not for filtering and are ignored.

        Raises:
            ProductError: a declared field with a value it cannot hold; the slot is unchanged.
        """
        values = _declared_values(fields)
        self.clear(slot)
        for name, value in values.items():
            self._columns.setdefault(name, _Column()).put(slot, value)
        if values:
            self._fields_of_slot[slot] = tuple(values)

    def clear(self, slot: int) -> None:
        """Take all values from a slot, as if it had never been set."""
        for name in self._fields_of_slot.pop(slot, ()):
            self._columns[name].remove(slot)

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

    def put(self, slot: int, value: Scalar) -> None:
        """Store a value in a slot that has none."""
        if isinstance(value, str):
            self.codes = _grown(self.codes, slot, -1)
            self.codes[slot] = self._acquire(value)
        elif isinstance(value, bool):
            self.booleans = _grown(self.booleans, slot, -1)
            self.booleans[slot] = value
        else:
            self.numbers = _grown(self.numbers, slot, np.nan)
            self.numbers[slot] = value

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


def _grown(array: npt.NDArray[Any], slot: int, missing: float) -> npt.NDArray[Any]:
    """The array, or a copy at least twice as long, in which ``slot`` has a place."""
    if slot < len(array):
        return array
    longer = np.full(max(slot + 1, 2 * len(array), 64), missing, array.dtype)
    longer[: len(array)] = array
    return longer


def _declared_values(fields: Mapping[str, object]) -> dict[str, Scalar]:
    """A product's values by declared field, attributes as ``attributes.<key>``."""
    found = {name: fields[name] for name in PLAIN_FIELDS if name in fields}
    attributes = fields.get("attributes", {})
    if not isinstance(attributes, Mapping):
        raise ProductError("attributes", _shown(attributes), "an object of keys and values")
    for key, value in attributes.items():
        if not (isinstance(key, str) and ATTRIBUTE_KEY.fullmatch(key)):
            raise ProductError("attributes", f"the key {key!r:.80}", KEY_RULE)
        found[ATTRIBUTE_PREFIX + key] = value
    values: dict[str, Scalar] = {}
    for name, value in found.items():
        kinds = FIELDS.get(name, ATTRIBUTE_KINDS)
        if not isinstance(value, str | int | float) or kind_of(value) not in kinds:
            raise ProductError(name, _shown(value), f"a {' or '.join(kinds)}")
        if (isinstance(value, float) and not math.isfinite(value)) or (
            isinstance(value, int) and abs(value) > MAX_INTEGER
        ):
            expected = "a finite number, an integer at most 2**53"
            raise ProductError(name, f"{value!r:.80}", expected, "Store it as a string.")
        values[name] = value
    return values
