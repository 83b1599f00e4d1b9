"""Requests for a report: which one, of how much, and of how long."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from bls_models.errors import RequestError
from bls_models.report.request import ReportQuery, report_query_from_tensors
from bls_models.specs import PRODUCT_REPORT

LOG_DAYS = 30


def query(**values: Any) -> ReportQuery:
    tensors = {
        name: np.array([[value]], PRODUCT_REPORT.input(name).numpy_dtype)
        for name, value in values.items()
    }
    return report_query_from_tensors(tensors, LOG_DAYS)


def test_what_is_left_out_has_a_default() -> None:
    assert query(report=b"matches") == ReportQuery("matches", 20, 24.0)
    assert query(report=b"history") == ReportQuery("history", 24, 24.0)
    # All that is kept.
    assert query(report=b"feedback").hours == 720.0


def test_everything_can_be_said() -> None:
    assert query(report=b"history", limit=100, hours=720) == ReportQuery("history", 100, 720.0)
    assert query(report=b"stages", limit=1, hours=0.1).hours == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"report": b"sales"}, r"report: 'sales'; expected matches \| errors \| history"),
        ({"report": b"\xff" * 200}, "report: "),
        ({"limit": 0}, "limit: 0; expected 1 to 100"),
        ({"limit": 101}, "limit: 101; expected 1 to 100"),
        ({"hours": 0.09}, "hours: 0.09; expected 0.1 to 720"),
        ({"hours": 721}, "hours: 721; expected 0.1 to 720"),
        ({"hours": math.nan}, "hours: nan; expected"),
        ({"hours": math.inf}, "hours: inf; expected"),
    ],
)
def test_what_cannot_be_used_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=f"^{message}"):
        query(**{"report": b"history", **values})
