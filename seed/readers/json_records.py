"""JSON: an object a line, or an array of objects, read without holding it."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Generator
from typing import Any

from bls_models.errors import SetupError
from seed.readers.encodings import (
    LONGEST_LINE,
    TextEncoding,
    bounded_lines,
    cut_problem,
    is_cut,
    text_encoding,
)
from seed.readers.records import Record, Table
from seed.readers.source import Source

BLOCK = 65536
# An array under a key, as in Shopify's products.json.
WRAPPED_ARRAY = re.compile(r'"([^"\\]{1,64})"\s*:\s*\[\s*(?=\{)')
SEPARATORS = re.compile(r"[ \t\r\n,]*")
HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def json_lines_table(source: Source, wanted: str = "") -> Table:
    """A file with one JSON object a line, blank lines left out.

    Raises:
        SetupError: an encoding that must be named.
    """
    encoding = text_encoding(source, wanted)

    def records() -> Generator[Record]:
        for row, line in enumerate(bounded_lines(source, encoding), start=1):
            if line.strip():
                yield _record(row, line, encoding)

    return Table(f"JSON Lines, {encoding}", (), records)


def json_array_table(source: Source, wanted: str = "") -> Table:
    """A JSON array of objects, at the top or under a key of an object.

    What is no JSON ends the reading, with a bad record: where the next object starts cannot be
    known.

    Raises:
        SetupError: there is no array of objects, or an encoding must be named.
    """
    encoding = text_encoding(source, wanted)
    head = source.head().decode(encoding.name, "replace")
    start, name = _array_start(head)
    if start < 0:
        raise SetupError(
            f"{source.path} is JSON without an array of products; expected [{{...}}, ...], "
            '{"products": [{...}, ...]}, or one object a line.'
        )

    def records() -> Generator[Record]:
        with (
            source.open() as stream,
            io.TextIOWrapper(stream, encoding.name, encoding.errors) as text,
        ):
            skipped = text.read(start)
            yield from _elements(text, 1 + skipped.count("\n"), encoding)

    return Table(f"JSON array{f' {name!r}' if name else ''}, {encoding}", (), records)


def _array_start(head: str) -> tuple[int, str]:
    """Where the first element may start, and the array's key; -1 without an array."""
    stripped = head.lstrip()
    if stripped.startswith("["):
        return len(head) - len(stripped) + 1, ""
    wrapped = WRAPPED_ARRAY.search(head)
    return (wrapped.end(), wrapped[1]) if wrapped else (-1, "")


def _elements(text: io.TextIOWrapper, line: int, encoding: TextEncoding) -> Generator[Record]:
    decoder = json.JSONDecoder()
    buffer, at, block = "", 0, BLOCK
    while True:
        start = _end_of_separators(buffer, at)
        line += buffer.count("\n", at, start)
        at = start
        problem = "the file ends within the array"
        if buffer.startswith("]", at):
            return
        if at < len(buffer):
            try:
                value, end = decoder.raw_decode(buffer, at)
            except RecursionError:
                yield Record(line, problem=f"{DEEP}; nothing behind it can be read")
                return
            except json.JSONDecodeError as error:  # its place is one within the buffer
                problem = f"not JSON: {error.msg}; nothing behind it can be read"
            except ValueError as error:
                problem = f"not JSON: {error}; nothing behind it can be read"
            else:
                # A number may go on in the next block.
                if end < len(buffer) or isinstance(value, dict | list | str):
                    yield _checked(line, value, buffer[at:end], encoding)
                    line += buffer.count("\n", at, end)
                    at, block = end, BLOCK
                    continue
        more = text.read(block) if len(buffer) - at < LONGEST_LINE else ""
        if not more:
            yield Record(line, problem=problem)
            return
        buffer, at = buffer[at:] + more, 0
        block *= 2  # else a long element would be parsed again for each block


def _end_of_separators(buffer: str, at: int) -> int:
    found = SEPARATORS.match(buffer, at)
    return found.end() if found else at


DEEP = "JSON nested too deeply; expected an object of fields"


def _record(row: int, line: str, encoding: TextEncoding) -> Record:
    if is_cut(line):
        return Record(row, problem=cut_problem())
    try:
        content = json.loads(line)
    except RecursionError:
        return Record(row, problem=DEEP)
    except ValueError as error:
        return Record(row, problem=f"not JSON: {error}")
    return _checked(row, content, line, encoding)


def _checked(row: int, content: Any, text: str, encoding: TextEncoding) -> Record:
    if not encoding.has_decoded(text):
        return Record(row, problem=encoding.problem)
    if not isinstance(content, dict):
        return Record(row, problem=f"a JSON {type(content).__name__}; expected an object")
    if HALF_A_PAIR.search(text) and not _is_storable(content):
        return Record(
            row,
            problem="holds half of a surrogate pair (\\ud800 to \\udfff), which is no character; "
            "was a text cut within an emoji?",
        )
    return Record(row, content)


def _is_storable(content: dict[str, Any]) -> bool:
    try:
        json.dumps(content, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
