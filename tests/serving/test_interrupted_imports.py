"""An import whose importer or server is killed goes on where it was, and doubles nothing."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ingest_support import assert_nothing_left_over
from pymongo.database import Database
from serving_support import ROOT, SAMPLE, WAIT_SECONDS, Serving, serving, wait_for

from bls_models.database.store import Document
from loadtest.ingest_bench import write_catalogue
from seed.records import CatalogRow
from seed.rows import read_catalog

pytestmark = [pytest.mark.server, pytest.mark.slow]

ROWS = 160
# Short, so that what was cut off is soon settled, and long enough for a write on a busy machine.
LEASE_SECONDS = 20
LEASE = {"PRODUCT_MATCH_WRITE_LEASE_SECONDS": str(LEASE_SECONDS)}


@pytest.fixture(scope="module")
def catalogue_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_catalogue(tmp_path_factory.mktemp("catalogue"), SAMPLE, ROWS, 240, 2)


@pytest.fixture
def name() -> str:
    return f"interrupted_{uuid.uuid4().hex}"


@pytest.fixture
def own_server(name: str, database_uri: str, tmp_path: Path) -> Iterator[Serving]:
    with serving(tmp_path / "first", database_uri, name, **LEASE) as server:
        yield server


def start_import(server: Serving, catalogue: Path, tmp_path: Path) -> subprocess.Popen[str]:
    errors = str(tmp_path / "errors.jsonl")
    command = [sys.executable, "-m", "seed", "import", str(catalogue), "--errors", errors]
    return subprocess.Popen(
        [*command, "--url", server.url("http")],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_import(server: Serving, catalogue: Path, tmp_path: Path) -> str:
    importer = start_import(server, catalogue, tmp_path)
    printed, _ = importer.communicate()
    assert importer.returncode == 0, printed
    return printed.splitlines()[-1]


def wait_until_half_way(database: Database[Document]) -> None:
    wait_for(lambda: database["products"].count_documents({}) > ROWS // 4, "a part is imported")


def content(database: Database[Document]) -> dict[str, dict[str, Any]]:
    """The products as one clean import leaves them, without what tells one run from another."""
    varying = {"created", "updated", "write_id", "content_hash", "fingerprint", "description"}
    return {
        document["_id"]: {
            key: value for key, value in sorted(document.items()) if key not in varying
        }
        for document in database["products"].find({})
    }


def assert_imported_once(database: Database[Document], catalogue: Path) -> None:
    """What is stored is what one clean import stores, and nothing else."""
    wait_for(
        lambda: database["writes"].count_documents({}) == 0,
        "all writes are settled",
        WAIT_SECONDS + 2 * LEASE_SECONDS,
    )
    found = content(database)
    rows = [row for row in read_catalog(catalogue) if isinstance(row, CatalogRow)]
    assert len(found) == len(rows) == ROWS
    for row in rows:
        product = found[row.product["product_id"]]
        assert product["revision"] == 1
        assert product["name"] == row.product["name"]
        assert product["attributes"] == row.product["attributes"]
        assert [item["sha256"] for item in product["images"]] == [
            hashlib.sha256(path.read_bytes()).hexdigest() for path in row.images
        ]
    assert_nothing_left_over(database)


def test_a_killed_importer_is_run_again(
    own_server: Serving, catalogue_file: Path, tmp_path: Path
) -> None:
    database = own_server.database
    importer = start_import(own_server, catalogue_file, tmp_path)
    wait_until_half_way(database)
    importer.kill()
    importer.communicate()
    # What was under way when it died is still carried out.
    summary = run_import(own_server, catalogue_file, tmp_path)
    unchanged = int(summary.split(" unchanged")[0].rsplit(" ", 1)[1])
    assert ROWS // 4 < unchanged < ROWS, summary
    assert_imported_once(database, catalogue_file)
    with own_server.client() as client:
        wait_for(
            lambda: client.match(texts="a").details["index"]["products"] == ROWS,
            "the index has every product once",
        )


def test_a_killed_server_is_started_again_and_the_import_run_again(
    own_server: Serving, name: str, database_uri: str, catalogue_file: Path, tmp_path: Path
) -> None:
    database = own_server.database
    importer = start_import(own_server, catalogue_file, tmp_path)
    wait_until_half_way(database)
    # With all its processes, as when the machine fails.
    os.killpg(own_server.triton.process.pid, signal.SIGKILL)
    importer.kill()
    importer.communicate()
    stored = database["products"].count_documents({})
    assert ROWS // 4 < stored < ROWS
    with serving(tmp_path / "second", database_uri, name, **LEASE) as server:
        summary = run_import(server, catalogue_file, tmp_path)
        counts = {
            status: int(count)
            for count, status in re.findall(r"(\d+) (created|updated|unchanged|failed)", summary)
        }
        assert counts["created"] + counts["unchanged"] == ROWS
        assert counts["unchanged"] >= stored
        assert counts["updated"] == counts["failed"] == 0
        assert_imported_once(server.database, catalogue_file)
