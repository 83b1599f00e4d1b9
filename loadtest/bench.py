"""``python -m loadtest.bench``: ``product_match`` next to what it could be replaced with.

The contestants get the same photos on the same machine, in turns of the same run:

- ``raw``: the same work in one plain process, without a server (``loadtest.raw_pipeline``);
- ``usual`` and ``tuned``: the same as a FastAPI service (``loadtest.baselines``);
- ``product_match``, served by Triton.

What ``product_match`` makes of other requests than photos is measured apart, alone and in a mix.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from bls_models.bundle import Bundle
from bls_models.specs import PRODUCT_MATCH
from loadtest.addresses import address_from_url
from loadtest.baselines.running import BASELINES, baseline
from loadtest.beside_captions import BesideCaptions, CaptionStream
from loadtest.caption_speed import caption_speeds, table_from_speeds
from loadtest.match_wire import facts_from_answer, request_from_photo
from loadtest.measurements import (
    Contestant,
    LoadError,
    Summary,
    alternating_rounds,
    summary_from_rounds,
)
from loadtest.options import add_catalog, add_photo_side, exit_status, tool_parser
from loadtest.photos import Photo, read_photos
from loadtest.processes import ProcessTrees
from loadtest.raw_pipeline import raw_pipeline
from loadtest.report import (
    Accuracy,
    accuracy_from_matches,
    line_of_milliseconds,
    report_from_summaries,
    table_from_summaries,
)
from loadtest.request_kinds import (
    FOUR_OBJECTS,
    KINDS,
    MIXED,
    in_turn,
    matches_a_scene,
    mean_objects,
    measure_kinds,
    object_requests,
    report_from_kinds,
    requests_by_kind,
    table_from_kinds,
)
from loadtest.served import ServedContestant
from loadtest.workers import Worker, own_process
from local_server.temporary_stack import Stack, local_stack
from reporting.reports import machine, write_report
from seed.rows import read_products

WARM_UP_SECONDS = 1.0
# All run the same graph on the same pictures, so they hardly ever differ.
MIN_AGREEMENT = 0.9
# Caption requests for each other one.
CAPTION_SHARE = 0.1
# The row of product_match where one photo in ten comes again; all other rows send none twice.
REPEATING, REPEAT_EVERY = "product_match_repeats", 10
OTHERS = ("raw", *BASELINES)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark.

    Returns:
        0, or 1 if a request failed or the answers were wrong.
    """
    options = parse_options(arguments)
    return exit_status("bench", lambda: run(options, Console()))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = tool_parser("bench", __doc__, "bench")
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="turns of each side (default: %(default)s)")
    add("--seconds", type=float, default=3.5, help="length of a turn at the first number of "
        "clients (default: %(default)s)")  # fmt: skip
    add("--other-seconds", type=float, default=1.5, help="length of a turn at the other numbers "
        "of clients (default: %(default)s)")  # fmt: skip
    add("--kind-seconds", type=float, default=1.4, help="length of a turn of each kind of "
        "request (default: %(default)s)")  # fmt: skip
    add("--clients", type=int, nargs="+", default=[8, 1, 16], help="requests under way at once; "
        "the first is what the report leads with (default: 8 1 16)")  # fmt: skip
    add("--contestants", nargs="*", default=OTHERS, choices=OTHERS, help="what product_match is "
        "measured against (default: all)")  # fmt: skip
    add_catalog(parser)
    add("--photos", type=Path, help="queries, <product id>/<photo> (default: the catalogue's)")
    add_photo_side(parser)
    add("--url", default="", help="a running server that holds the catalogue, http://host:port "
        "(default: one is started)")  # fmt: skip
    add("--mongodb-uri", default=os.environ.get("MONGODB_URI", ""), help="that server's "
        "database, which the baselines read (default: MONGODB_URI)")  # fmt: skip
    options = parser.parse_args(arguments)
    options.photos = options.photos or options.catalog / "queries"
    return options


