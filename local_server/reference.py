"""``make docs``: the configuration reference, written from the code."""

from __future__ import annotations

import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from bls_models.settings import Settings
from gateway.options import GatewayOptions
from local_server.container import ContainerOptions
from local_server.options import PROJECT, Options

HEAD = """# Configuration

Written by `make docs` from `local_server/options.py`, `local_server/container.py`,
`local_server/tracing.py`, `bls_models/settings.py` and `gateway/options.py`; edit those.

## Local start-up

`make run`, `make smoke` and `make logs`. A flag of `python -m local_server` wins over the
environment variable, and that over the default. Each variable may also stand on make's command
line, as in `make run HTTP_PORT=9000`.

"""

SERVING = """
## Serving models

Read once by each model when Triton loads it. `make run` sets `MONGODB_URI` and
`PRODUCT_MATCH_DATABASE`; the others pass through from the environment.

"""

CONTAINER = """
## Containers

What the server's container reads beside the settings above. Each of these and of those may also
name a file that holds the value, with `_FILE` behind its name (`MONGODB_URI_FILE`).

"""

GATEWAY = """
## Gateway

"""


def _shown(default: object) -> str:
    if default == "":
        return "unset"
    if isinstance(default, str) and Path(default).is_relative_to(PROJECT):
        return f"`{Path(default).relative_to(PROJECT)}`"
    return f"`{default}`"


def _row(item: Field[Any], flag: bool) -> str:
    cells = [f"`{item.metadata['env']}`"]
    if flag:
        cells.append(f"`--{item.name.replace('_', '-')}`")
    cells += [_shown(item.default), item.metadata["doc"]]
    return f"| {' | '.join(cells)} |"


def _table(kind: Any, flag: bool = False) -> str:
    names = ["variable", *(["flag"] if flag else []), "default", "meaning"]
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join(['---'] * len(names))} |"]
    # What is shared with others comes last.
    rows = sorted(fields(kind), key=lambda item: item.name not in kind.__annotations__)
    return "\n".join([*lines, *(_row(item, flag) for item in rows)]) + "\n"


def configuration_reference() -> str:
    """The whole of ``docs/configuration.md``."""
    return "".join(
        [
            HEAD,
            _table(Options, flag=True),
            SERVING,
            _table(Settings),
            CONTAINER,
            _table(ContainerOptions),
            GATEWAY,
            _table(GatewayOptions),
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(configuration_reference())
