"""The page as a process of its own, as people run it."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from browser_support import WatchedPage
from serving_support import WAIT_SECONDS

from local_server.processes import ManagedProcess

SAID = re.compile(r"Page: (http://\S+)")
# Gradio's own client says it, as a warning, each time an upload is over: it ends the upload's
# progress by the stub that its streams have for a close. Every component that takes files shows
# progress, and none has an option for it.
UPLOADED = "console warning: Method not implemented."
# Tests ask faster than people.
UNBOUND = {"DEMO_RATE": "1000", "DEMO_BURST": "1000"}


def page_environment(url: str, **settings: str) -> dict[str, str]:
    """The environment of a page of a server, with nothing of the machine's own settings."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("DEMO_")}
    ours.pop("PRODUCT_MATCH_API_KEY", None)
    return {**ours, **UNBOUND, "DEMO_URL": url, "DEMO_PORT": "0", **settings}


@contextlib.contextmanager
def running_page(folder: Path, url: str, **settings: str) -> Iterator[str]:
    """Run ``python -m demo`` for a server, and fail if it says more than where it is.

    Args:
        folder: for its output.
        url: of the server.
        settings: environment variables.

    Yields:
        The page's address.
    """
    process = ManagedProcess(
        "the page",
        [sys.executable, "-m", "demo"],
        folder / "page.log",
        page_environment(url, **settings),
    )
    try:
        process.wait_until(lambda: SAID.search(process.log.read_text()) is not None, WAIT_SECONDS)
        found = SAID.search(process.log.read_text())
        assert found
        yield found[1]
    finally:
        process.stop()
    said = process.log.read_text().splitlines()
    assert len(said) == 1, "\n".join(said)


def check_quiet(watched: WatchedPage) -> None:
    """Fail if a page complains of anything but uploads that are over."""
    watched.complaints = [line for line in watched.complaints if not line.startswith(UPLOADED)]
    watched.check_quiet()
