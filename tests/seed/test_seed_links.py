"""Fetching linked pictures, from a server of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from product_match_client import links
from seed.pictures.links import WAITS_S, LinkedPictures
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
        shop.failures = len(WAITS_S)
        await pictures.fetch(f"{shop.url}/a.jpg")
        shop.failures = 100
        with pytest.raises(BadRowError, match="503"):
            await pictures.fetch(f"{shop.url}/b.jpg")
        assert len(shop.asked) == 2 * (len(WAITS_S) + 1)

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
