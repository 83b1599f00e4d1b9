"""Links to pictures: what they lead to, how long, and who can make them."""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from bls_models.picture_links import NO_LINKS, SIZE, PictureLinks, signature
from bls_models.product import SERVER_FIELDS, json_bytes
from bls_models.settings import Settings

URL = "https://shop.example/pictures"
SECRET = "s" * 32
SHA256, OTHER = "ab" * 32, "cd" * 32
DAY = 86_400
NOON = 10 * DAY + DAY / 2


class Clock:
    """Says what it is told."""

    def __init__(self, now: float) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def links(clock: Clock | None = None, secret: str = SECRET, url: str = URL) -> PictureLinks:
    return PictureLinks(url, secret, DAY, clock or Clock(NOON))


def expires(link: str) -> int:
    return int(parse_qs(urlsplit(link).query)["expires"][0])


def stored(*hashes: str, **attributes: Any) -> dict[str, Any]:
    return {"_id": "p", "attributes": attributes, "images": [{"sha256": item} for item in hashes]}


def test_a_link_names_the_first_picture_its_end_and_who_made_it() -> None:
    link = links().link(links().target(stored(SHA256, OTHER)))
    parts = urlsplit(link)
    assert link.startswith(f"{URL}/{SHA256}?")
    assert parse_qs(parts.query) == {
        "size": [str(SIZE)],
        "expires": [str(12 * DAY)],
        "signature": [signature(SECRET, SHA256, 12 * DAY)],
    }


def test_a_signature_is_hmac_sha256_of_the_picture_and_the_end() -> None:
    wanted = hmac.new(SECRET.encode(), f"{SHA256} 17".encode(), hashlib.sha256).hexdigest()
    assert signature(SECRET, SHA256, 17) == wanted
    others = {signature(SECRET + "x", SHA256, 17), signature(SECRET, OTHER, 17)}
    assert wanted not in others | {signature(SECRET, SHA256, 18)}


def test_within_a_window_a_link_stays_and_it_holds_for_the_next_one_too() -> None:
    clock = Clock(10 * DAY)
    made = links(clock)
    first = made.link(SHA256)
    clock.now = 11 * DAY - 1
    assert made.link(SHA256) == first
    assert expires(first) - clock.now > DAY
    clock.now = 11 * DAY
    assert made.link(SHA256) != first
    assert expires(made.link(SHA256)) - clock.now == 2 * DAY


def test_without_a_secret_links_are_not_signed_and_without_an_address_there_are_none() -> None:
    assert links(secret="").link(SHA256) == f"{URL}/{SHA256}?size={SIZE}"
    assert links(url=URL + "/", secret="").link(SHA256) == f"{URL}/{SHA256}?size={SIZE}"
    for made in (links(url=""), NO_LINKS, PictureLinks.from_settings(Settings())):
        assert made.target(stored(SHA256)) == ""
        assert made.target(stored(SHA256, image_url="https://a.example/b")) == "https://a.example/b"
        assert made.put_into(b'{"a":1}', "") == b'{"a":1}'


def test_the_settings_say_where_and_how_long() -> None:
    settings = Settings(picture_url=URL, picture_secret=SECRET, picture_link_seconds=60)
    link = PictureLinks.from_settings(settings).link(SHA256)
    assert link.startswith(URL)
    assert expires(link) % 60 == 0
    assert SECRET not in repr(settings)


@pytest.mark.parametrize(
    ("attribute", "wins"),
    [
        ("https://shop.example/a b.jpg?x=1", True),
        ("http://shop.example/a", True),
        ("/a.jpg", False),
        ("javascript:alert(1)", False),
        (7, False),
    ],
)
def test_a_products_own_link_wins_where_it_is_one(attribute: Any, wins: bool) -> None:
    made = links()
    target = made.target(stored(SHA256, image_url=attribute))
    assert (target == attribute) == wins
    assert made.link(target).startswith(str(attribute) if wins else URL)


@pytest.mark.parametrize(
    "document",
    [
        {},
        stored(),
        stored("../../x"),
        stored(SHA256.upper()),
        {"images": SHA256},
        {"images": [{"sha256": SHA256 + "\n"}], "attributes": "image_url"},
    ],
)
def test_what_was_changed_by_hand_has_no_link(document: dict[str, Any]) -> None:
    assert links().target(document) == ""


def test_a_link_is_put_into_json_as_a_field_of_the_servers() -> None:
    product = {"product_id": "p", "name": 'a "b"'}
    made = links()
    read = json.loads(made.put_into(json_bytes(product), SHA256))
    assert read == product | {"picture_url": made.link(SHA256)}
    assert "picture_url" in SERVER_FIELDS
    own = 'https://shop.example/"a"?ä=1'
    assert json.loads(made.put_into(json_bytes(product), own))["picture_url"] == own
