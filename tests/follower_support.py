"""A shop that writes products without models, and an index that follows its database."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from typing import Any

import numpy as np
from caption_support import PixelCaptioner
from ingest_support import journal_of, nothing_found, with_indexes
from serving_support import SMALL_BUNDLE, ContentEncoders, text_vector

from bls_models.bundle import Bundle
from bls_models.captions.queue import CaptionQueue
from bls_models.database.connection import connect
from bls_models.database.store import INGEST_LOG, Store
from bls_models.index.engine import IndexedProduct, SearchableIndex, WritableIndex
from bls_models.index.query import IndexMatch, IndexQuery
from bls_models.ingest.ingester import IngestRequest, IngestResult, ProductIngester
from bls_models.product import embedding_text
from bls_models.replication.index_generation import IndexGeneration
from bls_models.services import Services
from bls_models.settings import Settings
from bls_models.telemetry.request_log import LogWriter

OTHER_BUNDLE = replace(SMALL_BUNDLE, name="other", fingerprint="f" * 16)


class Shop:
    """A database with an ingester, and the means to follow it."""

    def __init__(self, settings: Settings, bundle: Bundle = SMALL_BUNDLE) -> None:
        self.settings = settings
        self.bundle = bundle
        self.database = connect(settings)
        self.store = Store(self.database, log_days=30)
        self._queue = tempfile.TemporaryDirectory()
        own = settings.model_copy(update={"log_queue_folder": self._queue.name})
        self._log = LogWriter(self.database[INGEST_LOG], own)
        self._ingester = ProductIngester(
            Services(
                bundle,
                settings,
                ContentEncoders(bundle),
                CaptionQueue(PixelCaptioner(), 32, 1.0),
                nothing_found,
                self._log,
            ),
            journal_of(self.store, settings),
            with_indexes(self.store),
        )

    def close(self) -> None:
        self._log.close()
        self._queue.cleanup()
        self.database.client.close()

    def run(self, operation: str, product: dict[str, Any], *images: bytes) -> str:
        body = json.dumps(product).encode()
        (outcome,) = self._ingester.run([IngestRequest("r", operation, body, images or None)])
        assert isinstance(outcome, IngestResult), outcome
        return outcome.status

    def put(self, number: int, *images: bytes, **fields: Any) -> str:
        return self.run("upsert", product(number, **fields), *images)

    def delete(self, number: int) -> str:
        return self.run("delete", {"product_id": f"p{number}"})

    @property
    def writes(self) -> dict[str, str]:
        """The write that stored each product."""
        return {
            item["_id"]: item["write_id"]
            for item in self.store.products.find({"write_id": {"$exists": True}})
        }


class Followed:
    """An index that follows a shop's database over a connection of its own."""

    def __init__(self, settings: Settings, bundle: Bundle = SMALL_BUNDLE) -> None:
        self.database = connect(settings)
        self.store = Store(self.database, 30)
        generation = IndexGeneration(settings, bundle, self.store, None)
        self.index: WritableIndex = generation.index
        self.searched: SearchableIndex = generation.index
        self.follower = generation.follower

    def start(self, seconds: float = 60) -> None:
        self.follower.start(seconds)

    def close(self) -> None:
        self.follower.stop()
        self.searched.close()
        self.database.client.close()

    @property
    def ids(self) -> set[str]:
        return set(self.index.id_ranges().between(None, None))

    @property
    def writes(self) -> dict[str, str]:
        """The write that the index holds of each product."""
        return self.index.write_ids(list(self.ids))

    def put_by_hand(self, *products: IndexedProduct) -> None:
        """Have the index hold products, whatever is stored."""
        self.index.upsert(products)

    def best(self, text: str, condition: str = "") -> IndexMatch | None:
        query = IndexQuery(
            np.zeros((0, 48), np.float32),
            np.zeros(0, np.float32),
            text_vector(text)[np.newaxis],
            np.ones(1, np.float32),
            top_k=1,
            filter=condition.encode(),
        )
        (answer,) = self.searched.answers([query])
        assert answer.refusal is None
        return answer.matches[0] if answer.matches else None

    def finds(self, number: int, **fields: Any) -> bool:
        """Whether the product is found by its own words, exactly."""
        found = self.best(embedding_text(product(number, **fields)))
        return found is not None and found.product_id == f"p{number}" and found.score > 0.999


def product(number: int, **fields: Any) -> dict[str, Any]:
    return {
        "product_id": f"p{number}",
        "name": f"Product {number}",
        "category": "thing",
        "attributes": {},
        **fields,
    }
