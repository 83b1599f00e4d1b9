"""Reading catalogues of any known format and layout, a row at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import SetupError
from seed.options import NO_OPTIONS, ReadOptions
from seed.pictures.folder import ArchivePictures, FolderPictures, NoPictures, Pictures
from seed.pictures.references import LINK, picture_references
from seed.products.generic import product_from_values
from seed.products.layouts import Layout, layout_of_table
from seed.readers.formats import FORMATS, open_table
from seed.readers.parquet import parts_of_set
from seed.readers.records import Record, Table
from seed.readers.source import Source
from seed.records import BadRowError, CatalogRecords, CatalogRow, RowError

__all__ = ["Catalog", "CatalogRow", "RowError", "count_rows", "open_catalog", "read_catalog",
           "read_products"]  # fmt: skip

KNOWN_FILES = ("products.jsonl", "styles.csv")
SUFFIXES = (".csv", ".tsv", ".jsonl", ".ndjson", ".json", ".xml", ".xlsx", ".parquet", ".zip")
CATALOG_SUFFIXES = (*SUFFIXES, *(f"{suffix}.gz" for suffix in SUFFIXES))
SUPPORTED = (
    "a folder with products.jsonl, a folder with styles.csv (Kaggle Fashion Product Images), "
    f"a file of {FORMATS}, or a folder with exactly one of those"
)


@dataclass(frozen=True)
class Catalog:
    """A catalogue whose format and layout are known; its rows are read as they are asked for.

    Attributes:
        path: the file.
        layout: what its columns mean.
    """

    path: Path
    layout: Layout
    _table: Table
    _source: Source
    _options: ReadOptions

    @property
    def description(self) -> str:
        """Its format and layout, such as ``Shopify export (CSV with commas)``."""
        form = self._table.format
        return f"{self.layout.name} ({form})" if self.layout.name else form

    @property
    def unit(self) -> str:
        """What rows are counted in: ``line``, ``row`` or ``item``."""
        return self._table.unit

    @property
    def targets(self) -> Mapping[str, str]:
        """Field or attribute by column, empty text for one that is left out."""
        return self.layout.targets

    @property
    def said(self) -> Mapping[str, str]:
        """Column by the field or attribute that a person said it is."""
        return self._options.columns

    def rows(self) -> CatalogRecords:
        """The products in the order of the file; a row that cannot be read is a `RowError`."""
        pictures = self._pictures()
        for record in self._records():
            yield self._row(record, pictures)

    def count(self) -> int:
        """How many rows `rows` yields; the file is read once, the pictures are not."""
        return sum(1 for _ in self._records())

    def _records(self) -> Iterator[Record]:
        row = 0
        try:
            for record in self.layout.convert(self._table.records()):
                row = record.row
                yield record
        except Exception as error:  # damaged files fail in as many ways as there are formats
            yield Record(
                row + 1,
                problem=f"cannot be read, nor anything behind it: {type(error).__name__}: {error}",
            )

    def _pictures(self) -> Pictures:
        if self._options.pictures is not None and not self._options.no_folders:
            return FolderPictures(self._options.pictures, all_below=True)
        if self._source.packing == "zip":
            return ArchivePictures(self.path, self._source.member)
        if self._options.no_folders:
            return NoPictures()
        return FolderPictures(self.path.parent)

    def _row(self, record: Record, pictures: Pictures) -> CatalogRow | RowError:
        values = record.values
        try:
            if record.problem:
                raise BadRowError(record.problem)
            product = product_from_values(
                values,
                self._options,
                is_text=self._table.is_text,
                mark=self.layout.decimal_mark,
            )
            images: list[Path] = []
            embedded: list[bytes] = []
            links: list[str] = []
            references = picture_references(values.get("images"), pictures.has)
            for reference in references:
                if isinstance(reference, str) and LINK.match(reference):
                    links.append(reference)
                    continue
                found = pictures.named(reference) if isinstance(reference, str) else reference
                images.append(found) if isinstance(found, Path) else embedded.append(found)
            if not references:
                for found in pictures.of_product(product["product_id"]):
                    images.append(found) if isinstance(found, Path) else embedded.append(found)
            return CatalogRow(record.row, product, tuple(images), tuple(embedded), tuple(links))
        except BadRowError as error:
            message = str(error)
        except Exception as error:  # whatever one row holds, the others are read
            message = f"{type(error).__name__}: {error}"
        product_id = values.get("product_id")
        return RowError(record.row, "" if product_id is None else str(product_id)[:128], message)


def open_catalog(path: Path, options: ReadOptions = NO_OPTIONS) -> Catalog:
    """A catalogue, recognised by its content.

    Args:
        path: a file or folder; see ``docs`` or the error's message for the layouts.
        options: what its content does not say.

    Raises:
        SetupError: nothing there is a known layout, or something must be said about it.
        OSError: it cannot be read.
    """
    file = catalog_file(path)
    table, source = open_table(file, options)
    return Catalog(file, layout_of_table(table, file, options), table, source, options)


def read_catalog(path: Path, options: ReadOptions = NO_OPTIONS) -> Iterator[CatalogRow | RowError]:
    """The products of a catalogue, in the order of its file.

    The layout is found out at once; rows are read as they are asked for and not kept. A row
    that cannot be read is a `RowError`, and reading goes on.

    Raises:
        SetupError: as `open_catalog`.
    """
    return open_catalog(path, options).rows()


def read_products(path: Path) -> Iterator[CatalogRow]:
    """The products of a catalogue, without the rows that cannot be read.

    Raises:
        SetupError: as `read_catalog`.
    """
    return (row for row in read_catalog(path) if isinstance(row, CatalogRow))


def count_rows(path: Path) -> int:
    """How many rows `read_catalog` yields; the file is read once, the pictures are not.

    Raises:
        SetupError: as `read_catalog`.
    """
    return open_catalog(path).count()


def catalog_file(path: Path) -> Path:
    """The file that lists the products.

    Raises:
        SetupError: there is none, or there are several and none has a known name.
    """
    if path.is_file():
        return path
    if not path.is_dir():
        raise SetupError(f"{path} does not exist; expected {SUPPORTED}.")
    for name in KNOWN_FILES:
        if (path / name).is_file():
            return path / name
    files = sorted(
        file
        for file in path.iterdir()
        if file.name.lower().endswith(CATALOG_SUFFIXES) and not file.name.startswith((".", "~$"))
    )
    parts = {parts_of_set(file.name) or file.name for file in files}
    if len(parts) == 1:
        return files[0]
    found = ", ".join(file.name for file in files) or "no catalogue"
    raise SetupError(f"{path} holds {found}; expected {SUPPORTED}.")
