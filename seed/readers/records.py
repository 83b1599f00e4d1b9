"""What every reader yields."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """One record of a file.

    Attributes:
        row: where it starts: a line, a row or the number of an item, from 1 on.
        values: by column or key; empty if it cannot be read.
        problem: why it cannot be read; else empty.
        surplus: fields behind the last column.
    """

    row: int
    values: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    surplus: tuple[str, ...] = ()


@dataclass(frozen=True)
class Table:
    """A file whose format is known.

    Attributes:
        format: for people, such as ``CSV with semicolons``.
        columns: their names; empty where each record names its own.
        records: reads the file from its start; one record is in memory at a time.
        unit: what `Record.row` counts: ``line``, ``row`` or ``item``.
        is_text: whether values are text that may stand for numbers, as in CSV.
    """

    format: str
    columns: tuple[str, ...]
    records: Callable[[], Generator[Record]]
    unit: str = "line"
    is_text: bool = False
