"""Damaged catalogues of every format: a sentence at once, or bad rows among the good ones."""

from __future__ import annotations

import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable
from pathlib import Path

import openpyxl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bls_models.errors import SetupError
from seed.rows import open_catalog

DAMAGED = 60
ROWS = 40
INSERTED = [b'"', b"'", b"\0", b"\r", b"\n", b",", b"\xff", b"[", b"{", b"\\ud800", b"9" * 50, b"<"]


def csv_bytes() -> bytes:
    row = b'%d,"Mug ""x"", y",mugs,"a.jpg, b.jpg",12.50\n'
    return b"id,title,category,images,price\n" + b"".join(row % n for n in range(ROWS))


def shopify_bytes() -> bytes:
    header = b"Handle,Title,Body (HTML),Type,Option1 Name,Option1 Value,Variant Price,Image Src\n"
    rows = b'h%d,T,"<p>a\nb</p>",c,Size,S,1.5,http://x/a.jpg\nh%d,,,,,M,2,\n'
    return header + b"".join(rows % (n, n) for n in range(ROWS))


def json_lines_bytes() -> bytes:
    fields = {"title": "Mug \N{EURO SIGN}", "category": "c", "attributes": {"a": 1}}
    return b"".join(json.dumps({"id": n, **fields}).encode() + b"\n" for n in range(ROWS))


def json_bytes() -> bytes:
    return json.dumps([{"id": n, "title": "Mug", "category": "c"} for n in range(ROWS)]).encode()


def xml_bytes() -> bytes:
    item = b"<item><id>%d</id><title>T &amp; x</title><product_type>p</product_type></item>"
    return b"<rss><channel>" + b"".join(item % n for n in range(ROWS)) + b"</channel></rss>"


def excel_bytes() -> bytes:
    book, file = openpyxl.Workbook(), io.BytesIO()
    sheet = book.worksheets[0]
    sheet.append(["id", "title", "category"])
    for number in range(ROWS):
        sheet.append([number, "Mug", "mugs"])
    book.save(file)
    return file.getvalue()


def parquet_bytes() -> bytes:
    file = io.BytesIO()
    names = [str(number) for number in range(ROWS)]
    pq.write_table(pa.table({"id": names, "title": names, "category": names}), file)
    return file.getvalue()


def zip_bytes() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("list.csv", csv_bytes())
        archive.writestr("images/1.jpg", b"x" * 500)
    return file.getvalue()


def gzip_bytes() -> bytes:
    return gzip.compress(csv_bytes())


def damaged(content: bytes, chance: random.Random) -> bytes:
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 5, 20])):
        place = chance.randrange(len(data))
        match chance.randrange(5):
            case 0:
                data[place] = chance.randrange(256)
            case 1:
                del data[place : place + chance.randrange(1, 30)]
            case 2:
                data[place:place] = chance.choice(INSERTED)
            case 3:
                del data[max(place, 1) :]
            case _:
                data[place:place] = data[place : place + 20]
        data = data or bytearray(b"x")
    return bytes(data)


@pytest.mark.parametrize(
    "make",
    [csv_bytes, shopify_bytes, json_lines_bytes, json_bytes, xml_bytes, excel_bytes, parquet_bytes,
     zip_bytes, gzip_bytes],
)  # fmt: skip
def test_damage_ends_in_a_sentence_or_in_bad_rows(
    tmp_path: Path, make: Callable[[], bytes]
) -> None:
    content, chance = make(), random.Random(make.__name__)
    (tmp_path / "whole").write_bytes(content)
    assert open_catalog(tmp_path / "whole").count() == ROWS
    for number in range(DAMAGED):
        path = tmp_path / f"{number}"
        path.write_bytes(damaged(content, chance))
        try:
            catalog = open_catalog(path)
        except SetupError:
            continue
        rows = list(catalog.rows())
        assert catalog.count() == len(rows)
        assert all(row.row >= 1 for row in rows)
