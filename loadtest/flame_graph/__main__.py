"""``python -m loadtest.flame_graph``: what each process of a server does under load, as a picture.

Loads a server of its own as ``loadtest.bench`` does, and records ``product_match``,
``image_encoder`` and Triton's own process with perf, the kernel's profiler (Debian:
``linux-perf``). Each becomes a flame graph in the folder of the reports: its threads at the bottom,
above them the libraries that work for them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from bls_models.specs import IMAGE_ENCODER, PRODUCT_MATCH
from loadtest.addresses import address_from_url
from loadtest.flame_graph.drawing import drawn
from loadtest.flame_graph.stacks import fold
from loadtest.http_load import run_load
from loadtest.match_wire import request_from_photo
from loadtest.measurements import LoadError
from loadtest.options import add_catalog, add_photo_side, exit_status
from loadtest.photos import read_photos
from local_server.model_processes import SERVER, model_processes
from local_server.options import PROJECT
from local_server.temporary_stack import SERVING, local_stack

# Stacks a second of each CPU in use.
RATE = 199
# Of each stack perf copies so many bytes, from which it finds out afterwards who called.
COPIED_BYTES = 16_384
WARM_UP_SECONDS = 3.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Record and draw; returns the exit status."""
    options = _options(arguments)
    return exit_status("flame_graph", lambda: run(options))


def run(options: argparse.Namespace) -> None:
    """Record and draw.

    Raises:
        LoadError: perf is not there or may not record, or the server cannot be loaded.
        ProductMatchError: the server does not start.
    """
    photos = read_photos(options.catalog / "queries", options.photo_side)
    with local_stack(options.repository, options.catalog) as stack:
        server = stack.roots[SERVING]
        models = {model: pid for pid, model in model_processes(server).items()}
        names = {server: SERVER, **{models[m.name]: m.name for m in (PRODUCT_MATCH, IMAGE_ENCODER)}}
        address = address_from_url(stack.http_url)
        requests = [request_from_photo(photo.data, address) for photo in photos]
        run_load(address, requests, options.clients, WARM_UP_SECONDS)
        with ThreadPoolExecutor(1) as pool:
            load = pool.submit(run_load, address, requests, options.clients, options.seconds + 1)
            script = recorded(names, options.seconds)
            # A load that failed would leave pictures of an idle server.
            load.result()
    seen_of = fold(script)
    folded = {pid: seen_of.get(pid, Counter()) for pid in names}
    total = sum(stacks.total() for stacks in folded.values())
    if not total:
        raise LoadError("perf saw none of the processes work; is sampling allowed here?")
    options.out.mkdir(parents=True, exist_ok=True)
    for pid, name in names.items():
        seen = folded[pid].total()
        title = (
            f"{name} at {options.clients} clients: {seen / total:.0%} of the CPU time of the "
            f"{len(names)} processes"
        )
        path = options.out / f"flames_{name}.svg"
        path.write_text(drawn(folded[pid], title), encoding="utf-8")
        sys.stdout.write(f"wrote {path}: {title}\n")


def recorded(processes: Mapping[int, str], seconds: float) -> str:
    """Record processes for some time.

    Returns:
        For ``fold``.

    Raises:
        LoadError: perf is not there, or may not record.
    """
    if shutil.which("perf") is None:
        raise LoadError("perf is not there; install it (Debian: apt-get install linux-perf)")
    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "perf.data"
        of = ",".join(map(str, processes))
        how = ["-e", "cpu-clock", "-F", str(RATE), "--call-graph", f"dwarf,{COPIED_BYTES}"]
        _perf("record", *how, "-o", str(data), "-p", of, "--", "sleep", str(seconds))
        fields = ["--no-inline", "-F", "comm,pid,tid,ip,sym,dso"]
        return _perf("script", *fields, "-i", str(data))


def _perf(*arguments: str) -> str:
    done = subprocess.run(["perf", *arguments], capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise LoadError(f"perf {arguments[0]} failed: {done.stderr.strip()[-500:]}")
    return done.stdout


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest.flame_graph",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--out", type=Path, default=PROJECT / "reports", help="folder for the pictures")
    add("--clients", type=int, default=8, help="requests under way at once (default: %(default)s)")
    add("--seconds", type=float, default=15.0, help="of recording (default: %(default)s)")
    add_catalog(parser)
    add_photo_side(parser)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
