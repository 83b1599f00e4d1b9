"""The accounts of faults and soak: what is lost, doubled or wrong does not go unnoticed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from pymongo.database import Database
from rich.console import Console
from serving_support import wait_for

from bls_models.database.store import Document
from bls_models.errors import ServiceError, SetupError
from loadtest import soak
from loadtest.faults import audit
from loadtest.faults.__main__ import table_from_results
from loadtest.faults.audit import LogAudit, audit_logs, index_difference, wrong_products
from loadtest.faults.scenarios import FAULTS, QUEUE_FULL, Fault, Result, _problems
from loadtest.faults.traffic import ANSWERED, DEGRADED, FAILED, REFUSED, Sent, Traffic
from loadtest.soak import MemoryWatch, grown_processes, grown_too_much, growth
from local_server.supervisor import MOST_RESTARTS, Supervisor

KILLED_DATABASE = FAULTS[0]


def sent(request_id: str, outcome: str = ANSWERED, operation: str = "match") -> Sent:
    return Sent(operation, request_id, 0.0, 1.0, outcome)


@pytest.fixture
def logged(database: Database[Document]) -> Database[Document]:
    """Matches a, b (twice) and d, and the upsert e."""
    database["match_log"].insert_many([{"request_id": key} for key in "abbd"])
    database["ingest_log"].insert_one({"request_id": "e"})
    return database


def test_missing_and_doubled_entries_are_counted(
    logged: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "AGREE_SECONDS", 0.0)
    requests = [
        sent("a"),
        sent("b", DEGRADED),
        sent("c", REFUSED),
        sent("d", FAILED),
        sent("e", operation="upsert"),
        sent("f", operation="delete"),
    ]
    assert audit_logs(logged, requests) == LogAudit(expected=5, written=5, missing=2, doubled=1)


def test_products_that_are_not_as_acknowledged_are_named(database: Database[Document]) -> None:
    database["products"].insert_many(
        [{"_id": key, "revision": 2} for key in ("right", "stale", "undeleted", "unsure")]
    )
    traffic = Traffic("http://127.0.0.1:1", [], 0, 0.0)
    traffic.products = {"right": 2, "stale": 3, "undeleted": None, "unsure": 5, "lost": 1}
    traffic.uncertain = {"unsure"}
    assert wrong_products(database, traffic) == ["stale", "undeleted", "lost"]


@pytest.mark.parametrize(
    ("answers", "difference"),
    [
        ([{}], ""),
        ([{"other_revision": 2, "missing": 1}], "1 missing, 2 other_revision"),
        ([ServiceError("the index loads"), {}], ""),
        ([{"missing": 1}, {}], ""),
    ],
)
def test_index_and_database_are_compared_product_by_product(
    answers: list[Any], difference: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(url: str, repair: bool) -> dict[str, Any]:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        assert not repair
        return {"differences": answer}

    monkeypatch.setattr(audit, "ask_for_check", ask)
    # What does not pass is reported when the time is over.
    monkeypatch.setattr(audit, "AGREE_SECONDS", -1.0 if difference else 600.0)
    assert index_difference("http://127.0.0.1:1") == difference


def test_what_cannot_be_compared_counts_as_different(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "AGREE_SECONDS", 0.0)
    assert "does not answer" in index_difference("http://127.0.0.1:1")


def result(**changes: Any) -> Result:
    outcomes = {"sent": 5, ANSWERED: 5, DEGRADED: 0, REFUSED: 0, FAILED: 0}
    facts: dict[str, Any] = {
        "fault": "a fault",
        "matches": outcomes,
        "writes": outcomes,
        "worst_match_s": 1.0,
        "p99_match_ms": 1.0,
        "recovery_s": 1.0,
        "logs": LogAudit(5, 5, 0, 0),
        "dropped": 0,
        "wrong_products": [],
        "index_differs": False,
        "stale_reads": 0,
        "ended": [],
        "grown_mb": None,
        "attacked": {},
        "problems": [],
    }
    return Result(**(facts | changes))


@pytest.mark.parametrize(
    ("fault", "changes", "problem"),
    [
        (KILLED_DATABASE, {"logs": LogAudit(5, 4, 1, 0)}, "1 acknowledged requests are not in"),
        (KILLED_DATABASE, {"logs": LogAudit(5, 6, 0, 1)}, "1 log entries are doubled"),
        (KILLED_DATABASE, {"worst_match_s": 13.0}, "a match took 13.0 s"),
        (KILLED_DATABASE, {"recovery_s": 31.0}, "complete answers came after 31.0 s"),
        (KILLED_DATABASE, {"wrong_products": ["p"]}, "1 products are not as acknowledged"),
        (KILLED_DATABASE, {"index_differs": True}, "the index differs from the database"),
        (KILLED_DATABASE, {"stale_reads": 3}, "the secondary was read 3 times"),
        (
            KILLED_DATABASE,
            {"matches": {"sent": 5, ANSWERED: 3, DEGRADED: 0, REFUSED: 1, FAILED: 1}},
            "2 matches were not answered",
        ),
        (QUEUE_FULL, {}, "nothing was dropped"),
        (QUEUE_FULL, {"logs": LogAudit(5, 2, 3, 0), "dropped": 2}, "3 acknowledged requests"),
    ],
)
def test_what_must_not_be_is_a_problem(fault: Fault, changes: dict[str, Any], problem: str) -> None:
    (found,) = _problems(fault, result(**changes))
    assert found.startswith(problem)


def test_what_must_be_is_none() -> None:
    assert _problems(KILLED_DATABASE, result()) == []
    full = result(logs=LogAudit(5, 3, 2, 0), dropped=2)
    assert _problems(QUEUE_FULL, full) == []


def test_the_table_accounts_for_all_that_was_sent_and_fits_a_terminal() -> None:
    matches = {"sent": 40_000, ANSWERED: 1_000, DEGRADED: 30_000, REFUSED: 4_000, FAILED: 5_000}
    writes = {"sent": 1_000, ANSWERED: 500, DEGRADED: 0, REFUSED: 300, FAILED: 200}
    faults = [*FAULTS, QUEUE_FULL]
    rows = [
        result(fault=fault.name, matches=matches, writes=writes, p99_match_ms=12_345.6,
               recovery_s=79.9, logs=LogAudit(39_800, 38_900, 900, 900), dropped=900)
        for fault in faults
    ]  # fmt: skip
    console = Console(width=80, record=True)
    console.print(table_from_results(rows))
    lines = console.export_text().splitlines()
    assert "\u2026" not in "".join(lines)
    for fault, line in zip(faults, lines[-len(faults) :], strict=True):
        assert line.startswith(fault.name)
        sent, *outcomes = (int(number) for number in line.removeprefix(fault.name).split()[:5])
        assert (sent, sum(outcomes)) == (41_000, 41_000)


def test_memory_is_compared_after_warming_up() -> None:
    rising = [float(value) for value in range(60)]
    assert growth(rising) == (14.5, 54.5)
    assert growth([10.0] * 5 + [100.0] * 55) == (100.0, 100.0)


def test_a_process_that_died_early_is_not_judged() -> None:
    samples = {"tritonserver": [10.0] * 6, "image_encoder": [10.0] * 5, "image_encoder 1": []}
    assert grown_processes(samples) == {"tritonserver": (10.0, 10.0)}


def test_growth_of_all_but_the_database_is_told() -> None:
    grown = {"database": (100.0, 200.0), "tritonserver": (100.0, 130.0), "text": (400.0, 430.0)}
    assert grown_too_much(grown) == ["tritonserver grew from 100 to 130 MB"]
    assert grown_too_much({"product_match": (10.0, 20.0)}) == []


def test_a_soak_too_short_to_judge_memory_has_a_summary() -> None:
    logs = {"written": 5, "missing": 0, "doubled": 0}
    report = {"requests": {}, "minutes": 0.1, "logs": logs, "memory_mb": {}}
    report["storm"] = {"requests": {}, "memory_mb": {}}
    assert "too short" in soak._summary(report)


@pytest.fixture
def processes() -> Iterator[tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]:
    command = [sys.executable, "-c", "input()"]
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE) as one,
        subprocess.Popen(command, stdin=subprocess.PIPE) as other,
    ):
        yield one, other
        one.kill()
        other.kill()


def test_memory_is_watched_on_when_a_process_has_died(
    processes: tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(soak, "SAMPLE_SECONDS", 0.01)
    triton, database = processes
    server: Any = SimpleNamespace(
        triton=SimpleNamespace(process=triton, shared_memory=0), database=database
    )
    memory = MemoryWatch(server)
    triton.kill()
    triton.wait()
    time.sleep(0.1)
    died, lives = (len(memory.samples[name]) for name in ("tritonserver", "database"))
    wait_for(lambda: len(memory.samples["database"]) > lives + 5, "further samples")
    memory.close()
    assert len(memory.samples["tritonserver"]) == died


class EndingTriton:
    """Ends as soon as it is started; of a server the supervisor sees no more than this."""

    alive = False
    log = "triton.log"

    class process:  # noqa: N801
        pid = 0

        @staticmethod
        def log_tail() -> str:
            return "out of memory"

    def __init__(self) -> None:
        self.starts = 0

    def restart(self) -> None:
        self.starts += 1


def test_a_server_that_ends_again_and_again_is_given_up_with_its_log() -> None:
    triton = EndingTriton()
    supervisor = Supervisor(triton, lambda line: None)  # type: ignore[arg-type]
    for _ in range(MOST_RESTARTS):
        supervisor.check()
    with pytest.raises(SetupError, match="out of memory"):
        supervisor.check()
    assert triton.starts == MOST_RESTARTS
