"""Fetching linked pictures, from a server of the test's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from yarl import URL

from seed.pictures import links
from seed.pictures.addresses import ForbiddenAddressError, PublicResolver, check_link, is_public
from seed.pictures.links import LinkedPictures
from seed.records import BadRowError


class Shop:
    """Serves pictures and counts what is asked of it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.kept: list[str] = []
        self.content = b"picture"
        self.etag: str | None = '"1"'
        self.failures = 0
        self.under_way = self.most_under_way = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path:
            case "/moved.jpg":
                raise web.HTTPFound("/a.jpg")
            case "/round.jpg":
                raise web.HTTPFound("/round.jpg")
            case "/inside.jpg":
                raise web.HTTPFound(request.query["to"])
            case "/gone.jpg":
                raise web.HTTPNotFound
            case "/page.jpg":
                return web.Response(text="<html>", content_type="text/html")
            case "/empty.jpg":
                return web.Response(body=b"")
            case "/stream.jpg":
                response = web.StreamResponse()
                await response.prepare(request)
                for _ in range(20):
                    await response.write(b"x" * 10)
                return response
        if self.failures:
            self.failures -= 1
            raise web.HTTPServiceUnavailable
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        for _ in range(20):
            await asyncio.sleep(0)
        self.under_way -= 1
        if self.etag and request.headers.get("If-None-Match") == self.etag:
            self.kept.append(request.path)
            return web.Response(status=304)
        headers = {"ETag": self.etag} if self.etag else {}
        return web.Response(body=self.content, content_type="image/jpeg", headers=headers)


@asynccontextmanager
async def open_shop() -> AsyncIterator[Shop]:
    shop = Shop()
    app = web.Application()
    app.router.add_get("/{name:.*}", shop.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        shop.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield shop
    finally:
        await runner.cleanup()


def visit(cache: Path, steps: Callable[[Shop, LinkedPictures], Awaitable[Any]]) -> Any:
    """Run steps with a shop and a fetcher that may reach it."""

    async def run() -> Any:
        async def sleep(seconds: float) -> None:
            await asyncio.sleep(0)

        async with (
            open_shop() as shop,
            LinkedPictures(cache, allow_private=True, sleep=sleep) as pictures,
        ):
            return await steps(shop, pictures)

    return asyncio.run(run())


def test_a_picture_is_fetched_once_and_then_asked_for_by_its_etag(tmp_path: Path) -> None:
    async def steps(shop: Shop, pictures: LinkedPictures) -> None:
        url = f"{shop.url}/a picture.jpg?v=1"
        assert (await pictures.fetch(url)).read_bytes() == b"picture"
        assert (await pictures.fetch(url)).read_bytes() == b"picture"
        assert (len(shop.asked), len(shop.kept)) == (2, 1)
        shop.content, shop.etag = b"another", '"2"'
        assert (await pictures.fetch(url)).read_bytes() == b"another"
        assert len(shop.kept) == 1
        shop.etag = None
        shop.content = b"third"
        assert (await pictures.fetch(url)).read_bytes() == b"third"

    visit(tmp_path / "cache", steps)


def test_redirects_are_followed(tmp_path: Path) -> None:
    async def steps(shop: Shop, pictures: LinkedPictures) -> bytes:
        return (await pictures.fetch(f"{shop.url}/moved.jpg")).read_bytes()

    assert visit(tmp_path, steps) == b"picture"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone.jpg", "404 Not Found; expected the picture"),
        ("/page.jpg", "is text/html, not a picture"),
        ("/empty.jpg", "an empty answer"),
        ("/round.jpg", "over 5 redirects"),
        ("/inside.jpg?to=file:///etc/hostname", "is no http or https address"),
        ("/large.jpg", "over 100 bytes|expected at most 100"),
        ("/stream.jpg", "over 100 bytes"),
    ],
)
def test_what_is_no_picture_is_told_and_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, message: str
) -> None:
    monkeypatch.setattr(links, "LARGEST_PICTURE", 100)

    async def steps(shop: Shop, pictures: LinkedPictures) -> None:
        shop.content = b"x" * 1000
        with pytest.raises(BadRowError, match=message):
            await pictures.fetch(shop.url + path)

    visit(tmp_path, steps)
    assert list(tmp_path.iterdir()) == []


