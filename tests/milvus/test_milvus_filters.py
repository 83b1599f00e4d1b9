"""Expressions mean what the index's own evaluation does, on each kind of server."""

from __future__ import annotations

import json
import random
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymilvus import DataType, MilvusClient

from bls_models.errors import FilterError
from bls_models.index.filters.columns import Columns, declared_values
from bls_models.index.filters.evaluation import ids_in
from bls_models.index.filters.language import COMPARISONS, Node, Range, parse_filter
from bls_models.milvus.filters import Expressions, tagged, untagged

pytestmark = pytest.mark.server

COUNT = 300
# What quoting could stumble over, beside usual words; few, so that filters and products meet.
STRINGS = ["", "a", "b", "ba", "é", "1", "true", "\U0001f600", "\uffff", "q\"uo'te", "back\\slash"]
STRINGS += ["\\", '\\"', "100%", "_", "{x}", "$&", "a\\nb", "\u2028", "#n", "\\u0041", "x" * 500]
NUMBERS = [0, -0.0, 1, 1.0, 2.5, -3, 1e300, -1e-300, 2**53, 0.1]
KEYS = ["x", "y_1", "Z" * 64]
NAMES = ["category", "name", "currency", "price", "description_generated"]
NAMES += [f"attributes.{key}" for key in KEYS]
scalars = st.one_of(st.sampled_from(STRINGS), st.sampled_from(NUMBERS), st.booleans())
operations = st.recursive(
    st.one_of(
        *(st.fixed_dictionaries({name: scalars}) for name in ("$eq", "$ne", *COMPARISONS)),
        *(st.fixed_dictionaries({n: st.lists(scalars, max_size=5)}) for n in ("$in", "$nin")),
        st.fixed_dictionaries({"$exists": st.booleans()}),
        st.fixed_dictionaries({"$gte": scalars, "$lt": scalars}),
    ),
    lambda inner: st.fixed_dictionaries({"$not": inner}),
    max_leaves=2,
)


@st.composite
def conditions(draw: st.DrawFn) -> tuple[str, Any]:
    """What is asked of one field."""
    name = draw(st.sampled_from([*NAMES, "product_id"]))
    if name != "product_id":
        return name, draw(st.one_of(scalars, operations))
    some = [f"p{draw(st.integers(-2, COUNT))}" for _ in range(3)]
    return name, draw(
        st.sampled_from([some[0], {"$in": some}, {"$nin": [*some, 1]}, {"$not": {"$ne": some[0]}}])
    )


queries = st.recursive(
    st.lists(conditions(), max_size=3).map(dict),
    lambda inner: st.dictionaries(
        st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), min_size=1
    ),
    max_leaves=6,
)


def products() -> list[dict[str, Any]]:
    """Products of all kinds of values, and some with none."""
    chosen = random.Random(1)
    found = []
    for _ in range(COUNT):
        product: dict[str, Any] = {"attributes": {}}
        for name in ("category", "name", "currency"):
            if chosen.random() < 0.7:
                product[name] = chosen.choice(STRINGS)
        if chosen.random() < 0.7:
            product["price"] = chosen.choice(NUMBERS)
        if chosen.random() < 0.5:
            product["description_generated"] = chosen.random() < 0.5
        for key in KEYS:
            if chosen.random() < 0.7:
                product["attributes"][key] = chosen.choice([*STRINGS, *NUMBERS, True, False])
        found.append(product)
    return found


