"""``product_feedback``: records what people made of matches."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np

from bls_models.database.store import FEEDBACK, Document
from bls_models.errors import LogQueueError
from bls_models.feedback.entries import RECORDED, feedback_entry, feedback_from_tensors
from bls_models.specs import PRODUCT_FEEDBACK
from bls_models.telemetry.request_ids import request_id_from
from bls_models.triton.bridge import error_response, own_id_of, parameters_of, response, tensors_of
from bls_models.triton.public_model import BatchedModel


class TritonPythonModel(BatchedModel):
    """Served through the Python backend."""

    def initialize(self, args: dict[str, str]) -> None:
        """Connect to the log."""
        super().initialize(args)
        self._log = self.log_writer(FEEDBACK)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Record a batch; a bad request fails alone."""
        now = datetime.now(UTC)
        read = [self._read(request, now) for request in requests]
        if self._log.write([item for item in read if not isinstance(item, Exception)]):
            # Which of them is not told; sending one again that was taken does no harm.
            full = LogQueueError(
                "feedback was not recorded: the queue for the database or its disk is full; see "
                "that MongoDB is back, then send it again"
            )
            read = [item if isinstance(item, Exception) else full for item in read]
        return [
            _answer(item, request_id_from(own_id_of(request), parameters_of(request)).value)
            for item, request in zip(read, requests, strict=True)
        ]

    def _read(self, request: Any, now: datetime) -> Document | Exception:
        try:
            self.check_parameters(PRODUCT_FEEDBACK, parameters_of(request))
            return feedback_entry(feedback_from_tensors(tensors_of(request)), now)
        except Exception as error:
            return error


def _answer(item: Document | Exception, request_id: str) -> Any:
    if isinstance(item, Exception):
        return error_response(item, request_id)
    return response(PRODUCT_FEEDBACK, {"status": np.array([[RECORDED.encode()]], np.object_)})
