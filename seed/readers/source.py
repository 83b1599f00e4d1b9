"""A catalogue's bytes: a file, packed by gzip, or a member of a zip archive."""

from __future__ import annotations

import gzip
import io
import shutil
import tempfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from bls_models.errors import SetupError

HEAD_BYTES = 65536
# What a packed file that is cut or changed raises on the way.
DAMAGED = (EOFError, zlib.error, gzip.BadGzipFile, zipfile.BadZipFile)
ZIP_START, GZIP_START = b"PK\x03\x04", b"\x1f\x8b"
# What an archive may hold as its catalogue; Excel's own files are archives too.
MEMBER_SUFFIXES = (
    ".csv", ".tsv", ".txt", ".json", ".jsonl", ".ndjson", ".xml", ".xlsx", ".parquet",
)  # fmt: skip
WORKBOOK_MEMBER, OPEN_DOCUMENT_MEMBER = "xl/workbook.xml", "content.xml"


@dataclass(frozen=True)
class Source:
    """Where a catalogue's bytes are.

    Attributes:
        path: the file.
        packing: empty, ``gzip`` or ``zip``.
        member: the catalogue's name within a zip archive.
    """

    path: Path
    packing: str = ""
    member: str = ""

    @property
    def name(self) -> str:
        """The catalogue's file name, in lower case and without ``.gz``; its suffix is a hint."""
        name = (self.member or self.path.name).lower()
        return name.removesuffix(".gz") if self.packing == "gzip" else name

    def open(self) -> IO[bytes]:
        """The unpacked bytes from the start, as a stream.

        Raises:
            OSError: the file cannot be read.
            zipfile.BadZipFile: the archive is damaged, or packed in an unknown way.
        """
        if self.packing == "gzip":
            return io.BufferedReader(gzip.open(self.path, "rb"))
        if self.packing == "zip":
            with zipfile.ZipFile(self.path) as archive:  # stays open as long as the member does
                try:
                    return archive.open(self.member)
                except (OSError, RuntimeError) as error:  # an unknown compression among others
                    raise zipfile.BadZipFile(str(error)) from error
        return self.path.open("rb")

    def open_seekable(self) -> IO[bytes]:
        """As `open`, for formats that are read from their end; a packed one is copied to disk.

        Raises:
            SetupError: it cannot be unpacked.
        """
        if not self.packing:
            return self.path.open("rb")
        copy = tempfile.TemporaryFile()  # noqa: SIM115 - the caller closes it
        try:
            with self.open() as stream:
                shutil.copyfileobj(stream, copy)
        except DAMAGED as error:
            copy.close()
            raise SetupError(f"{self.path} cannot be unpacked ({error}); copy it anew.") from error
        copy.seek(0)
        return copy

    def head(self) -> bytes:
        """The first bytes, unpacked."""
        with self.open() as stream:
            return stream.read(HEAD_BYTES)


def find_source(path: Path) -> Source:
    """The source of a file, recognised by its first bytes.

    Raises:
        SetupError: an archive that does not hold exactly one catalogue.
        OSError: the file cannot be read.
    """
    with path.open("rb") as file:
        start = file.read(4)
    if start.startswith(GZIP_START):
        return Source(path, "gzip")
    if start != ZIP_START:
        return Source(path)
    try:
        with zipfile.ZipFile(path) as archive:
            infos = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise SetupError(f"{path} is a damaged zip archive ({error}); copy it anew.") from error
    names = [info.filename for info in infos if not info.is_dir()]
    if WORKBOOK_MEMBER in names:
        return Source(path)
    if OPEN_DOCUMENT_MEMBER in names:
        raise SetupError(f"{path} is an OpenDocument file; save it as .xlsx or CSV.")
    listings = [
        name
        for name in names
        # Macs add a shadow of each file.
        if name.lower().endswith(MEMBER_SUFFIXES) and "__MACOSX/" not in name
    ]
    known = [name for name in listings if name.rpartition("/")[2] in KNOWN_NAMES]
    found = known if len(known) == 1 else [name for name in listings if not _is_note(name)]
    if len(found) != 1:
        held = ", ".join(found[:9]) or "no catalogue"
        raise SetupError(
            f"{path} holds {held}; expected exactly one of {', '.join(MEMBER_SUFFIXES)}. Unpack "
            "it and name the file."
        )
    encrypted = next(info for info in infos if info.filename == found[0]).flag_bits & 1
    if encrypted:
        raise SetupError(f"{path} is protected by a password; unpack it and name the file.")
    return Source(path, "zip", found[0])


KNOWN_NAMES = ("products.jsonl", "styles.csv")


def _is_note(name: str) -> bool:
    return name.rpartition("/")[2].lower().startswith(("readme", "license", "licence"))
