"""Asking: the ranking of each query, from the served ``product_match`` or in this process."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.engines.cpu import CpuEngines
from bls_models.engines.encoders import Encoders
from bls_models.errors import SetupError
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery
from bls_models.match.photo_objects import MARGIN
from bls_models.metric.catalogue import CatalogueMetrics
from bls_models.metric.fitting import Fit, Sample, Scatter, fit
from bls_models.metric.metric import Metric
from bls_models.objects.boxes import with_margin
from bls_models.product import embedding_text
from bls_models.settings import Settings
from bls_models.specs import ENCODER_SPECS
from bls_models.vectors import FloatArray
from evaluation.sets import EvaluationQuery, EvaluationSet
from local_server.database import local_database
from local_server.running import connect_for_reports
from local_server.served_metric import fit_with_progress, wait_until_served
from local_server.temporary_stack import wait_for_index
from local_server.triton import Ports, TritonServer, running_triton
from product_match_client import AsyncProductMatchClient, MatchedObject, ProductMatchClient
from reporting.progress import Report, counted_lines
from seed.importer import import_catalog
from seed.progress import show_progress

# As deep as product_match goes, and nothing left out: thresholds are studied afterwards.
TOP_K = 100
EVERY_SCORE = -1.0
# Of one photo; more than any evaluated photo shows.
MOST_OBJECTS = 10
DATABASE = "evaluation"
IMPORT_TIMEOUT_S = 120.0
INDEX_SECONDS = 120.0
# One after the other is left out of the fit.
PARTS = 3


@dataclass(frozen=True)
class Ranking:
    """What one query found.

    Attributes:
        product_ids: best first, at most 100.
        scores: theirs, descending.
        milliseconds: from asking to the answer.
    """

    product_ids: tuple[str, ...]
    scores: tuple[float, ...]
    milliseconds: float


class Ranker(Protocol):
    """Something with the set's products in it that can be asked."""

    def __call__(self, image: Path | None, text: str) -> Ranking:
        """The ranking for a photo, words, or both; an empty text is none."""
        ...

    def fit_metric(self) -> Fit:
        """Fit a metric to the products; from then on it ranks, if there is one."""
        ...


def asked_with(query: EvaluationQuery, kind: str) -> tuple[Path | None, str] | None:
    """The query's photo and words as a kind of query; None where it lacks what that needs."""
    image = None if kind == "text" else query.image
    text = "" if kind == "image" else query.text
    if (kind != "text" and image is None) or (kind != "image" and not text):
        return None
    return image, text


class ServedRanker:
    """What ``served_ranker`` gives.

    Args:
        triton: the server.
        client: of it.
        uri: its database.
        bundle: that it serves.
        report: called with a line on each step.
    """

    def __init__(
        self,
        triton: TritonServer,
        client: ProductMatchClient,
        uri: str,
        bundle: Bundle,
        report: Report,
    ) -> None:
        self._http_url = triton.http_url
        self._client = client
        self._uri = uri
        self._bundle = bundle
        self._report = report

    def __call__(self, image: Path | None, text: str) -> Ranking:
        """Ask ``product_match``."""
        start = time.perf_counter()
        result = self._client.match(
            [] if image is None else [image],
            [text] if text else [],
            top_k=TOP_K,
            min_score=EVERY_SCORE,
            caption="never",
        )
        return Ranking(
            tuple(match.product_id for match in result.matches),
            tuple(match.score for match in result.matches),
            (time.perf_counter() - start) * 1e3,
        )

    def objects(self, image: Path) -> tuple[MatchedObject, ...]:
        """The objects that ``product_match`` finds in a photo, by its own least scores.

        Raises:
            SetupError: it does not look for objects.
        """
        result = self._client.match(
            [image], objects="always", max_objects=MOST_OBJECTS, caption="never"
        )
        state = result.details["objects"]
        if state["status"] not in ("ok", "none"):
            raise SetupError(f"the server looks for no objects: {state}; use a bundle that does")
        return result.objects

    def first_in_box(self, image: Path, box: tuple[float, float, float, float]) -> str | None:
        """The first match of a part of a photo, with as much around it as an object gets.

        Args:
            image: the photo.
            box: the part, (x0, y0, x1, y1) as fractions of the photo.
        """
        part = with_margin(box, MARGIN)
        result = self._client.match([image], crops=[part], top_k=1, caption="never")
        return result.matches[0].product_id if result.matches else None

    def fit_metric(self) -> Fit:
        """Fit a metric to what the database holds, and wait until the server serves it.

        Raises:
            DatabaseError: the database does not answer.
            ServiceError: the server does not serve it in time.
        """
        database = connect_for_reports(self._uri, DATABASE)
        with contextlib.closing(database.client):
            store = Store(database, Settings().log_days)
            found = fit_with_progress(CatalogueMetrics(store, self._bundle), store, self._report)
        if found.metric is not None:
            wait_until_served(self._http_url, found.metric.version)
        return found


def parted(product_ids: Sequence[str]) -> list[frozenset[str]]:
    """The products in ``PARTS`` parts, at random, always the same."""
    order = np.random.default_rng(0).permutation(len(product_ids))
    return [frozenset(product_ids[at] for at in order[part::PARTS]) for part in range(PARTS)]


