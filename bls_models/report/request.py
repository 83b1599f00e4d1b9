"""Requests of ``product_report``: from tensors to a checked query."""

from __future__ import annotations

from dataclasses import dataclass

from bls_models.errors import RequestError
from bls_models.request_tensors import choice, inputs_from_tensors
from bls_models.specs import PRODUCT_REPORT, REPORTS
from bls_models.vectors import Arrays

MATCHES, ERRORS, HISTORY, STAGES, FEEDBACK, PRODUCTS, SERVER = REPORTS
DEFAULT_LIMIT = 20
# Of a history: an hour each, of a day.
DEFAULT_BUCKETS = 24
MOST_LIMIT = 100
DEFAULT_HOURS = 24.0
LEAST_HOURS = 0.1


@dataclass(frozen=True)
class ReportQuery:
    """A checked request.

    Attributes:
        report: one of ``REPORTS``.
        limit: most entries or products, or the number of a history's buckets.
        hours: how long ago what is reported on began.
    """

    report: str
    limit: int = DEFAULT_LIMIT
    hours: float = DEFAULT_HOURS


def report_query_from_tensors(tensors: Arrays, log_days: int) -> ReportQuery:
    """Read a request's tensors, which carry a batch dimension of 1.

    Args:
        tensors: by name.
        log_days: how long the logs are kept.

    Raises:
        RequestError: an input cannot be used; the message names it.
    """
    inputs = inputs_from_tensors(PRODUCT_REPORT, tensors)
    report = choice(inputs, "report", "", REPORTS)
    most_hours = 24.0 * log_days
    limit = DEFAULT_BUCKETS if report == HISTORY else DEFAULT_LIMIT
    # There is so little of it that a day tells nothing.
    hours = most_hours if report == FEEDBACK else DEFAULT_HOURS
    return ReportQuery(
        report,
        int(_within(inputs, "limit", limit, 1, MOST_LIMIT)),
        _within(inputs, "hours", hours, LEAST_HOURS, most_hours),
    )


def _within(inputs: Arrays, name: str, default: float, least: float, most: float) -> float:
    if name not in inputs:
        return default
    value = inputs[name][0].item()
    # So that what is not a number is refused too.
    if not least <= value <= most:
        raise RequestError(name, f"{value:g}", f"{least:g} to {most:g}")
    return float(value)
