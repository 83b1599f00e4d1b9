"""CSV of any kind: comma, semicolon, tab or bar; LF, CR LF or CR; quotes that do not close."""

from __future__ import annotations

import csv
from collections import deque
from collections.abc import Generator, Iterator

from bls_models.errors import SetupError
from seed.readers.encodings import TextEncoding, bounded_lines, cut_problem, is_cut, text_encoding
from seed.readers.records import Record, Table
from seed.readers.source import Source

DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# Rows of fewer columns look too much like lines of a text with commas in it.
FEWEST_COLUMNS_OF_A_ROW = 3


def csv_table(source: Source, wanted: str = "") -> Table:
    """A CSV file with a header line.

    A quote that does not close swallows no rows: the row in which it opens is bad, and the lines
    below it are read as rows of their own.

    Args:
        source: the file.
        wanted: the encoding, see `text_encoding`.

    Raises:
        SetupError: it has no header line, or an encoding that must be named.
    """
    encoding = text_encoding(source, wanted)
    lines = _Lines(bounded_lines(source, encoding))
    delimiter = _announced_delimiter(lines)
    first = next(lines, "")
    if not first.strip():
        raise SetupError(f"{source.path} has no header line; expected the names of its columns.")
    if not encoding.has_decoded(first):
        raise SetupError(f"{source.path}: the header is {encoding.problem}")
    delimiter = delimiter or max(DELIMITERS, key=first.count)
    lines.put_back([first])
    header = [name.strip() for name in _record_fields(lines, delimiter)[0]]
    lines.close()
    columns = unique_columns(header)

    def records() -> Generator[Record]:
        return _records(source, encoding, delimiter, header, columns)

    return Table(f"CSV with {DELIMITERS[delimiter]}, {encoding}", columns, records, is_text=True)


def unique_columns(header: list[str]) -> tuple[str, ...]:
    """Column names with numbers for those that come again: ``image``, ``image 2``."""
    seen: dict[str, int] = {}
    columns = []
    for name in header:
        seen[name] = seen.get(name, 0) + 1
        columns.append(f"{name} {seen[name]}" if name and seen[name] > 1 else name)
    return tuple(columns)


class _Lines:
    """Lines of which some may be put back, with the number of the next one."""

    def __init__(self, source: Iterator[str]) -> None:
        self._source = source
        self._waiting: deque[str] = deque()
        self.number = 1

    def __iter__(self) -> _Lines:
        return self

    def __next__(self) -> str:
        line = self._waiting.popleft() if self._waiting else next(self._source)
        self.number += 1
        return line

    def put_back(self, lines: list[str]) -> None:
        self._waiting.extendleft(reversed(lines))
        self.number -= len(lines)

    def close(self) -> None:
        close = getattr(self._source, "close", None)
        if close is not None:
            close()


def _announced_delimiter(lines: _Lines) -> str:
    """Of Excel's line ``sep=;``, which is taken; empty without one."""
    first = next(lines, "")
    announced = first.strip("\r\n").strip('"')
    if announced.lower().startswith("sep=") and announced[4:] in DELIMITERS:
        return announced[4:]
    if first:
        lines.put_back([first])
    return ""


def _records(
    source: Source,
    encoding: TextEncoding,
    delimiter: str,
    header: list[str],
    columns: tuple[str, ...],
) -> Generator[Record]:
    lines = _Lines(bounded_lines(source, encoding))
    _announced_delimiter(lines)
    _record_fields(lines, delimiter)
    while True:
        row = lines.number
        try:
            fields, problem = _next_row(lines, delimiter, columns)
        except StopIteration:
            return
        if not problem and not any(field.strip() for field in fields):
            continue
        if not problem and not all(map(encoding.has_decoded, fields)):
            problem = encoding.problem
        if not problem and [field.strip() for field in fields] == header:
            problem = "repeats the header line; were files put together?"
        if problem:
            yield Record(row, problem=problem)
            continue
        # A column without a name, as of a spreadsheet's row numbers, is left out.
        values = {name: text for name, text in zip(columns, fields, strict=False) if name}
        yield Record(row, values, surplus=tuple(fields[len(columns) :]))


def _next_row(lines: _Lines, delimiter: str, columns: tuple[str, ...]) -> tuple[list[str], str]:
    """The fields of the next row and what is wrong with it.

    Raises:
        StopIteration: there is none.
    """
    start = lines.number
    taken: list[str] = []
    try:
        fields, taken = _record_fields(lines, delimiter, taken)
    except csv.Error as error:
        if len(taken) == 1:
            return [], f"not readable as CSV: {error}"
        fields = []
    if is_cut(taken[-1]):
        return [], cut_problem()
    if len(taken) == 1 or (fields and not _is_unbalanced(taken, delimiter, len(columns))):
        return fields, ""
    lines.put_back(taken[1:])
    column = next(
        (name for name, text in zip(columns, fields, strict=False) if "\n" in text or "\r" in text),
        "",
    )
    where = f"in the column {column!r}" if column else "in it"
    return [], (
        f"a quote opens {where} and does not close in a line like the others before line "
        f"{start + len(taken)}; the lines below are read as rows of their own. Expected quotes in "
        "pairs, those within a quoted text doubled"
    )


def _record_fields(
    lines: _Lines, delimiter: str, taken: list[str] | None = None
) -> tuple[list[str], list[str]]:
    """The fields of the next row and the lines it takes, which are added to ``taken``."""
    taken = [] if taken is None else taken
    taken.append(next(lines))

    def given() -> Iterator[str]:
        yield taken[0]
        for line in lines:
            taken.append(line)
            yield line

    return next(csv.reader(given(), delimiter=delimiter), []), taken


def _is_unbalanced(taken: list[str], delimiter: str, columns: int) -> bool:
    """Whether a row of several lines is one only because a quote in it does not close.

    Then text follows the closing quote, or the file ends before it, or every single line has
    as many delimiters as a row.
    """
    try:
        list(csv.reader(taken, delimiter=delimiter, strict=True))
    except csv.Error:
        return True
    return columns >= FEWEST_COLUMNS_OF_A_ROW and all(
        line.count(delimiter) == columns - 1 for line in taken
    )
