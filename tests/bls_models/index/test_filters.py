"""The filter language: what it accepts, what it refuses and why, and what it matches."""

from __future__ import annotations

import contextlib
import json
import operator
import tracemalloc
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from bson.decimal128 import Decimal128
from hypothesis import given, settings
from hypothesis import strategies as st

from bls_models.errors import FilterError, ProductError
from bls_models.index.filters import sorted_entries
from bls_models.index.filters.columns import Columns
from bls_models.index.filters.language import (
    FIELDS,
    And,
    Exists,
    Not,
    OneOf,
    Or,
    Range,
    parse_filter,
)
from bls_models.index.filters.sorted_entries import SortedEntries
from bls_models.vectors import BoolArray

MAX_BYTES = 100_000

RED_MUG = {
    "category": "mug",
    "currency": "EUR",
    "name": "Cup",
    "price": 12.5,
    "attributes": {"colour": "red", "volume": 300, "organic": True},
}
BLUE_MUG = {"category": "mug", "price": 1, "attributes": {"colour": "blue", "volume": "300"}}
CHAIR = {
    "category": "chair",
    "name": "Élan",
    "price": 80,
    "description_generated": True,
    "attributes": {"organic": False},
}
EMPTY: dict[str, object] = {}
PRODUCTS = (RED_MUG, BLUE_MUG, CHAIR, EMPTY)


def parse(query: object) -> Any:
    return parse_filter(json.dumps(query), MAX_BYTES)


def found(columns: Columns, query: object, size: int) -> BoolArray:
    mask, _ = columns.frozen().evaluate(parse(query), size)
    return mask


def matches(query: object, products: tuple[Mapping[str, object], ...] = PRODUCTS) -> list[int]:
    columns = Columns()
    for slot, product in enumerate(products):
        columns.set(slot, product)
    return [int(slot) for slot in np.flatnonzero(found(columns, query, len(products)))]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, [0, 1, 2, 3]),
        ({"category": "mug"}, [0, 1]),
        ({"category": {"$eq": "mug"}}, [0, 1]),
        ({"category": "Mug"}, []),
        ({"category": "mug", "price": {"$gt": 5}}, [0]),
        ({"category": {"$ne": "mug"}}, [2, 3]),
        ({"category": {"$in": ["mug", "chair", "sofa"]}}, [0, 1, 2]),
        ({"category": {"$in": []}}, []),
        ({"category": {"$nin": []}}, [0, 1, 2, 3]),
        ({"category": {"$nin": ["mug"]}}, [2, 3]),
        ({"category": {"$gt": "chair"}}, [0, 1]),
        ({"category": {"$gte": "chair", "$lt": "mug"}}, [2]),
        ({"name": {"$gt": "Z"}}, [2]),
        ({"price": {"$gte": 1, "$lt": 80}}, [0, 1]),
        ({"price": {"$lte": 1}}, [1]),
        ({"description_generated": True}, [2]),
        ({"description_generated": {"$ne": True}}, [0, 1, 3]),
        ({"price": {"$in": [1.0, 80]}}, [1, 2]),
        ({"price": {"$not": {"$gt": 5}}}, [1, 3]),
        ({"price": {"$not": {"$not": {"$gt": 5}}}}, [0, 2]),
        ({"price": {"$not": {"$gt": 5, "$lt": 50}}}, [1, 2, 3]),
        ({"price": "12.5"}, []),
        ({"price": {"$ne": "12.5"}}, [0, 1, 2, 3]),
        ({"price": True}, []),
        ({"price": {"$lt": "a"}}, []),
        ({"category": {"$gt": 0}}, []),
        ({"attributes.volume": 300}, [0]),
        ({"attributes.volume": "300"}, [1]),
        ({"attributes.volume": {"$in": [300, "300"]}}, [0, 1]),
        ({"attributes.organic": True}, [0]),
        ({"attributes.organic": 1}, []),
        ({"attributes.organic": {"$in": [1, False]}}, [2]),
        ({"attributes.organic": {"$ne": True}}, [1, 2, 3]),
        ({"attributes.organic": {"$lt": True}}, [2]),
        ({"attributes.organic": {"$gte": False}}, [0, 2]),
        ({"attributes.colour": {"$exists": True}}, [0, 1]),
        ({"attributes.colour": {"$exists": False}}, [2, 3]),
        ({"attributes.organic": {"$exists": True}}, [0, 2]),
        ({"attributes.never_seen": "x"}, []),
        ({"attributes.never_seen": {"$exists": False}}, [0, 1, 2, 3]),
        ({"$or": [{"price": 1}, {"name": "Cup"}]}, [0, 1]),
        ({"$or": [{}]}, [0, 1, 2, 3]),
        ({"$and": [{"category": "mug"}, {"price": {"$gt": 5}}]}, [0]),
        ({"category": "mug", "$or": [{"price": 1}, {"price": 80}]}, [1]),
    ],
    ids=json.dumps,
)
def test_filter_matches_as_mongodb_does(query: object, expected: list[int]) -> None:
    assert matches(query) == expected


