"""The index of one process, for the others of the same server: a Unix socket and its callers.

Both ends are processes of one server and one user, in a folder that nobody else may enter, so
objects travel as pickles.
"""

from __future__ import annotations

import contextlib
import logging
import os
import pickle
import select
import shutil
import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from bls_models.background import Background
from bls_models.errors import IndexUnavailableError, ProductMatchError, SetupError
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.specs import CHECK, INFO, PRODUCT_MATCH, REPAIR

logger = logging.getLogger(__name__)

FOLDER = f"product-match-index-{os.getuid()}-"
SOCKET = "socket"
# What the system takes, without the zero at the end.
MAX_PATH_BYTES = 107
# Callers that may wait to be connected.
BACKLOG = 64
CLOSE_SECONDS = 5.0
RETRY_SECONDS = 1.0
SEARCH = "search"

Reply = Callable[[dict[str, Any] | Exception], None]


class Index(Protocol):
    """What answers at the socket: ``bls_models.replication.index_host.IndexHost``."""

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """See ``bls_models.index.query.Search``."""
        ...

    def check(self, repair: bool, reply: Reply) -> None:
        """Compare the index with the database, beside the searches."""
        ...

    def info(self) -> dict[str, Any]:
        """The index's state."""
        ...


def server_folder() -> Path:
    """The folder of this server's socket: all its models' processes are children of Triton."""
    return Path(tempfile.gettempdir()) / f"{FOLDER}{os.getppid()}"


class IndexSocket:
    """Answers for an index, each caller in a thread of its own.

    What holds the folder's socket by now, another one that is closing or has died, loses it.

    Args:
        index: what answers.
        folder: where callers look for the socket.

    Raises:
        SetupError: the folder's path is too long, or it is somebody else's.
    """

    def __init__(self, index: Index, folder: Path) -> None:
        self._index = index
        self._folder = folder
        _remove_stale(folder)
        self._listener = _listener(folder)
        self._inode = (folder / SOCKET).stat().st_ino
        self._lock = threading.Lock()
        self._callers: dict[_Connection, Background] = {}
        self._thread = Background("index-socket", self._accept)
        self._thread.start()

    def close(self) -> None:
        """Take no more questions; those under way have a moment to end."""
        with self._lock:
            self._thread.stopping = True
            callers = dict(self._callers)
        # Ends the wait for the next caller, which closing alone would not.
        self._listener.shutdown(socket.SHUT_RDWR)
        for connection in callers:
            connection.shut_down()
        for thread in (self._thread, *callers.values()):
            thread.close(CLOSE_SECONDS)
        self._listener.close()
        with contextlib.suppress(OSError):
            # It may be the socket of the one that comes after this one.
            if (self._folder / SOCKET).stat().st_ino == self._inode:
                (self._folder / SOCKET).unlink()
            self._folder.rmdir()

    def _accept(self) -> None:
        while True:
            try:
                caller, _ = self._listener.accept()
            except OSError as error:
                if self._thread.stopping:
                    return
                # As where there are too many open files.
                logger.warning("the index's socket takes no caller now: %s", error)
                self._thread.wait(RETRY_SECONDS)
                continue
            connection = _Connection(caller)
            thread = Background("index-caller", partial(self._serve, connection))
            with self._lock:
                if self._thread.stopping:
                    connection.close()
                    return
                self._callers[connection] = thread
            thread.start()

    def _serve(self, connection: _Connection) -> None:
        try:
            with contextlib.closing(connection), contextlib.suppress(*_BROKEN):
                while True:
                    operation, argument = connection.receive(None)
                    self._answer(connection, operation, argument)
        finally:
            with self._lock:
                del self._callers[connection]

    def _answer(self, connection: _Connection, operation: str, argument: Any) -> None:
        try:
            if operation in (CHECK, REPAIR):
                self._index.check(operation == REPAIR, partial(_tell, connection))
                return
            index = self._index
            answer: Any = index.info() if operation == INFO else index.search(argument)
        except Exception as error:
            answer = _portable(error)
        connection.send(answer)


