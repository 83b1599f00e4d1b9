"""Which encoding a text file has; one that is not UTF-8 is named to people, never guessed."""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from dataclasses import dataclass

from charset_normalizer import from_bytes

from bls_models.errors import SetupError
from seed.readers.source import DAMAGED, Source

UTF8 = "utf-8-sig"
MARKS = (
    (codecs.BOM_UTF8, UTF8),
    (codecs.BOM_UTF32_LE, "utf-32"),  # begins as UTF-16's does
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Excel's in western Europe and America; the detector often names its neighbours.
USUAL = "cp1252"
BLOCK = 65536
SHOWN_READINGS, SHOWN_CHARACTERS = 3, 40
# No line of a catalogue is as long but for a mistake; more than one is never in memory.
LONGEST_LINE = 32 * 1024 * 1024


@dataclass(frozen=True)
class TextEncoding:
    """How the bytes of a file are read.

    Attributes:
        name: Python's name.
        bad_lines: how many lines are of another encoding, if it is UTF-8.
        hint: what these may be.
    """

    name: str
    bad_lines: int = 0
    hint: str = ""

    @property
    def errors(self) -> str:
        """How to open a file so that `has_decoded` tells of bytes that are not of the encoding."""
        # Only what extends ASCII byte by byte can keep its bad bytes as lone surrogates.
        return "surrogateescape" if self.name == UTF8 else "replace"

    def has_decoded(self, text: str) -> bool:
        """Whether the bytes behind a text were of the encoding."""
        if self.name != UTF8:
            return "\N{REPLACEMENT CHARACTER}" not in text
        if text.isascii():
            return True
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            return False
        return True

    @property
    def problem(self) -> str:
        """What is wrong with a row for which `has_decoded` is False."""
        if self.name == UTF8:
            return f"not UTF-8; save the file as UTF-8, or add what it is: {self.hint}"
        return f"not {self.name}; is another --encoding right?"

    def __str__(self) -> str:
        if self.name != UTF8:
            return self.name
        return f"UTF-8 but for {self.bad_lines} lines" if self.bad_lines else "UTF-8"


def text_encoding(source: Source, wanted: str = "") -> TextEncoding:
    """The encoding of a file: what a person says, what a byte order mark says, or UTF-8.

    Its bytes are read once, a block at a time, to say what lines that are not UTF-8 may be.

    Args:
        source: the file.
        wanted: what a person says; may be empty.

    Raises:
        SetupError: ``wanted`` is no encoding, or the file is UTF-16 without a mark.
    """
    if wanted:
        try:
            "".encode(wanted)
        except (LookupError, ValueError) as error:
            raise SetupError(
                f"{wanted!r} is no encoding; expected one such as cp1252 or shift_jis"
            ) from error
        # A byte order mark is no part of the first column's name.
        return TextEncoding(UTF8 if codecs.lookup(wanted).name == "utf-8" else wanted)
    with source.open() as stream:
        start = stream.read(4)
    for mark, name in MARKS:
        if start.startswith(mark):
            return TextEncoding(name)
    if b"\0" in start[:2]:
        order = "utf-16-be" if start[:1] == b"\0" else "utf-16-le"
        raise SetupError(
            f"{source.path} holds zero bytes, as UTF-16 does; add --encoding {order}, or save it "
            "as UTF-8."
        )
    bad = 0
    sample = bytearray()
    for line in _lines_beyond_ascii(source):
        if not _is_utf8(line):
            bad += 1
            if len(sample) < BLOCK:
                sample += line[:BLOCK] + b"\n"
    hint = "; ".join(readings(bytes(sample))) if bad else ""
    return TextEncoding(UTF8, bad, hint)


def readings(sample: bytes) -> list[str]:
    """What bytes that are not UTF-8 may be: the option, and how the first such line reads.

    Args:
        sample: whole lines, none of them ASCII alone.
    """
    names = [USUAL, *(match.encoding for match in from_bytes(sample))]
    first = sample.splitlines()[0]
    found: dict[str, str] = {}
    for name in names:
        try:
            sample.decode(name)
            reading = first.decode(name)
        except (UnicodeDecodeError, LookupError):
            continue
        place = next((at for at, letter in enumerate(reading) if not letter.isascii()), 0)
        start = max(place - SHOWN_CHARACTERS // 2, 0)
        found.setdefault(reading[start : start + SHOWN_CHARACTERS], name)
        if len(found) == SHOWN_READINGS:
            break
    return [f"--encoding {name} ({text!r})" for text, name in found.items()] or ["unknown"]


def _lines_beyond_ascii(source: Source) -> Iterator[bytes]:
    with source.open() as stream:
        while True:
            try:
                block = stream.read(BLOCK)
                rest = stream.readline(BLOCK)  # no character is cut in two
            except DAMAGED:
                return  # what is before it can be read, and the reader tells of it
            if not block:
                return
            block += rest
            if not block.isascii():
                yield from (line for line in block.splitlines() if not line.isascii())


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def bounded_lines(source: Source, encoding: TextEncoding) -> Iterator[str]:
    """The lines of a text file with their ends (LF, CR LF or CR).

    A line of over ``LONGEST_LINE`` characters is cut there, and the rest of it left out; it has
    no end then, by which `is_cut` knows it.
    """
    with (
        source.open() as stream,
        io.TextIOWrapper(stream, encoding.name, encoding.errors, newline="") as text,
    ):
        while line := text.readline(LONGEST_LINE):
            yield line
            while is_cut(line):
                line = text.readline(LONGEST_LINE)


def is_cut(line: str) -> bool:
    """Whether `bounded_lines` left out the end of a line."""
    return len(line) >= LONGEST_LINE and not line.endswith(("\n", "\r"))


def cut_problem() -> str:
    """What is wrong with a line for which `is_cut` is True."""
    return f"a line of over {LONGEST_LINE} characters; expected one product a line"