def test_text_and_numbers_are_compared_in_one_form() -> None:
    products = (
        {"category": "cafe\u0301", "price": Decimal128("9.90")},
        {"category": "caf\u00e9", "attributes": {"brand": "A\x00B", "size": Decimal128("3")}},
    )
    for word in ("cafe\u0301", "caf\u00e9"):
        assert matches({"category": word}, products) == [0, 1]
    assert matches({"price": {"$lt": 10}}, products) == [0]
    assert matches({"attributes.brand": "A B"}, products) == [1]
    assert matches({"attributes.brand": "A\x00B"}, products) == [1]
    assert matches({"attributes.size": 3}, products) == [1]
    with pytest.raises(ProductError, match="finite"):
        Columns().set(0, {"price": Decimal128("NaN")})


def test_parsed_filter_is_a_small_tree_of_values() -> None:
    assert parse({}) == And(())
    assert parse({"category": {"$ne": "mug"}}) == Not(OneOf("category", ("mug",)))
    assert parse({"price": {"$gte": 5, "$lt": 10}}) == And(
        (Range("price", "$gte", 5.0), Range("price", "$lt", 10.0))
    )
    assert parse({"$or": [{"name": {"$exists": True}}]}) == Or((Exists("name"),))


def nested(levels: int) -> object:
    query: object = {"price": 1}
    for _ in range(levels):
        query = {"$and": [query]}
    return query


