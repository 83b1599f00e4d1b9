"""What the page's limits do with requests, without the page behind them."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import httpx
import pytest
from gradio.context import LocalContext
from gradio.exceptions import InvalidPathError
from gradio.processing_utils import move_files_to_cache
from gradio.utils import is_static_file
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo import limits, uploads
from demo.__main__ import UPLOADS_VARIABLE
from demo.access import JOIN, UPLOAD
from demo.beside_server import end
from demo.limits import TOO_SLOW, PostLimits
from demo.options import DemoOptions
from demo.page import MOST_SESSIONS, build
from demo.server import Server
from demo.upload_room import MOST_AT_ONCE, NO_ROOM, NO_SHARE, TOO_MANY, UploadRoom
from demo.uploads import tidied, uploaded
from product_match_client.errors import BadRequestError

MIB = 2**20
FORM = {"Content-Type": "multipart/form-data; boundary=x"}


async def reading_app(scope: Scope, receive: Receive, send: Send) -> None:
    """Takes a whole body."""
    body = await Request(scope, receive).body()
    await PlainTextResponse(str(len(body)))(scope, receive, send)


def post(
    app: ASGIApp, path: str, chunks: Iterable[bytes], *, address: str = "192.0.2.1"
) -> httpx.Response:
    """Post a body of unknown length."""

    async def body() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    async def sent() -> httpx.Response:
        transport = httpx.ASGITransport(app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://page") as client:
            return await client.post(path, content=body(), headers=FORM)

    return asyncio.run(sent())


def test_the_room_is_what_has_come_and_each_address_has_its_share(tmp_path: Path) -> None:
    kept = tmp_path / "kept"

    async def keeping_app(scope: Scope, receive: Receive, send: Send) -> None:
        with kept.open("ab") as file:
            file.write(await Request(scope, receive).body())
        await PlainTextResponse("")(scope, receive, send)

    room = UploadRoom(keeping_app, tmp_path, most_bytes=4 * MIB)
    chunk = bytes(MIB // 4)
    assert post(room, UPLOAD, [chunk] * 7).status_code == 200
    greedy = post(room, UPLOAD, [chunk] * 7)
    assert (greedy.status_code, greedy.json()["detail"]) == (429, NO_SHARE)
    assert post(room, UPLOAD, [chunk] * 7, address="192.0.2.2").status_code == 200
    late = post(room, UPLOAD, [chunk] * 7, address="192.0.2.3")
    assert (late.status_code, late.json()["detail"]) == (507, NO_ROOM)
    kept.unlink()
    assert post(room, UPLOAD, [chunk], address="192.0.2.3").status_code == 200


def test_an_upload_has_few_files(tmp_path: Path) -> None:
    room = UploadRoom(reading_app, tmp_path, most_bytes=1024 * MIB)
    # A mark is found wherever it is cut.
    form = b"--x\r\n\r\n\r\n" * MOST_AT_ONCE
    pieces = [form[start : start + 7] for start in range(0, len(form), 7)]
    assert post(room, UPLOAD, [*pieces, b"--x--"]).status_code == 200
    refused = post(room, UPLOAD, [*pieces, b"--x\r\n", b"--x--"])
    assert (refused.status_code, refused.json()["detail"]) == (413, TOO_MANY)


@pytest.mark.parametrize("path", [JOIN, UPLOAD])
def test_who_sends_nothing_is_not_waited_for(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "IDLE_S", 0.01)
    said: list[Message] = []

    async def never() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        said.append(message)

    app = PostLimits(UploadRoom(reading_app, tmp_path, MIB), rate=1, burst=1)
    scope = {"type": "http", "method": "POST", "path": path, "headers": [], "client": None}
    asyncio.run(app(scope, never, send))
    assert said[0]["status"] == 408
    assert TOO_SLOW in said[1]["body"].decode()


def test_what_is_lost_is_deleted_and_all_else_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "photo").write_bytes(bytes(10_000))
    (tmp_path / "empty folder").mkdir()
    (tmp_path / "broken off").write_bytes(b"x")
    (tmp_path / "empty").touch()
    assert tidied(tmp_path).files == 5
    assert tidied(tmp_path).size >= 10_000
    monkeypatch.setattr(uploads, "EMPTY_S", -1)
    assert tidied(tmp_path).files == 4
    monkeypatch.setattr(uploads, "LOST_S", -1)
    tidied(tmp_path)
    assert tidied(tmp_path) == uploads.Held()
    assert not list(tmp_path.iterdir())


def test_a_path_is_that_of_an_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "uploads"
    folder.mkdir()
    monkeypatch.setenv(UPLOADS_VARIABLE, str(folder))
    file = folder / "a.png"
    file.touch()
    outside = tmp_path / "uploads-not"
    outside.touch()
    (folder / "link").symlink_to(outside)
    assert uploaded(str(file)) == file
    for path in (folder, outside, folder / "link", folder / "gone", f"{folder}/../uploads-not"):
        with pytest.raises(BadRequestError, match="choose it again"):
            uploaded(str(path))
    for no_path in ("", "\0", "x" * 100_000, 7, ["a.png"]):
        with pytest.raises(BadRequestError, match="choose it again"):
            uploaded(no_path)


def test_gradio_too_takes_no_other_files_and_keeps_little(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(UPLOADS_VARIABLE, str(tmp_path))
    drawing = tmp_path / "a.svg"
    drawing.touch()

    async def build_page() -> None:
        server = Server("http://away.example")
        page = build(server, DemoOptions())
        await server.close()
        LocalContext.blocks.set(page)
        with pytest.raises(InvalidPathError):
            move_files_to_cache(file_data("/proc/self/environ"), page, check_in_upload_folder=True)
        # A drawing may hold a script: it is no part of the page, which a browser would run.
        move_files_to_cache(file_data(str(drawing)), page, check_in_upload_folder=True)
        assert not is_static_file(str(drawing))
        assert page.delete_cache is not None
        frequency, age = page.delete_cache
        assert (frequency, age) == (1800, 3600)
        assert page._queue.pending_messages_per_session.max_size == MOST_SESSIONS
        # Only what the browser does by itself waits for nobody.
        assert all(event.queue is not False for event in page.fns.values() if event.fn)

    asyncio.run(build_page())


def file_data(path: str) -> dict[str, object]:
    """A file as Gradio's script names it."""
    return {"path": path, "meta": {"_type": "gradio.FileData"}}


def test_a_server_that_does_not_end_is_killed_with_what_it_started() -> None:
    process = subprocess.Popen(
        ["sh", "-c", "trap '' TERM; sleep 600 & echo begun; wait"],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout
    with process.stdout as output:
        assert output.readline() == b"begun\n"
        end(process, seconds=0.1)
        assert process.returncode == -9
        assert output.read() == b""
