"""What ``product_match`` and ``product_ingest`` both work with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.engines.encoders import Encoders
from bls_models.index.query import IndexQuery, Search, any_reads_fields
from bls_models.objects.detector import ObjectDetector
from bls_models.settings import Settings
from bls_models.telemetry.metrics import NO_METRICS, Metrics
from bls_models.telemetry.request_log import LogWriter


@dataclass(frozen=True)
class Services:
    """The parts of a server that a model for clients calls, and what it is set to.

    Attributes:
        bundle: sizes, fingerprint, and whether there is a captioner.
        settings: limits, weights and waits.
        encoders: pictures and texts to vectors.
        captions: where captions come from.
        search: the index.
        log: takes the entries of the model's requests.
        metrics: get outcomes and times.
        takes_long: whether others should not wait for a search of these queries.
        detector: where products are in a photo; None: the bundle has none.
    """

    bundle: Bundle
    settings: Settings
    encoders: Encoders
    captions: CaptionQueue
    search: Search
    log: LogWriter
    metrics: Metrics = NO_METRICS
    takes_long: Callable[[Sequence[IndexQuery]], bool] = any_reads_fields
    detector: ObjectDetector | None = None
