"""A model that works with the product database.

Engines have no use for it, so it stays out of ``bls_models.triton.served_model``: the driver takes
20 MB of each process that imports it.
"""

from __future__ import annotations

import contextlib
from functools import cached_property

from pymongo.database import Database

from bls_models.database.connection import check_server, connect
from bls_models.database.store import Document
from bls_models.errors import DatabaseError
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter
from bls_models.triton.metrics import TritonMetrics
from bls_models.triton.served_model import ServedModel


def open_database(settings: Settings) -> Database[Document]:
    """The product database.

    Raises:
        SetupError: its server cannot do what is needed; one that does not answer may come back.
    """
    database = connect(settings)
    with contextlib.suppress(DatabaseError):
        check_server(database)
    return database


class DatabaseModel(ServedModel):
    """A model with a database, metrics, and entries to write; ``finalize`` closes them."""

    @cached_property
    def database(self) -> Database[Document]:
        """The product database; see ``open_database``."""
        return open_database(self.settings)

    @cached_property
    def metrics(self) -> TritonMetrics:
        """Triton's metrics."""
        metrics = TritonMetrics()
        self.closing.callback(metrics.close)
        return metrics

    def log_writer(self, collection: str) -> LogWriter:
        """What writes the model's entries to a collection."""
        log = LogWriter(self.database[collection], self.settings, self.metrics)
        self.closing.callback(log.close)
        return log
