"""Print the project's pinned requirements for some of its extras, a line each.

An image layer of dependencies then depends on pyproject.toml alone, not on the code.

    python docker/requirements.py cpu triton
    python docker/requirements.py --only pydantic-settings
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


def only(packages: list[str]) -> list[str]:
    """Some of the base dependencies.

    Raises:
        SystemExit: one is none.
    """
    pins = {line.partition("==")[0]: line for line in requirements([])}
    if unknown := [name for name in packages if name not in pins]:
        raise SystemExit(f"no such dependency: {', '.join(unknown)}; known: {', '.join(pins)}")
    return [pins[name] for name in packages]


if __name__ == "__main__":
    names = sys.argv[1:]
    print("\n".join(only(names[1:]) if names[:1] == ["--only"] else requirements(names)))
