"""``product_report``: tells how the server does."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from bls_models.database.store import Store
from bls_models.product import json_bytes
from bls_models.report.reporter import Reporter
from bls_models.report.request import report_query_from_tensors
from bls_models.report.server import ServerState
from bls_models.specs import PRODUCT_REPORT
from bls_models.telemetry.request_ids import request_id_from
from bls_models.triton.bridge import (
    ModelCalls,
    error_response,
    own_id_of,
    parameters_of,
    response,
    tensors_of,
)
from bls_models.triton.public_model import BatchedModel


class TritonPythonModel(BatchedModel):
    """Served through the Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect to the database."""
        super().initialize(args)
        store = Store(self.database, self.settings.log_days)
        calls = ModelCalls(self.settings.call_timeout_ms / 1e3)
        state = ServerState(self.bundle, store, self.settings, calls.index_info)
        self._reporter = Reporter(self.database, state, self.settings)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Answer requests, which Triton hands over one at a time."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        try:
            self.check_parameters(PRODUCT_REPORT, parameters_of(request))
            query = report_query_from_tensors(tensors_of(request), self.settings.log_days)
            report = json_bytes(self._reporter.report(query, datetime.now(UTC)))
        except Exception as error:
            request_id = request_id_from(own_id_of(request), parameters_of(request))
            return error_response(error, request_id.value)
        return response(PRODUCT_REPORT, {"report": np.array([[report]], np.object_)})
