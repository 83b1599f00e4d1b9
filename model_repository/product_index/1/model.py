"""``product_index``: the FAISS index, kept equal to MongoDB by its change stream."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from bls_models.database.store import Store
from bls_models.errors import IndexUnavailableError
from bls_models.index.options import IndexOptions
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.index.wire import operation_from_tensors, queries_from_tensors, tensors_from_answers
from bls_models.product import json_bytes
from bls_models.replication.follower import IndexFollower
from bls_models.replication.sync_check import SyncCheck
from bls_models.specs import PRODUCT_INDEX, REPAIR
from bls_models.triton.bridge import error_response, late_reply, response, tensors_of
from bls_models.triton.database_model import DatabaseModel

# A large catalogue goes on loading after this, and searches answer 503 until it is there.
LOAD_WAIT_SECONDS = 30.0
# Searches that take long run beside the others, so many at once.
LONG_SEARCHES = 4


class TritonPythonModel(DatabaseModel):
    """Served through the Python backend, one instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the index from the database and start following it."""
        super().initialize(args)
        store = Store(self.database, self.settings.log_days)
        self._index = ProductIndex(
            self.bundle.image_dim,
            self.bundle.text_dim,
            self.settings.max_filter_bytes,
            IndexOptions.of(self.settings),
        )
        self._follower = IndexFollower(self._index, store, self.bundle, self.settings, self.metrics)
        self._check = SyncCheck(self._index, store, self._follower)
        self._pool = ThreadPoolExecutor(LONG_SEARCHES, thread_name_prefix="long-search")
        self.closing.callback(self._pool.shutdown)
        for close in (self._index.close, self._follower.stop, self._check.close):
            self.closing.callback(close)
        self._follower.start(LOAD_WAIT_SECONDS)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Search for every request's queries; long searches and checks are answered later."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            if not self._follower.loaded:
                raise IndexUnavailableError(
                    f"the index is not loaded yet: {self._follower.waiting_for}; try again later"
                )
            tensors = tensors_of(request)
            operation = operation_from_tensors(tensors)
            if operation:
                self._start_check(operation, request)
                return None
            queries = queries_from_tensors(tensors)
            if not self._index.may_take_long(queries):
                return self._search(queries)
            send = late_reply(request)
            self._pool.submit(lambda: send(self._search(queries)))
            return None
        except Exception as error:
            return error_response(error)

    def _search(self, queries: list[IndexQuery]) -> Any:
        try:
            # Before the search: that the index follows must hold for the versions it gives.
            about = self._follower.info()
            return _response(self._index.answers(queries), about)
        except Exception as error:
            return error_response(error)

    def _start_check(self, operation: str, request: Any) -> None:
        """Check the index beside the searches."""
        send = late_reply(request)

        def reply(outcome: dict[str, Any] | Exception) -> None:
            if isinstance(outcome, Exception):
                send(error_response(outcome))
            else:
                send(_response([], self._follower.info() | {"sync_check": outcome}))

        self._check.start(operation == REPAIR, reply)


def _response(answers: list[IndexAnswer], about: dict[str, Any]) -> Any:
    info = {"index_info": np.array([json_bytes(about)], np.object_)}
    return response(PRODUCT_INDEX, tensors_from_answers(answers) | info)
