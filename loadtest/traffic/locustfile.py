"""Users of ``product_match`` for locust, over HTTP or gRPC, with the product's own client.

``make loadtest`` runs it; ``locust -f loadtest/traffic/locustfile.py --host http://host:port``
does so with locust's own web page. The host's scheme, http or grpc, chooses the protocol.
"""

from __future__ import annotations

import logging
import random
import sys
import time
from pathlib import Path
from typing import Any

import grpc.experimental.gevent
from locust import LoadTestShape, User, events, task
from locust.argument_parser import LocustArgumentParser
from locust.env import Environment

from bls_models.errors import ProductMatchError
from loadtest.photos import read_any_photos
from loadtest.traffic.budget import faults
from loadtest.traffic.mix import DEFAULT_MIX, DEFAULT_MIX_TEXT, RequestMaker, parse_mix
from loadtest.traffic.shapes import SHAPES, users_at
from local_server.options import PROJECT
from product_match_client.endpoint import endpoint_from_url
from product_match_client.errors import ClientError, ServerError
from product_match_client.transports import blocking_transport
from seed.rows import read_products

# gRPC's threads know nothing of gevent: without this one waiting user stops all others.
grpc.experimental.gevent.init_gevent()

logger = logging.getLogger(__name__)

TIMEOUT_S = 60.0
DEFAULT_DURATION_S = 60.0
SAMPLE = PROJECT / "seed" / "sample"


@events.init_command_line_parser.add_listener
def add_options(parser: LocustArgumentParser) -> None:
    """Options beside locust's own."""
    add = parser.add_argument
    add("--mix", default="", help=f"kinds of requests and their weights ({DEFAULT_MIX_TEXT})")
    add("--photos", default=str(SAMPLE / "queries"), help="folder with photos, searched through")
    add("--photo-side", type=int, default=1000, help="photos are sent as JPEGs of that many "
        "pixels each way; 0: the files as they are")  # fmt: skip
    add("--catalog", default=str(SAMPLE), help="the products that the server holds")
    add("--load-shape", default="steady", choices=SHAPES, help="users over time")
    add("--p99-ms", type=float, default=None, help="fail if the 99th percentile is above")
    add("--think-ms", type=float, default=100.0, help="mean pause of a user between requests")


class Traffic:
    """What all users of one test share.

    Attributes:
        maker: makes the requests.
        latencies_ms: of all requests so far.
        errors: requests that failed so far.
    """

    def __init__(self, environment: Environment) -> None:
        options = environment.parsed_options
        products = [row.product for row in read_products(Path(options.catalog))]
        photos = read_any_photos(Path(options.photos), options.photo_side)
        mix = parse_mix(options.mix) if options.mix else DEFAULT_MIX
        self.maker = RequestMaker(photos, products, mix, seed=0)
        self.latencies_ms: list[float] = []
        self.errors = 0
        environment.events.request.add_listener(self._count)

    def _count(self, response_time: float, exception: Exception | None, **_: Any) -> None:
        self.latencies_ms.append(response_time)
        self.errors += exception is not None


@events.init.add_listener
def start(environment: Environment, **_: Any) -> None:
    """Read the photos and the catalogue before any user starts."""
    try:
        environment.traffic = Traffic(environment)
    except ProductMatchError as error:
        # Locust would log anything but this and go on.
        sys.exit(f"loadtest: {error}")


@events.quitting.add_listener
def judge(environment: Environment, **_: Any) -> None:
    """Set the exit status: 1 on any error, and on a p99 over the budget."""
    traffic: Traffic = environment.traffic
    found = faults(traffic.latencies_ms, traffic.errors, environment.parsed_options.p99_ms)
    for fault in found:
        logger.error("load test failed: %s", fault)
    environment.process_exit_code = 1 if found else 0


class Shape(LoadTestShape):
    """Users over time, as ``--load-shape`` says."""

    use_common_options = True

    def tick(self) -> tuple[int, float] | None:
        """Users now, and how many start a second; in a spike all at once. None at the end."""
        options = self.runner.environment.parsed_options
        duration, seconds = options.run_time or DEFAULT_DURATION_S, self.get_run_time()
        if seconds > duration:
            return None
        most = options.num_users or 1
        users = users_at(options.load_shape, seconds, most, duration)
        return users, most if options.load_shape == "spike" else options.spawn_rate or 1


class MatchUser(User):
    """One person: asks, looks at the answer, asks again, over a connection of their own."""

    def wait_time(self) -> float:
        """Seconds until the next request."""
        mean: float = self.environment.parsed_options.think_ms / 1e3
        return random.uniform(0, 2 * mean)

    def on_start(self) -> None:
        """Connect."""
        self._protocol = endpoint_from_url(self.host or "").protocol
        self._transport = blocking_transport(self.host or "", TIMEOUT_S)

    def on_stop(self) -> None:
        """Disconnect."""
        self._transport.close()

    @task
    def match(self) -> None:
        """Send a request and tell locust what became of it."""
        traffic: Traffic = self.environment.traffic
        kind, call = traffic.maker.make()
        error: ClientError | None = None
        start = time.perf_counter()
        try:
            degraded = self._transport.send(call).details["degraded"]
            if degraded:
                error = ServerError(f"answered without its {', '.join(degraded)}")
        except ClientError as failure:
            error = failure
        self.environment.events.request.fire(
            request_type=self._protocol,
            name=kind,
            response_time=(time.perf_counter() - start) * 1e3,
            response_length=0,  # not known: the client hands over results
            exception=error,
            context={},
        )
