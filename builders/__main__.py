"""``python -m builders``: graphs, engines, and how near they are to their originals."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

# Imported only when asked for: each needs packages that the others do without.
COMMANDS = {
    "build": "builders.commands.build",
    "engines": "builders.commands.engines",
    "caption-weight": "builders.commands.caption_weight",
    "duplicate-threshold": "builders.commands.duplicate_threshold",
    "quality": "builders.commands.quality",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status, 2 for an unknown one."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] not in COMMANDS:
        print(f"usage: python -m builders {{{','.join(COMMANDS)}}} [--help]", file=sys.stderr)
        return 2
    command = importlib.import_module(COMMANDS[arguments[0]])
    status: int = command.main(arguments[1:])
    return status


if __name__ == "__main__":
    sys.exit(main())
