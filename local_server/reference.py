"""``make docs``: the configuration reference, written from the code."""

from __future__ import annotations

import sys
from pathlib import Path

from bls_models.settings import EnvironmentSettings, Settings
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


def _table(kind: type[EnvironmentSettings], flag: bool = False) -> str:
    names = ["variable", *(["flag"] if flag else []), "default", "meaning"]
    lines = [f"| {' | '.join(names)} |", f"| {' | '.join(['---'] * len(names))} |"]
    # What is shared with others comes last.
    for name in sorted(kind.model_fields, key=lambda name: name not in kind.__annotations__):
        field = kind.model_fields[name]
        cells = [
            f"`{field.validation_alias}`",
            *([f"`--{name.replace('_', '-')}`"] if flag else []),
        ]
        lines.append(f"| {' | '.join([*cells, _shown(field.default), str(field.description)])} |")
    return "\n".join(lines) + "\n"


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
