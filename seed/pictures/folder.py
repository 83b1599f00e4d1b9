"""The pictures beside a catalogue, in folders or in its zip archive, by name or by product."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import unicodedata
import zipfile
from collections.abc import Iterable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Protocol

from seed.records import BadRowError

# Whatever a camera or a browser writes; what the server cannot read it refuses, and says so.
_SUFFIXES = ".jpg .jpeg .jpe .jfif .png .webp .gif .bmp .tif .tiff .heic .heif .avif .svg .ico"
SUFFIXES = frozenset(_SUFFIXES.split())
# Where pictures are looked for, beside the folder of the catalogue itself.
_FOLDERS = (
    "image images img imgs picture pictures pics photo photos media bild bilder foto fotos imagenes"
)
FOLDERS = frozenset(_FOLDERS.split())
LARGEST_PICTURE = 64 * 1024 * 1024
NUMBERED = re.compile(r"(.+?)(?:[_-]\d{1,2}| \(\d{1,2}\))")
NUMBER_BEHIND_POINT = re.compile(r"(\d+)\.0")


class Pictures(Protocol):
    """The pictures that belong to a catalogue."""

    def has(self, name: str) -> bool:
        """Whether there is a picture of this name."""

    def named(self, name: str) -> Path | bytes:
        """The picture that a row names.

        Raises:
            BadRowError: there is none, there are several, or the folder cannot be read.
        """

    def of_product(self, product_id: str) -> list[Path | bytes]:
        """The pictures named after a product; empty without one.

        Raises:
            BadRowError: a folder cannot be read.
        """


class FolderPictures:
    """Pictures in the folder of a catalogue and in its folders of pictures, with all below those.

    A name is taken as a path first. Otherwise, and for ids, the folders are listed once into a
    database on disk, so that memory does not grow with the pictures.

    Args:
        folder: what names are relative to.
        all_below: whether pictures are in every folder below, and not only in those named for it.
    """

    def __init__(self, folder: Path, all_below: bool = False) -> None:
        self._folder = folder
        self._all_below = all_below
        self._unreadable: OSError | None = None

    @cached_property
    def _index(self) -> _NameIndex:
        return _NameIndex(self._names())

    def has(self, name: str) -> bool:
        """See `Pictures`."""
        try:
            return os.path.isfile(self._folder / name) or bool(self._index.named(name))
        except (OSError, ValueError):
            return False

    def named(self, name: str) -> Path | bytes:
        """See `Pictures`."""
        try:
            path = self._folder / name
            os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            pass
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise BadRowError(f"the picture {name[:80]!r} cannot be read: {reason}") from error
        else:
            if path.is_file():
                return path
        found = self._index.named(name)
        if not found and self._unreadable is not None:
            raise self._unreadable_folder()
        return self._folder / _only(found, name, str(self._folder))

    def of_product(self, product_id: str) -> list[Path | bytes]:
        """See `Pictures`."""
        found = self._index.of_product(product_id)
        if not found and self._unreadable is not None:
            raise self._unreadable_folder()
        return [self._folder / name for name in found]

    def _unreadable_folder(self) -> BadRowError:
        error = self._unreadable
        assert error is not None
        return BadRowError(
            f"the folder of pictures {error.filename} cannot be read: {error.strerror}"
        )

    def _names(self) -> Iterator[str]:
        seen: set[tuple[int, int]] = set()  # a link may lead back to where it is
        for folder, below, files in os.walk(self._folder, onerror=self._note, followlinks=True):
            about = os.stat(folder)
            if (about.st_dev, about.st_ino) in seen:
                below.clear()
                continue
            seen.add((about.st_dev, about.st_ino))
            if folder == str(self._folder) and not self._all_below:
                below[:] = [name for name in below if name.casefold() in FOLDERS]
            below[:] = [name for name in below if not name.startswith(".")]
            relative = os.path.relpath(folder, self._folder)
            for name in files:
                if os.path.splitext(name)[1].casefold() in SUFFIXES:
                    yield name if relative == "." else f"{relative}/{name}"

    def _note(self, error: OSError) -> None:
        self._unreadable = self._unreadable or error


class ArchivePictures:
    """Pictures in a zip archive, which are read into memory when they are asked for.

    Args:
        path: the archive.
        member: the catalogue in it; names are relative to its folder.
    """

    def __init__(self, path: Path, member: str) -> None:
        self._path = path
        self._folder = member.rpartition("/")[0]

    @cached_property
    def _archive(self) -> zipfile.ZipFile:
        return zipfile.ZipFile(self._path)

    @cached_property
    def _index(self) -> _NameIndex:
        below = f"{self._folder}/" if self._folder else ""
        return _NameIndex(
            name.removeprefix(below)
            for name in self._archive.namelist()
            if os.path.splitext(name)[1].casefold() in SUFFIXES
            and name.startswith(below)
            and "__MACOSX/" not in name
        )

    def has(self, name: str) -> bool:
        """See `Pictures`."""
        return bool(self._index.named(name))

    def named(self, name: str) -> Path | bytes:
        """See `Pictures`."""
        return self._read(_only(self._index.named(name), name, str(self._path)))

    def of_product(self, product_id: str) -> list[Path | bytes]:
        """See `Pictures`."""
        return [self._read(name) for name in self._index.of_product(product_id)]

    def _read(self, name: str) -> bytes:
        info = self._archive.getinfo(f"{self._folder}/{name}" if self._folder else name)
        if info.file_size > LARGEST_PICTURE:
            raise BadRowError(
                f"the picture {name!r} has {info.file_size} bytes; expected at most "
                f"{LARGEST_PICTURE}"
            )
        return self._archive.read(info)


class NoPictures:
    """In place of a folder, where no file of this machine may be read for a catalogue."""

    def has(self, name: str) -> bool:
        """See `Pictures`."""
        return False

    def named(self, name: str) -> Path | bytes:
        """See `Pictures`."""
        raise BadRowError(
            f"the picture {name[:200]!r} is a path, and no files are read here; expected a link "
            "(https://...)"
        )

    def of_product(self, product_id: str) -> list[Path | bytes]:
        """See `Pictures`."""
        return []


class _NameIndex:
    """Relative paths of pictures, found by path, by file name or by product."""

    def __init__(self, names: Iterable[str]) -> None:
        # Without a name SQLite keeps the database in a file that it deletes by itself.
        self._database = sqlite3.connect("")
        self._database.execute("CREATE TABLE pictures (name, path, file, stem, base, parent)")
        self._database.executemany(
            "INSERT INTO pictures VALUES (?, ?, ?, ?, ?, ?)", map(self._keys, storable(names))
        )
        for column in ("path", "file", "stem", "base", "parent"):
            self._database.execute(f"CREATE INDEX by_{column} ON pictures ({column})")

    def __del__(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.close()

    def named(self, name: str) -> list[str]:
        """The pictures of this path, else those of this file name."""
        path = _key(name.replace("\\", "/").removeprefix("./"))
        if not is_storable(path):
            return []
        return self._find("path = ?", path) or self._find("file = ?", path.rpartition("/")[2])

    def of_product(self, product_id: str) -> list[str]:
        """``<id>.*``, ``<id>_1.*`` and ``<id>/*``, in the order of their numbers."""
        whole = NUMBER_BEHIND_POINT.fullmatch(product_id)  # as spreadsheets write a number
        for stem in (_key(product_id), *([whole[1]] if whole else [])):
            if stem and is_storable(stem):
                found = self._find("stem = ?1 OR base = ?1 OR parent = ?1", stem)
                if found:
                    return sorted(found, key=_natural)
        return []

    def _find(self, condition: str, key: str) -> list[str]:
        rows = self._database.execute(f"SELECT name FROM pictures WHERE {condition}", (key,))
        return [name for (name,) in rows]

    @staticmethod
    def _keys(name: str) -> tuple[str, ...]:
        path = _key(name)
        folder, _, file = path.rpartition("/")
        stem = os.path.splitext(file)[0]
        numbered = NUMBERED.fullmatch(stem)
        return name, path, file, stem, numbered[1] if numbered else "", folder.rpartition("/")[2]


def storable(names: Iterable[str]) -> Iterator[str]:
    """The names that are Unicode; no row can name the others."""
    return filter(is_storable, names)


def is_storable(name: str) -> bool:
    """Whether a text has a form in UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _only(found: list[str], name: str, where: str) -> str:
    if not found:
        raise BadRowError(
            f"the picture {name[:200]!r} is not in {where} or a folder of pictures there"
        )
    if len(found) > 1:
        raise BadRowError(
            f"the picture {name!r} may be {' or '.join(sorted(found)[:3])}; expected its path"
        )
    return found[0]


def _key(name: str) -> str:
    # File systems differ in case and in how they compose letters.
    return unicodedata.normalize("NFC", name).casefold()


def _natural(name: str) -> list[tuple[int, str]]:
    return [
        (int(part), "") if part.isdecimal() else (-1, part)
        for part in re.split(r"(\d+)", os.path.splitext(name)[0])
    ]
