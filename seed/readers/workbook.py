"""Excel workbooks (.xlsx), a row at a time."""

from __future__ import annotations

import datetime
from collections.abc import Generator, Iterator
from typing import Any

from bls_models.errors import SetupError
from seed.readers.csv_table import unique_columns
from seed.readers.records import Record, Table
from seed.readers.source import Source

CELL_ERRORS = frozenset(
    {"#DIV/0!", "#N/A", "#NAME?", "#NULL!", "#NUM!", "#REF!", "#VALUE!", "#SPILL!", "#CALC!"}
)


def workbook_table(source: Source, sheet: str = "") -> Table:
    """A sheet whose first row that is not empty has the names of the columns.

    Rows are read as they are asked for; Excel keeps the texts of all cells in one table, which
    is in memory as a whole.

    Args:
        source: the file.
        sheet: its name; empty: the first visible one that is not empty.

    Raises:
        SetupError: it cannot be read, or there is no such sheet.
    """
    names = _sheet_names(source)
    if sheet and sheet not in names:
        raise SetupError(f"{source.path} has no sheet {sheet!r}; it has: {', '.join(names)}.")
    for name in [sheet] if sheet else names:
        header = next(_rows(source, name), None)
        if header is not None:
            return _table(source, name, *header)
    raise SetupError(f"{source.path} has no sheet with rows; expected a row of column names.")


def _table(source: Source, name: str, start: int, header: list[Any]) -> Table:
    columns = unique_columns([_header_text(cell) for cell in header])

    def records() -> Generator[Record]:
        return _records(source, name, start, columns)

    return Table(f"Excel, sheet {name!r}", columns, records, "row")


def _sheet_names(source: Source) -> list[str]:
    """Of the visible sheets."""
    import openpyxl

    try:
        with source.open_seekable() as stream:
            book = openpyxl.load_workbook(stream, read_only=True)
            return [sheet.title for sheet in book.worksheets if sheet.sheet_state == "visible"]
    except Exception as error:  # openpyxl has no errors of its own for damaged files
        raise SetupError(
            f"{source.path} cannot be read as an Excel workbook ({error}); save it anew as .xlsx "
            "or CSV, without a password."
        ) from error


def _rows(source: Source, name: str) -> Iterator[tuple[int, list[Any]]]:
    """The rows that are not empty, with their numbers, from 1 on."""
    import openpyxl

    with source.open_seekable() as stream:
        book = openpyxl.load_workbook(stream, read_only=True, data_only=True)
        try:
            sheet = book[name]
            sheet.reset_dimensions()  # some programs write wrong ones
            for number, row in enumerate(sheet.iter_rows(values_only=True), start=1):
                if any(cell is not None and str(cell).strip() for cell in row):
                    yield number, list(row)
        finally:
            book.close()


def _records(source: Source, name: str, start: int, columns: tuple[str, ...]) -> Generator[Record]:
    for number, cells in _rows(source, name):
        if number <= start:
            continue
        wrong = next(
            (cell for cell in cells if isinstance(cell, str) and cell in CELL_ERRORS), None
        )
        if wrong is not None:
            yield Record(number, problem=f"a cell holds the error {wrong}; expected a value")
            continue
        values = {
            column: _plain(cell)
            for column, cell in zip(columns, cells, strict=False)
            if column and cell is not None
        }
        yield Record(number, values)


def _plain(cell: Any) -> Any:
    # Excel has no whole numbers: an article number 1163 is stored as 1163.0.
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 2**53:
        return int(cell)
    if isinstance(cell, datetime.date | datetime.time):
        return cell.isoformat()
    return cell if isinstance(cell, str | int | float | bool) else str(cell)


def _header_text(cell: Any) -> str:
    return "" if cell is None else str(_plain(cell)).strip()
