"""The pre-filter language: what may be asked of products before the vector search.

The language is the part of MongoDB's query language that Atlas ``$vectorSearch`` filters accept,
with MongoDB's semantics, over declared fields only. ``parse_filter`` gives a small tree whose
nodes are all that ``bls_models.index.filters.columns`` needs to know: ``$eq`` is ``$in`` of one
value, and ``$ne``, ``$nin`` and ``{"$exists": false}`` are negations.
"""

from __future__ import annotations

import difflib
import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import ge, gt, le, lt
from typing import Any, NoReturn, TypeAlias

from bls_models.errors import FilterError
from bls_models.product import ATTRIBUTE_KEY, ATTRIBUTE_KEY_RULE, MAX_INTEGER
from bls_models.text import one_line

Scalar: TypeAlias = str | float | bool

# What products are called; filters name some, or leave some out.
PRODUCT_ID = "product_id"
# Declared field -> the kinds of value it may hold.
FIELDS: Mapping[str, tuple[str, ...]] = {
    PRODUCT_ID: ("string",),
    "category": ("string",),
    "currency": ("string",),
    "name": ("string",),
    "price": ("number",),
    "description_generated": ("boolean",),
    "attributes.<key>": ("string", "number", "boolean"),
}
ATTRIBUTE_PREFIX = "attributes."
ATTRIBUTE_KINDS = FIELDS["attributes.<key>"]
PLAIN_FIELDS = tuple(name for name in FIELDS if not name.startswith(ATTRIBUTE_PREFIX))
# What products hold; their ids are not among it.
VALUE_FIELDS = tuple(name for name in PLAIN_FIELDS if name != PRODUCT_ID)
ID_OPERATORS = ("$eq", "$ne", "$in", "$nin", "$not")

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
        _refuse(f"{shown(document)} as {where}", "an object", "An empty object matches everything.")
    children: list[Node] = []
    for name, operand in document.items():
        if name in LOGICAL_OPERATORS:
            if not isinstance(operand, list) or not operand:
                _refuse(f"{name} with {shown(operand)}", "a list of one filter or more")
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
    if field == PRODUCT_ID and operator in FIELD_OPERATORS and operator not in ID_OPERATORS:
        _refuse(where, f"one of {', '.join(ID_OPERATORS)}", "Ids are compared as a whole.")
    if operator in ("$eq", "$ne"):
        equal = OneOf(field, (_scalar(operand, where),))
        return equal if operator == "$eq" else Not(equal)
    if operator in ("$in", "$nin"):
        if not isinstance(operand, list):
            _refuse(f"{where} with {shown(operand)}", "a list of values")
        if len(operand) > MAX_LIST:
            _refuse(f"{where} with {len(operand)} values", f"at most {MAX_LIST}")
        one_of = OneOf(field, tuple(_scalar(value, where) for value in operand))
        return one_of if operator == "$in" else Not(one_of)
    if operator in COMPARISONS:
        return Range(field, operator, _scalar(operand, where))
    if operator == "$exists":
        if not isinstance(operand, bool):
            _refuse(f"{where} with {shown(operand)}", "true or false")
        return Exists(field) if operand else Not(Exists(field))
    if operator == "$not":
        if not isinstance(operand, dict):
            _refuse(f"{where} with {shown(operand)}", "an object of operators", "Or use $ne.")
        return Not(_parse_condition(field, operand, depth + 1))
    if operator in LOGICAL_OPERATORS:
        _refuse(f"{operator} inside {field}", "it around fields, not inside one")
    _refuse_operator(operator)


def _scalar(value: object, where: str) -> Scalar:
    """A value to compare with, integers as float, text as it is stored."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return float(value)
    remedy = "Use $exists for missing fields and $in for several values."
    _refuse(f"{where} with {shown(value)}", "a string, number or boolean", remedy)


def _check_declared(name: str) -> None:
    if name in PLAIN_FIELDS:
        return
    quoted = shown(name)
    if name.startswith(ATTRIBUTE_PREFIX):
        if ATTRIBUTE_KEY.fullmatch(name.removeprefix(ATTRIBUTE_PREFIX)):
            return
        _refuse(f"the field {quoted}", f"{ATTRIBUTE_PREFIX}<key> with {ATTRIBUTE_KEY_RULE}")
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
    _refuse(f"the undeclared field {quoted}", f"one of {', '.join(FIELDS)}", remedy)


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
        _refuse(f"the key {shown(twice)} twice in one object", "each key once", "Use $and.")
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


def shown(value: object) -> str:
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
    _refuse(f"the unknown operator {shown(name)}", f"one of {', '.join(OPERATORS)}", remedy)


def _refuse_depth(cause: Exception | None = None) -> NoReturn:
    found = f"nested more than {MAX_DEPTH} levels deep"
    _refuse(found, f"at most {MAX_DEPTH} levels", "Flatten nested $and, $or and $not.", cause)


def _refuse(got: str, expected: str, remedy: str = "", cause: Exception | None = None) -> NoReturn:
    raise FilterError("filter", got, expected, remedy) from cause
