"""The ingest benchmark: the rows that it makes, and what its turns come to."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from PIL import Image
from serving_support import SAMPLE

from loadtest.ingest_bench import ALONE, Turn, summary, write_catalogue
from loadtest.measurements import LOAD_GENERATOR
from local_server.temporary_stack import DATABASE, SERVING
from seed.records import CatalogRow
from seed.rows import read_catalog


def test_every_row_has_real_words_and_pictures_of_its_own(tmp_path: Path) -> None:
    path = write_catalogue(tmp_path, SAMPLE, rows=80, side=64, pictures=2)
    rows = [row for row in read_catalog(path) if isinstance(row, CatalogRow)]
    assert len({row.product["product_id"] for row in rows}) == 80
    files = [image for row in rows for image in row.images]
    hashes = {hashlib.sha256(file.read_bytes()).hexdigest() for file in files}
    assert len(hashes) == len(files) == 160
    assert rows[0].product["category"]
    for file in files[::40]:
        with Image.open(file) as image:
            assert 48 <= image.width <= 64


def test_the_ratio_is_the_median_of_the_turns_and_the_database_is_told_apart() -> None:
    def imported(serving: float, memory: float) -> Turn:
        used = {SERVING: serving, DATABASE: 200.0, LOAD_GENERATOR: 100.0}
        return Turn(100, 10.0, used, {SERVING: memory, DATABASE: 50.0})

    alone = [Turn(100, 5.0, {ALONE: 1000.0}) for _ in range(3)]
    found = summary([imported(1200, 700), imported(1300, 720), imported(9000, 710)], alone)
    assert found["ratio_to_alone"] == 1.3
    assert found["cpu_ms_a_row"] == {
        ALONE: 10.0,
        SERVING: pytest.approx(38.33),
        DATABASE: 2.0,
        LOAD_GENERATOR: 1.0,
    }
    assert found["rows_a_second"] == 10.0
    assert found["peak_memory_mb"] == {SERVING: 720, DATABASE: 50}
    assert found["peak_memory_mb_by_turn"] == [700, 720, 710]
