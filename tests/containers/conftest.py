"""An engine, the images and the service in containers, each once for the session."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from container_engine import Engine, running_engine
from container_images import (
    STAND_IN_FILE,
    BuildSettings,
    build_settings,
    make_stand_ins,
    pull,
)
from container_service import Service
from pod_engine import check_podman
from serving_support import ROOT


@pytest.fixture(scope="session")
def engine() -> Iterator[Engine]:
    """An empty Docker engine."""
    check_podman()
    with running_engine() as engine:
        yield engine


@pytest.fixture(scope="session")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has of the project, as whoever clones it sees it."""
    folder = tmp_path_factory.mktemp("checkout") / "product match"
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    for name in done.stdout.splitlines():
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


@pytest.fixture(scope="session")
def settings(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BuildSettings]:
    """What builds need to reach the package registries."""
    with build_settings(tmp_path_factory.mktemp("settings")) as settings:
        yield settings


@pytest.fixture(scope="session")
def built(engine: Engine, settings: BuildSettings, checkout: Path) -> Service:
    """The service with its images, and not yet started."""
    stand_ins = []
    if not pull(engine):
        make_stand_ins(engine, settings)
        stand_ins = [STAND_IN_FILE]
    service = Service(engine, checkout, stand_ins, settings.variables())
    service.make("images", "DEMO=yes")
    return service


@pytest.fixture(scope="session")
def service(built: Service) -> Iterator[Service]:
    """The service as ``make up`` runs it, with the page and the sample products."""
    built.make("up", "DEMO=yes")
    try:
        yield built
    finally:
        built.make("down")
