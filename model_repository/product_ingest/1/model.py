"""``product_ingest``: adds, changes, reads and deletes products."""

from __future__ import annotations

from typing import Any

import numpy as np

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.database.pictures import Pictures
from bls_models.database.store import INGEST_LOG, Store, connect
from bls_models.database.write_journal import WriteJournal, WriteRecovery
from bls_models.engines.encoders import Encoders
from bls_models.ingest.ingester import IngestResult, ProductIngester, ingest_request_from_tensors
from bls_models.product import json_bytes
from bls_models.settings import Settings
from bls_models.specs import PRODUCT_INGEST
from bls_models.telemetry.request_ids import request_id_from
from bls_models.telemetry.request_log import LogWriter
from bls_models.triton.bridge import (
    ModelCalls,
    call_captioner,
    error_response,
    parameters_of,
    repository_of,
    response,
    set_up_logging,
    tensors_of,
)
from bls_models.triton.metrics import TritonMetrics
from bls_models.triton.traces import traced


class TritonPythonModel:
    """Served through the Python backend, one instance."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect the parts and see to the database's indexes."""
        settings = Settings.from_environment()
        set_up_logging(args, settings)
        repository = repository_of(args)
        bundle = Bundle.read(repository)
        database = connect(settings)
        self._metrics = TritonMetrics()
        self._log = LogWriter(database[INGEST_LOG], settings, self._metrics)
        # Products of a batch are all that ever waits.
        self._captions = CaptionQueue(
            call_captioner,
            PRODUCT_INGEST.max_batch_size,
            settings.ingest_caption_timeout_ms / 1e3,
        )
        journal = WriteJournal(
            Store(database, settings.log_days), Pictures(database), settings.write_lease_seconds
        )
        self._recovery = WriteRecovery(journal, settings.write_lease_seconds / 2)
        calls = ModelCalls(settings.call_timeout_ms / 1e3)
        self._ingester = ProductIngester(
            journal,
            Encoders.from_repository(calls.engine, bundle, repository),
            self._captions,
            calls.search,
            self._log,
            bundle,
            settings,
            self._metrics,
        )

    def execute(self, requests: list[Any]) -> list[Any]:
        """Carry out a batch of requests."""
        batch = [
            ingest_request_from_tensors(
                tensors_of(request),
                request_id_from(request.request_id(), parameters_of(request)),
            )
            for request in requests
        ]
        with traced(requests):
            outcomes = self._ingester.run(batch)
        return [
            _answer(outcome, request.request_id)
            for outcome, request in zip(outcomes, batch, strict=True)
        ]

    def finalize(self) -> None:
        """Write the log entries that still wait."""
        self._recovery.close()
        self._captions.close()
        self._log.close()
        self._metrics.close()


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
