"""The command behind ``make loadtest``: locust without its web page, on a server of its own."""

from __future__ import annotations

import argparse
import contextlib
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from bls_models.errors import SetupError
from loadtest.options import add_catalog, add_photo_side, exit_status
from loadtest.traffic.mix import DEFAULT_MIX_TEXT
from loadtest.traffic.shapes import SHAPES
from local_server.options import PROJECT
from local_server.temporary_stack import local_stack
from product_match_client.endpoint import endpoint_from_url

LOCUSTFILE = Path(__file__).with_name("locustfile.py")
PROTOCOLS = ("http", "grpc")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a load test.

    Returns:
        0, or 1 if a request failed, p99 was over its budget, or the test could not run.
    """
    options = parse_options(arguments)
    return exit_status("loadtest", lambda: run(options))


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.traffic", description="Put product_match under load with locust."
    )
    add = parser.add_argument
    add("--users", type=int, default=8, help="most users at once (default: %(default)s)")
    add("--rate", type=float, default=4.0, help="users that start a second (default: %(default)s)")
    add("--time", default="60s", help="length, as 90s or 5m (default: %(default)s)")
    add("--shape", default="steady", choices=SHAPES, help="steady; ramp: one user more after "
        "another until the end; spike: a fifth of the users, all in the middle third of the time "
        "(default: %(default)s)")  # fmt: skip
    add("--mix", default="", help=f"kinds of requests and their weights (default: "
        f"{DEFAULT_MIX_TEXT})")  # fmt: skip
    add("--think-ms", type=float, default=100.0, help="mean pause of a user between requests "
        "(default: %(default)s)")  # fmt: skip
    add("--protocol", default="http", choices=PROTOCOLS, help="default: %(default)s; with --url "
        "its scheme counts")  # fmt: skip
    add("--p99-ms", type=float, help="fail if the 99th percentile of all latencies is above")
    add_catalog(parser, "products that the server holds; a server that is started gets them")
    add("--photos", type=Path, help="a folder with photos, searched through (default: the "
        "catalogue's queries)")  # fmt: skip
    add_photo_side(parser)
    add("--url", default="", help="a running server, http://host:port or grpc://host:port "
        "(default: one is started)")  # fmt: skip
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--report", type=Path, default=PROJECT / "reports" / "loadtest.html", help="HTML to write")
    options = parser.parse_args(arguments)
    options.photos = options.photos or options.catalog / "queries"
    return options


def run(options: argparse.Namespace) -> int:
    """Start a server if none is named, and locust; returns locust's exit status.

    Raises:
        ProductMatchError: the server does not start.
        ClientError: the address is none, or the server answered with an error.
    """
    if options.users < 1:
        raise SetupError(f"--users {options.users} is not at least 1")
    with contextlib.ExitStack() as running:
        url = options.url
        if url:
            endpoint_from_url(url)
        else:
            stack = running.enter_context(local_stack(options.repository, options.catalog))
            url = stack.http_url if options.protocol == "http" else stack.grpc_url
        options.report.parent.mkdir(parents=True, exist_ok=True)
        return subprocess.run(locust_command(options, url), env=locust_environment()).returncode


def locust_command(options: argparse.Namespace, url: str) -> list[str]:
    """How locust is called."""
    budget = [] if options.p99_ms is None else ["--p99-ms", f"{options.p99_ms:g}"]
    return [
        *(sys.executable, "-m", "locust", "--locustfile", str(LOCUSTFILE)),
        *("--headless", "--only-summary", "--host", url, "--html", str(options.report)),
        *("--users", str(options.users), "--spawn-rate", f"{options.rate:g}"),
        *("--run-time", options.time, "--stop-timeout", "30s"),
        *("--load-shape", options.shape, "--mix", options.mix, *budget),
        *("--think-ms", f"{options.think_ms:g}", "--catalog", str(options.catalog)),
        *("--photos", str(options.photos), "--photo-side", str(options.photo_side)),
    ]


def locust_environment() -> dict[str, str]:
    """Locust runs with the project's modules, whatever folder it is called from."""
    known = os.environ.get("PYTHONPATH", "")
    modules = [str(PROJECT), str(PROJECT / "client"), known]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, modules))}


if __name__ == "__main__":
    sys.exit(main())
