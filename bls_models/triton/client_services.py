"""The parts that ``product_match`` and ``product_ingest`` call through Triton."""

from __future__ import annotations

from bls_models.captions.queue import CaptionQueue
from bls_models.engines.encoders import Encoders
from bls_models.objects.detector import ObjectDetector
from bls_models.services import Services
from bls_models.triton.bridge import ModelCalls, call_captioner
from bls_models.triton.database_model import DatabaseModel


def client_services(
    model: DatabaseModel, log: str, caption_queue: int, caption_timeout_ms: int
) -> Services:
    """The services of a model, which its ``finalize`` closes.

    Args:
        model: the model.
        log: the collection of its log entries.
        caption_queue: most pictures that wait for a caption.
        caption_timeout_ms: after which a call of the captioner is overdue.
    """
    writer = model.log_writer(log)
    captions = CaptionQueue(call_captioner, caption_queue, caption_timeout_ms / 1e3)
    model.closing.callback(captions.close)
    calls = ModelCalls(model.settings.call_timeout_ms / 1e3)
    detector = model.bundle.detector
    return Services(
        model.bundle,
        model.settings,
        Encoders.from_repository(calls.engine, model.bundle, model.repository),
        captions,
        calls.search,
        writer,
        model.metrics,
        detector=None if detector is None else ObjectDetector(calls.detector, detector),
    )
