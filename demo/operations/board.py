"""The tab's content, put together from reports."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from demo.alerts import alert
from demo.operations import entries, index_state, quality, reports, traffic
from demo.operations.reports import Period, Report
from demo.operations.tables import Markup, card
from product_match_client import ClientError

# In the order of the page: title, report, what is made of it.
PARTS: tuple[tuple[str, str, Callable[[Report], Markup]], ...] = (
    ("Requests over time", reports.HISTORY, traffic.traffic),
    ("Time by stage", reports.STAGES, traffic.stages),
    ("Latest requests", reports.MATCHES, entries.requests),
    ("Latest errors", reports.ERRORS, entries.errors),
    ("Most matched products", reports.PRODUCTS, traffic.most_matched),
    ("Accuracy by feedback", reports.FEEDBACK, quality.feedback),
    ("Index", reports.SERVER, index_state.index_state),
    ("Learned metric", reports.SERVER, quality.learned_metric),
)
# So many parts stand before the chart of the lag, which is beside that of the stages.
BEFORE_LAG = 2


def board(
    told: dict[str, Report | ClientError],
    samples: Sequence[index_state.LagSample],
    period: Period,
) -> str:
    """HTML of all parts; of a report that failed, the error in its place."""
    cards = [_part(title, told[name], show) for title, name, show in PARTS]
    cards.insert(BEFORE_LAG, index_state.lag(samples))
    last = period.name.removeprefix("1 ")
    note = f"As of {samples[-1].time:%H:%M:%S} UTC, the last {last}. All times are UTC."
    return (
        f'<div class="operations-board"><p class="operations-note">{note}</p>{"".join(cards)}</div>'
    )


def _part(title: str, report: Report | ClientError, show: Callable[[Report], Markup]) -> Markup:
    if isinstance(report, ClientError):
        return card(title, Markup(alert(report)))
    return show(report)
