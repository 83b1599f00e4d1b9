"""How the load tools end when they cannot do their work, and that no load outlives them."""

from __future__ import annotations

import runpy
import sys
import tempfile
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest
from rich.console import Console

from bls_models.errors import ProductMatchError, SetupError
from loadtest import (
    bench,
    catalogue_scale,
    full_reads,
    ingest_bench,
    live_changes,
    milvus_scale,
    overload,
    soak,
    tune,
)
from loadtest.faults import __main__ as faults
from loadtest.faults import scenarios
from loadtest.faults.scenarios import Fault, run_fault
from loadtest.faults.traffic import Traffic
from loadtest.measurements import LoadError
from loadtest.options import exit_status
from loadtest.perf import __main__ as perf
from loadtest.photos import FIRST_SERIAL
from loadtest.traffic import __main__ as traffic
from local_server.processes import free_port
from product_match_client import ClientError

# By what it calls itself: the tool, and what of it does the work.
TOOLS = {
    "bench": (bench, "run"),
    "catalogue_scale": (catalogue_scale, "run"),
    "faults": (faults, "run_all"),
    "full_reads": (full_reads, "run"),
    "ingest-bench": (ingest_bench, "run"),
    "live_changes": (live_changes, "run"),
    "loadtest": (traffic, "run"),
    "milvus_scale": (milvus_scale, "run"),
    "overload": (overload, "run"),
    "perf": (perf, "run"),
    "soak": (soak, "soaked"),
    "tune": (tune, "tune"),
}


def raising(error: BaseException) -> Callable[..., Any]:
    def raise_it(*_: object, **__: object) -> Any:
        raise error

    return raise_it


@pytest.mark.parametrize("name", TOOLS)
def test_a_server_that_fails_is_told_in_a_line_by_every_tool(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tool, work = TOOLS[name]
    monkeypatch.setattr(tool, work, raising(ClientError("product_match failed (500): oh")))
    assert tool.main([]) == 1
    assert capsys.readouterr().err == f"{name}: product_match failed (500): oh\n"


@pytest.mark.parametrize("error", [LoadError("oh"), ProductMatchError("oh"), SetupError("oh")])
def test_what_a_tool_raises_on_purpose_is_told_in_a_line(
    error: Exception, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_status("tool", raising(error)) == 1
    assert capsys.readouterr().err == "tool: oh\n"


def test_a_tool_without_a_status_of_its_own_ends_well() -> None:
    assert exit_status("tool", lambda: None) == 0
    assert exit_status("tool", lambda: 3) == 3


def test_ctrl_c_is_no_success_of_the_ingest_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "loadtest.ingest_bench")
    monkeypatch.setattr(sys, "argv", ["ingest_bench"])
    monkeypatch.setattr(tempfile, "TemporaryDirectory", raising(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        runpy.run_module("loadtest.ingest_bench", run_name="__main__")


# --- load that is broken off ----------------------------------------------------------------------


class Watched(Traffic):
    """Traffic to nobody, of which it is known whether it still runs."""

    started: ClassVar[list[Watched]] = []

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.started.append(self)

    @property
    def runs(self) -> bool:
        return any(thread.is_alive() for thread in self._threads)


@pytest.fixture
def started() -> Iterator[list[Watched]]:
    """The traffic of a test, which is stopped in the end whatever comes."""
    Watched.started.clear()
    yield Watched.started
    for item in Watched.started:
        item.stop()


def nobody() -> str:
    return f"http://127.0.0.1:{free_port()}"


@pytest.mark.parametrize("step", ["make", "mend"])
def test_a_fault_that_cannot_be_made_or_mended_ends_the_load(
    step: str, started: list[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scenarios, "Traffic", Watched)
    monkeypatch.setattr(scenarios, "AROUND_SECONDS", 0.1)
    steps: dict[str, Any] = {"make": lambda server: None, step: raising(KeyboardInterrupt())}
    server: Any = SimpleNamespace(
        triton=SimpleNamespace(http_url=nobody()), metric=lambda name: 0.0, processes=dict
    )
    with pytest.raises(KeyboardInterrupt):
        run_fault(Fault("a fault", **steps), server, [FIRST_SERIAL], seconds=0.0, clients=2)
    assert [item.runs for item in started] == [False]


def test_a_soak_that_is_broken_off_ends_the_load(
    started: list[Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(soak, "Progress", raising(KeyboardInterrupt()))
    load = Watched(nobody(), [FIRST_SERIAL], 2, 0.0)
    with pytest.raises(KeyboardInterrupt):
        soak._load(load, 60.0, Console(), "load")
    assert not load.runs
