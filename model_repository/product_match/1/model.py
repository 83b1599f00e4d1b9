"""``product_match``: the one model that clients call to find products."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from bls_models.database.store import MATCH_LOG, Store
from bls_models.engines.precisions import served_precisions
from bls_models.match.matcher import ProductMatcher
from bls_models.match.probes import is_probe
from bls_models.match.record import MatchRequest, Reply
from bls_models.match.request import match_query_from_tensors
from bls_models.product import json_bytes
from bls_models.specs import PRODUCT_MATCH
from bls_models.telemetry.metrics import ENGINE_PRECISION
from bls_models.telemetry.request_ids import request_id_from
from bls_models.triton.bridge import (
    error_response,
    late_reply,
    own_id_of,
    parameters_of,
    response,
    tensors_of,
)
from bls_models.triton.client_services import client_services
from bls_models.triton.public_model import PublicModel
from bls_models.triton.traces import traced


class TritonPythonModel(PublicModel):
    """Served through the Python backend."""

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

            services = replace(services, search=own_index(self, store, args).search)
        self._matcher = ProductMatcher(services, store, precisions)
        self.closing.callback(self._matcher.close)

    def answer(self, requests: list[Any]) -> list[Any]:
        """Answer a batch of requests; those that wait for captions are answered later."""
        batch = [self._read(request) for request in requests]
        with traced(requests):
            self._matcher.run(batch)
        return [None if item.reply else _answer(item) for item in batch]

    def _read(self, request: Any) -> MatchRequest:
        parameters = parameters_of(request)
        name = request_id_from(own_id_of(request), parameters)
        item = MatchRequest(
            name.value, defer=lambda: _deferred(request), header_request_id=name.header
        )
        try:
            self.check_parameters(PRODUCT_MATCH, parameters)
            item.query = match_query_from_tensors(tensors_of(request), self.settings)
            item.is_probe = is_probe(parameters, item.query)
        except Exception as error:
            item.error = error
        return item


def _deferred(request: Any) -> Reply:
    send = late_reply(request)
    return lambda item: send(_answer(item))


def _answer(item: MatchRequest) -> Any:
    if item.error is not None:
        return error_response(item.error, item.request_id)
    try:
        return _response(item)
    except Exception as error:
        return error_response(error, item.request_id)


def _response(item: MatchRequest) -> Any:
    rows = {
        "product_id": [match.product_id.encode() for match in item.matches],
        "score": [match.score for match in item.matches],
        # JSON has no NaN, so a modality that takes no part is 0 on the wire.
        "image_score": np.nan_to_num([match.image_score for match in item.matches]),
        "text_score": np.nan_to_num([match.text_score for match in item.matches]),
        "product": item.products,
        "caption": [item.caption.text.encode()],
        "details": [json_bytes(item.details)],
    }
    return response(
        PRODUCT_MATCH,
        {
            spec.name: np.array([rows[spec.name]], spec.numpy_dtype)
            for spec in PRODUCT_MATCH.outputs
        },
    )
