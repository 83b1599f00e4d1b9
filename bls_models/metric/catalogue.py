"""A catalogue's metrics in the database: fitted from its views, kept by version, one is served.

``metrics`` holds a document a version, which is never changed, and one a bundle, ``CURRENT``, that
names the version that all servers serve and tells of the last fit.
"""

from __future__ import annotations

import contextlib
import logging
import math
import random
import uuid
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pymongo
from pymongo.errors import DuplicateKeyError

from bls_models.bundle import Bundle
from bls_models.database.embeddings import IMAGE
from bls_models.database.store import PAGE_SECONDS, Document, Store, database_errors
from bls_models.errors import ConflictError, SetupError
from bls_models.metric.fitting import Fit, Sample, Scatter, fit
from bls_models.metric.metric import Metric
from bls_models.vectors import FloatArray, binary_from_vector, vector_of_length

logger = logging.getLogger(__name__)

METRICS = "metrics"
CURRENT = "current"
# The version that stands for raw vectors.
NONE = "none"
# Of larger catalogues a part is taken: whole products, at random.
MAX_VIEWS = 200_000
# A fit of so many views takes a minute or two; one that was cut off is begun anew after this.
LEASE = timedelta(minutes=5)
# Of each bundle; one of `mini` takes 1.3 MB.
KEPT_VERSIONS = 20
# A fit is due when so much of what the last one saw has changed.
CHANGED_SHARE = 0.2


@dataclass(frozen=True)
class Current:
    """What is served.

    Attributes:
        version: of the metric; ``NONE``: raw vectors.
        products: products in the database, about, when the last fit began, or this was chosen.
        views: their views.
        fitted: when that was; None: neither was ever done with this bundle.
    """

    version: str = NONE
    products: int = 0
    views: int = 0
    fitted: datetime | None = None


