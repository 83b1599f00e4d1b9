"""The filter language as Milvus's expressions, and products' values as Milvus keeps them.

An expression means exactly what ``bls_models.index.filters.evaluation`` does. The key of a value
in the JSON field says its kind, so that a number is never a string, nor true 1. Versions of Milvus
differ in what a comparison means where the key is missing, so each is asked together with
``exists``, and then a ``not`` around both is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from bls_models.errors import FilterError
from bls_models.index.filters.language import (
    ATTRIBUTE_KINDS,
    COMPARISONS,
    FIELDS,
    PRODUCT_ID,
    And,
    Exists,
    Node,
    Not,
    Or,
    Range,
    Scalar,
    kind_of,
)
from bls_models.milvus import collections
from bls_models.milvus.collections import ID

# What follows a field's name in its key, by the kind of its value.
MARK = "#"
KIND_MARKS: Mapping[str, str] = {kind: MARK + kind[0] for kind in ATTRIBUTE_KINDS}
STRING, NUMBER, BOOLEAN = ATTRIBUTE_KINDS

# No row has an empty key.
EVERYTHING = f'({ID} != "")'
NOTHING = f'({ID} == "")'
SYMBOLS: Mapping[str, str] = {"$gt": ">", "$gte": ">=", "$lt": "<", "$lte": "<="}
ESCAPES = str.maketrans({"\\": "\\\\", '"': '\\"', "\n": "\\n", "\r": "\\r"})


def tagged(values: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """What the JSON field has of a product's values, as ``declared_values`` gives them."""
    return {
        name + KIND_MARKS[kind]: float(value) if kind == NUMBER else value
        for name, value in values.items()
        if (kind := kind_of(value)) is not None
    }


def untagged(fields: Mapping[str, Scalar]) -> dict[str, Scalar]:
    """The values that ``tagged`` was given; a whole number comes back as a float."""
    return {name.rpartition(MARK)[0]: value for name, value in fields.items()}


def quoted(text: str) -> str:
    """A string as a literal, whatever is in it.

    Raises:
        FilterError: it is no text: half of a surrogate pair.
    """
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise FilterError(
            "filter", f"a string that is no Unicode text ({error.reason})", "text"
        ) from error
    return f'"{text.translate(ESCAPES)}"'


def ids_among(field: str, ids: Sequence[str]) -> str:
    """Rows whose scalar field is one of these strings."""
    return f"({field} in [{', '.join(map(quoted, ids))}])" if ids else NOTHING


@dataclass(frozen=True)
class Expressions:
    """Makes expressions for one kind of server.

    Attributes:
        lists: whether the server takes ``in`` of a value in JSON. Milvus Lite does not, and is
            asked for each value, which a large catalogue would take long for.
    """

    lists: bool = True

    def of(self, node: Node) -> str:
        """What a filter is to Milvus, always in brackets.

        Raises:
            FilterError: a string in it is no text.
        """
        if isinstance(node, And):
            return _joined("and", map(self.of, node.children), EVERYTHING)
        if isinstance(node, Or):
            return _joined("or", map(self.of, node.children), NOTHING)
        if isinstance(node, Not):
            return f"(not {self.of(node.child)})"
        if isinstance(node, Exists):
            kinds = FIELDS.get(node.field, ATTRIBUTE_KINDS)
            return _joined("or", [_exists(_path(node.field, kind)) for kind in kinds], NOTHING)
        if isinstance(node, Range):
            return self._range(node)
        return self._one_of(node.field, node.values)

    def _one_of(self, field: str, values: Iterable[Scalar]) -> str:
        by_kind: dict[str, list[Scalar]] = {}
        for value in dict.fromkeys((kind_of(value), value) for value in values):
            if value[0] is not None:
                by_kind.setdefault(value[0], []).append(value[1])
        if field == PRODUCT_ID:
            return ids_among(
                collections.PRODUCT_ID, [str(value) for value in by_kind.get(STRING, ())]
            )
        return _joined("or", [self._equal(_path(field, k), by_kind[k]) for k in by_kind], NOTHING)

    def _equal(self, path: str, values: Sequence[Scalar]) -> str:
        literals = [_literal(value) for value in values]
        if self.lists and len(literals) > 1 and not isinstance(values[0], bool):
            condition = f"({path} in [{', '.join(literals)}])"
        else:
            condition = _joined("or", [f"({path} == {literal})" for literal in literals], NOTHING)
        return f"({_exists(path)} and {condition})"

    def _range(self, node: Range) -> str:
        if isinstance(node.value, bool):
            holds = COMPARISONS[node.operator]
            return self._one_of(node.field, [b for b in (False, True) if holds(b, node.value)])
        kind = kind_of(node.value)
        if kind is None:
            return NOTHING
        path = _path(node.field, kind)
        return f"({_exists(path)} and ({path} {SYMBOLS[node.operator]} {_literal(node.value)}))"


def _path(field: str, kind: str) -> str:
    return f'{collections.FIELDS}["{field}{KIND_MARKS[kind]}"]'


def _exists(path: str) -> str:
    return f"(exists {path})"


def _literal(value: Scalar) -> str:
    if isinstance(value, str):
        return quoted(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(float(value))


def _joined(operator: str, parts: Iterable[str], none: str) -> str:
    """Conditions joined in halves: Milvus reads no expression that is nested some 50 levels."""
    conditions = list(parts)
    if len(conditions) <= 1:
        return conditions[0] if conditions else none
    half = len(conditions) // 2
    first, second = (
        _joined(operator, part, none) for part in (conditions[:half], conditions[half:])
    )
    return f"({first} {operator} {second})"
