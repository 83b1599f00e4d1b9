"""How much visitors may leave on the page's disk."""

from __future__ import annotations

import asyncio
from pathlib import Path

from python_multipart.multipart import parse_options_header
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from demo.access import UPLOAD
from demo.limits import Buckets, RefusedError, next_message
from demo.uploads import LOOK_S, Held, tidied

MOST_AT_ONCE = 100
MOST_FILES = 10_000
# What a file takes with its folder, on top of what is in it.
FILE_BYTES = 8192
# Of all the room one address may take this part at once, and half as much again in an hour.
SHARE = 1 / 2
TOO_MANY = f"more than {MOST_AT_ONCE} files at once; send fewer"
NO_ROOM = "the page holds as many uploads as it may; try again in an hour"
NO_SHARE = "your address has sent as much as it may; try again in an hour"


class UploadRoom:
    """ASGI middleware: refuses uploads that the disk of the page has no room for.

    What counts is what has come, and not what a request says of itself.

    Args:
        app: what it stands before.
        folder: where uploads are kept until they are deleted.
        most_bytes: of all that the folder holds, with the uploads under way.
    """

    def __init__(self, app: ASGIApp, folder: Path, most_bytes: int) -> None:
        self._app = app
        self._folder = folder
        self._most_bytes = most_bytes
        share = SHARE * most_bytes
        self._buckets = Buckets(share / 2 / 3600, share)
        self._held = Held()
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer with a refusal in place of an upload that cannot be kept."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == UPLOAD:
            try:
                await self._pass_on(scope, receive, send)
            except RefusedError as refusal:
                await refusal.answer(scope, receive, send)
            except ClientDisconnect:
                # Whoever broke it off is told nothing.
                return
        else:
            await self._app(scope, receive, send)

    async def _pass_on(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass an upload on as long as it has room.

        Raises:
            RefusedError: it has none.
            ClientDisconnect: its sender has gone.
        """
        headers = Headers(scope=scope)
        said = headers.get("content-length", "")
        boundary = parse_options_header(headers.get("content-type", ""))[1].get(b"boundary", b"")
        parts = _Parts(b"--" + boundary)
        refused: list[RefusedError] = []
        taken = 0

        async def counted() -> Message:
            nonlocal taken
            try:
                message = await next_message(receive)
                size = len(chunk := message.get("body", b""))
                size += FILE_BYTES * parts.new_in(chunk)
                taken += size
                self._under_way += size
                if parts.count > MOST_AT_ONCE + 1:
                    raise RefusedError(413, TOO_MANY)
                if not self._buckets.take(scope, size):
                    raise RefusedError(429, NO_SHARE)
                self._check_room(0)
            except RefusedError as refusal:
                refused.append(refusal)
                raise
            return message

        async def answered(message: Message) -> None:
            # What the page makes of it is no answer.
            if not refused:
                await send(message)

        await self._look()
        # Before it comes, for those that say the truth.
        self._check_room(int(said) if said.isdecimal() else 0)
        try:
            await self._app(scope, counted, answered)
        finally:
            await self._look()
            self._under_way -= taken

    async def _look(self) -> None:
        self._held = await asyncio.to_thread(tidied, self._folder)

    def _check_room(self, more: int) -> None:
        # Files that come of uploads under way count twice for a moment, which is on the safe side.
        size = self._held.size + self._under_way + more
        if size > self._most_bytes or self._held.files > MOST_FILES:
            raise RefusedError(507, NO_ROOM)


class _Parts:
    """Counts the parts of a form as it comes.

    Args:
        mark: what stands before each part and at the end.

    Attributes:
        count: marks so far.
    """

    def __init__(self, mark: bytes) -> None:
        self.count = 0
        self._mark = mark
        self._rest = b""

    def new_in(self, chunk: bytes) -> int:
        """How many marks end in the next chunk."""
        text = self._rest + chunk
        found = text.count(self._mark)
        self._rest = text[1 - len(self._mark) :]
        self.count += found
        return found


async def keep_tidy(folder: Path) -> None:
    """Look after the folder for as long as the page is served."""
    while True:
        await asyncio.sleep(LOOK_S)
        await asyncio.to_thread(tidied, folder)
