"""The files of a saved index: numpy arrays and JSON lines, each with its checksum.

Making such a folder appear at once, and choosing between several, is its owner's part; other files
may stand beside these.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from bls_models.errors import SnapshotError

# Raised when files change their meaning; a snapshot of another format is not read.
FILES_FORMAT = 2
HEADER_FILE = "index.json"
# Lines written at a time, so that other threads get their turn between two.
LINES_AT_ONCE = 1000

Array = npt.NDArray[Any]


class SnapshotWriter:
    """Writes the files of one snapshot; nothing is complete before ``finish``.

    Args:
        folder: where they go; made if it is not there.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._checksums: dict[str, str] = {}

    def array(self, name: str, array: Array) -> None:
        """Write ``name``.npy."""
        self.blocks(name, array.dtype, array.shape, [array])

    def blocks(
        self, name: str, dtype: npt.DTypeLike, shape: tuple[int, ...], blocks: Iterable[Array]
    ) -> None:
        """Write ``name``.npy from parts that follow each other along the first axis."""
        about = {
            "descr": np.dtype(dtype).str,
            "fortran_order": False,
            "shape": shape,
        }
        with self._open(f"{name}.npy") as file:
            np.lib.format.write_array_header_1_0(file, about)  # type: ignore[no-untyped-call]
            for block in blocks:
                file.write(np.ascontiguousarray(block, dtype).reshape(-1).view(np.uint8).data)

    def lines(self, name: str, values: Iterable[Any]) -> None:
        """Write ``name``.jsonl, one JSON value a line."""
        with self._open(f"{name}.jsonl") as file:
            for page in _pages(values):
                text = "".join(json.dumps(value, ensure_ascii=False) + "\n" for value in page)
                file.write(text.encode())

    def finish(self, header: dict[str, Any]) -> None:
        """Write the header, without which the folder is no snapshot."""
        whole = {"format": FILES_FORMAT, **header, "files": self._checksums}
        (self._folder / HEADER_FILE).write_text(json_with_checksum(whole), encoding="utf-8")

    def _open(self, name: str) -> _HashedFile:
        return _HashedFile(self._folder / name, self._checksums)


class SnapshotReader:
    """Reads the files of one snapshot, each after its checksum was compared.

    Args:
        folder: where ``SnapshotWriter`` wrote.

    Raises:
        SnapshotError: there is no snapshot, or one of another format.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        path = folder / HEADER_FILE
        try:
            header = json.loads(path.read_bytes())
            if header.pop("sha256") != checksum(header):
                raise SnapshotError(f"{path} is damaged: it does not fit its checksum")
            self._checksums: dict[str, str] = dict(header["files"])
            if header["format"] != FILES_FORMAT:
                raise SnapshotError(
                    f"{path} has format {header['format']}, expected {FILES_FORMAT}; "
                    "it was written by another version"
                )
        except OSError as error:
            raise SnapshotError(f"no snapshot in {folder}: {error}") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise SnapshotError(f"{path} is damaged: {error!r}") from error
        self.header: dict[str, Any] = header

    def array(self, name: str, dtype: npt.DTypeLike, shape: tuple[int | None, ...]) -> Array:
        """Map ``name``.npy, read-only.

        Args:
            name: file name without ending.
            dtype: the type it must have.
            shape: the shape it must have; None where any length will do.

        Raises:
            SnapshotError: it is missing, damaged, or something else than expected.
        """
        path = self._checked(f"{name}.npy")
        try:
            array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{path} is damaged: {error}") from error
        fits = len(array.shape) == len(shape) and all(
            wanted in (None, length) for wanted, length in zip(shape, array.shape, strict=True)
        )
        if array.dtype != dtype or not fits:
            raise SnapshotError(
                f"{path} holds {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}"
            )
        return array

    def lines(self, name: str) -> list[Any]:
        """The JSON values of ``name``.jsonl.

        Raises:
            SnapshotError: it is missing or damaged.
        """
        path = self._checked(f"{name}.jsonl")
        try:
            with path.open(encoding="utf-8") as file:
                return [json.loads(line) for line in file]
        except (OSError, ValueError) as error:
            raise SnapshotError(f"{path} is damaged: {error}") from error

    def _checked(self, name: str) -> Path:
        path = self._folder / name
        expected = self._checksums.get(name)
        if expected is None:
            raise SnapshotError(f"{self._folder / HEADER_FILE} does not name {name}")
        try:
            with path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise SnapshotError(f"{path} cannot be read: {error}") from error
        if found != expected:
            raise SnapshotError(f"{path} is damaged: its checksum is not the one that was written")
        return path


class _HashedFile:
    """A file that is written once, whose checksum is kept when it is closed."""

    def __init__(self, path: Path, checksums: dict[str, str]) -> None:
        self._path = path
        self._checksums = checksums
        self._hash = hashlib.sha256()
        self._file: BinaryIO = path.open("wb")

    def write(self, data: bytes | memoryview) -> int:
        self._hash.update(data)
        return self._file.write(data)

    def __enter__(self) -> _HashedFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._file.close()
        if kind is None:
            self._checksums[self._path.name] = self._hash.hexdigest()


def json_with_checksum(facts: Mapping[str, Any]) -> str:
    """Facts as a JSON object that also has their ``sha256``, to tell that it is whole."""
    return json.dumps({**facts, "sha256": checksum(facts)}, indent=1) + "\n"


def checksum(facts: Mapping[str, Any]) -> str:
    """The ``sha256`` of such an object, from the others of its values."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _pages(values: Iterable[Any]) -> Iterator[list[Any]]:
    page = []
    for value in values:
        page.append(value)
        if len(page) == LINES_AT_ONCE:
            yield page
            page = []
    yield page
