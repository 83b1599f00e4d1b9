"""Parquet, as Hugging Face's data sets have it: with the pictures' bytes, and names of classes."""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping
from typing import Any

from bls_models.errors import SetupError
from seed.readers.records import Record, Table
from seed.readers.source import Source

# Rows decoded at a time; each may hold pictures.
BATCH_ROWS = 16


def parquet_table(source: Source) -> Table:
    """A Parquet file; columns of lists and of bytes are read where they can be pictures.

    Raises:
        SetupError: it cannot be read, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise SetupError(
            f"{source.path} is Parquet, which pyarrow reads: pip install -e '.[parquet]'"
        ) from error
    try:
        with source.open_seekable() as stream:
            schema = pq.ParquetFile(stream).schema_arrow
    except (pa.ArrowException, OSError, ValueError) as error:
        raise SetupError(f"{source.path} cannot be read as Parquet: {error}") from error
    classes = _class_names(schema.metadata or {})
    columns = tuple(
        field.name for field in schema if not pa.types.is_nested(field.type) or _is_picture(field)
    )

    def records() -> Generator[Record]:
        with source.open_seekable() as stream:
            file = pq.ParquetFile(stream, pre_buffer=False)
            row = 0
            for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                for values in batch.to_pylist():
                    row += 1
                    yield Record(row, _named(values, classes))

    return Table("Parquet", columns, records, "row")


def _is_picture(field: Any) -> bool:
    """A struct of bytes and path, as data sets write a picture, or a list of texts or of those."""
    kind = str(field.type)
    return "bytes: binary" in kind or kind in ("list<item: string>", "list<element: string>")


def _class_names(metadata: Mapping[bytes, bytes]) -> dict[str, list[str]]:
    """The names of the classes of each column of ClassLabels."""
    try:
        features = json.loads(metadata.get(b"huggingface", b"{}"))["info"]["features"]
        return {
            name: list(feature["names"])
            for name, feature in features.items()
            if isinstance(feature, dict) and feature.get("_type") == "ClassLabel"
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}  # not of that kind


def _named(values: dict[str, Any], classes: Mapping[str, list[str]]) -> dict[str, Any]:
    for column, names in classes.items():
        number = values.get(column)
        if isinstance(number, int) and 0 <= number < len(names):
            values[column] = names[number]
    return {column: _plain(value) for column, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    """Dates and decimals as text, as they have no form in JSON."""
    return (
        value if isinstance(value, str | int | float | bool | bytes | list | dict) else str(value)
    )
