"""Print the project's pinned requirements for some of its extras, a line each.

An image layer of dependencies then depends on pyproject.toml alone, not on the code.

    python docker/requirements.py cpu triton
"""

import sys
import tomllib
from pathlib import Path

PYPROJECT = Path(__file__).resolve().parent.parent / "pyproject.toml"


def requirements(extras: list[str]) -> list[str]:
    """The base dependencies and those of the extras.

    Raises:
        SystemExit: there is no such extra.
    """
    project = tomllib.loads(PYPROJECT.read_text(encoding="utf-8"))["project"]
    known = project["optional-dependencies"]
    if unknown := [extra for extra in extras if extra not in known]:
        raise SystemExit(f"no such extra: {', '.join(unknown)}; known: {', '.join(known)}")
    wanted = [*project["dependencies"], *(item for extra in extras for item in known[extra])]
    return sorted(set(wanted))


if __name__ == "__main__":
    print("\n".join(requirements(sys.argv[1:])))