def test_limits_are_inclusive() -> None:
    parse(nested(7))
    parse({"price": {"$in": list(range(1000))}})
    parse({"$or": [{"price": n} for n in range(256)]})
    parse({"price": 2**53, "attributes." + "k" * 64: -(2**53)})
    text = '{"price": 1}'
    parse_filter(text, len(text))


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("", ["malformed JSON at line 1 column 1", "{}"]),
        ('{"price":', ["malformed JSON", "column 10"]),
        ('{"price": 1}x', ["malformed JSON", "column 13"]),
        (b'{"name": "\xff"}', ["not UTF-8"]),
        ('{"name": "\ud800"}', ["not UTF-8"]),
        ("[]", ["an empty list", "object"]),
        ("null", ["null", "object"]),
        ('"mug"', ['"mug"', "object"]),
        ('{"price": NaN}', ["NaN", "finite"]),
        ('{"price": -Infinity}', ["-Infinity", "finite"]),
        ('{"price": 1e999}', ["1e999", "finite"]),
        ('{"price": 9007199254740993}', ["9007199254740993", "strings"]),
        ('{"price": ' + "9" * 5000 + "}", ["99999", "2**53"]),
        ('{"price": 1, "price": 2}', ['"price"', "twice"]),
        ('{"price": {"$gt": 1, "$gt": 2}}', ['"$gt"', "twice"]),
        ('{"price": {"gte": 5}}', ['"gte"', "$exists", "Did you mean $gte?"]),
        ('{"price": {"$regex": "a"}}', ['"$regex"', "$nin"]),
        ('{"price": {"$gt": 1, "b": 1}}', ['"b"', "$nin"]),
        ('{"$nor": [{}]}', ['"$nor"', "$or"]),
        ('{"$not": {"price": 5}}', ["$not without a field", '{"price": {"$not": {"$gt": 5}}}']),
        ('{"$gt": 5}', ["$gt without a field", '{"price": {"$gt": 5}}']),
        ('{"price": {"$and": [{"$gt": 5}]}}', ["$and inside price"]),
        ('{"price": {"$not": 5}}', ["price $not with 5", "$ne"]),
        ('{"price": {"$not": {}}}', ["empty object"]),
        ('{"price": {}}', ["price with an empty object"]),
        ('{"price": {"$in": 5}}', ["price $in with 5", "list"]),
        ('{"price": {"$nin": {"a": 1}}}', ["price $nin with an object", "list"]),
        ('{"price": {"$in": [1, null]}}', ["price $in with null"]),
        ('{"price": {"$exists": 1}}', ["price $exists with 1", "true or false"]),
        ('{"price": {"$gt": [1]}}', ["price $gt with a list"]),
        ('{"price": {"$eq": {"a": 1}}}', ["price $eq with an object"]),
        ('{"price": null}', ["null", "$exists", "$in"]),
        ('{"price": [1, 2]}', ["a list", "$exists", "$in"]),
        ('{"$and": []}', ["$and with an empty list"]),
        ('{"$or": {"price": 1}}', ["$or with an object"]),
        ('{"$or": [1]}', ["1 as a member of $or"]),
        ('{"colour": "red"}', ['"colour"', *FIELDS, "'attributes.colour'"]),
        ('{"Category": "mug"}', ['"Category"', "'category'"]),
        ('{"attribute.colour": "red"}', ["'attributes.colour'"]),
        ('{"attributes": {"colour": "red"}}', ['"attributes"', "'attributes.colour'"]),
        ('{"attributes.a b": 1}', ['"attributes.a b"', "letters, digits"]),
        ('{"attributes.<key>": 1}', ["letters, digits"]),
        ('{"attributes.": 1}', ["letters, digits"]),
        ('{"attributes.' + "k" * 65 + '": 1}', ["1 to 64"]),
        ('{"' + "x" * 5000 + '": 1}', ["xxx..."]),
        (json.dumps(nested(8)), ["8 levels"]),
        ('{"product_id": {"$gt": "a"}}', ["product_id $gt", "$nin", "as a whole"]),
        ('{"product_id": {"$exists": true}}', ["product_id $exists", "$nin"]),
        ('{"price": ' + '{"$not": ' * 8 + '{"$gt": 1}' + "}" * 9, ["8 levels"]),
        ('{"$and": [' * 9000, ["8 levels"]),
        ("[" * 90_000, ["8 levels"]),
        (json.dumps({"price": {"$in": list(range(1001))}}), ["1001", "1000"]),
        (json.dumps({"$or": [{"price": n} for n in range(257)]}), ["257", "256", "$in"]),
        (" " * MAX_BYTES + "{}", ["100002 bytes", "100000"]),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str | bytes) else "",
)
def test_refusal_says_what_is_wrong_and_what_to_do(text: str | bytes, parts: list[str]) -> None:
    with pytest.raises(FilterError) as caught:
        parse_filter(text, MAX_BYTES)
    assert caught.value.tensor == "filter"
    message = str(caught.value)
    assert message.startswith("filter: ")
    assert len(message) < 500
    for part in parts:
        assert part in message


@given(st.one_of(st.text(), st.binary()))
@settings(max_examples=200, deadline=None)
def test_any_text_is_parsed_or_refused(text: str | bytes) -> None:
    with contextlib.suppress(FilterError):
        parse_filter(text, MAX_BYTES)


