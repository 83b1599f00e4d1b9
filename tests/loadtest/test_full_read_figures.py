"""`python -m loadtest.full_reads` on a catalogue of a few pages."""

from __future__ import annotations

import json
from pathlib import Path

from bls_models.bundle import Bundle
from loadtest import full_reads


def test_a_catalogue_of_some_pages_is_loaded_checked_and_read_again(
    bundle: Bundle, tmp_path: Path
) -> None:
    path = tmp_path / "full_reads.json"
    assert full_reads.main(["--products", "300", "--report", str(path)]) == 0
    report = json.loads(path.read_text(encoding="utf-8"))
    assert (report["products"], report["differ"]) == (300, 0)
    assert list(report["steps"]) == ["insert", "index build", "load", "sync check", "second load"]
    for step in report["steps"].values():
        assert step.keys() == {"seconds", "index_mb", "database_mb"}
