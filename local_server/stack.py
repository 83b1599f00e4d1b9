"""The parts of a local server, started in order and stopped in reverse."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from pymongo.errors import OperationFailure

from bls_models.bundle import Bundle
from bls_models.database.connection import check_server, connect
from bls_models.database.store import database_errors
from bls_models.engines.precisions import described_precisions
from bls_models.errors import DatabaseError, SetupError
from bls_models.settings import AUTO, REPORT_ENTRIES, SNAPSHOT_FOLDER, Settings
from local_server.database import MOST_REPORT_ENTRIES, local_database
from local_server.options import PROJECT, Options, make_folder
from local_server.running import Running, announced, state_lock
from local_server.served_metric import fit_first
from local_server.triton import Ports, TritonServer, find_installation, running_triton
from local_server.tuning import Tuning, read_tuning, tuned_repository
from product_match_client import AsyncProductMatchClient
from reporting.progress import Report
from seed.importer import ImportCounts, import_catalog
from seed.progress import show_progress
from seed.reembed import reembed_stale
from seed.rows import catalog_file, count_rows, read_catalog

TUNED_REPOSITORY = "tuned_repository"
# In the state folder, a folder for each catalogue's database.
SNAPSHOTS = "snapshots"
IMPORTS = "imports"
IMPORT_ERRORS = "import-errors.jsonl"
IMPORT_TIMEOUT_S = 120.0
EXTERNAL_DATABASE_MS = 5000


@dataclass(frozen=True)
class Stack:
    """A running local server: where it is, and its Triton."""

    running: Running
    triton: TritonServer


def build_models(options: Options, report: Report) -> Bundle:
    """Build the bundle unless it is built.

    Raises:
        SetupError: the build failed, and its own output says why; or it has no folder to go to.
    """
    report(f"models: bundle {options.bundle}")
    make_folder(options.repository_folder, "--repository")
    command = [sys.executable, "-m", "builders", "build", "--bundle", options.bundle]
    command += ["--repository", str(options.repository_folder)]
    # A process of its own: serving needs none of what building loads.
    done = subprocess.run(command, cwd=PROJECT, check=False)
    if done.returncode:
        raise SetupError(
            "the models could not be built (see above); if packages are missing, run `make install`"
        )
    return Bundle.read(options.repository_folder)


def apply_tuning(options: Options, bundle: Bundle, report: Report) -> tuple[Path, dict[str, str]]:
    """What to serve with the counts that ``make tune`` found, where it has run.

    Returns:
        The model repository, in the state folder if it is another than the built one; and
        settings, without those that the environment has.

    Raises:
        SetupError: the tuning file is damaged, or ``TUNING`` names one that is not there.
    """
    path = options.tuning_file
    if options.tuning and not path.is_file():
        raise SetupError(
            f"there is no tuning file {path}; write it with `make tune`, or unset TUNING"
        )
    tuning = read_tuning(path, bundle.name, report) or Tuning({}, {})
    settings = {name: text for name, text in tuning.settings.items() if not os.environ.get(name)}
    if not tuning.instances:
        return options.repository_folder, settings
    folder = options.state_folder / TUNED_REPOSITORY
    if folder.exists():
        shutil.rmtree(folder)
    tuned_repository(options.repository_folder, folder, tuning.instances)
    return folder, settings


@contextlib.contextmanager
def running_database(options: Options, report: Report) -> Iterator[str]:
    """The local database, or the one that ``MONGODB_URI`` names.

    Raises:
        SetupError: it does not answer, or cannot do what the models need.
    """
    if not options.mongodb_uri:
        report(f"database: SecantusDB, files in {options.state_folder / 'database'}")
        with local_database(options.state_folder, options.mongodb_port) as uri:
            yield uri
        return
    report("database: the one that MONGODB_URI names")
    database = connect(
        Settings(mongodb_uri=options.mongodb_uri, mongodb_timeout_ms=EXTERNAL_DATABASE_MS)
    )
    try:
        check_server(database)
    except DatabaseError as error:
        raise SetupError(_refusal(error.__cause__)) from error
    finally:
        database.client.close()
    yield options.mongodb_uri


def _refusal(cause: BaseException | None) -> str:
    """What the driver says of an external database, shortened, and what to do."""
    if isinstance(cause, OperationFailure):
        said = (cause.details or {}).get("errmsg", cause)
        return (
            f"the MongoDB server that MONGODB_URI names refuses: {said}; check the user, the "
            "password, authSource and the user's rights, or unset it to use a local database"
        )
    # What follows are all the driver's time limits, and all that it knows of each server.
    said = str(cause).partition(" (configured timeouts")[0].partition(", Timeout:")[0]
    return (
        f"the MongoDB server that MONGODB_URI names does not answer: {said}; check the address and "
        "that it runs, or unset it to use a local database"
    )


def database_name(options: Options, suffix: str = "") -> str:
    """A database for each catalogue, so that samples never mix with a shop's own products."""
    default = Settings.from_environment().database
    if suffix:
        return f"{default}_{suffix}"
    if options.catalog_path == Path(Options().catalog).resolve():
        return default
    digest = hashlib.sha256(str(options.catalog_path).encode()).hexdigest()[:8]
    return f"{default}_{digest}"


