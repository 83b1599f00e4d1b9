"""``product_match``: the one model that clients call to find products."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np

from bls_models.database.store import MATCH_LOG, Store
from bls_models.engines.precisions import served_precisions
from bls_models.index.wire import NO_VIEW
from bls_models.match.matcher import ProductMatcher
from bls_models.match.pipeline import MatchPipeline
from bls_models.match.probes import is_probe
from bls_models.match.record import MatchRequest
from bls_models.match.request import MatchQuery, match_query_from_tensors
from bls_models.objects.detector import NEVER
from bls_models.product import json_bytes
from bls_models.specs import PRODUCT_MATCH
from bls_models.telemetry.metrics import ENGINE_PRECISION
from bls_models.telemetry.request_ids import request_id_from
from bls_models.triton.bridge import (
    LateReply,
    error_response,
    own_id_of,
    parameters_of,
    response,
    tensors_of,
)
from bls_models.triton.client_services import client_services
from bls_models.triton.public_model import PublicModel
from bls_models.triton.traces import trace_of, traced


class TritonPythonModel(PublicModel):
    """Served through the Python backend.

    It keeps a queue of its own instead of Triton's, so that requests with different sets of inputs
    share the calls of engines.
    """

    def initialize(self, args: dict[str, str]) -> None:
        """Connect the parts."""
        super().initialize(args)
        precisions = served_precisions(self.bundle, self.repository, self.settings)
        for engine, precision in precisions.items():
            self.metrics.set(ENGINE_PRECISION, 1, engine, precision)
        services = client_services(
            self, MATCH_LOG, self.settings.caption_queue_size, self.settings.caption_timeout_ms
        )
        store = Store(self.database, self.settings.log_days)
        if self.settings.index_process == PRODUCT_MATCH.name:
            # Not above: FAISS takes memory of every process that imports it.
            from bls_models.triton.index_hosting import own_index

            index = own_index(self, store, args)
            services = replace(services, search=index.search, takes_long=index.may_take_long)
        matcher = ProductMatcher(services, store, precisions)
        self._pipeline = MatchPipeline(matcher, self.settings, self.metrics, _traced)
        self.closing.callback(self._pipeline.close)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Take requests in; each is answered when it is ready, at once if it is refused."""
        taken = [self._read(request) for request in requests]
        refused = self._pipeline.take(taken)
        for item in taken:
            if item.untraced is not None:
                # Triton frees its trace when this returns.
                item.untraced.wait()
        return [_answer(item) if item in refused else None for item in taken]

    def _read(self, request: Any) -> MatchRequest:
        parameters = parameters_of(request)
        name = request_id_from(own_id_of(request), parameters)
        query: MatchQuery | None = None
        error: Exception | None = None
        try:
            self.check_parameters(PRODUCT_MATCH, parameters)
            query = match_query_from_tensors(tensors_of(request), self.settings)
        except Exception as found:
            error = found
        send = LateReply(request)
        return MatchRequest(
            name.value,
            lambda item: send(_answer(item)),
            query,
            error,
            expires=self._expires(request),
            cancelled=send.cancelled,
            trace=trace_of(request),
            is_probe=query is not None and is_probe(parameters, query),
            header_request_id=name.header,
        )

    def _expires(self, request: Any) -> float:
        """When it has waited for too long, by the setting or by its own ``timeout``."""
        waits_s = self.settings.queue_timeout_ms / 1e3
        asked_us = request.timeout()
        return time.monotonic() + (min(waits_s, asked_us / 1e6) if asked_us else waits_s)


def _traced(requests: Sequence[MatchRequest]) -> AbstractContextManager[None]:
    return traced(request.trace for request in requests)


def _answer(item: MatchRequest) -> Any:
    if item.error is not None:
        return error_response(item.error, item.request_id)
    try:
        return _response(item)
    except Exception as error:
        return error_response(error, item.request_id)


def _response(item: MatchRequest) -> Any:
    matches = item.matches
    rows: dict[str, Any] = {
        "product_id": [match.product_id.encode() for match in matches],
        "score": [match.score for match in matches],
        # JSON has no NaN, so a modality that takes no part is 0 on the wire.
        "image_score": np.nan_to_num([match.image_score for match in matches]),
        "text_score": np.nan_to_num([match.text_score for match in matches]),
        "product": item.products,
        "view": [NO_VIEW if match.view is None else match.view for match in matches],
        "caption": [item.caption.text.encode()],
        "details": [json_bytes(item.details)],
    }
    if item.query is not None and item.query.objects != NEVER:
        # Each output takes time on its way, and most requests ask for no objects.
        rows |= {
            "object": item.object_numbers,
            "object_box": np.reshape([found.box for found in item.objects], (-1, 4)),
            "object_score": [found.score for found in item.objects],
        }
    return response(
        PRODUCT_MATCH,
        {
            spec.name: np.array([rows[spec.name]], spec.numpy_dtype)
            for spec in PRODUCT_MATCH.outputs
            if spec.name in rows
        },
    )