class Filled:
    """A collection of products, and the columns of the same ones."""

    def __init__(self, uri: str, lists: bool) -> None:
        self._expressions = Expressions(lists)
        self._client = MilvusClient(uri)
        self._columns = Columns()
        schema = self._client.create_schema()
        schema.add_field("id", DataType.VARCHAR, is_primary=True, max_length=64)
        schema.add_field("product_id", DataType.VARCHAR, max_length=512)
        schema.add_field("fields", DataType.JSON)
        schema.add_field("vector", DataType.FLOAT_VECTOR, dim=2)
        index = self._client.prepare_index_params()
        index.add_index("vector", index_type="FLAT", metric_type="IP")
        self._client.create_collection("filters", schema=schema, index_params=index)
        rows = []
        for slot, product in enumerate(products()):
            self._columns.set(slot, product)
            fields = tagged(declared_values(product))
            assert untagged(fields) == self._columns.get(slot)
            rows.append(
                {"id": f"w{slot}:0", "product_id": f"p{slot}", "fields": fields, "vector": [1, 0]}
            )
        self._client.insert("filters", rows)
        # From here on every read sees them, without waiting.
        self._client.query("filters", "", ["id"], limit=1, consistency_level="Strong")

    def close(self) -> None:
        self._client.drop_collection("filters")
        self._client.close()

    def expected(self, node: Node) -> list[int]:
        """By the columns."""
        named = {f"p{slot}": slot for slot in range(COUNT)}
        known = {name: named[name] for name in ids_in(node) if name in named}
        mask, _ = self._columns.frozen().with_ids(known).evaluate(node, COUNT)
        return [int(slot) for slot in np.flatnonzero(mask)]

    def found(self, node: Node) -> list[int]:
        """By Milvus."""
        rows = self._client.query(
            "filters",
            self._expressions.of(node),
            ["product_id"],
            limit=COUNT,
            consistency_level="Eventually",
        )
        return sorted(int(row["product_id"][1:]) for row in rows)

    def check(self, asked: Iterable[Any]) -> int:
        """Compare both for each filter; how many left some products and not all."""
        parted = 0
        for query in asked:
            node = parse_filter(json.dumps(query), 100_000)
            expected = self.expected(node)
            assert self.found(node) == expected, query
            parted += 0 < len(expected) < COUNT
        return parted


@pytest.fixture(scope="module", params=["2.3.5", "lite"])
def filled(request: pytest.FixtureRequest) -> Iterator[Filled]:
    if request.param == "lite":
        filled = Filled(request.getfixturevalue("lite_uri"), False)
    else:
        filled = Filled(request.getfixturevalue("milvus_uri"), True)
    yield filled
    filled.close()


def test_every_value_and_operator_of_every_field(filled: Filled) -> None:
    asked: list[Any] = [{}, {"$or": [{}]}]
    for name in ("category", "price", "description_generated", "attributes.x"):
        for value in (*STRINGS, *NUMBERS, True, False):
            asked += [{name: value}, {name: {"$ne": value}}]
        for operator in COMPARISONS:
            for value in ("", "b", "\uffff", "\\", 0, 2.5, -3, 2**53, True, False):
                asked += [{name: {operator: value}}, {name: {"$not": {operator: value}}}]
        asked += [{name: {"$exists": known}} for known in (True, False)]
        asked += [{name: {operator: []}} for operator in ("$in", "$nin")]
    assert filled.check(asked) > 100


def test_long_lists_and_deep_filters(filled: Filled) -> None:
    words = [f'word "{number}"' for number in range(996)] + ["a", 1, True, "\\"]
    numbers = [number / 7 for number in range(998)] + [0.1, 2.5]
    deep: Any = {"price": {"$gt": 1}}
    for level in range(7):
        others = [{"price": {"$ne": number / 7}} for number in range(35)]
        deep = {"$and": [deep, *others]} if level % 2 else {"$or": [deep, {"name": "b"}]}
    nots: Any = {"$gt": 1}
    for _ in range(7):
        nots = {"$not": nots}
    parted = filled.check(
        [
            {"attributes.x": {"$nin": words}},
            {"price": {"$in": numbers}},
            {"product_id": {"$in": [f"p{number}" for number in range(5, 1005)]}},
            {"$or": [{"name": word} for word in words[-250:]]},
            deep,
            {"price": nots},
        ]
    )
    assert parted == 6


@given(st.lists(queries, min_size=30, max_size=30))
@settings(max_examples=6, deadline=None)
def test_any_filter(filled: Filled, asked: list[Any]) -> None:
    filled.check(asked)


def test_half_of_a_surrogate_pair_is_no_text() -> None:
    with pytest.raises(FilterError, match="text"):
        Expressions().of(Range("name", "$gt", "\ud800"))
