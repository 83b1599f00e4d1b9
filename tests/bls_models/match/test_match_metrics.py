"""Every match request is counted once, by what became of it."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
import pytest
from caption_support import no_caption_wanted
from match_support import MatchSender, match_request
from serving_support import SMALL_BUNDLE, ContentEncoders, blocks, encoded, image_vector

from bls_models.captions.queue import CaptionQueue
from bls_models.errors import EncoderError
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.match.matcher import ProductMatcher
from bls_models.match.request import match_query_from_tensors
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.telemetry.metrics import METRICS, MetricSpec


class Recorded:
    """Metrics in this process; labels are checked against the spec."""

    def __init__(self) -> None:
        self.sums: Counter[tuple[str, ...]] = Counter()
        self.seconds: dict[str, list[float]] = {}

    def add(self, spec: MetricSpec, amount: float = 1.0, *labels: str) -> None:
        assert len(labels) == len(spec.labels)
        self.sums[spec.name.removeprefix("product_match_"), *labels] += amount  # type: ignore[assignment]

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        raise AssertionError("a match sets no gauge")

    def observe(self, spec: MetricSpec, value: float, *labels: str) -> None:
        assert spec.kind == "histogram"
        self.seconds.setdefault(labels[0], []).append(value)


class Shop:
    """A matcher over one product."""

    def __init__(self) -> None:
        self.metrics = Recorded()
        self.encoders = ContentEncoders(SMALL_BUNDLE)
        index = ProductIndex(SMALL_BUNDLE.image_dim, SMALL_BUNDLE.text_dim, 1000)
        vector = image_vector(np.asarray(blocks(1).resize((SMALL_BUNDLE.image_size,) * 2)))
        no_text = np.zeros((0, SMALL_BUNDLE.text_dim), np.float32)
        index.upsert([IndexedProduct("mug", "w", {"category": "mug"}, vector[None], no_text)])
        self.settings = Settings()
        matcher = ProductMatcher(
            Services(
                SMALL_BUNDLE,
                self.settings,
                self.encoders,
                CaptionQueue(no_caption_wanted, 1, 1.0),
                lambda queries: (index.answers(queries), {"following": True}),
                self,  # type: ignore[arg-type]
                self.metrics,
            ),
            self,  # type: ignore[arg-type]
        )
        self.sender = MatchSender(matcher, self.settings)

    def find_products(self, ids: list[str]) -> dict[str, Any]:
        return {key: {"_id": key} for key in ids}

    def write(self, entries: list[Any]) -> None:
        pass

    def match(self, data: bytes, **inputs: Any) -> None:
        tensors = {"image": np.array([[data]], object), "caption": np.array([[b"never"]], object)}
        tensors |= {name: np.array([[value]], object) for name, value in inputs.items()}
        self.sender.run([match_request(match_query_from_tensors(tensors, self.settings))])


PHOTO = encoded(blocks(1))


def test_an_answer_without_matches_is_counted_apart() -> None:
    shop = Shop()
    shop.match(PHOTO)
    shop.match(PHOTO, filter=b'{"category": "vase"}')
    assert shop.metrics.sums["requests_total", "ok"] == 1
    assert shop.metrics.sums["requests_total", "empty"] == 1


def test_faults_of_clients_and_of_the_service_are_counted_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shop = Shop()
    shop.match(PHOTO[: len(PHOTO) // 2])

    def failing(*_: object) -> Any:
        raise EncoderError("image_encoder failed")

    monkeypatch.setattr(shop.encoders, "encode", failing)
    shop.match(PHOTO)
    assert shop.metrics.sums["requests_total", "client_error"] == 1
    assert shop.metrics.sums["requests_total", "error"] == 1
    assert len(shop.metrics.seconds["total"]) == 2


def test_hits_and_misses_of_both_caches_are_counted() -> None:
    shop = Shop()
    for _ in range(3):
        shop.match(PHOTO)
    for cache in ("vectors", "documents"):
        assert shop.metrics.sums["cache_misses_total", cache] == 1
        assert shop.metrics.sums["cache_hits_total", cache] == 2


def test_a_caption_that_cannot_come_is_counted_by_its_status() -> None:
    shop = Shop()
    shop.match(PHOTO, caption=b"always")
    assert shop.metrics.sums["captions_total", "unavailable"] == 1
    assert shop.metrics.sums["degraded_total", "caption"] == 1


def test_every_stage_has_its_seconds() -> None:
    shop = Shop()
    shop.match(PHOTO)
    assert set(shop.metrics.seconds) == {
        "queue",
        "decode",
        "encode",
        "search",
        "documents",
        "total",
    }
    assert all(0 <= value < 10 for values in shop.metrics.seconds.values() for value in values)


def test_names_follow_the_conventions_of_prometheus() -> None:
    for spec in METRICS:
        assert spec.name.startswith("product_match_")
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
        assert spec.doc.endswith(".")
    assert len({spec.name for spec in METRICS}) == len(METRICS)
