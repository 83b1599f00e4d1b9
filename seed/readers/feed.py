"""XML feeds: RSS, Atom or any list of items, as Google Merchant Center takes them."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import iterparse

from bls_models.errors import SetupError
from seed.readers.records import Record, Table
from seed.readers.source import Source

ITEMS = frozenset({"item", "entry", "product"})


def feed_table(source: Source) -> Table:
    """A feed; what comes several times in an item is a list.

    Raises:
        SetupError: it holds no items.
    """
    columns: dict[str, None] = {}
    for number, record in enumerate(_records(source)):
        columns.update(dict.fromkeys(record.values))
        if record.problem or number == SAMPLED_ITEMS:
            break
    if not columns:
        raise SetupError(
            f"{source.path} is XML without products; expected an RSS or Atom feed whose items are "
            f"<{'>, <'.join(sorted(ITEMS))}>."
        )
    # Items may leave elements out, so that only the records themselves name theirs.
    return Table("XML feed", (), lambda: _records(source), "item", is_text=True)


SAMPLED_ITEMS = 20


def _records(source: Source) -> Generator[Record]:
    number = 0
    with source.open() as stream:
        try:
            path: list[Element] = []
            for event, element in iterparse(stream, events=("start", "end"), forbid_dtd=True):
                if event == "start":
                    path.append(element)
                    continue
                path.pop()
                if _local(element) in ITEMS and not any(_local(item) in ITEMS for item in path):
                    number += 1
                    yield Record(number, _values(element))
                    if path:
                        path[-1].clear()  # else the whole feed would stay in memory
        except (ParseError, DefusedXmlException) as error:
            yield Record(number + 1, problem=f"not XML: {error}; nothing behind it can be read")


def _values(item: Element) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for child in item:
        name = _local(child)
        text = "".join(child.itertext()).strip() or child.get("href", "")
        if name not in values:
            values[name] = text
        elif isinstance(values[name], list):
            values[name].append(text)
        else:
            values[name] = [values[name], text]
    return values


def _local(element: Element) -> str:
    return str(element.tag).rpartition("}")[2]
