"""``make feedback``: how good matches are by the feedback on them, as tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from bls_models.feedback_report import feedback_report
from bls_models.store import database_errors
from local_server.log_tables import reports_database
from local_server.options import Options

REPORT = Path("reports/feedback.json")


def show_feedback(options: Options, console: Console) -> int:
    """Print the tables and write ``REPORT``; returns the exit status."""
    with reports_database(options) as database, database_errors("reading feedback"):
        report = feedback_report(database)
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    if not report["days"]:
        console.print("There is no feedback yet: see product_feedback in docs/api.md.")
        return 0
    console.print(_table("Feedback by day (UTC)", "day", report["days"]))
    console.print(_table("\nFeedback by variant", "variant", report["variants"]))
    console.print(f"Intervals are of 95%. All figures: {REPORT}", highlight=False)
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
