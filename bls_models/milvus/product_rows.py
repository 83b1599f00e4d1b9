"""Products as rows of Milvus."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bls_models.errors import ProductError
from bls_models.index.engine import IndexedProduct
from bls_models.index.filters.columns import declared_values
from bls_models.index.filters.language import Scalar
from bls_models.milvus.collections import (
    ALONE,
    FIELDS,
    ID,
    MAX_FIELDS,
    MAX_PRODUCT_ID,
    MAX_WRITE_ID,
    PRODUCT_ID,
    ROWS,
    VECTOR,
    VERSION,
    WRITE_ID,
)
from bls_models.milvus.filters import tagged

logger = logging.getLogger(__name__)

Row = dict[str, Any]

# Of one call. Milvus takes 64 MB, but must be done with it in time.
BATCH_BYTES = 2 * 2**20
# Beside the vector and the fields of a row.
ROW_BYTES = 1024


def rows_of(product: IndexedProduct, version: int) -> tuple[list[Row], list[Row]]:
    """The rows of a product's views, and those of its texts, numbered through both.

    Args:
        product: what is to be found.
        version: the product's, above that of each write before.
    """
    images, texts = len(product.image_vectors), len(product.text_vectors)
    rows = [
        {
            ID: f"{product.write_id}:{number}",
            PRODUCT_ID: product.product_id,
            WRITE_ID: product.write_id,
            VERSION: version,
            ROWS: 0 if number else images + texts,
            FIELDS: fields,
            ALONE: not (images and texts),
            VECTOR: vector,
        }
        for fields in [_named_fields(product)]
        for number, vector in enumerate([*product.image_vectors, *product.text_vectors])
    ]
    return rows[:images], rows[images:]


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """Rows in batches that Milvus takes in one call."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        own = ROW_BYTES + row[VECTOR].nbytes + _json_bytes(row[FIELDS])
        if batch and size + own > BATCH_BYTES:
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += own
    if batch:
        yield batch


def kept_fields(fields: Mapping[str, Any]) -> dict[str, Scalar]:
    """What the rows of a product have of its fields: as much as Milvus takes, the longest not.

    Raises:
        ProductError: a declared field with a value it cannot hold.
    """
    kept = tagged(declared_values(fields))
    while _json_bytes(kept) > MAX_FIELDS:
        del kept[max(kept, key=lambda key: len(str(kept[key]).encode()))]
    return kept


def check_ids(product_id: str, write_id: str) -> None:
    """Refuse what was put into the database by hand and Milvus cannot keep.

    Raises:
        ProductError: an id is too long.
    """
    for name, value, most in (
        (PRODUCT_ID, product_id, MAX_PRODUCT_ID),
        (WRITE_ID, write_id, MAX_WRITE_ID),
    ):
        if len(value.encode()) > most:
            raise ProductError(
                name,
                f"{len(value.encode())} bytes",
                f"at most {most}, as Milvus keeps no more",
                "Send the product again under a shorter id.",
            )


def _named_fields(product: IndexedProduct) -> dict[str, Scalar]:
    """``kept_fields``; what is not kept is named in the log."""
    kept = kept_fields(product.fields)
    left_out = tagged(declared_values(product.fields)).keys() - kept.keys()
    if left_out:
        logger.warning(
            "product %s has more for filters than Milvus keeps (%d bytes); none finds it by %s",
            product.product_id,
            MAX_FIELDS,
            ", ".join(sorted(left_out)),
        )
    return kept


def _json_bytes(value: object) -> int:
    """How long a value is as JSON in UTF-8."""
    return len(json.dumps(value, ensure_ascii=False).encode())
