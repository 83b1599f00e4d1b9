"""A replica set with a secondary that has fallen behind for good, in front of one real database.

Two relays pass everything on to the database and tell drivers that they are the primary and the
secondary of one set. Whoever reads from the secondary finds nothing: as in a copy that has none of
the writes yet.
"""

from __future__ import annotations

import contextlib
import socket
import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import bson
from pymongo.uri_parser import parse_uri

from bls_models.database.store import Document
from local_server.processes import LOOPBACK

SET_NAME = "stale"
OP_REPLY, OP_MSG = 1, 2013
HEADER = struct.Struct("<4i")
# Before the document: flags, cursor id, start and number of an OP_REPLY; flags and the section's
# kind of an OP_MSG.
BODY_OFFSETS = {OP_REPLY: 20, OP_MSG: 5}
ROLES = ("primary", "secondary")
STALE_READS = frozenset({"find", "aggregate", "count", "distinct"})

ChangeReply = Callable[[Document, Document], Document]


@dataclass
class StaleReplicaSet:
    """A running set.

    Attributes:
        uri: its address, which prefers reads from the secondary.
        secondary_uri: that of the secondary alone.
        reads: commands that the secondary answered from its empty copy.
        change_reply: makes of a command and the database's reply what its sender gets.
    """

    uri: str = ""
    secondary_uri: str = ""
    reads: list[str] = field(default_factory=list)
    change_reply: ChangeReply = lambda command, reply: reply


@contextlib.contextmanager
def stale_replica_set(database_uri: str) -> Iterator[StaleReplicaSet]:
    """Run the relays in front of a database until the end of the block."""
    (address,) = parse_uri(database_uri)["nodelist"]
    members: list[str] = []
    whole = StaleReplicaSet()
    relays = [_Relay(address, role == "secondary", members, whole) for role in ROLES]
    members.extend(f"{LOOPBACK}:{relay.server_address[1]}" for relay in relays)
    whole.uri = (
        f"mongodb://{','.join(members)}/?replicaSet={SET_NAME}&readPreference=secondaryPreferred"
    )
    whole.secondary_uri = f"mongodb://{members[1]}/?directConnection=true"
    threads = [threading.Thread(target=relay.serve_forever, daemon=True) for relay in relays]
    for thread in threads:
        thread.start()
    try:
        yield whole
    finally:
        for relay, thread in zip(relays, threads, strict=True):
            relay.shutdown()
            relay.server_close()
            thread.join()


class _Relay(socketserver.ThreadingTCPServer):
    """One member of the set."""

    daemon_threads = True
    block_on_close = False

    def __init__(
        self, database: tuple[str, int], stale: bool, members: list[str], whole: StaleReplicaSet
    ) -> None:
        self.database = database
        self.stale = stale
        self.members = members
        self.whole = whole
        super().__init__((LOOPBACK, 0), _Connection)

    def changed(self, command: Document, reply: Document) -> Document:
        """A database's reply as this member of the set gives it."""
        reply = self.whole.change_reply(command, reply)
        if "maxWireVersion" not in reply:
            return reply
        about = {
            "setName": SET_NAME,
            "hosts": self.members,
            "primary": self.members[0],
            "me": self.members[int(self.stale)],
            "secondary": self.stale,
            "ismaster": not self.stale,
            "isWritablePrimary": not self.stale,
        }
        # With a topologyVersion the driver would have replies streamed.
        return {key: reply[key] for key in reply if key != "topologyVersion"} | about


class _Connection(socketserver.BaseRequestHandler):
    """One client's connection: a request, then its reply."""

    server: _Relay

    def handle(self) -> None:
        # Whose end, or whose database's, ends the connection.
        with (
            contextlib.suppress(OSError),
            socket.create_connection(self.server.database) as database,
        ):
            while message := _message(self.request.recv):
                *_, code = HEADER.unpack_from(message)
                command = _document(message, code) if code == OP_MSG else {}
                if self.server.stale and STALE_READS & command.keys():
                    self.request.sendall(self._stale_reply(message, command))
                    continue
                database.sendall(message)
                reply = _message(database.recv)
                if not reply:
                    return
                self.request.sendall(
                    _with_document(reply, lambda reply: self.server.changed(command, reply))  # noqa: B023 - called at once
                )

    def _stale_reply(self, message: bytes, command: Document) -> bytes:
        """The answer to a read of a copy that has nothing."""
        name = next(iter(command))
        self.server.whole.reads.append(name)
        _, request_id, *_ = HEADER.unpack_from(message)
        reply: dict[str, Any] = {"n": 0, "values": [], "ok": 1.0}
        namespace = f"{command['$db']}.{command[name]}"
        reply["cursor"] = {"firstBatch": [], "id": bson.Int64(0), "ns": namespace}
        return _packed(bytes(BODY_OFFSETS[OP_MSG]), reply, (request_id, request_id, OP_MSG))


def _message(receive: Callable[[int], bytes]) -> bytes:
    """The next whole message; empty where the connection has ended."""
    data = b""
    length = HEADER.size
    while len(data) < length:
        part = receive(length - len(data))
        if not part:
            return b""
        data += part
        if len(data) == HEADER.size:
            length = HEADER.unpack(data)[0]
    return data


def _document(message: bytes, code: int) -> Document:
    start = HEADER.size + BODY_OFFSETS[code]
    (length,) = struct.unpack_from("<i", message, start)
    document: Document = bson.decode(message[start : start + length])
    return document


def _with_document(message: bytes, change: Callable[[Document], Document]) -> bytes:
    """A reply with another document in it."""
    _, request_id, response_to, code = HEADER.unpack_from(message)
    document = _document(message, code)
    changed = change(document)
    if changed is document:
        return message
    head = message[HEADER.size : HEADER.size + BODY_OFFSETS[code]]
    return _packed(head, changed, (request_id, response_to, code))


def _packed(head: bytes, document: Document, header: tuple[int, int, int]) -> bytes:
    body = head + bson.encode(document)
    return HEADER.pack(HEADER.size + len(body), *header) + body
