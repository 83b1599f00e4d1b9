"""``python -m loadtest.tune``: measure which instance and thread counts are fastest here.

One sweep of coordinate descent from the repository's own counts: the instances of
``product_match``, then its decoding threads, then the engines' threads. Each candidate runs beside
the best so far, and both are loaded in turns. What is found goes to the file that ``make run``
reads.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.cpus import cpu_count
from bls_models.settings import INDEX_PROCESS
from bls_models.specs import PRODUCT_INDEX, PRODUCT_MATCH
from loadtest.bench import product_match
from loadtest.measurements import Contestant, Summary, alternating_rounds, summary_from_rounds
from loadtest.options import exit_status
from loadtest.photos import Photo, read_photos
from loadtest.workers import own_process
from local_server.options import PROJECT, read_options
from local_server.temporary_stack import local_stack
from local_server.tuning import Tuning, instance_count, tuned_repository, write_tuning
from reporting.reports import machine, write_report

CATALOG = PROJECT / "seed" / "sample"
PHOTO_SIDE = 1000
WARM_UP_SECONDS = 1.0
MAX_INSTANCES = 3
# What a candidate has to exceed: smaller gains are not told from chance.
LEAST_GAIN = 1.03
# A lone request may become so much slower for the sake of many.
MOST_P50 = 1.1


@dataclass(frozen=True)
class Choice:
    """One candidate.

    Attributes:
        instances: of ``product_match``.
        decode_threads: ``PRODUCT_MATCH_DECODE_THREADS``; 0: one a CPU.
        engine_threads: ``PRODUCT_MATCH_ENGINE_THREADS``; 0: one a CPU.
    """

    instances: int
    decode_threads: int = 0
    engine_threads: int = 0

    def __str__(self) -> str:
        decode, engine = (
            str(count or "all") for count in (self.decode_threads, self.engine_threads)
        )
        return f"{self.instances} x product_match, threads: decode {decode}, engine {engine}"

    @property
    def tuning(self) -> Tuning:
        """As ``make run`` takes it; several instances share an index, one holds it."""
        holder = PRODUCT_MATCH if self.instances == 1 else PRODUCT_INDEX
        return Tuning(
            {PRODUCT_MATCH.name: self.instances},
            {
                INDEX_PROCESS: holder.name,
                "PRODUCT_MATCH_DECODE_THREADS": str(self.decode_threads),
                "PRODUCT_MATCH_ENGINE_THREADS": str(self.engine_threads),
            },
        )


@dataclass(frozen=True)
class Trial:
    """A candidate next to the best before it.

    Attributes:
        candidate: what was tried.
        best: what it was compared with.
        throughput: requests a second, the candidate's.
        throughput_ratio: the candidate's to the best's, the median of the rounds.
        p50_ratio: of median latencies at one client; None: not measured, since throughput had
            decided.
    """

    candidate: Choice
    best: Choice
    throughput: float
    throughput_ratio: float
    p50_ratio: float | None = None

    @property
    def gains(self) -> bool:
        """Whether throughput speaks for the candidate."""
        return self.throughput_ratio > LEAST_GAIN

    @property
    def taken(self) -> bool:
        """Whether the candidate is the best from now on."""
        return self.gains and self.p50_ratio is not None and self.p50_ratio <= MOST_P50


def candidate_values(cpus: int) -> dict[str, tuple[int, ...]]:
    """What is tried for each field of ``Choice``.

    For threads: 0, which stands for all CPUs, and the powers of two below their number.
    """
    powers = itertools.takewhile(lambda count: count < cpus, (2**n for n in itertools.count()))
    threads = (0, *powers)
    return {
        "instances": tuple(range(1, MAX_INSTANCES + 1)),
        "decode_threads": threads,
        "engine_threads": threads,
    }


def coordinate_descent(
    start: Choice,
    values: Mapping[str, Sequence[int]],
    attempt: Callable[[Choice, Choice], Trial],
) -> tuple[Choice, list[Trial]]:
    """Vary one field after the other, each from the best so far.

    Args:
        start: what is best before anything is tried.
        values: what each field may be, fields in the order of their turns.
        attempt: compares a candidate, its first argument, with the best so far.

    Returns:
        The best in the end, and what was tried.
    """
    best = start
    trials: list[Trial] = []
    for field, choices in values.items():
        # What the field was before its turn has been compared with all that it became.
        before = getattr(best, field)
        for value in choices:
            if value == before:
                continue
            trial = attempt(replace(best, **{field: value}), best)
            trials.append(trial)
            if trial.taken:
                best = trial.candidate
    return best, trials


class Arena:
    """The servers under comparison: the best so far, which stays, and one candidate beside it.

    Args:
        options: ``rounds``, ``seconds``, ``clients`` and ``repository`` of the command line.
        console: where progress is shown.
        photos: what is sent.
        generator: the process that sends them.
    """

    def __init__(
        self,
        options: argparse.Namespace,
        console: Console,
        photos: Sequence[Photo],
        generator: ProcessPoolExecutor,
    ) -> None:
        self._options = options
        self._console = console
        self._photos = photos
        self._generator = generator
        self._running = contextlib.ExitStack()
        self._best: Contestant | None = None

    def __enter__(self) -> Arena:
        return self

    def __exit__(self, *exception: object) -> None:
        self._running.close()

    def start(self, choice: Choice) -> None:
        """Start the server that the first candidate is compared with.

        Raises:
            ProductMatchError: it does not start.
        """
        self._console.print(f"start: {choice}")
        self._best = self._running.enter_context(self._served(choice))

    def attempt(self, candidate: Choice, best: Choice) -> Trial:
        """Compare a candidate with the best; if it is taken, its server takes the other's place.

        Raises:
            LoadError: a request failed.
            ProductMatchError: the candidate's server does not start.
        """
        assert self._best is not None, "start() comes first"
        self._console.print(f"try: {candidate}")
        with contextlib.ExitStack() as beside:
            contestant = beside.enter_context(self._served(candidate))
            mine, ratio, _ = self._compare(contestant, self._best, self._options.clients)
            trial = Trial(candidate, best, mine.throughput, ratio)
            if trial.gains:
                _, _, p50_ratio = self._compare(contestant, self._best, 1)
                trial = replace(trial, p50_ratio=p50_ratio)
            self._console.print(f"  {_verdict(trial)}")
            if trial.taken:
                self._running.close()
                self._running.enter_context(beside.pop_all())
                self._best = contestant
        return trial

    def _compare(
        self, candidate: Contestant, best: Contestant, clients: int
    ) -> tuple[Summary, float, float]:
        """The candidate's summary, and its throughput and p50 relative to the best's."""
        rounds = alternating_rounds(
            [best, candidate], clients, self._options.rounds, self._options.seconds, WARM_UP_SECONDS
        )
        mine, theirs = (
            summary_from_rounds(rounds[item.name], rounds) for item in (candidate, best)
        )
        return mine, mine.ratio_to[best.name], mine.p50_ms / theirs.p50_ms

    @contextlib.contextmanager
    def _served(self, choice: Choice) -> Iterator[Contestant]:
        """A server of its own with these counts."""
        tuning = choice.tuning
        with tempfile.TemporaryDirectory(prefix="product-match-") as folder:
            repository = Path(folder)
            tuned_repository(self._options.repository, repository, tuning.instances)
            with local_stack(repository, CATALOG, tuning.settings) as stack:
                yield product_match(str(choice), stack, self._photos, self._generator)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the tuner.

    Returns:
        0, or 1 if a server did not start or a request failed; nothing is written then.
    """
    return exit_status("tune", lambda: tune(parse_options(arguments), Console()))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line.

    Raises:
        SetupError: an environment variable of local start-up does not parse.
    """
    local = read_options(argparse.Namespace())
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.tune",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="turns of each side (default: %(default)s)")
    add("--seconds", type=float, default=4.0, help="length of a turn (default: %(default)s)")
    add("--clients", type=int, default=8, help="requests under way at once (default: %(default)s)")
    add("--output", type=Path, default=local.tuning_file, help="tuning file to write, which make "
        "run reads (default: TUNING, else tuning.json in the state folder)")  # fmt: skip
    add("--repository", type=Path, default=local.repository_folder, help="built models (default: "
        "MODEL_REPOSITORY)")  # fmt: skip
    add("--report", type=Path, default=PROJECT / "reports" / "tune.json", help="JSON to write")
    return parser.parse_args(arguments)


def tune(options: argparse.Namespace, console: Console) -> None:
    """Measure, print, and write the tuning and the report.

    Raises:
        LoadError: a request failed.
        ProductMatchError: a server does not start, or the models are not built.
    """
    bundle = Bundle.read(options.repository)
    start = Choice(instance_count(options.repository, PRODUCT_MATCH.name))
    photos = read_photos(CATALOG / "queries", PHOTO_SIDE)
    with own_process() as generator, Arena(options, console, photos, generator) as arena:
        arena.start(start)
        best, trials = coordinate_descent(start, candidate_values(cpu_count()), arena.attempt)
    console.print(table_from_trials(options.clients, trials))
    write_tuning(options.output, best.tuning, bundle.name)
    write_report(
        options.report,
        {
            "machine": machine(),
            "bundle": bundle.name,
            "clients": options.clients,
            "rounds": options.rounds,
            "seconds_a_round": options.seconds,
            "start": asdict(start),
            "best": asdict(best),
            "trials": [asdict(trial) | {"taken": trial.taken} for trial in trials],
        },
    )
    console.print(f"best: {best}\nwritten to {options.output}, figures to {options.report}")


def table_from_trials(clients: int, trials: Sequence[Trial]) -> Table:
    """One line a candidate, in the order of the trials."""
    table = Table(box=None, pad_edge=False, collapse_padding=True)
    for column in (
        "instances",
        "decode\nthreads",
        "engine\nthreads",
        f"req/s at\n{clients} clients",
        "of best\nbefore",
        "p50 at 1\nof best",
    ):
        table.add_column(column, justify="right")
    table.add_column("")
    for trial in trials:
        candidate = trial.candidate
        table.add_row(
            str(candidate.instances),
            str(candidate.decode_threads or "all"),
            str(candidate.engine_threads or "all"),
            f"{trial.throughput:.1f}",
            f"{trial.throughput_ratio:.3f}",
            "" if trial.p50_ratio is None else f"{trial.p50_ratio:.3f}",
            "taken" if trial.taken else "",
        )
    return table


def _verdict(trial: Trial) -> str:
    text = f"{trial.throughput_ratio:.3f} of the best's throughput"
    if trial.p50_ratio is not None:
        text += f", {trial.p50_ratio:.3f} of its p50 at 1 client"
    return f"{text}: {'taken' if trial.taken else 'left'}"


if __name__ == "__main__":
    sys.exit(main())
