"""``make docs``: the configuration reference, written from the code."""

from __future__ import annotations

import sys
from dataclasses import Field, fields
from pathlib import Path
from typing import Any

from bls_models.settings import Settings
from local_server.options import PROJECT, Options

HEAD = """# Configuration

Written by `make docs` from `local_server/options.py` and `bls_models/settings.py`; edit those.

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


def _shown(default: object) -> str:
    if default == "":
        return "unset"
    if isinstance(default, str) and Path(default).is_absolute():
        return f"`{Path(default).relative_to(PROJECT)}`"
    return f"`{default}`"


def _row(item: Field[Any], flag: bool) -> str:
    cells = [f"`{item.metadata['env']}`"]
    if flag:
        cells.append(f"`--{item.name.replace('_', '-')}`")
    cells += [_shown(item.default), item.metadata["doc"]]
    return f"| {' | '.join(cells)} |"


def configuration_reference() -> str:
    """The whole of ``docs/configuration.md``."""
    options = [_row(item, flag=True) for item in fields(Options)]
    settings = [_row(item, flag=False) for item in fields(Settings)]
    return (
        HEAD
        + "\n".join(
            ["| variable | flag | default | meaning |", "| --- | --- | --- | --- |", *options]
        )
        + "\n"
        + SERVING
        + "\n".join(["| variable | default | meaning |", "| --- | --- | --- |", *settings])
        + "\n"
    )


if __name__ == "__main__":
    sys.stdout.write(configuration_reference())
