"""The change stream of a collection, read ahead by a thread of its own."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from bson.timestamp import Timestamp
from pymongo.collection import Collection

from bls_models.background import Background
from bls_models.database.store import Document

# What MongoDB calls a resume token: a small document that only the server understands.
Token = Mapping[str, Any]

# Changes handed over at a time; more only makes the newest wait for the rest.
MAX_EVENTS = 256
# Changes read ahead; beyond that the stream waits in the database.
MAX_WAITING = 4 * MAX_EVENTS
# How long the server may hold a change stream read open when nothing happens.
MAX_AWAIT_MS = 500
CLOSE_SECONDS = 2 * MAX_AWAIT_MS / 1000 + 1


class StreamEndedError(Exception):
    """The collection itself was changed in a way that events do not describe."""


@dataclass(frozen=True)
class Changes:
    """What has arrived since the last call.

    Attributes:
        events: change events in their order, ``MAX_EVENTS`` at most.
        token: where a stream goes on after them; None before the server has named a place.
        caught_up: whether the stream had nothing more of what was there when it was opened.
    """

    events: list[Document]
    token: Token | None
    caught_up: bool


class ChangeReader:
    """Reads a change stream from its opening to the end of the ``with`` block.

    A read waits in the server until something changes, so reading until there is no more would
    hold back what is there already. Here one thread waits, and another takes what has arrived.

    Args:
        collection: what to watch.
        token: where to go on; None: from now.

    Attributes:
        opened: when the stream was opened, by the database's clock.

    Raises:
        PyMongoError: the stream cannot be opened, or not from that token.
    """

    def __init__(self, collection: Collection[Document], token: Token | None) -> None:
        self._opened_at = datetime.now(UTC)
        self._session = collection.database.client.start_session(causal_consistency=True)
        try:
            self._stream = collection.watch(
                resume_after=token,
                max_await_time_ms=MAX_AWAIT_MS,
                batch_size=MAX_EVENTS,
                session=self._session,
            )
        except BaseException:
            self._session.end_session()
            raise
        assert self._session.operation_time is not None
        self.opened: Timestamp = self._session.operation_time
        self._waiting: deque[Document] = deque()
        self._token: Token | None = self._stream.resume_token
        self._was_idle = False
        self._error: Exception | None = None
        self._thread = Background("change-stream", self._read)
        self._arrived = self._thread.changed

    def __enter__(self) -> ChangeReader:
        """Start reading."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop reading and close the stream."""
        self._thread.close(CLOSE_SECONDS)

    def take(self, seconds: float) -> Changes:
        """All changes that have arrived, after waiting for the first one of them if need be.

        Args:
            seconds: longest wait.

        Raises:
            PyMongoError: the stream broke; what had arrived before was handed over.
            StreamEndedError: likewise, the server has ended it.
        """
        with self._arrived:
            self._arrived.wait_for(lambda: self._waiting or self._error, seconds)
            count = min(len(self._waiting), MAX_EVENTS)
            events = [self._waiting.popleft() for _ in range(count)]
            if not events and self._error is not None:
                raise self._error
            self._arrived.notify_all()
            if self._waiting:
                return Changes(events, events[-1]["_id"], caught_up=False)
            new = bool(events) and made_at(events[-1]) >= self._opened_at
            return Changes(events, self._token, self._was_idle or new)

    def _read(self) -> None:
        try:
            with self._session, self._stream as stream:
                while stream.alive:
                    event = stream.try_next()
                    with self._arrived:
                        self._arrived.wait_for(
                            lambda: self._thread.stopping or len(self._waiting) < MAX_WAITING
                        )
                        if self._thread.stopping:
                            return
                        if event is None:
                            self._was_idle = True
                        else:
                            self._waiting.append(event)
                        self._token = stream.resume_token
                        self._arrived.notify_all()
            error: Exception = StreamEndedError("the change stream was ended by the server")
        except Exception as broken:
            error = broken
        with self._arrived:
            self._error = error
            self._arrived.notify_all()


def made_at(event: Document) -> datetime:
    """When a change was made, by the database's clock."""
    made: datetime | None = event.get("wallTime")
    # Before MongoDB 6.0 there are only whole seconds.
    return made if made is not None else event["clusterTime"].as_datetime()


def age_seconds(event: Document) -> float:
    """Seconds since a change was made; 0 where the database's clock is ahead."""
    return max(0.0, time.time() - made_at(event).timestamp())
