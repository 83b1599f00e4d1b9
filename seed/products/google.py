"""Feeds for Google Merchant Center, as tab-separated text or XML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import lru_cache

from seed.options import ReadOptions
from seed.products.columns import plain_name, targets_of_columns
from seed.products.generic import by_target, canonical_records
from seed.readers.records import Record

GOOGLE_COLUMNS = frozenset({"id", "title", "image_link"})
# About advertising and shipping, or links to pages: nothing that a product looks like or is.
_UNUSED = (
    "link mobile_link canonical_link ads_redirect shipping shipping_weight shipping_label tax "
    "identifier_exists adult expiration_date availability_date cost_of_goods_sold "
    "lifestyle_image_link tax_category transit_time_label min_handling_time max_handling_time "
    "custom_label_0 custom_label_1 custom_label_2 custom_label_3 custom_label_4 "
    "sale_price_effective_date included_destination excluded_destination"
)
UNUSED = frozenset(_UNUSED.split())


def google_targets(columns: Sequence[str], options: ReadOptions) -> dict[str, str]:
    """Field or attribute by column, empty text for what is left out."""
    targets = targets_of_columns(columns, options)
    return {
        column: ""
        if plain_name(column) in UNUSED and column not in options.columns.values()
        else target
        for column, target in targets.items()
    }


def google_records(records: Iterable[Record], options: ReadOptions) -> Iterator[Record]:
    """The items by product field."""

    @lru_cache(maxsize=256)
    def targets(columns: tuple[str, ...]) -> dict[str, str]:
        return google_targets(columns, options)

    for record in records:
        if record.problem or record.surplus:
            yield from canonical_records([record], options)
            continue
        yield replace(record, values=by_target(record, targets(tuple(record.values)), options))
