"""Building the database's indexes at the start, beside everything else."""

from __future__ import annotations

import logging
import threading

from bls_models.background import Background
from bls_models.database.connection import check_server
from bls_models.database.pictures import Pictures
from bls_models.database.store import Store
from bls_models.errors import DatabaseError, SetupError

logger = logging.getLogger(__name__)

RETRY_SECONDS = 1.0
CLOSE_SECONDS = 1.0


class IndexSetup:
    """A thread that builds what indexes are missing, however long it takes, and then ends.

    Not under the time limit of a request: an index that is missing on a large collection would
    never be there. The server starts meanwhile, also while the database is away.

    Args:
        store: the products.
        pictures: the pictures.
        wait_seconds: how long ``check`` waits.
    """

    def __init__(self, store: Store, pictures: Pictures, wait_seconds: float) -> None:
        self._store = store
        self._pictures = pictures
        self._wait_seconds = wait_seconds
        self._ready = threading.Event()
        self._failure = ""
        self._thread = Background("index-setup", self._run)
        self._thread.start()

    def close(self) -> None:
        """End the thread, or leave the database to finish what is being built."""
        self._thread.close(CLOSE_SECONDS)

    def check(self) -> None:
        """Return when the indexes are there.

        Raises:
            DatabaseError: they are not yet.
        """
        if not self._ready.wait(self._wait_seconds):
            raise DatabaseError(
                self._failure or "the database's indexes are being built; try again later"
            )

    def _run(self) -> None:
        while not self._thread.stopping:
            try:
                # Within the usual time limit, so that a database that is away is not waited for.
                check_server(self._store.database)
                self._store.ensure_indexes()
                self._pictures.ensure_indexes()
                self._ready.set()
                return
            except (DatabaseError, SetupError) as error:
                self._failure = str(error)
                logger.warning("the database's indexes are built later: %s", error)
            self._thread.wait(RETRY_SECONDS)