class TestSlots:
    def test_set_replaces_all_of_a_slot(self) -> None:
        columns = Columns()
        columns.set(0, {"category": "mug", "attributes": {"volume": 300, "organic": True}})
        columns.set(0, {"price": 5, "attributes": {"volume": "large"}})
        for query, expected in (
            ({"category": {"$exists": False}}, True),
            ({"attributes.organic": {"$exists": False}}, True),
            ({"attributes.volume": 300}, False),
            ({"attributes.volume": "large"}, True),
            ({"price": 5}, True),
        ):
            assert found(columns, query, 1).tolist() == [expected]

    def test_cleared_slot_matches_only_negations(self) -> None:
        columns = Columns()
        columns.set(0, RED_MUG)
        columns.set(1, RED_MUG)
        columns.clear(0)
        columns.clear(0)
        columns.clear(99)
        assert found(columns, {"category": "mug"}, 2).tolist() == [False, True]
        assert found(columns, {"category": {"$ne": "mug"}}, 2).tolist() == [True, False]

    def test_strings_of_cleared_slots_do_not_return_with_new_ones(self) -> None:
        columns = Columns()
        columns.set(0, {"category": "mug"})
        columns.set(1, {"category": "mug"})
        columns.set(2, {"category": "chair"})
        columns.clear(2)
        columns.set(3, {"category": "sofa"})
        columns.clear(0)
        assert found(columns, {"category": "mug"}, 4).tolist() == [
            False,
            True,
            False,
            False,
        ]
        assert found(columns, {"category": "chair"}, 4).tolist() == [False] * 4
        assert found(columns, {"category": {"$gt": "n"}}, 4).tolist() == [
            *[False] * 3,
            True,
        ]

    def test_slots_may_come_in_any_order_and_size_may_exceed_them(self) -> None:
        columns = Columns()
        columns.set(1000, {"category": "mug"})
        columns.set(3, {"category": "mug"})
        mask = found(columns, {"category": "mug"}, 5000)
        assert mask.shape == (5000,)
        assert mask.dtype == np.bool_
        assert np.flatnonzero(mask).tolist() == [3, 1000]
        assert found(columns, {"category": "mug"}, 4).tolist() == [False] * 3 + [True]
        assert found(columns, {}, 0).shape == (0,)

    def test_mask_is_the_callers_own(self) -> None:
        columns = Columns()
        columns.set(0, RED_MUG)
        found(columns, {"category": "mug"}, 1)[0] = False
        assert found(columns, {"category": "mug"}, 1).tolist() == [True]

    def test_keys_that_are_not_for_filtering_are_ignored(self) -> None:
        assert matches({"category": "mug"}, ({**RED_MUG, "_id": 7, "pictures": []},)) == [0]

    @pytest.mark.parametrize(
        ("fields", "tensor"),
        [
            ({"category": 5}, "category"),
            ({"category": None}, "category"),
            ({"price": "5"}, "price"),
            ({"price": True}, "price"),
            ({"price": float("nan")}, "price"),
            ({"price": 2**53 + 1}, "price"),
            ({"attributes": ["red"]}, "attributes"),
            ({"attributes": {"a.b": 1}}, "attributes"),
            ({"attributes": {5: 1}}, "attributes"),
            ({"attributes": {"colours": ["red"]}}, "attributes.colours"),
        ],
        ids=str,
    )
    def test_value_of_the_wrong_kind_leaves_the_slot_alone(
        self, fields: dict[str, object], tensor: str
    ) -> None:
        columns = Columns()
        columns.set(0, RED_MUG)
        with pytest.raises(ProductError) as caught:
            columns.set(0, {"name": "other", **fields})
        assert caught.value.tensor == tensor
        assert found(columns, {"name": "Cup", "category": "mug"}, 1).tolist() == [True]


