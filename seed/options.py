"""How a catalogue is to be read, where its content alone does not say."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

# Stands for the number of the row where a column is named; it is the same in every import of a file
# that is not changed.
ROW = "@row"


@dataclass(frozen=True)
class ReadOptions:
    """What a person says about a catalogue.

    Attributes:
        columns: product field or attribute to the column it comes from, or `ROW`.
        left_out: columns that are not read.
        encoding: of a text file, by Python's name; empty: UTF-8, or what a byte order mark says.
        decimal_mark: ``.`` or ``,``: what ``1.299`` and ``1,299`` mean; empty: such a price is
            refused unless the layout defines it.
        currency: ISO 4217 code of prices that have none, or whose sign several currencies share.
        category: of products that have none.
        sheet: the name of an Excel sheet; empty: the first visible one that is not empty.
        pictures: the folder of the pictures; None: beside the catalogue.
        no_folders: whether no file of this machine is looked at for a picture, as is needed for a
            catalogue that a stranger sent: pictures are links and what the catalogue itself holds.
    """

    columns: Mapping[str, str] = field(default_factory=dict)
    left_out: frozenset[str] = frozenset()
    encoding: str = ""
    decimal_mark: str = ""
    currency: str = ""
    category: str = ""
    sheet: str = ""
    pictures: Path | None = None
    no_folders: bool = False

    def target(self, column: str, known: str) -> str:
        """The field or attribute that a column of a known layout is read as; empty for none.

        Args:
            column: as the file has it.
            known: what the layout reads it as, empty for nothing.
        """
        if column in self.left_out:
            return ""
        said = [field for field, source in self.columns.items() if source == column]
        # Where a person says that a field comes from another column, this one is not it.
        return said[-1] if said else "" if known in self.columns else known


NO_OPTIONS = ReadOptions()