def run(options: argparse.Namespace, console: Console) -> None:
    """Measure, print and write the report.

    Raises:
        LoadError: a request failed, or the answers were wrong.
        ProductMatchError: something that the benchmark needs is missing.
        ClientError: the server answered with an error while it was filled.
    """
    photos = read_photos(options.photos, options.photo_side)
    console.print(f"{len(photos)} photos, {_mean_kb(photos):.0f} kB each; starting all sides")
    main_clients, *other_clients = options.clients
    report: dict[str, Any] = {
        "machine": machine(),
        "clients": main_clients,
        "rounds": options.rounds,
        "seconds_a_round": options.seconds,
        "photos": {
            "count": len(photos),
            "side": options.photo_side,
            "mean_kb": round(_mean_kb(photos), 1),
        },
    }
    with all_contestants(options, photos) as (contestants, repeating, kinds):
        accuracy = check_answers(photos, contestants)
        right = ", ".join(f"{name} {share:.1%}" for name, share in accuracy.right.items())
        console.print(f"first match right: {right}; the same in {accuracy.agreement:.1%}")
        report["accuracy"] = accuracy.as_json()
        summaries = measure(
            [*contestants, repeating], main_clients, options.rounds, options.seconds
        )
        console.print(table_from_summaries(main_clients, summaries))
        product = summaries[PRODUCT_MATCH.name]
        console.print(line_of_milliseconds("stages", product.stages_ms))
        if busy := {k: v for k, v in product.cpu_ms_by_process.items() if v >= 0.05}:
            console.print(line_of_milliseconds("CPU by process", busy))
        report |= report_from_summaries(summaries)
        report |= headline(report[PRODUCT_MATCH.name])
        if Bundle.read(options.repository).captioner is not None:
            report["captions"] = caption_report(options, photos, contestants, summaries, console)
        for clients in other_clients:
            others = measure(contestants, clients, options.rounds, options.other_seconds)
            console.print(table_from_summaries(clients, others))
            report[clients_key(clients)] = report_from_summaries(others)
        report |= kinds_report(options, photos, kinds, console)
    write_report(options.report, report)
    console.print(f"written to {options.report}")


@contextlib.contextmanager
def all_contestants(
    options: argparse.Namespace, photos: Sequence[Photo]
) -> Iterator[tuple[list[Contestant], Contestant, list[Contestant]]]:
    """Start what is measured.

    Yields:
        All contestants, ``product_match`` last; the same with repeating photos; and with each
        kind of request, their mix, and photos with four objects.
    """
    with contextlib.ExitStack() as running:
        contestants: list[Contestant] = []
        if "raw" in options.contestants:
            raw = raw_pipeline(options.repository, options.catalog, photos)
            contestants.append(running.enter_context(raw))
        generator = running.enter_context(own_process())
        stack = (
            Stack(options.url, mongodb_uri=options.mongodb_uri)
            if options.url
            else running.enter_context(local_stack(options.repository, options.catalog))
        )
        for name in BASELINES:
            if name in options.contestants:
                service = baseline(name, stack, options.repository, photos, generator)
                contestants.append(running.enter_context(service))
        contestants.append(product_match(PRODUCT_MATCH.name, stack, photos, generator))
        repeating = product_match(REPEATING, stack, photos, generator, REPEAT_EVERY)
        products = {
            row.product["product_id"]: row.product for row in read_products(options.catalog)
        }
        yield contestants, repeating, kind_contestants(stack, photos, products, generator)


def product_match(
    name: str,
    stack: Stack,
    photos: Sequence[Photo],
    generator: ProcessPoolExecutor,
    repeat_every: int = 0,
) -> ServedContestant:
    """The product itself, served by Triton; for ``repeat_every`` see ``run_load``."""
    address = address_from_url(stack.http_url)
    requests = [request_from_photo(photo.data, address) for photo in photos]
    trees = ProcessTrees(stack.roots)
    return ServedContestant(
        name, address, requests, facts_from_answer, trees, generator, repeat_every
    )


def kind_contestants(
    stack: Stack,
    photos: Sequence[Photo],
    products: Mapping[str, Mapping[str, Any]],
    generator: ProcessPoolExecutor,
) -> list[Contestant]:
    """``product_match`` with requests of each kind, of some in turn, and four objects each."""
    address = address_from_url(stack.http_url)
    trees = ProcessTrees(stack.roots)

    def served(name: str, requests: Sequence[bytes], kinds: Sequence[str] = ()) -> Contestant:
        return ServedContestant(
            name, address, requests, facts_from_answer, trees, generator, kinds=kinds
        )

    requests = requests_by_kind(photos, products, address)
    alone = [served(kind, mine) for kind, mine in requests.items()]
    mixed = served(MIXED, *in_turn({kind: requests[kind] for kind in KINDS}))
    four_objects = served(FOUR_OBJECTS, object_requests(photos, address))
    return [*alone, mixed, four_objects]


