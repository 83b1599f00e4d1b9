"""Pictures by link, from a real HTTP server on this machine."""

from __future__ import annotations

import asyncio
import http.server
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from product_match_client import (
    AsyncProductMatchClient,
    BadRequestError,
    ProductMatchClient,
    ServiceUnavailableError,
    links,
)
from product_match_client.calls import match_call, upsert_call
from product_match_client.links import (
    LinkedPictures,
    calls_cache,
    fetch_pictures,
    forget_oldest,
    is_public,
)

PICTURE = b"\xff\xd8 as it was sent"


class Shop(http.server.ThreadingHTTPServer):
    """Serves one picture by many names, and keeps what was asked."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.asked: list[str] = []
        self.unchanged: list[str] = []
        self.etag = '"1"'


class Answers(http.server.BaseHTTPRequestHandler):
    """What the shop says to each name."""

    server: Shop

    def do_GET(self) -> None:
        self.server.asked.append(self.path)
        answer = getattr(self, self.path.split("/")[1], self.picture)
        answer()

    def answer(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers = {"Content_Type": "image/jpeg", "Content_Length": str(len(content))} | headers
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(content)

    def picture(self) -> None:
        if self.headers.get("If-None-Match") == self.server.etag:
            self.server.unchanged.append(self.path)
            self.answer(304)
        else:
            self.answer(200, PICTURE, ETag=self.server.etag)

    def moved(self) -> None:
        self.answer(302, Location="/a.jpg")

    def loop(self) -> None:
        self.answer(302, Location="loop")

    def elsewhere(self) -> None:
        self.answer(302, Location="file:///etc/hostname")

    def missing(self) -> None:
        self.answer(404)

    def busy(self) -> None:
        self.answer(503)

    def page(self) -> None:
        self.answer(200, b"<html>", Content_Type="text/html; charset=utf-8")

    def empty(self) -> None:
        self.answer(200)

    def large(self) -> None:
        self.answer(200, PICTURE * 2)

    def large_by_surprise(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(PICTURE * 2)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Shop]:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with Shop() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def fetch(url: str) -> bytes:
    (content,) = fetch_pictures([url], allow_private=True)
    return content


def pictures_of(call: Any) -> list[bytes]:
    return next(list(t.array[0]) for t in call.tensors if t.name == "image")


def test_links_stand_beside_other_pictures_and_are_fetched_once(shop: Shop) -> None:
    link = f"{shop.url}/a.jpg"
    for build in (
        lambda images: match_call(images, allow_private_links=True),
        lambda images: upsert_call({"product_id": "p"}, images, allow_private_links=True),
    ):
        shop.asked.clear()
        assert pictures_of(build([b"1", link, b"2", link])) == [b"1", PICTURE, b"2", PICTURE]
        assert shop.asked == ["/a.jpg"]
        assert pictures_of(build(link)) == [PICTURE]


def test_a_picture_that_has_not_changed_is_not_sent_again(shop: Shop) -> None:
    link = f"{shop.url}/a.jpg"
    assert [fetch(link), fetch(link)] == [PICTURE] * 2
    assert shop.unchanged == ["/a.jpg"]
    shop.etag = '"2"'
    assert fetch(link) == PICTURE
    assert shop.unchanged == ["/a.jpg"]
    for about in calls_cache().glob("*.json"):
        about.write_text("damaged", encoding="utf-8")
    assert fetch(link) == PICTURE, "asked for anew"
    assert len(list(calls_cache().iterdir())) == 2, "the picture, and what is known of it"


def test_many_are_fetched_and_a_few_at_once(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    under_way: list[int] = []
    most = 0
    fetch_one = LinkedPictures._fetch

    async def counted(self: LinkedPictures, url: str) -> Path:
        nonlocal most
        under_way.append(1)
        most = max(most, len(under_way))
        try:
            return await fetch_one(self, url)
        finally:
            under_way.pop()

    monkeypatch.setattr(LinkedPictures, "_fetch", counted)
    urls = [f"{shop.url}/{number}.jpg" for number in range(12)]
    assert fetch_pictures(urls, allow_private=True) == [PICTURE] * 12
    assert most == links.AT_ONCE


def test_redirects_are_followed(shop: Shop) -> None:
    assert fetch(f" {shop.url}/moved ") == PICTURE
    assert shop.asked == ["/moved", "/a.jpg"]


def test_addresses_need_not_be_in_ascii(shop: Shop) -> None:
    assert fetch(f"{shop.url}/rote Tasse ü.jpg?breite=7%20") == PICTURE
    assert shop.asked == ["/rote%20Tasse%20%C3%BC.jpg?breite=7%20"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("missing", "404 Not Found; expected the picture"),
        ("page", "is text/html, not a picture"),
        ("empty", "an empty answer"),
        ("loop", "over 5 redirects"),
        ("elsewhere", "file:///etc/hostname is no http or https address"),
        ("large", f"{2 * len(PICTURE)} bytes; expected at most {len(PICTURE)}"),
        ("large_by_surprise", f"over {len(PICTURE)} bytes; expected at most"),
    ],
)
def test_what_is_no_picture_to_send_is_a_bad_request(
    shop: Shop, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.setattr(links, "LARGEST_PICTURE", len(PICTURE))
    with pytest.raises(BadRequestError, match=message) as caught:
        fetch(f"{shop.url}/{name}")
    assert f"the picture {shop.url}/{name}" in str(caught.value)
    assert [p for p in calls_cache().glob("*") if p.is_file()] == [], "nothing is left over"


def test_an_address_that_leads_nowhere_is_a_bad_request() -> None:
    for url in ("http://", "http://host:80000/a.jpg", "https://nowhere.invalid/a.jpg"):
        with pytest.raises(BadRequestError, match="the picture http"):
            fetch(url)


def test_what_may_work_later_is_told_apart(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ServiceUnavailableError, match="503 Service Unavailable; try again later"):
        fetch(f"{shop.url}/busy")
    monkeypatch.setattr(links, "LONGEST_S", 0.05)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        with pytest.raises(ServiceUnavailableError, match="no answer within"):
            fetch(url)


# --- private addresses -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "0.0.0.0", "[::1]",
     "[::ffff:127.0.0.1]", "\u2460\u2461\u2466.\u24ea.\u24ea.\u2460"],
)  # fmt: skip
def test_no_spelling_of_this_machine_is_fetched_from(shop: Shop, host: str) -> None:
    with pytest.raises(BadRequestError):
        fetch_pictures([f"http://{host}:{shop.server_port}/a.jpg"])
    assert shop.asked == []


def test_the_refusal_says_what_is_expected(shop: Shop) -> None:
    for build in (
        lambda: match_call(f"{shop.url}/a.jpg"),
        lambda: upsert_call({"product_id": "p"}, f"{shop.url}/a.jpg"),
    ):
        with pytest.raises(BadRequestError, match=r"127.* is a private.*expected a public one"):
            build()
    assert shop.asked == []


@pytest.mark.parametrize("kind", [ProductMatchClient, AsyncProductMatchClient])
@pytest.mark.parametrize("call", ["match", "upsert"])
def test_the_clients_hand_on_what_is_allowed(shop: Shop, kind: Any, call: str) -> None:
    link = f"{shop.url}/a.jpg"
    arguments = (link,) if call == "match" else ({"product_id": "p"}, link)

    def ask(**options: Any) -> None:
        async def ask() -> None:
            async with kind(f"grpc://127.0.0.1:{shop.server_port}", 1.0, **options) as client:
                await getattr(client, call)(*arguments)

        if kind is AsyncProductMatchClient:
            asyncio.run(ask())
        else:
            with kind(f"grpc://127.0.0.1:{shop.server_port}", 1.0, **options) as client:
                getattr(client, call)(*arguments)

    with pytest.raises(BadRequestError, match="is a private address"):
        ask()
    with pytest.raises(ServiceUnavailableError):  # of the server, which is none
        ask(allow_private_links=True)
    assert "/a.jpg" in shop.asked


def test_each_redirect_is_checked_and_so_is_what_a_name_says_when_it_is_used(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked: list[str] = []

    def is_public_here(address: str) -> bool:
        # The first connection is taken for one to a public host, which redirects.
        checked.append(address)
        return len(checked) == 1

    monkeypatch.setattr(links, "is_public", is_public_here)
    there = f"http://localhost:{shop.server_port}/a.jpg"
    monkeypatch.setattr(Answers, "moved", lambda self: self.answer(302, Location=there))
    with pytest.raises(BadRequestError, match="is a private address"):
        fetch_pictures([f"{shop.url}/moved"])
    assert checked[0] == "127.0.0.1"
    assert len(checked) > 1
    assert shop.asked == ["/moved"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1::1", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("ff0e::1", False),
        ("::ffff:10.0.0.1", False),
        ("::ffff:93.184.216.34", True),
        ("2002:a00:1::", False),
        ("64:ff9b::10.0.0.1", False),
        ("64:ff9b::93.184.216.34", True),
        ("shop.example", False),
    ],
)
def test_public_addresses(address: str, public: bool) -> None:
    assert is_public(address) is public


def test_pictures_of_calls_take_no_more_than_their_room(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_bytes(bytes(100))
        os.utime(tmp_path / str(number), (number, number))
    forget_oldest(tmp_path, 250)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["3", "4"]
    forget_oldest(tmp_path / "not there", 250)
