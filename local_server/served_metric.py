"""The metric that a running server compares by, and the one that its first start fits."""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request

from bls_models.bundle import Bundle
from bls_models.database.store import Store
from bls_models.errors import ConflictError, ServiceError
from bls_models.match.probes import probe_body
from bls_models.metric.catalogue import CHANGED_SHARE, CatalogueMetrics
from bls_models.metric.fitting import Fit, best_of
from bls_models.settings import Settings
from local_server.probe import ENDPOINT
from local_server.running import Running
from reporting.progress import Report, counted_lines

ANSWER_SECONDS = 10.0
RETRY_SECONDS = 0.5
# A large index takes this long to be built beside the old one.
SERVED_SECONDS = 300.0
# How long the start waits for a fit that the server has begun by itself.
OTHER_FIT_SECONDS = 120.0


def headline(fitted: Fit) -> str:
    """A line on what a fit came to."""
    if fitted.metric is None:
        return f"metric: none, image vectors are compared as they are: {fitted.reason}"
    now, before = (round(100 * gain.both) for gain in (best_of(fitted.gains), fitted.gains[0]))
    return f"metric: {now} of 100 left-out views find their product first, {before} before"


def fit_with_progress(
    catalogue: CatalogueMetrics, store: Store, report: Report, dry_run: bool = False
) -> Fit:
    """Fit a metric, and report how far it is.

    Raises:
        ConflictError: another fit is under way.
        DatabaseError: the database does not answer.
    """
    total = store.count_products()
    count = counted_lines(report, "products are read")
    return catalogue.fit(lambda products: count(products, total), dry_run)


def fit_first(running: Running, bundle: Bundle, imported: bool, report: Report) -> None:
    """Fit a metric where none was tried yet, or to what was just imported; wait until it serves.

    What goes wrong is reported: a server without a metric serves all the same.

    Args:
        running: the server.
        bundle: its.
        imported: whether products were imported or computed anew by this start.
        report: called with a line on the progress.
    """
    with contextlib.closing(running.connect().client) as client:
        store = Store(client[running.database], Settings().log_days)
        catalogue = CatalogueMetrics(store, bundle)
        try:
            fitted = _fit_if_due(catalogue, store, imported, report)
            if fitted is not None:
                report(headline(fitted))
                wait_until_served(running.http_url, catalogue.current().version)
        except ServiceError as error:
            report(f"metric: {error}")


def _fit_if_due(
    catalogue: CatalogueMetrics, store: Store, imported: bool, report: Report
) -> Fit | None:
    deadline = time.monotonic() + OTHER_FIT_SECONDS
    while (catalogue.can_fit and catalogue.current().fitted is None) or (
        imported and catalogue.changed_share() >= CHANGED_SHARE
    ):
        try:
            return fit_with_progress(catalogue, store, report)
        except ConflictError:
            # The server's own may have begun before all was imported.
            if time.monotonic() > deadline:
                raise
        time.sleep(RETRY_SECONDS)
    return None


def served_metric(http_url: str) -> str:
    """The version that a server's answers name; empty while it gives none.

    It is asked as the health checks do, which are in no log.
    """
    body = probe_body() | {"outputs": [{"name": "details"}]}
    request = urllib.request.Request(
        f"{http_url.rstrip('/')}/{ENDPOINT}",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=ANSWER_SECONDS) as answer:
            (output,) = json.load(answer)["outputs"]
    except OSError:
        return ""
    return str(json.loads(output["data"][0])["index"].get("metric", ""))


def wait_until_served(http_url: str, version: str, seconds: float = SERVED_SECONDS) -> None:
    """Wait until a server's answers name a version.

    Raises:
        ServiceError: they do not in time.
    """
    deadline = time.monotonic() + seconds
    while (served := served_metric(http_url)) != version:
        if time.monotonic() > deadline:
            raise ServiceError(
                f"{http_url} {f'compares by metric {served}' if served else 'answers no match'} "
                f"after {seconds:.0f} s and not by {version} yet; `details.index.metric` of a "
                "match tells when it does, and the server's log what it waits for"
            )
        time.sleep(RETRY_SECONDS)
