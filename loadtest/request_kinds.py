"""Requests of several kinds: each kind alone, and most of them in a mix.

Triton puts no two kinds into one batch; a mix says what they lose by each other. Measured alone are
more like a product, facets, and a photo with four products: its row says how many single matches it
costs.
"""

from __future__ import annotations

import contextlib
import itertools
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from bls_models.errors import SetupError
from loadtest.http_load import Address, HttpConnection, answer_from_bytes
from loadtest.match_wire import request_from_call, result_from_answer
from loadtest.measurements import (
    Contestant,
    LoadError,
    Summary,
    alternating_rounds,
    only_kind,
    summary_from_rounds,
)
from loadtest.photos import Photo, scenes_from_photos
from loadtest.report import milliseconds, percent, report_from_summaries, speed_from_summary
from loadtest.traffic.mix import call_of_kind
from local_server.temporary_stack import SERVING
from product_match_client.calls import match_call

# What the report calls them, and the mix of ``loadtest.traffic``.
PHOTO = "photo"
KINDS = {PHOTO: "image", "photo_and_words": "both", "text": "text", "filtered": "filtered"}
MIXED = "mixed"
# Those that take no part in the mix.
LIKE = "like"
FACETS = "facets"
FOUR_OBJECTS = "four_objects"


@dataclass(frozen=True)
class KindSummaries:
    """The kinds at one number of clients.

    Attributes:
        alone: the rounds of each kind, of ``MIXED`` and of the kinds that are not in it; the
            throughput of each is compared with that of ``PHOTO``.
        in_mix: each kind's requests in the mix.
    """

    alone: Mapping[str, Summary]
    in_mix: Mapping[str, Summary]


def requests_by_kind(
    photos: Sequence[Photo], products: Mapping[str, Mapping[str, Any]], address: Address
) -> dict[str, list[bytes]]:
    """A request of each kind for every photo, with what is known of the product that it shows.

    Args:
        photos: the queries.
        products: of the catalogue, by id.
        address: the server's host and port.

    Returns:
        By kind, those of the mix and ``LIKE`` and ``FACETS``.

    Raises:
        SetupError: a photo's product is not among them.
    """
    unknown = next((photo.product_id for photo in photos if photo.product_id not in products), None)
    if unknown is not None:
        raise SetupError(
            f"a photo is of the product {unknown!r}, which the catalogue does not have; expected "
            "photos in folders named for its products"
        )
    return {
        name: [
            request_from_call(call_of_kind(kind, photo.data, products[photo.product_id]), address)
            for photo in photos
        ]
        for name, kind in (KINDS | {LIKE: "like", FACETS: "facets"}).items()
    }


def object_requests(photos: Sequence[Photo], address: Address) -> list[bytes]:
    """Requests for each of the products in photos with four of them.

    Args:
        photos: the queries that the photos are made of.
        address: the server's host and port.
    """
    scenes = scenes_from_photos([photo.data for photo in photos])
    calls = [
        match_call(scene, caption="never", objects="always", max_objects=4) for scene in scenes
    ]
    return [request_from_call(call, address) for call in calls]


def mean_objects(address: Address, requests: Sequence[bytes]) -> float:
    """How many objects the server finds in a photo of ``object_requests``, on average.

    Raises:
        LoadError: a request was not answered.
    """
    counts = []
    with contextlib.closing(HttpConnection(address)) as connection:
        for request in requests:
            answer = answer_from_bytes(connection.send(request))
            if answer.status != 200:
                message = answer.body.decode(errors="replace")
                raise LoadError(f"a photo with four objects: {answer.status}: {message}")
            counts.append(len(result_from_answer(answer).objects))
    return statistics.fmean(counts)


def in_turn(requests: Mapping[str, Sequence[bytes]]) -> tuple[list[bytes], list[str]]:
    """The requests of all kinds, one of each after another, and what kind each is of."""
    mixed = list(itertools.chain.from_iterable(zip(*requests.values(), strict=True)))
    return mixed, list(itertools.islice(itertools.cycle(requests), len(mixed)))


def measure_kinds(
    contestants: Sequence[Contestant],
    clients: int,
    rounds: int,
    seconds: float,
    warm_up_seconds: float,
) -> KindSummaries:
    """Measure the kinds and their mix; see ``alternating_rounds`` for the arguments.

    Raises:
        LoadError: a request was not answered.
    """
    measured = alternating_rounds(contestants, clients, rounds, seconds, warm_up_seconds)
    return KindSummaries(
        {
            name: summary_from_rounds(mine, {PHOTO: measured[PHOTO]})
            for name, mine in measured.items()
        },
        {kind: summary_from_rounds(only_kind(measured[MIXED], kind), {}) for kind in KINDS},
    )


def matches_a_scene(summaries: KindSummaries) -> float:
    """How many matches of single photos a photo with four objects costs, by throughput."""
    return 1 / summaries.alone[FOUR_OBJECTS].ratio_to[PHOTO]


def table_from_kinds(measured: Mapping[int, KindSummaries]) -> Table:
    """One line a kind and number of clients."""
    table = Table(
        title="\nkinds of requests, alone and in a mix of all",
        title_justify="left",
        box=None,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column("clients")
    table.add_column("", no_wrap=True)
    for column in ("req/s", f"of\n{PHOTO}", "p50\nms", "p95\nms", "p99\nms", "CPU\nms", "idle"):
        table.add_column(column, justify="right")
    for column in ("p50\nms", "p95\nms", "p99\nms"):
        table.add_column(f"mix\n{column}", justify="right")
    for clients, summaries in measured.items():
        for name, summary in summaries.alone.items():
            cpu = summary.cpu_ms_per_request
            mixed = summaries.in_mix.get(name)
            table.add_row(
                str(clients),
                name,
                f"{summary.throughput:.1f}",
                f"{summary.ratio_to[PHOTO]:.2f}",
                *_latencies(summary),
                f"{cpu[SERVING]:.1f}" if SERVING in cpu else "",
                percent(summary.idle),
                *(_latencies(mixed) if mixed else ()),
            )
    return table


def report_from_kinds(summaries: KindSummaries) -> dict[str, Any]:
    """The kinds at one number of clients, as in ``reports/bench.json``."""
    rows = report_from_summaries(summaries.alone)
    for kind, summary in summaries.in_mix.items():
        rows[kind]["in_mix"] = speed_from_summary(summary)
    return rows


def _latencies(summary: Summary) -> list[str]:
    return [milliseconds(value) for value in (summary.p50_ms, summary.p95_ms, summary.p99_ms)]