def test_a_shop_that_is_busy_is_asked_again(tmp_path: Path) -> None:
    async def steps(shop: Shop, pictures: LinkedPictures) -> None:
        shop.failures = len(links.WAITS_S)
        await pictures.fetch(f"{shop.url}/a.jpg")
        shop.failures = 100
        with pytest.raises(BadRowError, match="503"):
            await pictures.fetch(f"{shop.url}/b.jpg")
        assert len(shop.asked) == 2 * (len(links.WAITS_S) + 1)

    visit(tmp_path, steps)


def test_a_few_are_fetched_at_once(tmp_path: Path) -> None:
    async def steps(shop: Shop, pictures: LinkedPictures) -> int:
        await asyncio.gather(*(pictures.fetch(f"{shop.url}/{n}.jpg") for n in range(20)))
        return shop.most_under_way

    assert 1 <= visit(tmp_path, steps) <= links.AT_ONCE


def test_a_damaged_cache_is_asked_for_anew(tmp_path: Path) -> None:
    async def steps(shop: Shop, pictures: LinkedPictures) -> None:
        file = await pictures.fetch(f"{shop.url}/a.jpg")
        file.with_name(f"{file.name}.json").write_text("{")
        assert (await pictures.fetch(f"{shop.url}/a.jpg")).read_bytes() == b"picture"
        assert shop.kept == []

    visit(tmp_path, steps)


def test_private_addresses_are_not_fetched_from(tmp_path: Path) -> None:
    async def run() -> None:
        async with open_shop() as shop, LinkedPictures(tmp_path) as pictures:
            port = shop.url.rpartition(":")[2]
            for host in ("127.0.0.1", "localhost", "127.1", "2130706433", "0x7f.1", "[::1]"):
                with pytest.raises(BadRowError, match="is a private address; --allow-private"):
                    await pictures.fetch(f"http://{host}:{port}/a.jpg")
            assert shop.asked == []

    asyncio.run(run())


def test_redirects_are_checked_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checked = []

    def check(url: URL, allow_private: bool) -> None:
        checked.append(url)
        check_link(url, allow_private=len(checked) == 1)

    monkeypatch.setattr(links, "check_link", check)

    async def steps(shop: Shop, pictures: LinkedPictures) -> None:
        with pytest.raises(BadRowError, match=r"169\.254\.169\.254 is a private address"):
            await pictures.fetch(f"{shop.url}/inside.jpg?to=http://169.254.169.254/latest")

    visit(tmp_path, steps)
    assert len(checked) == 2


def test_a_name_may_not_lead_into_a_private_network(monkeypatch: pytest.MonkeyPatch) -> None:
    async def resolve(*addresses: str) -> list[Any]:
        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 80)) for address in addresses
            ]

        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
        return list(await PublicResolver().resolve("shop.example", 80))

    (public,) = asyncio.run(resolve("93.184.216.34"))
    assert public["host"] == "93.184.216.34"
    with pytest.raises(ForbiddenAddressError, match=r"shop.example \(10.0.0.1\) is a private"):
        asyncio.run(resolve("93.184.216.34", "10.0.0.1"))


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True),
        ("2606:2800:220:1:248:1893:25c8:1946", True),
        ("127.0.0.1", False),
        ("10.1.2.3", False),
        ("192.168.0.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("0.0.0.0", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("fe80::1%eth0", False),
        ("::ffff:127.0.0.1", False),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("no address", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize(
    "url", ["ftp://a.example/a.jpg", "file:///etc/passwd", "https:///a", "a.jpg"]
)
def test_other_schemes_are_refused(url: str) -> None:
    with pytest.raises(ForbiddenAddressError, match="no http or https address"):
        check_link(URL(url), allow_private=True)
