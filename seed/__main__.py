"""``python -m seed``: catalogues in and out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence

from bls_models.errors import SetupError
from product_match_client import ClientError
from seed import import_command


def main(argv: Sequence[str] | None = None) -> int:
    """Run a subcommand.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        The exit status of the subcommand; 1 if it could not be run, 130 if interrupted.
    """
    parser = argparse.ArgumentParser(
        prog="python -m seed", description="Work with product catalogues."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    import_command.add_parser(commands)
    arguments = parser.parse_args(argv)
    run: Callable[[argparse.Namespace], int] = arguments.run
    try:
        return run(arguments)
    except (SetupError, ClientError, OSError) as error:
        sys.stderr.write(f"seed: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("seed: interrupted; run it again to go on\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
