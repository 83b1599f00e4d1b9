"""``make feedback``: how good matches are by the feedback on them, as tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bls_models.database.store import database_errors
from bls_models.report.feedback import feedback_report, requests_with_feedback
from local_server.feedback_queries import photos_by_hash, write_queries
from local_server.log_tables import reports_database
from local_server.options import Options
from reporting.reports import write_report

REPORT = Path("reports/feedback.json")


def show_feedback(
    options: Options, console: Console, queries: Path | None = None, photos: Path | None = None
) -> int:
    """Print the tables and write ``REPORT``, and queries if they are asked for.

    Args:
        options: name the server.
        console: for the tables.
        queries: CSV file to write; None: none.
        photos: folder with the photos of requests, for ``queries``.

    Returns:
        The exit status.

    Raises:
        SetupError: there is no database, or no such folder.
        DatabaseError: the database does not answer.
    """
    known = photos_by_hash(photos) if queries is not None and photos is not None else {}
    with reports_database(options) as database, database_errors("reading feedback"):
        requests = requests_with_feedback(database)
    report = feedback_report(requests)
    write_report(REPORT, report)
    if not report["days"]:
        console.print("There is no feedback yet: see product_feedback in docs/api.md.")
        return 0
    console.print(_table("Feedback by day (UTC)", "day", report["days"]))
    console.print(_table("\nFeedback by variant", "variant", report["variants"]))
    console.print(f"Intervals are of 95%. All figures: {REPORT}", highlight=False)
    if queries is not None:
        written, lost = write_queries(queries, requests, known)
        console.print(f"{written} queries in {queries}", highlight=False)
        if lost:
            console.print(f"{lost} left out: their photos are not known, and they have no words")
    return 0


def _table(title: str, key: str, rows: dict[str, dict[str, Any]]) -> Table:
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    table.add_column(key)
    for name in ("requests", "judged", "first right", "interval", "in first five", "MRR", "clicks"):
        table.add_column(name, justify="right")
    for name, row in rows.items():
        low, high = row["top1_interval"]
        table.add_row(
            name,
            str(row["requests"]),
            str(row["judged"]),
            _share(row["top1"]),
            f"{low:.0%} - {high:.0%}" if row["judged"] else "-",
            _share(row["top5"]),
            "-" if row["mrr"] is None else f"{row['mrr']:.3f}",
            str(row["clicks"]),
        )
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
