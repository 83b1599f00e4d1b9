"""What local start-up can be told: by flag, else by environment variable, else a default."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar

from pydantic import Field

from bls_models import settings
from bls_models.errors import SetupError
from bls_models.settings import setting
from local_server.tracing import TraceOptions

PROJECT = Path(__file__).resolve().parent.parent
TUNING_FILE = "tuning.json"

Port = Annotated[int, Field(ge=0, le=65535)]


class Options(TraceOptions):
    """Options of ``python -m local_server``; each is also a flag (``--http-port`` and so on)."""

    told_by: ClassVar[str] = "flag or environment variable"

    http_port: Port = setting(8000, "HTTP_PORT", "Triton's HTTP port; 0: any free one.")
    grpc_port: Port = setting(8001, "GRPC_PORT", "Triton's gRPC port; 0: any free one.")
    metrics_port: Port = setting(8002, "METRICS_PORT", "Triton's metrics port; 0: any free one.")
    mongodb_uri: str = setting(
        "",
        "MONGODB_URI",
        "A MongoDB replica set to use; without it a local database is started.",
        secret=True,
    )
    mongodb_port: Port = setting(0, "MONGODB_PORT", "The local database's port; 0: any free one.")
    state: str = setting(
        str(PROJECT / ".state"),
        "STATE",
        "Folder for the local database, snapshots of the index, logs and Triton's backend.",
    )
    repository: str = setting(
        str(PROJECT / "model_repository"), "MODEL_REPOSITORY", "Triton's model repository."
    )
    bundle: str = setting("mini", "BUNDLE", "Bundle to build and serve: a name or a TOML file.")
    catalog: str = setting(
        str(PROJECT / "seed" / "sample"),
        "CATALOG",
        "Catalogue to import at the start: a folder or file in a layout that `python -m seed` "
        "reads. Each catalogue has a database of its own.",
    )
    tuning: str = setting(
        "",
        "TUNING",
        "File of instance and thread counts that `make tune` writes and `make run` uses; without "
        "it `tuning.json` in the state folder, if that is there.",
    )

    @property
    def state_folder(self) -> Path:
        """``state`` as a path."""
        return Path(self.state).resolve()

    @property
    def repository_folder(self) -> Path:
        """``repository`` as a path."""
        return Path(self.repository).resolve()

    @property
    def catalog_path(self) -> Path:
        """``catalog`` as a path."""
        return Path(self.catalog).resolve()

    @property
    def tuning_file(self) -> Path:
        """``tuning`` as a path, by default in the state folder."""
        return Path(self.tuning).resolve() if self.tuning else self.state_folder / TUNING_FILE


def make_folder(folder: Path, flag: str) -> None:
    """Make a folder that an option names, unless it is there.

    Raises:
        SetupError: with the flag that chooses another.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SetupError(
            f"the folder {folder} cannot be made ({error.strerror}); choose another with {flag}"
        ) from error


def add_flags(parser: argparse.ArgumentParser) -> None:
    """One flag for each option."""
    settings.add_flags(Options, parser, secrets=True)


def read_options(
    arguments: argparse.Namespace, environ: Mapping[str, str] | None = None
) -> Options:
    """Options from flags, then the environment, then defaults.

    Raises:
        SetupError: a value cannot be used.
    """
    return Options.from_environment(environ, **settings.given_flags(Options, arguments))
