"""``product_ingest``: adds, changes, reads and deletes products."""

from __future__ import annotations

from typing import Any

import numpy as np

from bls_models.database.index_setup import IndexSetup
from bls_models.database.pictures import Pictures
from bls_models.database.store import INGEST_LOG, Store
from bls_models.database.write_journal import WriteJournal, WriteRecovery
from bls_models.ingest.ingester import (
    IngestRequest,
    IngestResult,
    ProductIngester,
    ingest_request_from_tensors,
)
from bls_models.product import json_bytes
from bls_models.specs import PRODUCT_INGEST
from bls_models.telemetry.request_ids import request_id_from
from bls_models.triton.bridge import error_response, own_id_of, parameters_of, response, tensors_of
from bls_models.triton.client_services import client_services
from bls_models.triton.public_model import BatchedModel
from bls_models.triton.traces import trace_of, traced


class TritonPythonModel(BatchedModel):
    """Served through the Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect the parts and see to the database's indexes."""
        super().initialize(args)
        # Products of a batch are all that ever waits for captions.
        services = client_services(
            self, INGEST_LOG, PRODUCT_INGEST.max_batch_size, self.settings.ingest_caption_timeout_ms
        )
        lease = self.settings.write_lease_seconds
        store = Store(self.database, self.settings.log_days)
        journal = WriteJournal(store, Pictures(self.database), lease)
        recovery = WriteRecovery(journal, lease / 2)
        indexes = IndexSetup(store, journal.pictures, self.settings.mongodb_timeout_ms / 1e3)
        for close in (recovery.close, indexes.close):
            self.closing.callback(close)
        self._ingester = ProductIngester(services, journal, indexes.check)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Carry out a batch of requests."""
        batch = [self._read(request) for request in requests]
        with traced(map(trace_of, requests)):
            outcomes = self._ingester.run(batch)
        return [
            _answer(outcome, request.request_id)
            for outcome, request in zip(outcomes, batch, strict=True)
        ]

    def _read(self, request: Any) -> IngestRequest:
        parameters = parameters_of(request)
        name = request_id_from(own_id_of(request), parameters)
        try:
            self.check_parameters(PRODUCT_INGEST, parameters)
            return ingest_request_from_tensors(tensors_of(request), name)
        except Exception as error:
            return IngestRequest(name.value, error=error, header_request_id=name.header)


def _answer(outcome: IngestResult | Exception, request_id: str) -> Any:
    if isinstance(outcome, Exception):
        return error_response(outcome, request_id)
    return response(
        PRODUCT_INGEST,
        {
            "product_id": np.array([[outcome.product_id.encode()]], np.object_),
            "status": np.array([[outcome.status.encode()]], np.object_),
            "revision": np.array([[outcome.revision]], np.int64),
            "details": np.array([[json_bytes(outcome.details)]], np.object_),
        },
    )
