"""The connection to MongoDB: what it promises, whatever MONGODB_URI says, and to which servers."""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Iterator
from typing import Any

from pymongo import MongoClient
from pymongo.client_session import ClientSession
from pymongo.database import Database
from pymongo.errors import PyMongoError

from bls_models.database.store import Document, database_errors
from bls_models.errors import SetupError
from bls_models.settings import Settings

logger = logging.getLogger(__name__)

# The oldest with the aggregation `$percentile`, which the reports over logs need.
LEAST_VERSION = (7, 0)
# What the router of a sharded cluster, which has change streams too, calls itself.
MONGOS = "isdbgrid"

# What decides which product is stored, searched or deleted is read where it was written, as a
# majority has it, and what was acknowledged outlives any one server. The address could say
# otherwise: a read from a secondary that lags would have live vectors and pictures removed.
PINNED: dict[str, Any] = {
    "readPreference": "primary",
    "readConcernLevel": "majority",
    "w": "majority",
    "journal": True,
    "retryWrites": True,
    "retryReads": True,
    "tz_aware": True,
    "uuidRepresentation": "unspecified",
    # A date or a text that Python has no form for, put there by hand, must not end a whole read.
    "datetime_conversion": "DATETIME_AUTO",
    "unicode_decode_error_handler": "replace",
}
# Options that change one of these, or the time limits, which a setting says.
NOT_TAKEN = frozenset(
    {
        *(name.lower() for name in PINNED),
        *("readpreferencetags", "maxstalenessseconds", "j", "fsync", "wtimeout", "wtimeoutms"),
        *("timeoutms", "serverselectiontimeoutms", "connecttimeoutms", "sockettimeoutms"),
    }
)


def connect(settings: Settings, **options: Any) -> Database[Document]:
    """The product database; the connection itself is made at the first operation.

    Args:
        settings: the address, of which only those options are used that change no promise; one log
            line names the others.
        options: more for the driver.

    Raises:
        SetupError: the address cannot be read, or its name (``mongodb+srv``) is not known.
    """
    timeout = settings.mongodb_timeout_ms
    uri, ignored = _without_pinned(settings.mongodb_uri)
    if ignored:
        logger.warning(
            "MONGODB_URI sets %s, which is not used: products are read from the primary and "
            "written to a majority, and PRODUCT_MATCH_MONGODB_TIMEOUT_MS says how long that may "
            "take; remove it from the address",
            ", ".join(ignored),
        )
    try:
        client: MongoClient[Document] = MongoClient(
            uri,
            serverSelectionTimeoutMS=timeout,
            # Bounds each operation, with its connection. The driver's monitor keeps its own, longer
            # limit: when a busy server answers it late, all that is under way is cancelled.
            timeoutMS=timeout,
            appname="product-match",
            **PINNED,
            **options,
        )
    except (PyMongoError, ValueError) as error:
        raise SetupError(
            f"MONGODB_URI cannot be used: {error}; set it to e.g. "
            "mongodb://user:password@host:27017/?replicaSet=name"
        ) from error
    return client[settings.database]


def _without_pinned(uri: str) -> tuple[str, list[str]]:
    """An address without the options that are not taken, and those that say something else."""
    address, _, query = uri.partition("?")
    same = {f"{name}={value}".lower() for name, value in PINNED.items()}
    taken, ignored = [], []
    for option in filter(None, re.split("[&;]", query)):
        if option.partition("=")[0].lower() not in NOT_TAKEN:
            taken.append(option)
        elif option.lower() not in same:
            ignored.append(option)
    return (f"{address}?{'&'.join(taken)}" if taken else address), ignored


def check_server(database: Database[Document]) -> None:
    """Refuse a server that cannot do what the models need.

    Raises:
        SetupError: it is too old, no replica set, or no primary, as a direct connection may lead
            to.
        DatabaseError: it does not answer in time.
    """
    with database_errors("asking the server what it is"):
        hello = database.client.admin.command("hello")
        version = database.client.admin.command("buildInfo")["version"]
    if "setName" not in hello and hello.get("msg") != MONGOS:
        raise SetupError(
            "MONGODB_URI leads to a single MongoDB server, but a replica set is needed, whose "
            "changes the index follows; one server can be a set: start mongod with "
            "`--replSet rs0`, run `rs.initiate()` once in mongosh, and add ?replicaSet=rs0"
        )
    if not hello.get("isWritablePrimary"):
        raise SetupError(
            f"MONGODB_URI leads to {hello.get('me', 'a server')}, which is not the primary of its "
            "replica set; name the set (`replicaSet=`) and its members, without directConnection"
        )
    if tuple(map(int, version.split(".")[:2])) < LEAST_VERSION:
        least = ".".join(map(str, LEAST_VERSION))
        raise SetupError(
            f"MONGODB_URI leads to MongoDB {version}, but {least} or newer is needed; update it"
        )


@contextlib.contextmanager
def causal_session(database: Database[Document]) -> Iterator[ClientSession]:
    """Let this thread's operations see what those before them have seen, until the block's end.

    A majority's state as a server knows it may be older than a write that a majority has already
    acknowledged, when that server has just become primary. In a session, which carries the time of
    what it has seen, it waits until it is not.

    Yields:
        The session; ``advance_operation_time`` has it wait for what others have seen.
    """
    with (
        database.client.start_session(causal_consistency=True) as session,
        session.bind(end_session=False),
    ):
        yield session