class TestBudgets:
    def test_what_was_frozen_stays_as_it_was(self) -> None:
        columns = Columns()
        columns.set(0, RED_MUG)
        columns.set(1, BLUE_MUG)
        frozen = columns.frozen(["category"])
        columns.set(0, CHAIR)
        columns.clear(1)
        mask, _ = frozen.evaluate(parse({"category": "mug"}), 2)
        assert mask.tolist() == [True, True]
        assert found(columns, {"category": "mug"}, 2).tolist() == [False, False]

    def test_conditions_on_one_field_look_at_its_values_once(self) -> None:
        columns = Columns()
        for slot in range(2000):
            columns.set(slot, {"name": f"product {slot:04d}", "price": slot})
        conditions = [{"name": {"$gt": f"product {number:04d}"}} for number in range(250)]
        for joined, first in (("$and", 250), ("$or", 1)):
            mask, looked_at = columns.frozen().evaluate(parse({joined: conditions}), 2000)
            assert np.flatnonzero(mask).tolist() == list(range(first, 2000))
            assert looked_at < 2100

    def test_a_filter_that_looks_at_too_much_is_refused_before_it_begins(self) -> None:
        columns = Columns()
        for slot in range(1000):
            columns.set(slot, {"name": f"product {slot}", "price": slot})
        # Conditions on two fields in turn, none of which can be answered with another.
        query = {"$or": [{"name": {"$gt": "p"}, "price": {"$gte": n}} for n in range(20)]}
        _, looked_at = columns.frozen().evaluate(parse(query), 1000)
        assert looked_at > 30_000
        columns.frozen().evaluate(parse(query), 1000, most=looked_at)
        with pytest.raises(FilterError, match="PRODUCT_MATCH_MAX_FILTER_WORK") as caught:
            columns.frozen().evaluate(parse(query), 1000, most=looked_at - 1)
        assert f"{looked_at} values" in str(caught.value)

    def test_keys_of_one_product_take_memory_for_its_values_alone_and_give_it_back(self) -> None:
        columns = Columns()
        keys = {"attributes": {f"key{number}": number for number in range(64)}}
        # What Python keeps for itself is there already.
        columns.set(200_000, keys)
        columns.clear(200_000)
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            columns.set(200_000, keys)
            held, peak = tracemalloc.get_traced_memory()
            assert columns.attribute_keys == 64
            assert peak - before < 200_000
            columns.clear(200_000)
            after, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert columns.attribute_keys == 0
        assert after - before < (held - before) / 5

    def test_keys_beyond_the_limit_cannot_be_filtered_by_and_cost_no_other_key(self) -> None:
        columns = Columns(max_attribute_keys=2)
        columns.set(0, {"category": "mug", "attributes": {"a": 1, "b": 2, "c": 3}})
        columns.set(1, {"attributes": {"c": 4}})
        assert (columns.attribute_keys, columns.unindexed_keys) == (2, 1)
        assert columns.get(0) == {
            "category": "mug",
            "attributes.a": 1,
            "attributes.b": 2,
            "attributes.c": 3,
        }
        assert found(columns, {"category": "mug", "attributes.b": 2}, 2).tolist() == [True, False]
        with pytest.raises(FilterError, match=r"attributes\.c.*PRODUCT_MATCH_MAX_ATTRIBUTE_KEYS"):
            found(columns, {"attributes.c": 4}, 2)
        # Room alone does not help a key some of whose values were not kept.
        columns.clear(0)
        columns.set(2, {"attributes": {"c": 5}})
        with pytest.raises(FilterError, match=r"attributes\.c"):
            found(columns, {"attributes.c": 5}, 3)
        columns.clear(1)
        columns.clear(2)
        columns.set(3, {"attributes": {"c": 6}})
        assert found(columns, {"attributes.c": 6}, 4).tolist() == [False, False, False, True]

    @given(
        changes=st.lists(st.tuples(st.integers(0, 30), st.integers(0, 200)), max_size=150),
        bounds=st.tuples(st.integers(-1, 31), st.integers(-1, 31)),
        words=st.booleans(),
    )
    @settings(max_examples=200, deadline=None)
    def test_entries_in_small_buckets_are_those_of_a_sorted_list(
        self, changes: list[tuple[int, int]], bounds: tuple[int, int], words: bool
    ) -> None:
        def value(number: int) -> Any:
            return f"{number + 10:02d}" if words else float(number)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sorted_entries, "BUCKET", 4)
            patch.setattr(sorted_entries, "SMALL", 2)
            entries = SortedEntries()
            expected: set[tuple[Any, int]] = set()
            for number, slot in changes:
                entry = (value(number), slot)
                if entry in expected:
                    entries.remove(*entry)
                    expected.remove(entry)
                else:
                    entries.add(*entry)
                    expected.add(entry)
            frozen = entries.frozen()
        ordered = sorted(expected)
        assert list(zip(frozen.values(), frozen.slots().tolist(), strict=True)) == ordered
        assert all(0 < len(bucket.slots) <= 4 for bucket in frozen.buckets)
        ranks = frozen.ranks()
        low, high = map(value, bounds)
        assert ranks.below(low) == sum(held < low for held, _ in ordered)
        assert ranks.up_to(high) == sum(held <= high for held, _ in ordered)
        mask = np.zeros(201, np.bool_)
        begin, end = sorted((ranks.below(low), ranks.up_to(high)))
        ranks.mark(mask, begin, end, True)
        assert set(np.flatnonzero(mask)) == {slot for _, slot in ordered[begin:end]}


