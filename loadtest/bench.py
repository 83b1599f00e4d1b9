"""``python -m loadtest.bench``: the served ``product_match`` next to the raw pipeline.

Both get the same photos on the same machine, in turns of the same run. The raw pipeline and what
it leaves out are described in ``loadtest.raw_pipeline``.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bls_models.errors import ProductMatchError
from loadtest.measurements import (
    Contestant,
    LoadError,
    Summary,
    alternating_rounds,
    summary_from_rounds,
)
from loadtest.photos import Photo, read_photos
from loadtest.raw_pipeline import RawPipeline, raw_pipeline
from loadtest.report import (
    Accuracy,
    accuracy_from_matches,
    machine,
    report_from_summaries,
    table_from_summaries,
    write_report,
)
from loadtest.served import ServedMatch, served_match

PROJECT = Path(__file__).resolve().parent.parent
WARM_UP_SECONDS = 2.0
# Both sides run the same graph on the same pictures, so they hardly ever differ.
MIN_AGREEMENT = 0.9


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0, or 1 if a request failed or the answers were wrong.
    """
    options = parse_options(arguments)
    try:
        run(options, Console())
    except (LoadError, ProductMatchError) as error:
        sys.stderr.write(f"bench: {error}\n")
        return 1
    return 0


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench", description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="turns of each side (default: %(default)s)")
    add("--seconds", type=float, default=10.0, help="length of a turn (default: %(default)s)")
    add("--clients", type=int, default=8, help="requests under way at once; one client is "
        "measured as well (default: %(default)s)")  # fmt: skip
    add("--catalog", type=Path, default=PROJECT / "seed" / "sample", help="products to search")
    add("--photos", type=Path, help="queries, <product id>/<photo> (default: the catalogue's)")
    add("--photo-side", type=int, default=1000, help="photos are sent as JPEGs of that many "
        "pixels each way; 0: the files as they are (default: %(default)s)")  # fmt: skip
    add("--url", default="", help="a running server that holds the catalogue, http://host:port "
        "(default: one is started)")  # fmt: skip
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--report", type=Path, default=PROJECT / "reports" / "bench.json", help="JSON to write")
    options = parser.parse_args(arguments)
    options.photos = options.photos or options.catalog / "queries"
    return options


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print and write the report.

    Raises:
        LoadError: a request failed, or the answers were wrong.
        ProductMatchError: something that the benchmark needs is missing.
    """
    photos = read_photos(options.photos, options.photo_side)
    console.print(f"{len(photos)} photos, {_mean_kb(photos):.0f} kB each; starting both sides")
    report: dict[str, Any] = {
        "machine": machine(),
        "clients": options.clients,
        "rounds": options.rounds,
        "seconds_a_round": options.seconds,
        "photos": {
            "count": len(photos),
            "side": options.photo_side,
            "mean_kb": round(_mean_kb(photos), 1),
        },
    }
    with (
        raw_pipeline(options.repository, options.catalog, photos) as raw,
        served_match(options.url, options.repository, options.catalog, photos) as served,
    ):
        accuracy = check_answers(photos, raw, served)
        console.print(
            f"first match right: raw {accuracy.raw:.1%}, product_match "
            f"{accuracy.product_match:.1%}; the same in {accuracy.agreement:.1%}"
        )
        contestants: list[Contestant] = [raw, served]
        summaries = measure(contestants, options.clients, options)
        console.print(table_from_summaries(options.clients, summaries))
        single = measure(contestants, 1, options)
        console.print(table_from_summaries(1, single))
    stages = summaries[served.name].stages_ms
    console.print("stages, ms: " + ", ".join(f"{k} {v:.1f}" for k, v in stages.items()))
    report |= report_from_summaries(summaries)
    report["stages"] = report[served.name]["stages"]
    report["one_client"] = report_from_summaries(single)
    report["accuracy"] = asdict(accuracy)
    write_report(options.report, report)
    console.print(f"written to {options.report}")


def check_answers(photos: Sequence[Photo], raw: RawPipeline, served: ServedMatch) -> Accuracy:
    """Compare the answers of both sides.

    Raises:
        LoadError: they differ too much for a comparison of their speed.
    """
    accuracy = accuracy_from_matches(
        [photo.product_id for photo in photos], raw.first_matches(), served.first_matches()
    )
    if accuracy.agreement < MIN_AGREEMENT:
        raise LoadError(
            f"product_match and the raw pipeline found the same product first for only "
            f"{accuracy.agreement:.0%} of the photos; does the server hold the same catalogue?"
        )
    return accuracy


def measure(
    contestants: Sequence[Contestant], clients: int, options: argparse.Namespace
) -> dict[str, Summary]:
    """All contestants at one number of clients, each relative to the first."""
    rounds = alternating_rounds(
        contestants, clients, options.rounds, options.seconds, WARM_UP_SECONDS
    )
    raw_rounds = rounds[contestants[0].name]
    return {name: summary_from_rounds(mine, raw_rounds) for name, mine in rounds.items()}


def _mean_kb(photos: Sequence[Photo]) -> float:
    return sum(len(photo.data) for photo in photos) / len(photos) / 1e3


if __name__ == "__main__":
    sys.exit(main())
