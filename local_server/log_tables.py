"""``make logs``: the latest matches and errors as tables."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from pymongo.database import Database
from rich.console import Console
from rich.table import Table

from bls_models.database import queries
from bls_models.database.store import INGEST_LOG, MATCH_LOG, Document, database_errors
from bls_models.errors import SetupError
from bls_models.settings import Settings
from local_server.database import MOST_REPORT_ENTRIES, local_database
from local_server.options import Options
from local_server.running import connect_for_reports, find_running, state_lock
from local_server.stack import database_name
from product_match_client.terminal import plain

ROWS = 15
SHOWN_MATCHES = 3


def show_logs(options: Options, console: Console) -> int:
    """Print the tables; returns the exit status."""
    with reports_database(options) as database, database_errors("reading the logs"):
        matches = queries.recent_matches(database, ROWS)
        console.print(_matches_table(matches))
        for log in (MATCH_LOG, INGEST_LOG):
            errors = queries.recent_errors(database, log, ROWS)
            if errors:
                console.print(_errors_table(log, errors))
        now = datetime.now(UTC)
        kept_since = now - timedelta(days=Settings.from_environment().log_days)
        span = queries.newest_span(database[MATCH_LOG], kept_since, now, MOST_REPORT_ENTRIES)
        percentiles = queries.latency_percentiles(database, span)
        if percentiles:
            console.print(_latency_table(percentiles))
        products = queries.most_matched(database, span, SHOWN_MATCHES)
        if products:
            names = ", ".join(f"{item['product_id']} ({item['matches']})" for item in products)
            console.print(plain(f"Most matched: {names}"))
    return 0


@contextlib.contextmanager
def reports_database(options: Options) -> Iterator[Database[Document]]:
    """The running server's database, or the stopped one's, started for the moment.

    Raises:
        SetupError: there is none yet.
    """
    name = database_name(options)
    with contextlib.ExitStack() as stack:
        running = find_running(options.state_folder)
        if running is not None:
            database = running.connect()
        elif options.mongodb_uri:
            database = connect_for_reports(options.mongodb_uri, name)
        elif (options.state_folder / "database").is_dir():
            stack.enter_context(state_lock(options.state_folder))
            uri = stack.enter_context(local_database(options.state_folder, options.mongodb_port))
            database = connect_for_reports(uri, name)
        else:
            raise SetupError(
                f"there is no database in {options.state_folder} yet; start the server with "
                "`make run`"
            )
        stack.callback(database.client.close)
        yield database


def _matches_table(entries: list[Document]) -> Table:
    table = Table(title="Latest matches (UTC)", title_justify="left", box=None, pad_edge=False)
    for name in ("time", "status", "inputs", "best matches"):
        table.add_column(name, overflow="fold")
    table.add_column("ms", justify="right")
    for entry in entries:
        ok = entry["status"] == "ok"
        best = ", ".join(
            f"{match['product_id']} {match['score']:.3f}"
            for match in entry.get("matches", [])[:SHOWN_MATCHES]
        )
        table.add_row(
            f"{entry['time']:%m-%d %H:%M:%S}",
            plain(entry["status"], style="green" if ok else "red"),
            plain(_inputs(entry.get("inputs", {}))),
            plain(best or ("nothing" if ok else entry["error"]["type"])),
            f"{entry['milliseconds']['total']:.1f}",
        )
    return table


def _inputs(inputs: Document) -> str:
    images = len(inputs.get("images", []))
    parts = [f"{images} image{'s' if images > 1 else ''}"] if images else []
    parts += [repr(text[:40]) for text in inputs.get("texts", [])]
    if inputs.get("filter"):
        parts.append(inputs["filter"][:60])
    return " ".join(parts) or "-"


def _errors_table(log: str, entries: list[Document]) -> Table:
    table = Table(title=f"\nLatest errors of {log}", title_justify="left", box=None, pad_edge=False)
    for name in ("time", "error", "message"):
        table.add_column(name, overflow="fold")
    for entry in entries:
        table.add_row(
            f"{entry['time']:%m-%d %H:%M:%S}",
            plain(entry["error"]["type"], style="red"),
            plain(entry["error"]["message"]),
        )
    return table


def _latency_table(percentiles: dict[str, dict[str, float]]) -> Table:
    table = Table(title="\nMilliseconds by stage", title_justify="left", box=None, pad_edge=False)
    table.add_column("stage")
    for name in ("p50_ms", "p95_ms", "p99_ms"):
        table.add_column(name.removesuffix("_ms"), justify="right")
    table.add_column("requests", justify="right")
    for stage, row in sorted(percentiles.items(), key=lambda item: item[1]["p50_ms"]):
        table.add_row(
            stage,
            *(f"{row[name]:.1f}" for name in queries.PERCENTILES),
            f"{row['count']:.0f}",
        )
    return table