@contextlib.contextmanager
def served_ranker(
    repository: Path, content: EvaluationSet, report: Report
) -> Iterator[ServedRanker]:
    """Triton and a database of their own, with the set's products imported.

    Raises:
        SetupError: a part did not start, or a product was refused.
    """
    settings = {
        "PRODUCT_MATCH_DATABASE": DATABASE,
        "PRODUCT_MATCH_MAX_PRODUCT_IMAGES": str(
            max(content.most_images, Settings().max_product_images)
        ),
        # Raw vectors until one is fitted here.
        "PRODUCT_MATCH_METRIC": "manual",
    }
    with contextlib.ExitStack() as parts:
        state = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="evaluation-")))
        report("database: starting")
        uri = parts.enter_context(local_database(state, 0))
        report("tritonserver: loading the models")
        triton = parts.enter_context(
            running_triton(repository, state, Ports(0, 0, 0), {**settings, "MONGODB_URI": uri})
        )
        report(f"importing {len(content.rows)} products")
        asyncio.run(_import(triton.http_url, content))
        wait_for_index(triton.grpc_url, len(content.rows), INDEX_SECONDS)
        client = parts.enter_context(ProductMatchClient(triton.grpc_url, IMPORT_TIMEOUT_S))
        yield ServedRanker(triton, client, uri, Bundle.read(repository), report)


async def _import(url: str, content: EvaluationSet) -> None:
    async with AsyncProductMatchClient(url, IMPORT_TIMEOUT_S) as client:
        with (
            tempfile.NamedTemporaryFile("r", suffix=".jsonl") as errors,
            show_progress(len(content.rows)) as on_progress,
        ):
            counts = await import_catalog(
                content.rows, client, errors=Path(errors.name), on_progress=on_progress
            )
            if counts.failed:
                raise SetupError(f"{counts.failed} products failed: {errors.read(1000)}")


class DirectRanker:
    """The same engines and index in this process, without Triton and database.

    Args:
        repository: the built model repository.
        content: the products to index.
        report: called with a line on each step.
    """

    def __init__(self, repository: Path, content: EvaluationSet, report: Report) -> None:
        bundle, settings = Bundle.read(repository), Settings.from_environment()
        engines = CpuEngines.from_repository(repository, ENCODER_SPECS)
        self._encoders = Encoders.from_repository(engines, bundle, repository)
        self._preprocess = bundle.preprocess
        self._image_dim, self._text_dim = bundle.image_dim, bundle.text_dim
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._filter_bytes = settings.max_filter_bytes
        self._word_weight = settings.word_weight
        self._products: list[IndexedProduct] = []
        count = counted_lines(report, "products encoded")
        for number, row in enumerate(content.rows, start=1):
            texts = self._encoders.encode_texts([embedding_text({"attributes": {}} | row.product)])
            product_id = str(row.product["product_id"])
            vectors = self._image_vectors(row.images)
            self._products.append(IndexedProduct(product_id, "w", row.product, vectors, texts))
            count(number, len(content.rows))
        self._metric: Metric | None = None
        self._index = self._filled_index()

    def __call__(self, image: Path | None, text: str) -> Ranking:
        """Decode, encode and search, as ``product_match`` does."""
        start = time.perf_counter()
        images = self._image_vectors([] if image is None else [image])
        if self._metric is not None:
            images = self._metric.queries(images)
        texts = self._encoders.encode_texts([text] if text else [])
        query = IndexQuery(
            images,
            np.ones(len(images), np.float32),
            texts,
            np.ones(len(texts), np.float32),
            TOP_K,
            text_words=(text,)[: len(texts)],
            word_weight=self._word_weight,
        )
        (matches,) = self._index.search([query])
        return Ranking(
            tuple(match.product_id for match in matches),
            tuple(match.score for match in matches),
            (time.perf_counter() - start) * 1e3,
        )

    def fit_metric(self, left_out: frozenset[str] = frozenset()) -> Fit:
        """Fit a metric to the products; from then on it ranks, or raw vectors if there is none.

        Args:
            left_out: products that the fit does not see; they are ranked all the same.
        """
        views = [
            item.image_vectors
            for item in self._products
            if len(item.image_vectors) and item.product_id not in left_out
        ]
        scatter, sample = Scatter(self._image_dim), Sample()
        if views:
            scatter.add(views)
            sample.add(views)
        found = fit(scatter, sample.views, "evaluated")
        self._metric = found.metric
        self._index.close()
        self._index = self._filled_index()
        return found

    def _filled_index(self) -> ProductIndex:
        metric = self._metric
        image_dim = self._image_dim if metric is None else metric.dim
        index = ProductIndex(image_dim, self._text_dim, self._filter_bytes)
        for item in self._products:
            rows = item.image_vectors if metric is None else metric.rows(item.image_vectors)
            index.upsert([replace(item, image_vectors=rows)])
        return index

    def _image_vectors(self, paths: Sequence[Path]) -> FloatArray:
        """Vectors (n, image_dim) of picture files."""
        return self._encoders.encode_images(
            [
                decode_pixels(path.read_bytes(), str(path), self._limits, self._preprocess)[0]
                for path in paths
            ]
        )
