"""When a load test has failed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def faults(latencies_ms: Sequence[float], errors: int, p99_budget_ms: float | None) -> list[str]:
    """Why a load test has failed, as sentences; none if it has not.

    Args:
        latencies_ms: of all requests, also of those that failed.
        errors: requests that failed.
        p99_budget_ms: the most that the 99th percentile of the latencies may be; None: anything.
    """
    if not latencies_ms:
        return ["no request was answered"]
    found = []
    if errors:
        found.append(f"{errors} of {len(latencies_ms)} requests failed")
    p99 = float(np.percentile(latencies_ms, 99))
    if p99_budget_ms is not None and p99 > p99_budget_ms:
        found.append(f"p99 is {p99:.1f} ms, more than the budget of {p99_budget_ms:g} ms")
    return found