class CatalogueMetrics:
    """The metrics of one catalogue and bundle.

    Args:
        store: the database.
        bundle: whose vectors are meant.
    """

    def __init__(self, store: Store, bundle: Bundle) -> None:
        self._store = store
        self._bundle = bundle
        self._metrics = store.database[METRICS]
        self._of_bundle = {"fingerprint": bundle.fingerprint, "matrix": {"$exists": True}}

    @property
    def can_fit(self) -> bool:
        """Whether metrics are fitted: one of pictures says nothing of texts beside them."""
        return not self._bundle.shared_space

    # --- versions -------------------------------------------------------------------------

    def current(self) -> Current:
        """What is to be served.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("reading which metric is served"):
            found = self._metrics.find_one({"_id": self._current_id})
        if found is None or "version" not in found:
            return Current()
        return Current(
            found["version"],
            found["products"],
            found["views"],
            found["fitted"].replace(tzinfo=UTC),
        )

    def read(self, version: str) -> Metric | None:
        """A metric by its version; None for ``NONE``.

        Raises:
            SetupError: there is none of this version for this bundle, or it is damaged.
            DatabaseError: the database does not answer in time.
        """
        if version == NONE:
            return None
        with database_errors("reading a metric"):
            found = self._metrics.find_one(
                {
                    "_id": version,
                    "fingerprint": self._bundle.fingerprint,
                    "matrix": {"$exists": True},
                }
            )
        if found is None:
            raise SetupError(
                f"there is no metric {version!r} for bundle {self._bundle.name}; `make metric "
                f"LIST=yes` lists those that there are, {NONE!r} stands for raw vectors"
            )
        dim = self._bundle.image_dim
        try:
            matrix = vector_of_length(found["matrix"], dim * int(found["dimensions"]))
            spread = float(found["spread"])
            if not 0 < spread < math.inf:
                raise ValueError(f"its spread is {spread}")
            return Metric(
                version,
                vector_of_length(found["centre"], dim),
                matrix.reshape(dim, -1),
                spread,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise SetupError(f"metric {version!r} is damaged ({error}); fit another one") from error

    def versions(self) -> list[Document]:
        """Facts of each version of this bundle, the newest first, without their numbers.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        with database_errors("listing metrics"):
            return list(
                self._metrics.find(
                    self._of_bundle,
                    {"matrix": 0, "centre": 0},
                    sort=[("fitted", pymongo.DESCENDING)],
                )
            )

    def serve(self, version: str) -> None:
        """Have all servers serve this version; ``NONE``: raw vectors.

        Raises:
            SetupError: there is none of this version.
            DatabaseError: the database does not answer in time.
        """
        self.read(version)
        self._set_current(replace(self._counted(), version=version))

    def add(self, fitted: Fit) -> None:
        """Keep a metric that was fitted; it is not served yet.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        metric = fitted.metric
        assert metric is not None
        document: dict[str, Any] = {
            "_id": metric.version,
            "fingerprint": self._bundle.fingerprint,
            "fitted": datetime.now(UTC),
            "products": fitted.products,
            "views": fitted.views,
            "gains": [asdict(gain) for gain in fitted.gains],
            "dimensions": metric.matrix.shape[1],
            "spread": metric.spread,
            "centre": binary_from_vector(metric.centre),
            "matrix": binary_from_vector(metric.matrix.ravel()),
        }
        with database_errors("storing a metric"):
            self._metrics.insert_one(document)

    # --- fitting --------------------------------------------------------------------------

    def changed_share(self) -> float:
        """How much of the catalogue is new or gone since the last fit, as a share of what that saw.

        Raises:
            DatabaseError: the database does not answer in time.
        """
        before, now = self.current(), self._counted()
        if before.fitted is None:
            # It grows as long as the catalogue does, so that one can wait for the end of an import.
            return float(now.views)
        with database_errors("counting new products"), pymongo.timeout(PAGE_SECONDS):
            new = self._store.products.count_documents({"created": {"$gt": before.fitted}})
        gone = max(0, before.products + new - now.products)
        return max(
            (new + gone) / max(1, before.products),
            abs(now.views - before.views) / max(1, before.views),
        )

    def fit(self, progress: Callable[[int], None], dry_run: bool = False) -> Fit:
        """Fit a metric to what is stored, and have it served where it gains.

        Where somebody chooses a version meanwhile, that one stays.

        Args:
            progress: called now and then with the number of products read.
            dry_run: only tell what it would gain.

        Raises:
            ConflictError: another server is at it.
            DatabaseError: the database does not answer in time.
        """
        if not self.can_fit:
            return Fit(None, "the bundle's texts are compared with pictures", (), 0, 0)
        if dry_run:
            return self._fit(progress)
        with self._lease():
            before, current = self.current(), self._counted()
            fitted = self._fit(progress)
            if fitted.metric is not None:
                self.add(fitted)
                current = replace(current, version=fitted.metric.version)
            if self.current() == before:
                self._set_current(current)
            self._forget_old()
            return fitted

    def _fit(self, progress: Callable[[int], None]) -> Fit:
        scatter, sample = Scatter(self._bundle.image_dim), Sample()
        for blocks in self._views():
            scatter.add(blocks)
            sample.add(blocks)
            progress(scatter.products)
        return fit(scatter, sample.views, uuid.uuid4().hex[:12])

    def _views(self) -> Iterator[list[FloatArray]]:
        """Views (n, D) of products, page by page; of large catalogues those of a part."""
        chosen = random.Random(0)
        share = min(1.0, MAX_VIEWS / max(1, self._counted().views))
        for documents in self._store.iterate_products(fields=("write_id",)):
            writes = [
                item["write_id"]
                for item in documents
                if isinstance(item.get("write_id"), str) and chosen.random() < share
            ]
            by_write: dict[str, list[FloatArray]] = {}
            # A page of many pictures may take longer than a request may wait.
            with pymongo.timeout(PAGE_SECONDS):
                found = self._store.find_embeddings(writes) if writes else []
            for item in found:
                if item.get("kind") != IMAGE or item.get("fingerprint") != self._bundle.fingerprint:
                    continue
                # What was damaged by hand is not searched either.
                with contextlib.suppress(ValueError):
                    vector = vector_of_length(item.get("vector"), self._bundle.image_dim)
                    by_write.setdefault(item["write_id"], []).append(vector)
            if by_write:
                # In the order of ids, so that the same catalogue gives the same metric.
                yield [np.stack(by_write[write]) for write in writes if write in by_write]

    def _counted(self) -> Current:
        """What is stored now, about, with raw vectors for a version."""
        with database_errors("counting views"), pymongo.timeout(PAGE_SECONDS):
            products = self._store.products.estimated_document_count()
            # Each product has a text beside its views.
            views = self._store.embeddings.estimated_document_count() - products
        return Current(NONE, products, max(0, views), datetime.now(UTC))

    # --- documents ------------------------------------------------------------------------

    @property
    def _current_id(self) -> str:
        return f"{CURRENT}-{self._bundle.fingerprint}"

    def _forget_old(self) -> None:
        old = [item["_id"] for item in self.versions()[KEPT_VERSIONS:]]
        kept = self.current().version
        with database_errors("removing old metrics"):
            self._metrics.delete_many({"_id": {"$in": [name for name in old if name != kept]}})

    def _set_current(self, current: Current) -> None:
        with database_errors("naming the metric that is served"):
            self._metrics.update_one(
                {"_id": self._current_id}, {"$set": asdict(current)}, upsert=True
            )

    @contextlib.contextmanager
    def _lease(self) -> Iterator[None]:
        """Be the one who fits; where a server dies at it, others may begin after ``LEASE``."""
        now = datetime.now(UTC)
        mine = uuid.uuid4().hex
        try:
            with database_errors("beginning a fit"):
                self._metrics.update_one(
                    {
                        "_id": self._current_id,
                        "$or": [{"fitting": {"$exists": False}}, {"fitting.until": {"$lt": now}}],
                    },
                    {"$set": {"fitting": {"by": mine, "until": now + LEASE}}},
                    upsert=True,
                )
        except Exception as error:
            if isinstance(error.__cause__, DuplicateKeyError):
                raise ConflictError(
                    "a metric is being fitted; try again when it is there"
                ) from None
            raise
        try:
            yield
        finally:
            with database_errors("ending a fit"):
                self._metrics.update_one(
                    {"_id": self._current_id, "fitting.by": mine}, {"$unset": {"fitting": ""}}
                )
