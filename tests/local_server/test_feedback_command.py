"""``make feedback`` reads only what it uses."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from local_server import feedback_tables
from local_server.options import Options


@pytest.mark.parametrize("wanted", [False, True])
def test_photos_are_read_for_queries_alone(
    wanted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextlib.contextmanager
    def no_database(options: Options) -> Iterator[None]:
        yield

    read: list[Path] = []

    def photos_by_hash(folder: Path) -> dict[str, Path]:
        read.append(folder)
        return {}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(feedback_tables, "reports_database", no_database)
    monkeypatch.setattr(feedback_tables, "requests_with_feedback", lambda _: [])
    monkeypatch.setattr(feedback_tables, "photos_by_hash", photos_by_hash)
    queries = tmp_path / "queries.csv" if wanted else None
    assert feedback_tables.show_feedback(Options(), Console(), queries, tmp_path) == 0
    assert read == ([tmp_path] if wanted else [])
