"""``product_index``: the index for whoever asks Triton for it, wherever it is held."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np

from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.index.wire import operation_from_tensors, queries_from_tensors, tensors_from_answers
from bls_models.product import json_bytes
from bls_models.replication.index_socket import RemoteIndex, server_folder
from bls_models.specs import INFO, PRODUCT_INDEX, REPAIR
from bls_models.triton.bridge import LateReply, error_response, response, tensors_of
from bls_models.triton.served_model import ServedModel

if TYPE_CHECKING:
    from bls_models.replication.index_host import IndexHost

# Searches that take long run beside the others, so many at once, and so do those that another
# process is asked for: how long they take is not known here.
LONG_SEARCHES = 4
REMOTE_SEARCHES = 8


class TritonPythonModel(ServedModel):
    """Served through the Python backend, one instance.

    It holds the index, or passes on what it is asked to the process that does.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Load the index from the database, or find out where it is asked."""
        super().initialize(args)
        held_here = self.settings.index_process == PRODUCT_INDEX.name
        threads = LONG_SEARCHES if held_here else REMOTE_SEARCHES
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="search")
        self.closing.callback(self._pool.shutdown)
        if held_here:
            # Not above: FAISS and the driver take memory of every process that imports them.
            from bls_models.triton.index_hosting import shared_index

            self._index: IndexHost | RemoteIndex = shared_index(self)
        else:
            self._index = RemoteIndex(server_folder(), self.settings.call_timeout_ms / 1e3)
            self.closing.callback(self._index.close)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Search for every request's queries; long searches and checks are answered later."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            tensors = tensors_of(request)
            operation = operation_from_tensors(tensors)
            if operation == INFO:
                send = LateReply(request)
                self._pool.submit(lambda: send(self._told()))
                return None
            if operation:
                self._check(operation == REPAIR, request)
                return None
            queries = queries_from_tensors(tensors)
            if not self._index.may_take_long(queries):
                return self._search(queries)
            send = LateReply(request)
            self._pool.submit(lambda: send(self._search(queries)))
            return None
        except Exception as error:
            return error_response(error)

    def _search(self, queries: list[IndexQuery]) -> Any:
        try:
            return _response(*self._index.search(queries))
        except Exception as error:
            return error_response(error)

    def _told(self) -> Any:
        try:
            return _response([], self._index.info())
        except Exception as error:
            return error_response(error)

    def _check(self, repair: bool, request: Any) -> None:
        send = LateReply(request)
        try:
            self._index.check(repair, lambda outcome: send(_checked(outcome)))
        except Exception as error:
            send(error_response(error))


def _checked(outcome: dict[str, Any] | Exception) -> Any:
    return error_response(outcome) if isinstance(outcome, Exception) else _response([], outcome)


def _response(answers: list[IndexAnswer], about: dict[str, Any]) -> Any:
    info = {"index_info": np.array([json_bytes(about)], np.object_)}
    return response(PRODUCT_INDEX, tensors_from_answers(answers) | info)