# A plain interpreter of the JSON itself, one document at a time: it shares no code with the
# module, whose tree and columns it is compared with.

COMPARE = {"$gt": operator.gt, "$gte": operator.ge, "$lt": operator.lt, "$lte": operator.le}


def kind(value: object) -> type:
    return float if type(value) is int else type(value)


def same(a: object, b: object) -> bool:
    return kind(a) is kind(b) and a == b


def holds(value: Any, name: str, operand: Any) -> bool:
    if name == "$exists":
        return (value is not None) is operand
    if name == "$not":
        return not all(holds(value, *item) for item in operand.items())
    if name in ("$ne", "$nin"):
        return not holds(value, {"$ne": "$eq", "$nin": "$in"}[name], operand)
    if name == "$eq":
        return same(value, operand)
    if name == "$in":
        return any(same(value, candidate) for candidate in operand)
    return kind(value) is kind(operand) and COMPARE[name](value, operand)


def document_matches(query: dict[str, Any], document: dict[str, Any]) -> bool:
    for name, operand in query.items():
        if name in ("$and", "$or"):
            join = all if name == "$and" else any
            if not join(document_matches(member, document) for member in operand):
                return False
            continue
        place, _, key = name.partition(".")
        value = document.get(place, {}).get(key) if key else document.get(name)
        operators = operand if isinstance(operand, dict) else {"$eq": operand}
        if not all(holds(value, *item) for item in operators.items()):
            return False
    return True


# Few values each, so that filters and documents meet.
strings = st.sampled_from(["", "a", "b", "ba", "é", "1", "\U0001f600", "\uffff"])
numbers = st.sampled_from([0, -0.0, 1, 1.0, 2.5, -3, 1e300, 2**53])
scalars = st.one_of(strings, numbers, st.booleans())
keys = st.sampled_from(["x", "y_1"])
documents = st.fixed_dictionaries(
    {},
    optional={
        "category": strings,
        "name": strings,
        "price": numbers,
        "attributes": st.dictionaries(keys, scalars),
    },
)
operations = st.recursive(
    st.one_of(
        *(st.fixed_dictionaries({name: scalars}) for name in ("$eq", "$ne", *COMPARE)),
        *(st.fixed_dictionaries({n: st.lists(scalars, max_size=4)}) for n in ("$in", "$nin")),
        st.fixed_dictionaries({"$exists": st.booleans()}),
        st.fixed_dictionaries({"$gte": scalars, "$lt": scalars}),
    ),
    lambda inner: st.fixed_dictionaries({"$not": inner}),
    max_leaves=2,
)
field_names = st.sampled_from(["category", "name", "price", "attributes.x", "attributes.y_1"])
queries = st.recursive(
    st.dictionaries(field_names, st.one_of(scalars, operations), max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(["$and", "$or"]), st.lists(inner, min_size=1, max_size=3), min_size=1
    ),
    max_leaves=6,
)


@given(
    writes=st.lists(st.tuples(st.integers(0, 9), st.none() | documents), max_size=20),
    query=queries,
)
@settings(max_examples=400, deadline=None)
def test_columns_agree_with_reading_the_documents_one_by_one(
    writes: list[tuple[int, dict[str, Any] | None]], query: dict[str, Any]
) -> None:
    columns = Columns()
    current: dict[int, dict[str, Any]] = {}
    for slot, document in writes:
        if document is None:
            columns.clear(slot)
            current.pop(slot, None)
        else:
            columns.set(slot, document)
            current[slot] = document
    expected = [document_matches(query, current.get(slot, {})) for slot in range(12)]
    assert found(columns, query, 12).tolist() == expected
