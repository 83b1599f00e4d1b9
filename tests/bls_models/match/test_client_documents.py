"""Documents are read once a version, and a database that is away is not waited for again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pytest
from serving_support import wait_for

from bls_models.errors import DatabaseError
from bls_models.index.query import IndexMatch
from bls_models.match import documents as documents_module
from bls_models.match.documents import ClientDocuments
from bls_models.picture_links import PictureLinks


class Database:
    """Holds names by product id, counts reads, and can be away."""

    def __init__(self, **names: str) -> None:
        self.names = names
        self.reads: list[list[str]] = []
        self.away = False

    def find_products(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        self.reads.append(sorted(ids))
        if self.away:
            raise DatabaseError("MongoDB is away")
        return {key: {"_id": key, "name": self.names[key]} for key in ids if key in self.names}


def kept_documents(database: Database, size: int = 1000) -> ClientDocuments:
    return ClientDocuments(database, size)  # type: ignore[arg-type]


def match(product_id: str, version: int = 1) -> IndexMatch:
    return IndexMatch(product_id, version, 0.5, 0.5, 0.0)


def names(found: dict[str, bytes]) -> dict[str, str]:
    return {key: json.loads(text)["name"] for key, text in found.items()}


def test_only_what_is_not_known_is_read_and_in_one_round_trip() -> None:
    database = Database(a="A", b="B", c="C")
    kept = kept_documents(database)
    kept.find([match("a")], following=True)
    found = kept.find([match("a"), match("b"), match("c"), match("b")], following=True)
    assert names(found.json) == {"a": "A", "b": "B", "c": "C"}
    assert found.complete
    assert database.reads == [["a"], ["b", "c"]]


def test_a_new_version_is_read_again() -> None:
    database = Database(a="old")
    kept = kept_documents(database)
    kept.find([match("a", 1)], following=True)
    database.names["a"] = "new"
    assert names(kept.find([match("a", 1)], following=True).json) == {"a": "old"}
    assert names(kept.find([match("a", 2)], following=True).json) == {"a": "new"}


def test_an_index_that_does_not_follow_vouches_for_no_document() -> None:
    database = Database(a="old")
    kept = kept_documents(database)
    kept.find([match("a")], following=True)
    database.names["a"] = "new"
    assert names(kept.find([match("a")], following=False).json) == {"a": "new"}


def test_a_product_that_is_not_stored_any_more_is_left_out() -> None:
    database = Database(a="A", b="B")
    kept = kept_documents(database)
    kept.find([match("a"), match("b")], following=True)
    del database.names["a"]
    found = kept.find([match("a", 2), match("b")], following=True)
    assert found.complete
    assert names(found.json) == {"b": "B"}
    assert names(kept.find([match("a", 1), match("b")], following=False).json) == {"b": "B"}


def test_without_the_database_known_documents_are_answered_and_marked() -> None:
    database = Database(a="A", b="B")
    kept = kept_documents(database)
    kept.find([match("a")], following=True)
    database.away = True
    assert kept.find([match("a")], following=True).complete, "nothing had to be read"
    found = kept.find([match("a"), match("b")], following=True)
    assert not found.complete
    assert names(found.json) == {"a": "A"}


def test_while_the_database_is_away_no_request_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(documents_module, "RETRY_SECONDS", 0.01)
    database = Database(a="A")
    database.away = True
    kept = kept_documents(database)
    for _ in range(3):
        assert not kept.find([match("a")], following=True).complete
    wait_for(lambda: len(database.reads) > 3, "it is asked whether it is back")
    assert database.reads.count(["a"]) == 1, "only the first request waited for an answer"
    database.away = False
    wait_for(lambda: kept.find([match("a")], following=True).complete, "it is read again")
    assert names(kept.find([match("a")], following=True).json) == {"a": "A"}


def test_the_least_used_documents_are_forgotten() -> None:
    database = Database(a="A", b="B", c="C")
    one = len(kept_documents(database).find([match("a")], following=True).json["a"])
    kept = kept_documents(database, size=2 * one)
    for key in ("a", "b", "a", "c"):
        kept.find([match(key)], following=True)
    database.reads.clear()
    kept.find([match("a")], following=True)
    assert database.reads == []
    kept.find([match("b")], following=True)
    assert database.reads == [["b"]]


def test_a_document_larger_than_the_cache_is_answered_all_the_same() -> None:
    database = Database(a="A" * 5000)
    kept = kept_documents(database)
    for _ in range(2):
        assert names(kept.find([match("a")], following=True).json) == {"a": "A" * 5000}
    assert len(database.reads) == 2


def test_what_json_has_no_form_for_fails_no_answer() -> None:
    database = Database(a="A")
    database.names["a"] = datetime(2026, 1, 2)  # type: ignore[assignment]
    found = kept_documents(database).find([match("a")], following=True)
    assert names(found.json) == {"a": "2026-01-02 00:00:00"}


def test_links_to_pictures_are_of_the_moment_and_not_kept() -> None:
    now = [0.0]
    links = PictureLinks("https://shop.example", "s" * 32, 60, lambda: now[0])

    class WithPictures(Database):
        def find_products(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
            found = super().find_products(ids)
            for document in found.values():
                document["images"] = [{"sha256": "ab" * 32, "width": 1, "height": 1}]
            return found

    database = WithPictures(a="A")
    kept = ClientDocuments(database, 1000, links=links)  # type: ignore[arg-type]

    def link(following: bool = True) -> str:
        found = json.loads(kept.find([match("a")], following).json["a"])
        return str(found["picture_url"])

    first = link()
    assert first == links.link("ab" * 32) == link()
    now[0] = 60.0
    assert link() == links.link("ab" * 32) != first
    assert database.reads == [["a"]]
    database.away = True
    assert link(following=False) == links.link("ab" * 32)
