"""``python -m local_server``: serve on this machine, try it out, check it, and read its logs."""

from __future__ import annotations

import argparse
import asyncio
import json
import secrets
import signal
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from bls_models.errors import ProductMatchError, SetupError
from local_server import log_tables
from local_server.feedback_tables import show_feedback
from local_server.first_match import first_match, match_photo, query_photo, show_match
from local_server.metric_tables import show_metric
from local_server.options import Options, add_flags, make_folder, read_options
from local_server.running import read_running
from local_server.stack import IMPORT_ERRORS, running_stack
from local_server.supervisor import Supervisor
from local_server.sync_check import show_check
from product_match_client import ClientError
from product_match_client.terminal import open_console
from reporting.progress import Report, timed_lines
from seed.__main__ import main as seed_main
from seed.reembed import reembed_stale

FEEDBACK = "show how good matches are by the feedback on them"
METRIC = "fit a metric to the catalogue, tell what it gains, and serve it"
SYNC_CHECK = "compare a server's index with its database; exit status 1 if they differ"


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m local_server", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text in (
        ("run", "serve until Ctrl-C"),
        ("smoke", "serve on free ports with a database of its own, match once, stop"),
        ("logs", "show the latest matches and errors"),
        ("import", "send a catalogue to the running server again"),
        ("reembed", "compute vectors anew for products of another bundle"),
    ):
        add_flags(commands.add_parser(name, help=text, description=text))
    check = commands.add_parser("sync-check", help=SYNC_CHECK, description=SYNC_CHECK)
    add_flags(check)
    check.add_argument("--repair", action="store_true", help="read what differs again")
    check.add_argument("--url", help="Triton's HTTP endpoint [default: the running local server]")
    feedback = commands.add_parser("feedback", help=FEEDBACK, description=FEEDBACK)
    add_flags(feedback)
    feedback.add_argument("--queries", type=Path, help="CSV to write, for `make eval`: a query for "
        "each request of which a product was accepted")  # fmt: skip
    feedback.add_argument("--photos", type=Path, help="folder with the photos that were sent; the "
        "log knows them by their sha256")  # fmt: skip
    metric = commands.add_parser("metric", help=METRIC, description=METRIC)
    add_flags(metric)
    instead = metric.add_mutually_exclusive_group()
    instead.add_argument("--dry-run", action="store_true", help="change nothing")
    instead.add_argument("--version", help="serve this one again; none: raw vectors")
    instead.add_argument("--list", action="store_true", help="list the versions that there are")
    metric.add_argument("--url", help="Triton's HTTP endpoint [default: the running local server]")
    arguments = parser.parse_args(argv)
    console, report = open_console(), timed_lines()
    # A plain `kill` stops everything in order, as Ctrl-C does.
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    try:
        options = read_options(arguments)
        if arguments.command == "run":
            return run(options, console, report)
        if arguments.command == "smoke":
            return smoke(options, console, report)
        if arguments.command == "import":
            running = read_running(options.state_folder)
            errors = options.state_folder / IMPORT_ERRORS
            flags = ["--url", running.http_url, "--errors", str(errors)]
            return seed_main(["import", str(options.catalog_path), *flags])
        if arguments.command == "reembed":
            stack = read_running(options.state_folder)
            return int(asyncio.run(reembed_stale(stack.http_url, stack.connect(), report)) > 0)
        if arguments.command == "feedback":
            return show_feedback(options, console, arguments.queries, arguments.photos)
        if arguments.command == "metric":
            return show_metric(
                options,
                console,
                report,
                version=arguments.version,
                dry_run=arguments.dry_run,
                listing=arguments.list,
                url=arguments.url,
            )
        if arguments.command == "sync-check":
            url = arguments.url or read_running(options.state_folder).http_url
            return show_check(url, arguments.repair, console)
        return log_tables.show_logs(options, console)
    except (ProductMatchError, ClientError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        report("stopped")
        return 0 if arguments.command == "run" else 130


def _interrupt(signal_number: int, frame: object) -> None:
    # Further ones must not break into the orderly stop.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    raise KeyboardInterrupt


def run(options: Options, console: Console, report: Report) -> int:
    """Serve until interrupted; what dies meanwhile is brought back.

    Raises:
        SetupError: no match succeeds, or Triton ends again and again, or cannot be started again.
    """
    with running_stack(options, report) as stack:
        running = stack.running
        try:
            first_match(running.http_url, options.catalog_path, console, report)
        except ClientError as error:
            raise SetupError(
                f"the server answers no match: {error}\nIts log is {stack.triton.log}"
            ) from error
        print(
            f"\nServing: HTTP {running.http_url}, gRPC {running.grpc_url}, "
            f"metrics {running.metrics_url}, database {running.database_address}\n"
            f"Logs: {options.state_folder / 'logs'}. Press Ctrl-C to stop.",
            flush=True,
        )
        Supervisor(stack.triton, report).watch(threading.Event())
        return 0


def smoke(options: Options, console: Console, report: Report) -> int:
    """Serve on free ports, match a held-out photo, print the match as JSON, stop.

    Returns:
        0 if the best match is the right product, else 1.
    """
    make_folder(options.state_folder, "--state")
    with tempfile.TemporaryDirectory(dir=options.state_folder, prefix="smoke-") as state:
        ports = dict.fromkeys(("http_port", "grpc_port", "metrics_port", "mongodb_port"), 0)
        options = options.model_copy(update={**ports, "state": state})
        suffix = f"smoke_{secrets.token_hex(4)}" if options.mongodb_uri else ""
        with running_stack(options, report, suffix) as stack:
            photo = query_photo(options.catalog_path)
            result = match_photo(stack.running.http_url, photo)
            show_match(console, stack.running.http_url, photo, result)
    best = result.matches[0] if result.matches else None
    correct = best is not None and best.product_id == photo.product_id
    facts = {
        "product_id": best.product_id if best else None,
        "score": best.score if best else None,
        "top1_correct": correct,
        "query": str(photo.path),
        "expected_product_id": photo.product_id,
        "caption": result.caption,
        "milliseconds": result.details["milliseconds"]["total"],
    }
    print(json.dumps(facts), flush=True)
    return 0 if correct else 1


if __name__ == "__main__":
    sys.exit(main())
