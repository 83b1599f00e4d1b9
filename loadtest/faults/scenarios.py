"""The faults: how each is made, how long it lasts, and what must hold of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from bls_models.background import repeated
from bls_models.settings import Settings
from loadtest.faults.attacks import (
    CLIENTS,
    MANY_CLIENTS,
    Attack,
    Calls,
    attribute_call,
    filter_call,
    photo_call,
    pixels_call,
)
from loadtest.faults.audit import LogAudit, audit_logs, index_difference, wrong_products
from loadtest.faults.server import BreakableServer
from loadtest.faults.traffic import ANSWERED, DEGRADED, FAILED, MATCH, REFUSED, Sent, Traffic
from loadtest.processes import ProcessTrees

DROPPED = "product_match_log_dropped_total"
# Load before a fault, and after the server is whole again.
AROUND_SECONDS = 3.0
RECOVERY_SECONDS = 90.0
# Decoding a large picture takes longer than this, so that its memory is seen.
MEMORY_SECONDS = 0.1
SERVER = "server"


@dataclass(frozen=True)
class Fault:
    """One thing that goes wrong.

    Attributes:
        name: as reports have it.
        make: makes it; None with an attack.
        mend: what an operator does, after the fault has lasted; None where the server must
            recover by itself.
        recovery_s: the longest time to complete answers, from ``mend``, or else from ``make``.
        fails_matches: whether matches may fail or be refused meanwhile; else they must all be
            answered.
        longest_match_s: no match may take longer, whatever becomes of it.
        drops: whether log entries may be lost, each one counted by the server.
        captions: share of the photos that ask for a caption.
        attack: what hostile clients send while it lasts; no process may end of it.
        attackers: how many these are.
        memory_mb: the most that the server's memory may grow, MB; None where it is not watched.
    """

    name: str
    make: Callable[[BreakableServer], None] | None = None
    mend: Callable[[BreakableServer], None] | None = None
    recovery_s: float = 30.0
    fails_matches: bool = False
    longest_match_s: float = 12.0
    drops: bool = False
    captions: float = 0.0
    attack: Calls | None = None
    attackers: int = CLIENTS
    memory_mb: float | None = None


def _restart_database(server: BreakableServer) -> None:
    server.database.stop()
    server.database.start()


FAULTS = (
    Fault(
        "database killed",
        lambda server: server.database.kill(),
        lambda server: server.database.start(),
    ),
    Fault("database restarted", _restart_database),
    Fault("encoder killed", lambda server: server.kill_model("image_encoder"), fails_matches=True),
    # The index itself is in the process of product_match.
    Fault("product_index killed", lambda server: server.kill_model("product_index")),
    Fault("captioner killed", lambda server: server.kill_model("caption_decoder"), captions=0.5),
    Fault(
        "product_match killed",
        lambda server: server.kill_model("product_match"),
        fails_matches=True,
    ),
    Fault(
        "triton killed", lambda server: server.kill_triton(), recovery_s=80.0, fails_matches=True
    ),
    Fault("hostile filters", attack=filter_call),
    Fault("hostile attributes", attack=attribute_call),
    Fault(
        "pixel bombs",
        attack=pixels_call,
        attackers=2,
        fails_matches=True,
        longest_match_s=30.0,
        memory_mb=Settings().decode_bytes / 1e6,
    ),
    Fault("overload", attack=photo_call, attackers=MANY_CLIENTS, fails_matches=True),
)
# On a server with ``SMALL_QUEUE``.
QUEUE_FULL = Fault(
    "log queue full",
    lambda server: server.database.kill(),
    lambda server: server.database.start(),
    drops=True,
)
SMALL_QUEUE = {"PRODUCT_MATCH_LOG_QUEUE_BYTES": "65536"}
# On a server whose database has a secondary without any of the writes, which its address prefers.
SECONDARY_BEHIND = Fault("secondary behind", _restart_database)
# On a server whose index lies in Milvus.
IN_MILVUS = (
    Fault(
        "milvus killed",
        lambda server: server.milvus.kill(),
        lambda server: server.milvus.start(),
        # It takes half a minute itself.
        recovery_s=80.0,
        fails_matches=True,
    ),
    # Its server follows the database, and nobody else may for the lease's ten seconds.
    Fault(
        "milvus's follower killed",
        lambda server: server.kill_model("product_match"),
        recovery_s=60.0,
        fails_matches=True,
    ),
    # As a server finds it that stood still for longer than the lease lasts.
    Fault("milvus's lease lost", lambda server: server.take_lease()),
)


@dataclass(frozen=True)
class Result:
    """What a fault did.

    Attributes:
        fault: its name.
        matches: match requests by outcome.
        writes: upserts and deletes by outcome.
        worst_match_s: the longest match.
        p99_match_ms: of the matches during the fault and after it.
        recovery_s: from the fault's end, or its beginning where the server mends itself, to the
            end of the last request that was not answered completely.
        logs: requests and their log entries.
        dropped: log entries that the server counted as lost.
        wrong_products: products that are not stored as they were acknowledged.
        index_differs: whether the index holds other products than the database, or other writes of
            them, or cannot be compared with it.
        stale_reads: reads from a secondary that lags.
        ended: models of which a process ended, `tritonserver` if it did itself.
        grown_mb: how much more memory the server had at most, MB; None where it was not watched.
        attacked: the answers to hostile clients by status, ``ok`` for those that got one.
        problems: what is not as it must be; empty if all is well.
    """

    fault: str
    matches: dict[str, int]
    writes: dict[str, int]
    worst_match_s: float
    p99_match_ms: float
    recovery_s: float
    logs: LogAudit
    dropped: int
    wrong_products: list[str]
    index_differs: bool
    stale_reads: int
    ended: list[str]
    grown_mb: float | None
    attacked: dict[str, int]
    problems: list[str]

    def as_json(self) -> dict[str, Any]:
        """For the report."""
        return asdict(self)


def run_fault(
    fault: Fault, server: BreakableServer, photos: Sequence[bytes], seconds: float, clients: int
) -> Result:
    """Make a fault under load, and look at what became of everything.

    Args:
        fault: what to do.
        server: a whole server.
        photos: what is matched; see ``Traffic``.
        seconds: how long a fault lasts that is mended by hand.
        clients: threads that match.
    """
    dropped = server.metric(DROPPED)
    before = server.processes()
    attacked: dict[str, int] = {}
    growth: list[float] = []
    with Traffic(server.triton.http_url, photos, clients, fault.captions) as traffic:
        time.sleep(AROUND_SECONDS)
        made = mended = time.monotonic()
        if fault.make is not None:
            fault.make(server)
        if fault.attack is not None:
            attack = Attack(server.triton.http_url, fault.attack, fault.attackers)
            with _growth(fault, server) as growth, attack.running():
                time.sleep(seconds)
            mended = time.monotonic()
            attacked = dict(attack.outcomes)
        elif fault.mend is not None:
            time.sleep(seconds)
            mended = time.monotonic()
            fault.mend(server)
        _wait_until_whole(traffic, mended)
    lost = int(server.metric(DROPPED) - dropped) if fault.drops else 0
    logs = audit_logs(server.products, traffic.sent, allowed=lost)
    matches = [item for item in traffic.sent if item.operation == MATCH]
    incomplete = [item.ended for item in traffic.sent if item.outcome != ANSWERED]
    during = [item.ended - item.began for item in matches if item.ended > made]
    result = Result(
        fault=fault.name,
        matches=_outcomes(matches),
        writes=_outcomes([item for item in traffic.sent if item.operation != MATCH]),
        worst_match_s=round(max(during), 3),
        p99_match_ms=round(float(np.percentile(during, 99)) * 1e3, 1),
        recovery_s=round(max([0.0, *(moment - mended for moment in incomplete)]), 1),
        logs=logs,
        dropped=lost,
        wrong_products=wrong_products(server.products, traffic),
        index_differs=bool(index_difference(server.triton.http_url)),
        stale_reads=len(server.stale_reads),
        ended=sorted({before[pid] for pid in before.keys() - server.processes().keys()}),
        grown_mb=max(growth, default=None),
        attacked=attacked,
        problems=[],
    )
    result.problems.extend(_problems(fault, result))
    return result


@contextmanager
def _growth(fault: Fault, server: BreakableServer) -> Iterator[list[float]]:
    """How much more memory than at first the server has, MB, now and then until the block ends."""
    grown: list[float] = []
    if fault.memory_mb is None:
        yield grown
        return
    trees = ProcessTrees({SERVER: server.triton.process.pid})
    first = trees.memory_mb()[SERVER]
    with repeated(
        "memory", lambda: grown.append(round(trees.memory_mb()[SERVER] - first)), MEMORY_SECONDS
    ):
        yield grown


def _wait_until_whole(traffic: Traffic, since: float) -> None:
    """Wait until all requests of the last seconds were answered completely, reads and writes."""
    deadline = since + RECOVERY_SECONDS
    while time.monotonic() < deadline:
        time.sleep(0.2)
        start = time.monotonic() - AROUND_SECONDS
        if start < since:
            continue
        recent = [item for item in list(traffic.sent) if item.ended >= start]
        if {MATCH, "upsert"} <= {item.operation for item in recent} and all(
            item.outcome == ANSWERED for item in recent
        ):
            return


def _outcomes(sent: Sequence[Sent]) -> dict[str, int]:
    counts = dict.fromkeys((ANSWERED, DEGRADED, REFUSED, FAILED), 0)
    for item in sent:
        counts[item.outcome] += 1
    return {"sent": len(sent), **counts}


def _problems(fault: Fault, result: Result) -> list[str]:
    """What is not as it must be."""
    lost = result.matches[FAILED] + result.matches[REFUSED]
    checks = {
        f"{lost} matches were not answered": lost and not fault.fails_matches,
        f"a match took {result.worst_match_s} s": result.worst_match_s > fault.longest_match_s,
        f"complete answers came after {result.recovery_s} s": result.recovery_s > fault.recovery_s,
        f"{result.logs.missing} acknowledged requests are not in the log, "
        f"{result.dropped} are counted as dropped": result.logs.missing > result.dropped,
        f"{result.logs.doubled} log entries are doubled": result.logs.doubled,
        f"{len(result.wrong_products)} products are not as acknowledged": result.wrong_products,
        "the index differs from the database": result.index_differs,
        f"the secondary was read {result.stale_reads} times": result.stale_reads,
        f"the server's memory grew by {result.grown_mb} MB": fault.memory_mb is not None
        and (result.grown_mb or 0) > fault.memory_mb,
        f"hostile clients ended {', '.join(result.ended)}": fault.attack is not None
        and result.ended,
        "hostile clients got no answer": fault.attack is not None and not result.attacked,
        "nothing was dropped, so the queue was not full": fault.drops and not result.dropped,
    }
    return [text for text, wrong in checks.items() if wrong]
