"""The command behind ``make perf``."""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bls_models.specs import PRODUCT_MATCH
from loadtest.addresses import grpc_address_from_url
from loadtest.measurements import LoadError
from loadtest.options import add_catalog, add_photo_side, exit_status
from loadtest.perf.analyzer import Analyzer, Level, find_analyzer
from loadtest.perf.figures import Figures, figures_from_output, write_figures
from loadtest.perf.inputs import write_inputs
from loadtest.perf.plot import plot_figures
from loadtest.photos import read_any_photos
from local_server.options import PROJECT
from local_server.temporary_stack import local_stack

# Where no rates are given: shares of the most that the concurrency sweep reached.
RATE_SHARES = (0.25, 0.5, 0.75, 0.9)
# A window of fewer requests would hardly ever agree with the next.
MIN_REQUESTS = 50

SWEEPS = {"concurrency": "clients", "request_rate": "rate"}
# Field by column of the printed table.
TABLE = {
    "req/s": "requests_per_s",
    **{name: f"{name}_ms" for name in ("p50", "p95", "p99")},
    **{name: f"{name}_ms" for name in ("queue", "input", "infer", "output", "rest")},
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sweeps.

    Returns:
        0, or 1 if a request failed, no level gave figures, or perf_analyzer cannot run here.
    """
    options = parse_options(arguments)
    return exit_status("perf", lambda: run(options, Console()))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.perf",
        description="Sweep concurrency and request rate with perf_analyzer, over gRPC.",
    )
    add = parser.add_argument
    add("--concurrency", type=int, nargs="*", default=[1, 2, 4, 8, 16], help="requests under way "
        "at once (default: 1 2 4 8 16)")  # fmt: skip
    add("--rates", type=float, nargs="*", help="requests a second (default: a quarter, half, "
        "three quarters and nine tenths of the best throughput)")  # fmt: skip
    add("--window-seconds", type=float, default=3.0, help="length of a measurement; three in a "
        "row have to agree (default: %(default)s)")  # fmt: skip
    add("--stability", type=float, default=20.0, help="how far they may differ, in percent "
        "(default: %(default)s)")  # fmt: skip
    add_catalog(parser)
    add(
        "--photos",
        type=Path,
        help="a folder with photos, searched through (default: the catalogue's queries)",
    )
    add_photo_side(parser)
    add("--url", default="", help="a running server, grpc://host:port (default: one is started)")
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--tool", type=Path, default=PROJECT / "build" / "perf_analyzer", help="where "
        "perf_analyzer is installed")  # fmt: skip
    add("--reports", type=Path, default=PROJECT / "reports", help="folder for perf.csv and "
        "perf.png")  # fmt: skip
    options = parser.parse_args(arguments)
    options.photos = options.photos or options.catalog / "queries"
    return options


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print, and write the CSV and the plot.

    Raises:
        LoadError: a request failed, or no level gave figures.
        ProductMatchError: something that is needed is missing.
        ClientError: the server answered with an error while it was filled.
    """
    analyzer = find_analyzer(options.tool)
    photos = read_any_photos(options.photos, options.photo_side)
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="perf-")))
        inputs = folder / "inputs.json"
        write_inputs(photos, inputs)
        url = options.url
        if not url:
            # perf_analyzer sends the same photos again and again; each shall be computed.
            settings = {"PRODUCT_MATCH_VECTOR_CACHE": "1"}
            stack = local_stack(options.repository, options.catalog, settings)
            url = running.enter_context(stack).grpc_url
        sweep = Sweep(analyzer, grpc_address_from_url(url), inputs, folder, options, console)
        for value in options.concurrency:
            sweep.measure(Level("concurrency", value))
        rates = options.rates
        if rates is None:
            best = max((item.requests_per_s or 0.0 for item in sweep.figures), default=0.0)
            rates = [round(best * share, 1) for share in RATE_SHARES if best]
        for value in rates:
            sweep.measure(Level("request_rate", value))
    if not sweep.figures:
        raise LoadError(
            "no level gave figures that settle; is the machine busy? Raise --window-seconds or "
            "--stability"
        )
    console.print(table_from_figures(sweep.figures))
    write_figures(sweep.figures, options.reports / "perf.csv")
    plot_figures(sweep.figures, options.reports / "perf.png")
    console.print(f"written to {options.reports / 'perf.csv'} and perf.png")


class Sweep:
    """Levels measured one after another.

    Args:
        analyzer: the program.
        address: the server's host:port.
        inputs: what to send.
        folder: for perf_analyzer's own files.
        options: the command line's.
        console: for progress.
    """

    def __init__(
        self,
        analyzer: Analyzer,
        address: str,
        inputs: Path,
        folder: Path,
        options: argparse.Namespace,
        console: Console,
    ) -> None:
        self._analyzer = analyzer
        self._address = address
        self._inputs = inputs
        self._csv = folder / "level.csv"
        self._options = options
        self._console = console
        self.figures: list[Figures] = []

    def measure(self, level: Level) -> None:
        """Measure a level; one that does not settle is told and left out.

        Raises:
            LoadError: a request failed.
        """
        options = self._options
        name = f"{SWEEPS[level.sweep]} {level.value:g}"
        window_s = options.window_seconds
        if level.sweep == "request_rate":
            window_s = max(window_s, MIN_REQUESTS / level.value)
        printed = self._analyzer.measure(
            self._address, self._inputs, level, window_s, options.stability, self._csv
        )
        if printed is None:
            self._console.print(f"{name}: did not settle, left out")
            return
        found = figures_from_output(level, self._csv.read_text(encoding="utf-8"), printed)
        self.figures += found
        self._console.print(
            f"{name}: {found[0].requests_per_s:.1f} requests/s, p99 {found[0].p99_ms:.1f} ms"
        )


def table_from_figures(figures: Sequence[Figures]) -> Table:
    """One line a level: ``product_match``'s figures."""
    table = Table(
        title="\nproduct_match, ms; rest: threads that answer, and the network",
        title_justify="left",
        box=None,
        pad_edge=False,
    )
    table.add_column("sweep")
    for column in ("load", *TABLE):
        table.add_column(column, justify="right")
    for item in figures:
        if item.model == PRODUCT_MATCH.name:
            values = (f"{getattr(item, field):.1f}" for field in TABLE.values())
            table.add_row(SWEEPS[item.sweep], f"{item.load:g}", *values)
    return table


if __name__ == "__main__":
    sys.exit(main())