@contextlib.contextmanager
def running_stack(options: Options, report: Report, suffix: str = "") -> Iterator[Stack]:
    """Build, start the database and Triton, and import the catalogue if it is not there yet.

    Args:
        options: ports, folders, database, bundle, catalogue.
        report: called with a line on each step.
        suffix: use a database of this name's own instead of the catalogue's, and drop it at the
            end where the server is somebody's own.

    Raises:
        SetupError: a step failed; the message says what to do.
    """
    # Checked before anything is built or started, which takes time.
    catalog_file(options.catalog_path)
    state = options.state_folder
    with state_lock(state), contextlib.ExitStack() as parts:
        # Before the models, which the first time take minutes to build.
        installation = find_installation(state)
        uri = parts.enter_context(running_database(options, report))
        bundle = build_models(options, report)
        settings_here = Settings.from_environment()
        report(f"models: {described_precisions(bundle, options.repository_folder, settings_here)}")
        repository, settings = apply_tuning(options, bundle, report)
        name = database_name(options, suffix)
        if suffix and options.mongodb_uri:
            parts.callback(_drop, uri, name)
        if SNAPSHOT_FOLDER not in os.environ:
            settings[SNAPSHOT_FOLDER] = str(state / SNAPSHOTS / name)
        if not options.mongodb_uri and REPORT_ENTRIES not in os.environ:
            settings[REPORT_ENTRIES] = str(MOST_REPORT_ENTRIES)
        report("tritonserver: loading the models")
        triton = parts.enter_context(
            running_triton(
                repository,
                state,
                Ports(options.http_port, options.grpc_port, options.metrics_port),
                {**settings, "MONGODB_URI": uri, "PRODUCT_MATCH_DATABASE": name},
                flags=options.trace_flags(),
                installation=installation,
            )
        )
        running = Running(
            http_url=triton.http_url,
            grpc_url=triton.grpc_url,
            metrics_url=triton.metrics_url,
            mongodb_uri=uri,
            database=name,
            metric=settings_here.metric,
        )
        imported = import_once(running, options.catalog_path, bundle, state, report)
        if running.metric == AUTO:
            fit_first(running, bundle, imported, report)
        parts.enter_context(announced(running, state))
        yield Stack(running, triton)


def _drop(uri: str, name: str) -> None:
    database = connect(Settings(mongodb_uri=uri, mongodb_timeout_ms=EXTERNAL_DATABASE_MS))
    with database_errors(f"dropping the database {name}"):
        database.client.drop_database(name)
    database.client.close()


def import_once(
    running: Running, catalog: Path, bundle: Bundle, state: Path, report: Report
) -> bool:
    """Import a catalogue, unless this database has it already, as it is now.

    Products that somebody deleted since then stay deleted.

    Returns:
        Whether anything was imported, or computed anew.

    Raises:
        SetupError: the server stopped answering.
    """
    imports = running.connect()[IMPORTS]
    listing = catalog_file(catalog)
    key = str(catalog)
    now = {
        "modified": listing.stat().st_mtime_ns,
        "bytes": listing.stat().st_size,
        "fingerprint": bundle.fingerprint,
    }
    before = imports.find_one({"_id": key}) or {}
    if all(before.get(name) == value for name, value in now.items()):
        report(f"catalogue: {catalog} is imported already")
        return False
    if before | {"fingerprint": bundle.fingerprint} == before | now:
        # The same catalogue under another bundle: what was changed or deleted since stays so.
        report("catalogue: computing its vectors anew for this bundle")
        asyncio.run(reembed_stale(running.http_url, running.connect(), report))
        imports.update_one({"_id": key}, {"$set": now})
        return True
    report(f"catalogue: importing {catalog}")
    errors = state / IMPORT_ERRORS
    counts = asyncio.run(_import(running.http_url, catalog, errors))
    report(f"catalogue: {counts}")
    if counts.stopped_by is not None:
        raise SetupError(f"the import stopped: {counts.stopped_by}; start again to go on")
    if counts.failed:
        report(
            f"catalogue: {counts.failed} rows failed; they are listed in {errors}. When they are "
            "mended, run `make import` beside the running server"
        )
    imports.replace_one(
        {"_id": key}, now | {"time": datetime.now(UTC), "failed": counts.failed}, upsert=True
    )
    return True


async def _import(url: str, catalog: Path, errors: Path) -> ImportCounts:
    async with AsyncProductMatchClient(url, IMPORT_TIMEOUT_S) as client:
        with show_progress(count_rows(catalog)) as on_progress:
            return await import_catalog(
                read_catalog(catalog), client, errors=errors, on_progress=on_progress
            )
