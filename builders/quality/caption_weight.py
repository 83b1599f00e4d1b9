"""What a caption's weight in the query does to first matches, on products new to the captioner."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bls_models.bundle import Bundle
from bls_models.captions.captioner import Caption, Captioner
from bls_models.engines.cpu import CpuEngines
from bls_models.engines.encoders import Encoders
from bls_models.index.engine import IndexedProduct
from bls_models.index.product_index import ProductIndex
from bls_models.index.query import IndexQuery
from bls_models.product import embedding_text
from bls_models.settings import Settings
from bls_models.specs import CAPTION_ENGINE_SPECS, ENCODER_SPECS
from bls_models.vectors import FloatArray
from builders.catalogue import CatalogueProduct
from builders.graphs.calibration import image_feeds
from reporting.progress import Report


@dataclass(frozen=True)
class WeightResult:
    """First matches at one weight.

    Attributes:
        weight: of the caption's text vector; the photo's is 1.
        top1: share of the queries whose product comes first.
        gained: queries that are right now and were wrong without captions.
        lost: queries that are wrong now and were right without captions.
    """

    weight: float
    top1: float
    gained: int
    lost: int


@dataclass(frozen=True)
class WeightReport:
    """All weights on one set of queries.

    Attributes:
        name: of the set.
        queries: how many.
        used: share of their captions that are sure enough to be used.
        results: by weight, the first without captions.
    """

    name: str
    queries: int
    used: float
    results: tuple[WeightResult, ...]


class CaptionedSearch:
    """A catalogue in a real index, with the built bundle's engines in this process.

    Args:
        repository: the built model repository.
        products: the catalogue.
        report: called with a line on each step.
    """

    def __init__(
        self, repository: Path, products: Sequence[CatalogueProduct], report: Report
    ) -> None:
        bundle = Bundle.read(repository)
        captioner = bundle.require_captioner()
        engines = CpuEngines.from_repository(repository, (*ENCODER_SPECS, *CAPTION_ENGINE_SPECS))
        self._report = report
        self._preprocess = bundle.preprocess
        self._caption_preprocess = captioner.preprocess
        self._min_confidence = captioner.min_confidence
        self._captioner = Captioner.from_repository(engines, bundle, repository)
        self._encoders = Encoders.from_repository(engines, bundle, repository)
        self._index = ProductIndex(bundle.image_dim, bundle.text_dim, Settings().max_filter_bytes)
        views = [path for item in products for path in item.images]
        report(f"encoding {len(views)} pictures of {len(products)} products")
        images = self._image_vectors(views)
        texts = self._encoders.encode_texts(
            [embedding_text({"attributes": {}} | item.product) for item in products]
        )
        ends = np.cumsum([len(item.images) for item in products])
        self._index.upsert(
            [
                IndexedProduct(str(item.product["product_id"]), "w", {}, block, texts[at : at + 1])
                for at, (item, block) in enumerate(
                    zip(products, np.split(images, ends[:-1]), strict=True)
                )
            ]
        )

    def measure(
        self, name: str, products: Sequence[CatalogueProduct], weights: Sequence[float]
    ) -> WeightReport:
        """Search with all queries of products at each weight."""
        pairs = [(path, str(p.product["product_id"])) for p in products for path in p.queries]
        paths = [path for path, _ in pairs]
        self._report(f"{name}: captioning and encoding {len(paths)} queries")
        images = self._image_vectors(paths)
        captions = self._captions(paths)
        sure = [caption.confidence >= self._min_confidence for caption in captions]
        words = self._encoders.encode_texts([caption.text or "?" for caption in captions])
        truth = [product_id for _, product_id in pairs]
        plain = np.array(self._right(images, words, sure, 0.0, truth))
        results = [WeightResult(0.0, float(plain.mean()), 0, 0)]
        for weight in weights:
            right = np.array(self._right(images, words, sure, weight, truth))
            results.append(
                WeightResult(
                    weight,
                    float(right.mean()),
                    int((right & ~plain).sum()),
                    int((plain & ~right).sum()),
                )
            )
        return WeightReport(name, len(paths), float(np.mean(sure)), tuple(results))

    def _right(
        self,
        images: FloatArray,
        words: FloatArray,
        sure: Sequence[bool],
        weight: float,
        truth: Sequence[str],
    ) -> list[bool]:
        queries = [
            IndexQuery(
                images[at : at + 1],
                np.ones(1, np.float32),
                words[at : at + (1 if use and weight else 0)],
                np.full(1 if use and weight else 0, weight, np.float32),
                top_k=1,
            )
            for at, use in enumerate(sure)
        ]
        found = self._index.search(queries)
        return [
            matches[0].product_id == product for matches, product in zip(found, truth, strict=True)
        ]

    def _captions(self, paths: Sequence[Path]) -> list[Caption]:
        return [
            caption
            for feed in image_feeds(paths, self._caption_preprocess)
            for caption in self._captioner.caption(feed["image"])
        ]

    def _image_vectors(self, paths: Sequence[Path]) -> FloatArray:
        """Vectors (n, image_dim) of picture files."""
        feeds = image_feeds(paths, self._preprocess)
        return np.concatenate([self._encoders.encode_images(list(feed["image"])) for feed in feeds])
