"""A file that is written at once or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from bls_models.files import atomic_write


@pytest.mark.parametrize("durable", [False, True])
def test_the_file_appears_whole_in_a_folder_that_is_made(tmp_path: Path, durable: bool) -> None:
    path = tmp_path / "folder" / "file"
    with atomic_write(path, durable) as stream:
        stream.write(b"content")
        assert not path.exists()
    assert path.read_bytes() == b"content"
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"earlier")
    with pytest.raises(TypeError), atomic_write(path) as stream:
        stream.writelines([b"half", "no bytes"])
    assert path.read_bytes() == b"earlier"
    assert list(tmp_path.iterdir()) == [path]
