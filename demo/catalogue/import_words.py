"""What the tab says of an import, as HTML."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from demo.catalogue.import_run import ImportRun, ReportedRow
from demo.catalogue.words import outcome_box
from seed.importer import ImportCounts
from seed.progress import duration_text


def progress(run: ImportRun) -> str:
    """How far an import is."""
    value = f' value="{run.done}" max="{run.total}"' if run.total else ""
    if run.total:
        said = run.said or f"{run.total} rows"
    else:
        said = f"{run.done} rows read" if run.done else "Reading the file"
    return (
        f'<div class="catalogue-progress"><progress aria-label="Rows"{value}></progress>'
        f"<p>{escape(said)}</p></div>"
    )


def summary(counts: ImportCounts, total: int, seconds: float) -> str:
    """What became of the rows.

    Args:
        counts: of the import.
        total: rows of the file.
        seconds: what it took.
    """
    rate = counts.done / max(seconds, 1e-9)  # rows a second
    lines = [f"{counts.done} rows in {duration_text(seconds)} ({rate:.1f} rows/s): {counts}."]
    if counts.done < total:
        lines.append(
            f"Stopped before the end: {total - counts.done} rows were not tried. Import the file "
            "again to go on; what is in already costs little."
        )
    if counts.stopped_by is not None:
        lines.append(str(counts.stopped_by))
    if counts.accepted > counts.statuses["unchanged"]:
        lines.append("Matches show what has changed within a second.")
    return outcome_box(lines)


def row_table(rows: Sequence[ReportedRow], counts: ImportCounts) -> str:
    """The rows that failed, with their reasons, and those without pictures."""
    if not rows:
        return ""
    lines = "".join(
        f'<tr><td>{row.row}</td><td>{escape(row.product_id) or "-"}</td><td class="catalogue-'
        f'{"failed" if row.failed else "warned"}">{"failed" if row.failed else "imported"}</td>'
        f"<td>{escape(row.said)}</td></tr>"
        for row in rows
    )
    more = counts.failed + counts.without_pictures - len(rows)
    rest = f"<p>{more} more are in the file below.</p>" if more > 0 else ""
    return (
        '<div class="catalogue-scroll" tabindex="0" role="region" aria-label="Rows to look at">'
        '<table class="catalogue-rows"><thead><tr><th>Row</th><th>Product</th><th>It</th>'
        f"<th>Reason</th></tr></thead><tbody>{lines}</tbody></table></div>{rest}"
    )


def dry_run(told: str) -> str:
    """What an import would send."""
    return (
        '<div class="catalogue-outcome" role="status"><p>Nothing was sent. An import would do '
        f'this:</p><pre class="catalogue-told">{escape(told)}</pre></div>'
    )
