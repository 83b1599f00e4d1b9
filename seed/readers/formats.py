"""Which format a file has, by its content; the suffix only decides where that may be several."""

from __future__ import annotations

import json
import re
from pathlib import Path

from bls_models.errors import SetupError
from seed.options import ReadOptions
from seed.readers.csv_table import csv_table
from seed.readers.json_records import WRAPPED_ARRAY, json_array_table, json_lines_table
from seed.readers.records import Table
from seed.readers.source import DAMAGED, ZIP_START, Source, find_source

FORMATS = (
    "CSV, JSON Lines, a JSON array, an XML feed, Excel (.xlsx) or Parquet, as it is or in a gzip "
    "or zip file"
)
# The beginnings of what people mistake for a catalogue, and what to do.
OTHERS = {
    b"\xd0\xcf\x11\xe0": "an old or protected Excel file; save it as .xlsx without a password",
    b"%PDF": "a PDF; export the table itself",
    b"\xff\xd8\xff": "a picture",
    b"\x89PNG": "a picture",
    b"GIF8": "a picture",
    b"RIFF": "a picture",
}
JSON_START = re.compile(rb"\[\s*[\[\]{]|\{\s*[\"}]")
JSON_LINES_SUFFIXES = (".jsonl", ".ndjson")


def open_table(path: Path, options: ReadOptions) -> tuple[Table, Source]:
    """The table in a file.

    Raises:
        SetupError: it is none, or cannot be read without more being said.
        OSError: the file cannot be read.
    """
    source = find_source(path)
    try:
        head = source.head()
    except DAMAGED as error:
        raise SetupError(f"{path} cannot be unpacked ({error}); copy it anew.") from error
    try:
        table = _table(source, head, options)
    except UnicodeError as error:
        raise SetupError(
            f"{path} cannot be read as {options.encoding} ({error}); is another --encoding right?"
        ) from error
    if source.packing:
        where = f" {source.member}" if source.member else ""
        packed = f"{table.format}, {source.packing}{where}"
        table = Table(packed, table.columns, table.records, table.unit, table.is_text)
    return table, source


def _table(source: Source, head: bytes, options: ReadOptions) -> Table:
    for start, kind in OTHERS.items():
        if head.startswith(start):
            raise SetupError(f"{source.path} is {kind}; expected {FORMATS}.")
    if not head.strip():
        raise SetupError(f"{source.path} is empty, so it has no header line; expected {FORMATS}.")
    if head.startswith(ZIP_START):
        from seed.readers.workbook import workbook_table

        return workbook_table(source, options.sheet)
    if head.startswith(b"PAR1"):
        from seed.readers.parquet import parquet_table

        return parquet_table(source)
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        if text[:300].lower().startswith((b"<!doctype html", b"<html")):
            raise SetupError(
                f"{source.path} is a web page; was it saved in place of the file? Expected "
                f"{FORMATS}."
            )
        from seed.readers.feed import feed_table

        return feed_table(source)
    if source.name.endswith(JSON_LINES_SUFFIXES) or (text[:1] == b"{" and _is_json_line(text)):
        return json_lines_table(source, options.encoding)
    if JSON_START.match(text):
        return json_array_table(source, options.encoding)
    return csv_table(source, options.encoding)


def _is_json_line(text: bytes) -> bool:
    """Whether the first line is a product, and not the start of an object around an array."""
    line = text.partition(b"\n")[0]
    try:
        value = json.loads(line)
    except (ValueError, RecursionError):
        # Too long to be seen whole, or an object over several lines.
        return len(line) == len(text) and not WRAPPED_ARRAY.search(line.decode(errors="replace"))
    lists = (item for item in value.values() if isinstance(item, list))
    return not any(isinstance(element, dict) for item in lists for element in item)