class RemoteIndex:
    """The index that another process of this server holds; any thread may ask.

    Askers have a connection each while they wait, so none waits for another. After the other
    process has started anew, the next question finds the new one.

    Args:
        folder: that of the other's ``IndexSocket``.
        seconds: the longest wait for an answer, but that of a check.
    """

    def __init__(self, folder: Path, seconds: float) -> None:
        self._folder = folder
        self._seconds = seconds
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._asking: set[_Connection] = set()
        self._closed = False

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """The other's answers; see ``bls_models.index.query.Search``."""
        found: tuple[list[IndexAnswer], dict[str, Any]]
        found = self._ask(SEARCH, list(queries), self._seconds)
        return found

    def info(self) -> dict[str, Any]:
        """The other's state; see ``IndexHost.info``."""
        about: dict[str, Any] = self._ask(INFO, None, self._seconds)
        return about

    @staticmethod
    def may_take_long(queries: Sequence[IndexQuery]) -> bool:
        """Yes: how long the other takes is not known here."""
        return True

    def check(self, repair: bool, reply: Reply) -> None:
        """Have the other compare its index with the database, however long it takes.

        Args:
            repair: have what differs read again.
            reply: gets what ``IndexHost.check`` tells, in another thread.
        """

        def ask() -> None:
            try:
                outcome: dict[str, Any] | Exception
                outcome = self._ask(REPAIR if repair else CHECK, None, None)
            except Exception as error:
                outcome = error
            reply(outcome)

        Background("remote-check", ask).start()

    def close(self) -> None:
        """Break off what is asked, and hang up."""
        with self._lock:
            self._closed = True
            idle, self._idle = self._idle, []
            for connection in self._asking:
                connection.shut_down()
        for connection in idle:
            connection.close()

    def _ask(self, operation: str, argument: Any, seconds: float | None) -> Any:
        connection = self._connection()
        try:
            connection.send((operation, argument), self._seconds)
            answer = connection.receive(seconds)
        except BaseException as error:
            with self._lock:
                self._asking.discard(connection)
            connection.close()
            if isinstance(error, TimeoutError):
                raise IndexUnavailableError(
                    f"the index did not answer within {self._seconds:g} s, the longest wait that "
                    "is set; see the server's log"
                ) from None
            if isinstance(error, _BROKEN):
                raise _unavailable("ended before it answered") from error
            raise
        with self._lock:
            self._asking.discard(connection)
            self._idle.append(connection)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def _connection(self) -> _Connection:
        with self._lock:
            while self._idle:
                connection = self._idle.pop()
                if connection.alive:
                    self._asking.add(connection)
                    return connection
                connection.close()
        caller = socket.socket(socket.AF_UNIX)
        try:
            _check_private(self._folder)
            caller.settimeout(self._seconds)
            caller.connect(os.fspath(self._folder / SOCKET))
        except OSError as error:
            caller.close()
            raise _unavailable("is not there") from error
        except BaseException:
            caller.close()
            raise
        connection = _Connection(caller)
        with self._lock:
            if not self._closed:
                self._asking.add(connection)
                return connection
        connection.close()
        raise IndexUnavailableError("the server stops; ask when it runs again")


# What a connection raises whose other end is gone, or was cut off within an object.
_BROKEN = (OSError, EOFError, pickle.UnpicklingError)


class _Connection:
    """Objects both ways over a socket."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._stream = end.makefile("rwb")

    @property
    def alive(self) -> bool:
        """Whether the other end is open, where nothing is under way."""
        # Not by receiving, which would wait for as long as the socket is set to.
        poll = select.poll()
        poll.register(self._end, select.POLLIN)
        return not poll.poll(0)

    def send(self, item: Any, seconds: float | None = None) -> None:
        self._end.settimeout(seconds)
        self._stream.write(pickle.dumps(item, pickle.HIGHEST_PROTOCOL))
        self._stream.flush()

    def receive(self, seconds: float | None) -> Any:
        self._end.settimeout(seconds)
        return pickle.load(self._stream)

    def shut_down(self) -> None:
        """End the other thread's wait in ``receive``; it closes then."""
        with contextlib.suppress(OSError):
            self._end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        # Closing the stream sends what an error has left in it.
        with contextlib.suppress(OSError):
            self._stream.close()
        self._end.close()


def _tell(connection: _Connection, outcome: dict[str, Any] | Exception) -> None:
    # Who asked may be gone by now.
    with contextlib.suppress(OSError, ValueError):
        connection.send(_portable(outcome) if isinstance(outcome, Exception) else outcome)


def _portable(error: Exception) -> Exception:
    """An error as the asker gets it: one of ours as it is, of others what they were."""
    if isinstance(error, ProductMatchError):
        return error
    logger.error("unexpected %s", type(error).__name__, exc_info=error)
    return RuntimeError(f"unexpected {type(error).__name__} in the process that holds the index")


def _unavailable(what: str) -> IndexUnavailableError:
    return IndexUnavailableError(
        f"{PRODUCT_MATCH.name}, whose process holds the index, {what}; see the server's log, and "
        "try again when it is loaded"
    )


def _listener(folder: Path) -> socket.socket:
    """A listening socket, which takes the place of one that is there."""
    fresh, path = folder / f"new-{os.getpid()}", folder / SOCKET
    longest = max(len(os.fsencode(item)) for item in (fresh, path))
    if longest > MAX_PATH_BYTES:
        raise SetupError(
            f"the socket of the index would be {path}, {longest} bytes; a socket's path has at "
            f"most {MAX_PATH_BYTES}: set TMPDIR to a folder with a shorter path"
        )
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    _check_private(folder)
    fresh.unlink(missing_ok=True)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.fspath(fresh))
    listener.listen(BACKLOG)
    # In one step, so that callers find either the old one or one that listens.
    fresh.replace(path)
    return listener


def _check_private(folder: Path) -> None:
    """Refuse a folder that others may have made or may enter: pickles come from there.

    Raises:
        SetupError: it is such a one.
        FileNotFoundError: there is none.
    """
    about = folder.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.getuid() or about.st_mode & 0o077:
        raise SetupError(
            f"{folder}, for the socket of the index, must be a folder of this user that nobody "
            "else may enter; remove it, or set TMPDIR to a folder of this user's own"
        )


def _remove_stale(folder: Path) -> None:
    """Remove what servers that have died left beside a folder."""
    for other in folder.parent.glob(f"{FOLDER}*"):
        number = other.name.removeprefix(FOLDER)
        if other != folder and number.isdecimal() and not _in_use(other, int(number)):
            shutil.rmtree(other, ignore_errors=True)


def _in_use(folder: Path, server: int) -> bool:
    try:
        os.kill(server, 0)
    except ProcessLookupError:
        pass
    except OSError:
        return True
    else:
        return True
    # A container that shares the folder counts its processes for itself.
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as caller:
        try:
            caller.settimeout(CLOSE_SECONDS)
            caller.connect(os.fspath(folder / SOCKET))
        except OSError:
            return False
        return True
