"""``python -m local_server.container``: what a server's container runs.

It makes the model repository ready (with the GPU profile, by compiling engines that are not there
yet) and then becomes ``local_server.watched_server``, which runs tritonserver. The database is
somebody else's, and so is importing products.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shlex
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from bls_models.bundle import Bundle
from bls_models.engines.precisions import described_precisions
from bls_models.errors import ProductMatchError, SetupError
from bls_models.settings import (
    GPU,
    PROFILE,
    SNAPSHOT_FOLDER,
    Settings,
    matching,
    setting,
)
from bls_models.settings import values_from_files as settings_from_files
from local_server.options import PROJECT
from local_server.tracing import TraceOptions
from local_server.triton import (
    Installation,
    Ports,
    find_installation,
    remove_shared_memory,
    server_flags,
    triton_environment,
)
from reporting.progress import Report, timed_lines

# Everything but health, metadata and inference. The name of the header is part of the contract
# with whoever administers a server; over gRPC Triton puts `triton-grpc-protocol-` before it.
RESTRICTED = "model-repository,model-config,shared-memory,statistics,trace,logging"
ADMIN_HEADER = "triton-admin-key"
ADMIN_SECRET = "PRODUCT_MATCH_ADMIN_SECRET"
AdminSecret = Annotated[
    str, matching(r"([A-Za-z0-9_-]{16,})?", "at least 16 letters, digits, - and _")
]
# Others connect to them, so "any free one" would be of no use.
KnownPort = Annotated[int, Field(ge=1, le=65535)]


class ContainerOptions(TraceOptions):
    """Options of ``python -m local_server.container``, all by environment variables."""

    address: str = setting("0.0.0.0", "LISTEN_ADDRESS", "Address that Triton listens on.")
    http_port: KnownPort = setting(8000, "HTTP_PORT", "Triton's HTTP port.")
    grpc_port: KnownPort = setting(8001, "GRPC_PORT", "Triton's gRPC port.")
    metrics_port: KnownPort = setting(8002, "METRICS_PORT", "Triton's metrics port.")
    repository: str = setting(
        str(PROJECT / "model_repository"), "MODEL_REPOSITORY", "The built model repository."
    )
    state: str = setting(
        str(PROJECT / ".state"),
        "STATE",
        "Folder for Triton's backend, with the GPU profile for the engines, and for snapshots of "
        "the index where `PRODUCT_MATCH_SNAPSHOT_FOLDER` names no other.",
    )
    admin_secret: AdminSecret = setting(
        "",
        ADMIN_SECRET,
        f"What the header `{ADMIN_HEADER}` must hold for Triton's repository, configuration, "
        "shared-memory, statistics, trace and logging APIs; unset: nobody can use them.",
        secret=True,
    )
    exit_timeout_s: int = setting(
        30, "TRITON_EXIT_TIMEOUT_S", "Seconds that requests under way get when the server stops."
    )
    triton_flags: str = setting(
        "", "TRITON_FLAGS", "Further flags of tritonserver, as on a command line."
    )

    @property
    def ports(self) -> Ports:
        """The three ports."""
        return Ports(self.http_port, self.grpc_port, self.metrics_port)


def values_from_files(environ: Mapping[str, str]) -> dict[str, str]:
    """The values of settings whose variable names a file instead, as ``MONGODB_URI_FILE``.

    Raises:
        SetupError: see ``bls_models.settings.values_from_files``.
    """
    return settings_from_files(
        environ, {*Settings.variables().values(), *ContainerOptions.variables().values()}
    )


def command_line(
    options: ContainerOptions,
    profile: str,
    installation: Installation,
    repository: Path,
    shared_memory: str,
) -> list[str]:
    """Tritonserver with its flags.

    Args:
        options: ports and secret.
        profile: what runs the engines.
        installation: the server to run.
        repository: the repository to serve.
        shared_memory: what the names of its shared-memory regions begin with.
    """
    secret = options.admin_secret or secrets.token_hex(32)
    return [
        str(installation.program),
        *server_flags(
            plain_path(repository),
            plain_path(installation.backends),
            profile,
            shared_memory,
            options.ports,
            options.address,
        ),
        *options.trace_flags(),
        f"--exit-timeout-secs={options.exit_timeout_s}",
        f"--http-restricted-api={RESTRICTED}:{ADMIN_HEADER}={secret}",
        f"--grpc-restricted-protocol={RESTRICTED}:{ADMIN_HEADER}={secret}",
        *shlex.split(options.triton_flags),
    ]


def prepare_repository(options: ContainerOptions, profile: str, report: Report) -> Path:
    """The repository to serve, with engines if the profile needs them.

    Raises:
        ProductMatchError: it is not built, or an engine cannot be compiled.
    """
    repository = Path(options.repository)
    if profile == GPU:
        # Only here: the CPU profile has neither the package nor what it needs.
        try:
            from builders.engines.repository import compiled_repository
        except ModuleNotFoundError as error:
            raise SetupError(
                f"{PROFILE} is gpu, and {error.name}, which compiles engines, is not here; run the "
                "image product-match:gpu, or set it to cpu"
            ) from error

        return compiled_repository(repository, Path(options.state), report)
    Bundle.read(repository).check_files(repository)
    return repository


def plain_path(folder: Path) -> Path:
    """The folder, or a link to it where its path has a space or quote.

    The Python backend starts its stubs through a shell without quoting their paths. The link stays
    as long as the server, and so until the container ends.
    """
    if shlex.quote(str(folder)) == str(folder):
        return folder
    link = Path(tempfile.mkdtemp(prefix="product-match-")) / "link"
    link.symlink_to(folder.resolve(), target_is_directory=True)
    return link


def main(argv: Sequence[str] | None = None) -> int:
    """Become what runs tritonserver; returns only on an error or with ``--prepare-only``."""
    parser = argparse.ArgumentParser(prog="python -m local_server.container", description=__doc__)
    parser.add_argument(
        "--prepare-only",
        action="store_true",
        help="make the model repository ready and end, as an init container does",
    )
    arguments = parser.parse_args(argv)
    report = timed_lines()
    try:
        from_files = values_from_files(os.environ)
        options = ContainerOptions.from_environment(os.environ | from_files)
        settings = Settings.from_environment(os.environ | from_files)
        repository = prepare_repository(options, settings.profile, report)
        precisions = described_precisions(Bundle.read(repository), repository, settings)
        if arguments.prepare_only:
            report(f"{repository} is ready")
            return 0
        installation = find_installation(Path(options.state))
    except (ProductMatchError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    # The port tells this server's regions from those of others that share the memory.
    shared_memory = f"product_match_{options.http_port}_"
    remove_shared_memory(shared_memory)
    command = command_line(options, settings.profile, installation, repository, shared_memory)
    environment = triton_environment(
        installation, from_files, Path(options.state), settings.profile
    )
    # The models need no secret of the server's.
    environment.pop(ADMIN_SECRET, None)
    environment.setdefault(SNAPSHOT_FOLDER, str(Path(options.state) / "snapshots"))
    report(f"tritonserver: {settings.profile} profile, {repository}")
    report(f"tritonserver: {precisions}")
    # In this place, so that nothing stays of what compiling took.
    watched = [sys.executable, "-m", "local_server.watched_server", *command]
    os.execve(watched[0], watched, environment)


if __name__ == "__main__":
    sys.exit(main())