def check_answers(photos: Sequence[Photo], contestants: Sequence[Contestant]) -> Accuracy:
    """Compare the answers of all sides.

    Raises:
        LoadError: they differ too much for a comparison of their speed.
    """
    accuracy = accuracy_from_matches(
        [photo.product_id for photo in photos],
        {item.name: item.first_matches() for item in contestants},
    )
    if accuracy.agreement < MIN_AGREEMENT:
        raise LoadError(
            f"product_match and another contestant found the same product first for only "
            f"{accuracy.agreement:.0%} of the photos; does the server hold the same catalogue?"
        )
    return accuracy


def measure(
    contestants: Sequence[Contestant], clients: int, rounds: int, seconds: float
) -> dict[str, Summary]:
    """All contestants at one number of clients."""
    measured = alternating_rounds(contestants, clients, rounds, seconds, WARM_UP_SECONDS)
    return {name: summary_from_rounds(mine, measured) for name, mine in measured.items()}


def kinds_report(
    options: argparse.Namespace,
    photos: Sequence[Photo],
    kinds: Sequence[Contestant],
    console: Console,
) -> dict[str, Any]:
    """The kinds of requests and their mix, at the first number of clients and at one.

    Returns:
        ``kinds``, and ``four_objects``: what a photo with that many products costs in matches of
        single photos, and how many of the four the server finds, on average.
    """
    four_objects = kinds[-1]
    assert isinstance(four_objects, ServedContestant)
    found = mean_objects(four_objects.address, object_requests(photos, four_objects.address))
    measured = {
        clients: measure_kinds(
            kinds, clients, options.rounds, options.kind_seconds, WARM_UP_SECONDS
        )
        for clients in dict.fromkeys((options.clients[0], 1))
    }
    console.print(table_from_kinds(measured))
    matches = {clients: matches_a_scene(item) for clients, item in measured.items()}
    costs = ", ".join(f"{cost:.2f} at {clients}" for clients, cost in matches.items())
    console.print(
        f"a photo with four objects, {found:.1f} of them found, in matches of a photo by number of "
        f"clients: {costs}"
    )
    return {
        "kinds": {
            clients_key(clients): report_from_kinds(item) for clients, item in measured.items()
        },
        "four_objects": {
            "found": round(found, 2),
            "matches": {clients_key(clients): round(cost, 3) for clients, cost in matches.items()},
        },
    }


def caption_report(
    options: argparse.Namespace,
    photos: Sequence[Photo],
    contestants: Sequence[Contestant],
    summaries: Mapping[str, Summary],
    console: Console,
) -> dict[str, Any]:
    """What captions cost, and what they cost the matches beside them.

    Returns:
        ``batch_1`` and ``batch_8`` (see ``CaptionSpeed``), and ``beside_matches``: the caption
        requests that were answered, and the other requests' throughput and p99 relative to
        what they have without.
    """
    matches = contestants[-1]
    assert isinstance(matches, ServedContestant)
    http_url = "http://{}:{}".format(*matches.address)
    speeds = caption_speeds(
        options.repository, http_url, photos, options.rounds, options.other_seconds
    )
    console.print(table_from_speeds(speeds))
    clients = options.clients[0]
    rate = summaries[matches.name].throughput * CAPTION_SHARE
    with Worker(CaptionStream, matches.address, photos, rate) as stream:
        beside = BesideCaptions(matches, stream)
        rounds = alternating_rounds(
            [matches, beside], clients, options.rounds, options.other_seconds, WARM_UP_SECONDS
        )
    with_captions = summary_from_rounds(rounds[beside.name], rounds)
    without = summary_from_rounds(rounds[matches.name], rounds)
    row = {
        "caption_requests_per_s": round(rate, 2),
        "caption_requests": beside.captions,
        "throughput_ratio": round(with_captions.ratio_to[matches.name], 3),
        "p99_ratio": round(with_captions.p99_ms / without.p99_ms, 3),
    }
    console.print(
        f"matches beside {rate:.1f} caption requests a second: {row['throughput_ratio']:.2f} of "
        f"the throughput, {row['p99_ratio']:.2f} times the p99"
    )
    batches = {f"batch_{size}": asdict(speed) for size, speed in speeds.items()}
    return batches | {"beside_matches": row}


def headline(row: Mapping[str, Any]) -> dict[str, Any]:
    """What of ``product_match``'s row also stands at the top of the report."""
    return {key: value for key, value in row.items() if key.startswith(("ratio_to_", "stages"))}


def clients_key(clients: int) -> str:
    """Where the report has the rows of another number of clients."""
    return "one_client" if clients == 1 else f"clients_{clients}"


def _mean_kb(photos: Sequence[Photo]) -> float:
    return sum(len(photo.data) for photo in photos) / len(photos) / 1e3


if __name__ == "__main__":
    sys.exit(main())
