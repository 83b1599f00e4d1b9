"""``python -m local_server.probe``: ask a server for a match; the exit status says how it is.

A server whose model processes have died still answers that it is live and ready. So this sends a
real match, of a word and a tiny picture, through the whole pipeline: decoding, both encoders, index
and database. It needs nothing but Python. ``match_log`` shows it only where it fails.

``ready``: the match was answered. ``live`` (also for start-up): no part is dead, no loading stands
still, and the server answers at all. A match that is refused (503), or not answered in time while
Triton itself answers, is a server with too much to do, or one that lacks a part which a restart
would not bring back, as the database while the index loads. A server with a dead model process
should be restarted, for Triton does not start it again, and so should one that fails otherwise. A
part that hangs ends its own process (``bls_models.watchdog``). The processes of models that no
match needs, ingest and captions, are for those to watch who run the server.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence

from bls_models.errors import STANDS_STILL
from bls_models.match.probes import probe_body

LIVE = "live"
READY = "ready"
DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_SECONDS = 5.0
ENDPOINT = "v2/models/product_match/infer"
HEALTH = "v2/health/live"
UNAVAILABLE = 503
# How Triton's Python backend words it in every answer of a model whose process is gone.
DEAD_PART = "is not healthy"
BROKEN = (DEAD_PART, STANDS_STILL)
# product_match may have several processes, and Triton gives requests to them in turn.
REQUESTS = 2


def ask(url: str, seconds: float) -> tuple[int, str]:
    """Send the match.

    Args:
        url: Triton's HTTP endpoint.
        seconds: longest wait for the answer.

    Returns:
        The HTTP status, 0 if there was no answer, and what was wrong; empty if it was a match.
    """
    request = urllib.request.Request(
        f"{url.rstrip('/')}/{ENDPOINT}",
        json.dumps(probe_body()).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            outputs = json.load(answer)["outputs"]
            return int(answer.status), "" if outputs else "the answer has no outputs"
    except urllib.error.HTTPError as error:
        return error.code, f"HTTP {error.code}: {error.read(500).decode(errors='replace')}"
    except (ValueError, KeyError) as error:
        return 200, f"the answer is no match: {error}"
    except OSError as error:
        return 0, f"no answer within {seconds:g} s: {error}"


def answers(url: str, seconds: float) -> bool:
    """Whether Triton itself says that it lives."""
    try:
        with urllib.request.urlopen(f"{url.rstrip('/')}/{HEALTH}", timeout=seconds) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def problem(url: str, level: str, seconds: float) -> str:
    """What is wrong with a server, by matches to all processes of ``product_match``.

    Args:
        url: Triton's HTTP endpoint.
        level: how good the answers must be.
        seconds: longest wait for each answer.

    Returns:
        The reason of the first answer that is not good enough; empty if all are.
    """
    for _ in range(REQUESTS):
        status, reason = ask(url, seconds)
        if reason and level == LIVE:
            if status == 0:
                # So late an answer needs no second one.
                return "" if answers(url, seconds) else reason
            if status == UNAVAILABLE and not any(words in reason for words in BROKEN):
                continue
        if reason:
            return reason
    return ""


def main(argv: Sequence[str] | None = None) -> int:
    """Probe once; returns 0 if the server is as it should be, else 1."""
    parser = argparse.ArgumentParser(
        prog="python -m local_server.probe",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--url", default=DEFAULT_URL, help="Triton's HTTP endpoint (%(default)s)")
    add("--timeout", type=float, default=DEFAULT_SECONDS, metavar="SECONDS", help="longest wait "
        "for each of the two answers (%(default)s)")  # fmt: skip
    add("--level", choices=(LIVE, READY), default=READY, help="(%(default)s)")
    arguments = parser.parse_args(argv)
    if reason := problem(arguments.url, arguments.level, arguments.timeout):
        print(reason, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
