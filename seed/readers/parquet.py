"""Parquet, as Hugging Face's data sets have it: with the pictures' bytes, and names of classes."""

from __future__ import annotations

import json
import re
from collections.abc import Generator, Mapping
from typing import Any

from bls_models.errors import SetupError
from seed.readers.records import Record, Table
from seed.readers.source import Source

# Rows decoded at a time; each may hold pictures.
BATCH_ROWS = 16
BUFFER_BYTES = 1 << 20
# As Hugging Face names the files of a data set: train-00000-of-00005.parquet.
PART = re.compile(r"(?P<set>.+)-\d{5}-of-(?P<count>\d{5})(?P<end>\.parquet)")


def parquet_table(source: Source) -> Table:
    """A Parquet file; columns of lists and of bytes are read where they can be pictures.

    Of a data set that is split into files, as their names tell, all are read.

    Raises:
        SetupError: it cannot be read, a part is missing, or pyarrow is not installed.
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

    parts = _parts(source)

    def records() -> Generator[Record]:
        row = 0
        for part in parts:
            with part.open_seekable() as stream:
                # Else the pictures of a whole group of rows would be in memory.
                file = pq.ParquetFile(stream, pre_buffer=False, buffer_size=BUFFER_BYTES)
                for batch in file.iter_batches(BATCH_ROWS, columns=list(columns)):
                    for values in batch.to_pylist():
                        row += 1
                        yield Record(row, _named(values, classes))

    several = f", {len(parts)} files" if len(parts) > 1 else ""
    return Table(f"Parquet{several}", columns, records, "row")


def parts_of_set(name: str) -> str:
    """What the names of all parts of a data set have in common; empty for a file of its own."""
    found = PART.fullmatch(name)
    return f"{found['set']}-*-of-{found['count']}{found['end']}" if found else ""


def _parts(source: Source) -> list[Source]:
    """The files of a data set that is split, or the file itself.

    Raises:
        SetupError: a part is missing.
    """
    found = PART.fullmatch(source.path.name)
    if source.packing or found is None:
        return [source]
    count = int(found["count"])
    names = [f"{found['set']}-{part:05}-of-{found['count']}{found['end']}" for part in range(count)]
    paths = [source.path.with_name(name) for name in names]
    missing = [path.name for path in paths if not path.is_file()]
    if missing:
        raise SetupError(
            f"{source.path} is one of {count} files; {', '.join(missing[:3])} is missing. Fetch "
            "all, or rename the one to be imported alone."
        )
    return [Source(path) for path in paths]


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
