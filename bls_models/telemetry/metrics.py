"""The metrics that the models add to Triton's own, and where they go.

A model gets a ``Metrics``; inside Triton that is ``bls_models.triton.metrics.TritonMetrics``,
elsewhere ``NO_METRICS``. Names follow Prometheus: base units, ``_total`` for what only grows.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class MetricSpec:
    """One metric family.

    Attributes:
        name: on the wire.
        kind: ``counter``, ``gauge`` or ``histogram``.
        doc: what it says, one line.
        labels: names of its labels.
    """

    name: str
    kind: str
    doc: str
    labels: tuple[str, ...] = ()


# Seconds; from a cached answer to a database that times out.
HISTOGRAM_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

REQUESTS = MetricSpec(
    "product_match_requests_total",
    "counter",
    "Match requests by outcome: ok, empty (no match), client_error, refused (too many waited, or "
    "it waited too long), error.",
    ("outcome",),
)
WAITING = MetricSpec(
    "product_match_waiting_requests", "gauge", "Match requests that wait to be worked on."
)
STAGE_SECONDS = MetricSpec(
    "product_match_stage_seconds",
    "histogram",
    "Seconds of each match request in queue, decode, caption, objects and total, and of the engine "
    "and index calls that requests share: encode, search, documents.",
    ("stage",),
)
DEGRADED = MetricSpec(
    "product_match_degraded_total",
    "counter",
    "Match answers that went out without a part: documents, caption, objects.",
    ("part",),
)
CACHE_HITS = MetricSpec(
    "product_match_cache_hits_total",
    "counter",
    "Documents, image vectors and scaled pictures that were known.",
    ("cache",),
)
CACHE_MISSES = MetricSpec(
    "product_match_cache_misses_total",
    "counter",
    "Documents that were read, image vectors that were computed and pictures that were scaled.",
    ("cache",),
)
PICTURES = MetricSpec(
    "product_match_pictures_total",
    "counter",
    "Requests for products' pictures by outcome: ok, not_found, client_error, error.",
    ("outcome",),
)
CAPTIONS = MetricSpec(
    "product_match_captions_total",
    "counter",
    "Captions that match requests wanted, by status (see details.caption).",
    ("status",),
)
OBJECT_SEARCHES = MetricSpec(
    "product_match_object_searches_total",
    "counter",
    "Match requests that asked for the objects of a photo, by status (see details.objects).",
    ("status",),
)
LOG_QUEUE_ENTRIES = MetricSpec(
    "product_match_log_queue_entries",
    "gauge",
    "Log entries not yet in the database, by log and queue file.",
    ("log", "queue"),
)
LOG_DROPPED = MetricSpec(
    "product_match_log_dropped_total",
    "counter",
    "Log entries that were lost: full (the queue or its disk), refused (no document).",
    ("log", "reason"),
)
INGESTS = MetricSpec(
    "product_match_ingest_total",
    "counter",
    "Ingest requests by operation and status.",
    ("operation", "status"),
)
ENGINE_PRECISION = MetricSpec(
    "product_match_engine_precision",
    "gauge",
    "1 for the precision in which a server's engine computes (fp32, fp16, int8), by model.",
    ("model", "precision"),
)
INDEX_PRODUCTS = MetricSpec("product_match_index_products", "gauge", "Products in the index.")
INDEX_VECTORS = MetricSpec(
    "product_match_index_vectors", "gauge", "Vectors in the index, by kind.", ("kind",)
)
INDEX_ATTRIBUTE_KEYS = MetricSpec(
    "product_match_index_attribute_keys",
    "gauge",
    "Distinct attribute keys of the indexed products: indexed (filters can name them), refused "
    "(beyond PRODUCT_MATCH_MAX_ATTRIBUTE_KEYS).",
    ("state",),
)
INDEX_VERSION = MetricSpec(
    "product_match_index_version", "gauge", "Changes that the index has applied since its start."
)
INDEX_FOLLOWING = MetricSpec(
    "product_match_index_following", "gauge", "1 while the index follows the database, else 0."
)
INDEX_LOADED_SHARE = MetricSpec(
    "product_match_index_loaded_share",
    "gauge",
    "Share of the stored products that the index has read, 0 to 1; it grows during a full read.",
)
INDEX_LAG_SECONDS = MetricSpec(
    "product_match_index_lag_seconds",
    "gauge",
    "Seconds from the newest applied change in the database to its application; while the index "
    "does not follow, seconds since it last did.",
)
INDEX_STALE = MetricSpec(
    "product_match_index_stale_products",
    "gauge",
    "Products with vectors of another bundle, stored but not searched.",
)
INDEX_LEADER = MetricSpec(
    "product_match_index_leader",
    "gauge",
    "1 where this server keeps the index in Milvus equal to the database, as one of all does, else "
    "0; with the engine milvus alone.",
)
MILVUS_UP = MetricSpec(
    "product_match_milvus_up",
    "gauge",
    "1 while Milvus answers this server, else 0; with the engine milvus alone.",
)
INDEX_RESYNCS = MetricSpec(
    "product_match_index_resyncs_total",
    "counter",
    "Full reads of the catalogue because the change stream could not be resumed.",
)
INDEX_SNAPSHOT_AGE_SECONDS = MetricSpec(
    "product_match_index_snapshot_age_seconds",
    "gauge",
    "Seconds since the newest snapshot of the index on disk was up to date; absent without one.",
)

METRICS = (
    REQUESTS,
    WAITING,
    STAGE_SECONDS,
    DEGRADED,
    CACHE_HITS,
    CACHE_MISSES,
    PICTURES,
    CAPTIONS,
    OBJECT_SEARCHES,
    LOG_QUEUE_ENTRIES,
    LOG_DROPPED,
    INGESTS,
    ENGINE_PRECISION,
    INDEX_PRODUCTS,
    INDEX_VECTORS,
    INDEX_ATTRIBUTE_KEYS,
    INDEX_VERSION,
    INDEX_FOLLOWING,
    INDEX_LOADED_SHARE,
    INDEX_LAG_SECONDS,
    INDEX_STALE,
    INDEX_LEADER,
    MILVUS_UP,
    INDEX_RESYNCS,
    INDEX_SNAPSHOT_AGE_SECONDS,
)


class Metrics:
    """Where measurements go; these are dropped. Labels are given in the order of the spec."""

    def add(self, spec: MetricSpec, amount: float = 1.0, *labels: str) -> None:
        """Raise a counter or gauge; a gauge may go down too."""

    def set(self, spec: MetricSpec, value: float, *labels: str) -> None:
        """Set a gauge."""

    def observe(self, spec: MetricSpec, value: float, *labels: str) -> None:
        """Enter a value into a histogram."""


NO_METRICS = Metrics()
