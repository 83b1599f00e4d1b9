"""``make metric``: fit a metric to the catalogue, tell what it gains, or serve another version."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.database.store import Document, Store
from bls_models.metric.catalogue import NONE, CatalogueMetrics, Current
from bls_models.metric.fitting import Fit, Gain, best_of
from bls_models.report.feedback import share_interval
from bls_models.settings import AUTO, Settings
from local_server.log_tables import reports_database
from local_server.options import Options
from local_server.running import find_running
from local_server.served_metric import fit_with_progress, wait_until_served
from product_match_client.terminal import plain
from reporting.progress import Report


def show_metric(
    options: Options,
    console: Console,
    report: Report,
    *,
    version: str | None = None,
    dry_run: bool = False,
    listing: bool = False,
    url: str | None = None,
) -> int:
    """Fit a metric and have it served; or do what else is asked for.

    Args:
        options: name the server, its database and its models.
        console: for the tables.
        report: called with a line on the progress.
        version: serve this one instead of fitting one; ``NONE``: raw vectors.
        dry_run: only tell what a metric would gain.
        listing: only list the versions that there are.
        url: the server that is to serve it; None: the running local one, if there is one.

    Returns:
        The exit status.

    Raises:
        ProductMatchError: the database does not answer, another fit is under way, there is no
            such version, the models are not built, or the server does not take it up in time.
    """
    bundle = Bundle.read(options.repository_folder)
    with reports_database(options) as database:
        store = Store(database, Settings().log_days)
        catalogue = CatalogueMetrics(store, bundle)
        if listing:
            _show_versions(catalogue.versions(), catalogue.current(), console)
            return 0
        if version is None:
            fitted = fit_with_progress(catalogue, store, report, dry_run)
            _show_fit(fitted, console)
            if dry_run:
                served = catalogue.current().version
                _say(console, f"Nothing was changed; metric {served} serves as before.")
                return 0
        else:
            catalogue.serve(version)
        _wait(options, url, catalogue.current().version, console, report)
    return 0


def _wait(
    options: Options, url: str | None, version: str, console: Console, report: Report
) -> None:
    """Wait until the server names the version, if it is one that ever will."""
    running = find_running(options.state_folder)
    local = running is not None and url is None
    mode = running.metric if running and local else Settings.from_environment().metric
    url = running.http_url if running and local else url
    if mode == NONE:
        _say(console, "PRODUCT_MATCH_METRIC=none: the server compares raw vectors all the same.")
    elif url is None:
        _say(console, f"No server runs here; metric {version} serves from the next start on.")
    else:
        report(f"metric: the server builds its index for {version}")
        wait_until_served(url, version)
        _say(console, f"{url} serves metric {version}.")
    if mode == AUTO:
        _say(
            console,
            "Another one is fitted when a fifth of the catalogue has changed, unless "
            "PRODUCT_MATCH_METRIC is manual.",
        )


def _say(console: Console, line: str) -> None:
    console.print(plain(line), soft_wrap=True)


def _show_fit(fitted: Fit, console: Console) -> None:
    if fitted.gains:
        chosen = None if fitted.metric is None else best_of(fitted.gains)
        console.print(_gains_table(fitted.gains, chosen))
        console.print("Intervals are of 95%; both: four fifths seen, one fifth unseen.")
    console.print(f"{fitted.views} views of {fitted.products} products.")
    if fitted.metric is None:
        _say(console, f"No metric: {fitted.reason}. Image vectors are compared as they are.")
    else:
        console.print(f"Metric {fitted.metric.version}: {fitted.metric.dim} numbers a view.")


def _gains_table(gains: Sequence[Gain], chosen: Gain | None) -> Table:
    title = "Left-out views that find their product first"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column("metric")
    for name in ("seen", "interval", "unseen", "interval", "both"):
        table.add_column(name, justify="right")
    table.add_column("")
    for gain in gains:
        table.add_row(
            gain.name,
            f"{gain.seen:.1%}",
            _interval(gain.seen, gain.seen_count),
            f"{gain.unseen:.1%}",
            _interval(gain.unseen, gain.unseen_count),
            f"{gain.both:.1%}",
            "chosen" if gain is chosen else "",
            style="bold" if gain is chosen else "",
        )
    return table


def _interval(share: float, count: int) -> str:
    low, high = share_interval(round(share * count), count)
    return f"{low:.0%} - {high:.0%}"


def _show_versions(versions: Sequence[Document], current: Current, console: Console) -> None:
    table = Table(title="Metrics", title_justify="left", box=None, pad_edge=False)
    table.add_column("version")
    for name in ("time (UTC)", "products", "views", "seen", "unseen", "both", "raw"):
        table.add_column(name, justify="right")
    table.add_column("")
    for item in versions:
        gains = [Gain(**gain) for gain in item["gains"]]
        best = best_of(gains)
        table.add_row(
            plain(item["_id"]),
            f"{item['fitted']:%m-%d %H:%M}",
            str(item["products"]),
            str(item["views"]),
            f"{best.seen:.1%}",
            f"{best.unseen:.1%}",
            f"{best.both:.1%}",
            f"{gains[0].both:.1%}",
            "served" if item["_id"] == current.version else "",
        )
    if versions:
        console.print(table)
    else:
        console.print("No metric was fitted yet.")
    if current.version == NONE:
        console.print("Raw vectors are served (metric none).")
