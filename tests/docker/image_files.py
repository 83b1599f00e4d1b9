"""The Dockerfile as data, and the tree that it copies into an image."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from string import Template

from serving_support import ROOT

DOCKER = ROOT / "docker"
DOCKERFILE = DOCKER / "Dockerfile"
IMAGES = ("cpu", "gpu", "gateway", "demo")


@dataclass
class Stage:
    """One stage: its base and its instructions, continued lines joined."""

    name: str
    base: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def values(self, instruction: str) -> list[str]:
        """The arguments of each instruction of a kind."""
        return [value for kind, value in self.instructions if kind == instruction]

    def copied(self) -> list[tuple[list[str], str]]:
        """Sources and target of each COPY from the checkout."""
        copies = [value.split() for value in self.values("COPY") if "--from" not in value]
        return [(words[:-1], words[-1]) for words in copies]

    def environment(self) -> dict[str, str]:
        """The variables that the stage sets."""
        pairs = [pair for value in self.values("ENV") for pair in value.split()]
        return dict(pair.split("=", 1) for pair in pairs)


def stages() -> dict[str, Stage]:
    """The Dockerfile's stages by name."""
    text = re.sub(r"^\s*#.*\n", "", DOCKERFILE.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found: dict[str, Stage] = {}
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        kind, _, value = line.partition(" ")
        if kind == "FROM":
            base, _, name = value.partition(" AS ")
            found[name] = Stage(name, base)
        elif found and kind:
            list(found.values())[-1].instructions.append((kind, value))
    return found


def assemble(stage: Stage, folder: Path) -> None:
    """Copy what a stage copies from the checkout."""
    for sources, target in stage.copied():
        for source in sources:
            place = folder / target
            if (ROOT / source).is_dir():
                ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
                shutil.copytree(ROOT / source, place, ignore=ignored, dirs_exist_ok=True)
            else:
                place.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / source, place)


def install(stage: Stage, environment: Path, **given: str) -> None:
    """Make the environment that a stage makes, by the same scripts.

    Args:
        stage: the stage.
        environment: the folder to make.
        given: build arguments, where they are not to be the defaults.
    """
    (command,) = stage.values("RUN")
    defaults = dict(value.replace('"', "").split("=", 1) for value in stage.values("ARG"))
    # Without the mounts of secrets, which are for builds.
    command = re.sub(r"--mount=\S+ +", "", Template(command).substitute(defaults | given))
    command = command.replace("docker/", f"{shlex.quote(str(DOCKER))}/")
    subprocess.run(
        ["sh", "-c", command.replace("/opt/venv", shlex.quote(str(environment)))],
        env=os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
    )
