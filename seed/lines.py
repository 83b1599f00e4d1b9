"""Reading CSV and JSONL files a record at a time, bad records among them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.errors import SetupError

DELIMITERS = ",;\t"


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        row: the line on which it starts; the first line of the file is 1.
        content: a list of fields (CSV) or a JSON object (JSONL); None if it cannot be read.
        problem: why it cannot be read; else empty.
    """

    row: int
    content: Any
    problem: str = ""


def csv_header(path: Path) -> tuple[list[str], str]:
    """The column names of a CSV file and its delimiter (comma, semicolon or tab).

    Raises:
        SetupError: the file is empty or its first line is not text.
    """
    try:
        # As bytes: text is decoded in blocks, so a bad row further down would be met here.
        with path.open("rb") as file:
            first = file.readline().decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SetupError(f"{path} has a header that is not UTF-8; save it as UTF-8 CSV.") from error
    if not first.strip():
        raise SetupError(f"{path} has no header line; expected the names of its columns.")
    delimiter = max(DELIMITERS, key=first.count)
    return [name.strip() for name in next(csv.reader([first], delimiter=delimiter))], delimiter


def csv_records(path: Path, delimiter: str = ",") -> Iterator[Record]:
    """The records below the header, blank lines left out; one is in memory at a time."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
        reader = csv.reader(file, delimiter=delimiter)
        next(reader, None)
        while True:
            row = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                yield Record(row, None, f"not readable as CSV: {error}")
                continue
            if not any(field.strip() for field in fields):
                continue
            if not all(map(is_unicode, fields)):
                yield Record(row, None, "not UTF-8")
                continue
            yield Record(row, fields)


def jsonl_records(path: Path) -> Iterator[Record]:
    """The records of a JSONL file, blank lines left out; one is in memory at a time."""
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for row, line in enumerate(file, start=1):
            if not line.strip():
                continue
            if not is_unicode(line):
                yield Record(row, None, "not UTF-8")
                continue
            try:
                content = json.loads(line)
            except ValueError as error:
                yield Record(row, None, f"not JSON: {error}")
                continue
            if not isinstance(content, dict):
                yield Record(row, None, f"a JSON {type(content).__name__}; expected an object")
                continue
            yield Record(row, content)


def is_unicode(text: str) -> bool:
    """Whether the bytes behind a text were UTF-8 (others are read as lone surrogates)."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
