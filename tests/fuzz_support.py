"""What the fuzz tests send: requests, filters and picture files that are nearly right."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from colour_support import ADOBE_RGB, DISPLAY_P3, icc_profile
from hypothesis import strategies as st
from PIL import Image
from pillow_heif import register_heif_opener
from serving_support import blocks, encoded

from bls_models.index.filters.language import FIELD_OPERATORS, LOGICAL_OPERATORS
from bls_models.specs import REPORTS, SORTS, ModelSpec, TensorSpec

# --- picture files ----------------------------------------------------------------------------


def _frames(kind: str) -> bytes:
    stream = io.BytesIO()
    blocks(1, 32).save(stream, kind, save_all=True, append_images=[blocks(2, 32)])
    return stream.getvalue()


register_heif_opener()
PICTURE = blocks(1, 64)
FILES: dict[str, bytes] = {
    "JPEG": encoded(PICTURE, "JPEG"),
    "progressive JPEG": encoded(PICTURE, "JPEG", progressive=True),
    "JPEG with restarts": encoded(PICTURE, "JPEG", restart_marker_rows=1),
    "grey JPEG": encoded(PICTURE.convert("L"), "JPEG"),
    "CMYK JPEG": encoded(PICTURE.convert("CMYK"), "JPEG"),
    "JPEG with comment": encoded(PICTURE, "JPEG", comment=b"\xff\xda" * 20),
    "PNG": encoded(PICTURE),
    "PNG with alpha": encoded(PICTURE.convert("RGBA")),
    "palette PNG": encoded(PICTURE.quantize(16)),
    "1-bit PNG": encoded(PICTURE.convert("1")),
    "16-bit PNG": encoded(Image.fromarray(np.arange(4096, dtype=np.uint16).reshape(64, 64))),
    "grey and alpha PNG": encoded(PICTURE.convert("LA")),
    "animated PNG": _frames("PNG"),
    "WebP": encoded(PICTURE, "WEBP"),
    "lossless WebP": encoded(PICTURE.convert("RGBA"), "WEBP", lossless=True),
    "animated WebP": _frames("WEBP"),
    "HEIC": encoded(PICTURE, "HEIF"),
    "HEIC with alpha": encoded(PICTURE.convert("RGBA"), "HEIF"),
    "AVIF": encoded(PICTURE, "AVIF", speed=10),
    "AVIF with alpha": encoded(PICTURE.convert("RGBA"), "AVIF", speed=10),
    "animated AVIF": _frames("AVIF"),
    "GIF": encoded(PICTURE.quantize(16), "GIF", transparency=1),
    "animated GIF": _frames("GIF"),
    "BMP": encoded(PICTURE, "BMP"),
    "palette BMP": encoded(PICTURE.quantize(16), "BMP"),
    "JPEG of another colour space": encoded(
        PICTURE, "JPEG", icc_profile=icc_profile(DISPLAY_P3, 2.2)
    ),
    "PNG of another colour space": encoded(PICTURE, icc_profile=icc_profile(ADOBE_RGB, 2.2)),
}


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """A PNG chunk with the right length and checksum."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


@st.composite
def mutated_files(draw: st.DrawFn) -> bytes:
    """A real file with bytes changed, and pieces taken out, doubled or put in."""
    data = bytearray(draw(st.sampled_from(list(FILES.values()))))
    for _ in range(draw(st.integers(0, 4))):
        if not data:
            break
        place = draw(st.integers(0, len(data) - 1))
        length = draw(st.integers(1, 64))
        change = draw(st.sampled_from(["set", "flip", "cut", "double", "insert", "end"]))
        if change == "set":
            data[place] = draw(st.sampled_from([0, 1, 0x7F, 0x80, 0xFE, 0xFF]))
        elif change == "flip":
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif change == "cut":
            del data[place : place + length]
        elif change == "double":
            data[place:place] = data[place : place + length]
        elif change == "insert":
            data[place:place] = draw(st.binary(max_size=16))
        else:
            del data[place:]
    return bytes(data)


@st.composite
def png_files(draw: st.DrawFn) -> bytes:
    """A PNG whose header says anything, with some pixels and any chunks before them."""
    size = st.one_of(st.integers(0, 80), st.integers(0, 2**32 - 1))
    header = struct.pack(
        ">IIBBBBB",
        draw(size),
        draw(size),
        *(draw(st.integers(0, 17)) for _ in range(2)),
        *(draw(st.integers(0, 2)) for _ in range(3)),
    )
    kinds = st.sampled_from(
        [b"PLTE", b"tRNS", b"gAMA", b"iCCP", b"zTXt", b"tEXt", b"acTL", b"fcTL", b"eXIf", b"IHDR"]
    )
    extra = draw(st.lists(st.tuples(kinds, st.binary(max_size=60)), max_size=4))
    pixels = zlib.compress(bytes(draw(st.integers(0, 40_000))))
    chunks = [(b"IHDR", header), *extra, (b"IDAT", pixels), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*chunk) for chunk in chunks)


@st.composite
def jpeg_files(draw: st.DrawFn) -> bytes:
    """A JPEG of any segments, or a real one whose size and scans are others."""
    data = draw(st.sampled_from([FILES["JPEG"], FILES["progressive JPEG"]]))
    start = max(data.find(b"\xff\xc0"), data.find(b"\xff\xc2"))
    side = st.one_of(st.just(64), st.integers(1, 200), st.integers(0, 65535))
    size = struct.pack(">HH", draw(side), draw(side))
    changed = data[: start + 5] + size + data[start + 9 :]
    if draw(st.booleans()):
        segments = st.tuples(st.integers(0, 255), st.binary(max_size=40))
        extra = b"".join(
            bytes([0xFF, code]) + struct.pack(">H", len(content) + 2) + content
            for code, content in draw(st.lists(segments, max_size=6))
        )
        changed = changed[:2] + extra + changed[2:]
    last = changed.rindex(b"\xff\xda")
    return changed[:last] + changed[last:-2] * draw(st.integers(0, 150)) + changed[-2:]


@st.composite
def webp_files(draw: st.DrawFn) -> bytes:
    """A WebP of any canvas, flags and chunks."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)

    canvas = b"".join(struct.pack("<I", draw(st.integers(0, 2**24 - 1)))[:3] for _ in range(2))
    flags = bytes([draw(st.integers(0, 255)), 0, 0, 0])
    picture = FILES[draw(st.sampled_from(["WebP", "lossless WebP", "animated WebP"]))][12:]
    kinds = st.sampled_from([b"EXIF", b"XMP ", b"ICCP", b"ANIM", b"ANMF", b"ALPH", b"VP8 "])
    extra = draw(st.lists(st.tuples(kinds, st.binary(max_size=60)), max_size=3))
    body = b"WEBP" + chunk(b"VP8X", flags + canvas) + b"".join(chunk(*item) for item in extra)
    body += picture
    return b"RIFF" + struct.pack("<I", draw(st.sampled_from([len(body), 0, 2**32 - 1]))) + body


def picture_files() -> st.SearchStrategy[bytes]:
    """Anything that may come as a picture."""
    return st.one_of(
        mutated_files(),
        png_files(),
        jpeg_files(),
        webp_files(),
        st.binary(max_size=200),
        st.sampled_from(list(FILES.values())),
    )


# --- filters ----------------------------------------------------------------------------------

WORDS = st.one_of(
    st.sampled_from(
        [*FIELD_OPERATORS, *LOGICAL_OPERATORS, "$where", "$regex", "$expr", "$function", "$text"]
    ),
    st.sampled_from(
        ["category", "price", "name", "attributes.colour", "attributes", "write_id", "_id", "a.b"]
    ),
    st.text(max_size=12),
)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=12),
    st.sampled_from(["mug", "red", 12.5, 2**53, -0.0]),
)
JSON_VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(WORDS, inner, max_size=3)),
    max_leaves=20,
)
FIELD_NAMES = st.sampled_from(["category", "currency", "name", "price", "attributes.colour"])
CONDITIONS = st.recursive(
    st.one_of(SCALARS, st.dictionaries(st.sampled_from(FIELD_OPERATORS), JSON_VALUES, max_size=2)),
    lambda inner: st.dictionaries(st.just("$not"), inner, min_size=1, max_size=1),
    max_leaves=4,
)
# Mostly within the language, so that much of it passes.
FILTER_OBJECTS = st.recursive(
    st.dictionaries(st.one_of(FIELD_NAMES, FIELD_NAMES, WORDS), CONDITIONS, max_size=3),
    lambda inner: st.dictionaries(
        st.sampled_from(LOGICAL_OPERATORS), st.lists(inner, min_size=1, max_size=3), min_size=1
    ),
    max_leaves=8,
)


def filter_texts() -> st.SearchStrategy[bytes]:
    """Anything that may come as a filter."""
    documents = st.one_of(FILTER_OBJECTS, JSON_VALUES).map(lambda value: json.dumps(value).encode())
    return st.one_of(documents, documents, st.binary(max_size=60), _deep_texts())


def _deep_texts() -> st.SearchStrategy[bytes]:
    opening = st.sampled_from([b"[", b'{"$and":[', b'{"price":{"$not":', b'{"a":'])
    return st.tuples(opening, st.integers(1, 3000)).map(lambda item: item[0] * item[1])


# --- facets -----------------------------------------------------------------------------------

BOUNDS = st.lists(
    st.one_of(st.integers(-5, 100), st.floats(0, 100)), min_size=1, max_size=4, unique=True
).map(sorted)
FACET_OBJECTS = st.dictionaries(FIELD_NAMES, st.one_of(st.integers(1, 100), BOUNDS), max_size=3)


def facet_texts() -> st.SearchStrategy[bytes]:
    """Anything that may come as facets."""
    wanted = st.one_of(st.integers(), BOUNDS, st.lists(SCALARS, max_size=3), JSON_VALUES)
    near = st.dictionaries(st.one_of(FIELD_NAMES, FIELD_NAMES, WORDS), wanted, max_size=20)
    documents = st.one_of(FACET_OBJECTS, near, JSON_VALUES).map(
        lambda value: json.dumps(value).encode()
    )
    return st.one_of(documents, documents, st.binary(max_size=60), _deep_texts())


def products_in(counted: Mapping[str, Any]) -> int:
    """How many products a facet has counted."""
    named = (*counted.get("values", ()), *counted.get("ranges", ()))
    return int(sum(item["count"] for item in named) + counted.get("others", 0) + counted["missing"])


# --- products ---------------------------------------------------------------------------------


def product_texts() -> st.SearchStrategy[bytes]:
    """Anything that may come as a product."""
    good = {"product_id": st.sampled_from(["a", "b", "c"]), "name": st.text(max_size=9)}
    fields = st.sampled_from(
        ["description", "price", "currency", "attributes", "images", "revision", "x", "_id"]
    )
    near = st.tuples(
        st.fixed_dictionaries({**good, "category": st.text(min_size=1, max_size=9)}),
        st.dictionaries(fields, JSON_VALUES, max_size=2),
    ).map(lambda parts: {**parts[0], **parts[1]})
    objects = st.one_of(near, near, JSON_VALUES)
    return st.one_of(
        objects.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40), _deep_texts()
    )


# --- requests ---------------------------------------------------------------------------------

CROPS = st.sampled_from([(0.0, 0.0, 1.0, 1.0), (0.1, 0.2, 0.3, 0.9), (0.5, 0.0, 0.500001, 1.0)])
# Products that the samples have; those of another catalogue are not there.
LIKED = ("mug-classic-red", "mug-classic-blue", "mug-dots-red")
# By input: values that are right, and any others.
VALUES: dict[str, tuple[st.SearchStrategy[Any], st.SearchStrategy[Any]]] = {
    "image": (st.sampled_from(list(FILES.values())), picture_files()),
    "text": (
        st.text(min_size=1, max_size=20).map(lambda text: f"a {text}".encode()),
        st.binary(max_size=20),
    ),
    "filter": (
        st.sampled_from([b"{}", b'{"category": "mug"}', b'{"price": {"$not": {"$gt": 5}}}']),
        filter_texts(),
    ),
    "like": (
        st.sampled_from([name.encode() for name in LIKED]),
        st.one_of(st.binary(max_size=140), st.text(max_size=20).map(str.encode)),
    ),
    "facets": (FACET_OBJECTS.map(lambda value: json.dumps(value).encode()), facet_texts()),
    "sort": (
        st.sampled_from([name.encode() for name in SORTS]),
        st.sampled_from([b"--price", b"PRICE", b"category", b"-score", b"", b"\xff"]),
    ),
    "product": (
        st.sampled_from(["a", "b", "c"]).map(
            lambda key: json.dumps({"product_id": key, "name": "n", "category": "c"}).encode()
        ),
        product_texts(),
    ),
    "operation": (st.sampled_from([b"upsert", b"get", b"delete", b"reembed"]), st.binary()),
    "caption": (st.just(b"never"), st.sampled_from([b"always", b"missing", b"", b"\xff"])),
    # Mostly none: several photos go with no other.
    "objects": (
        st.sampled_from([b"never", b"never", b"auto", b"always"]),
        st.sampled_from([b"ALWAYS", b"some", b"", b"\xff"]),
    ),
    "max_objects": (st.integers(1, 20), st.integers(-(2**31), 2**31 - 1)),
    # What names a picture: of a product that there is, now and then, or by a hash that nobody has.
    "product_id": (st.sampled_from([b"a", b"b", b"c"]), st.binary(max_size=20)),
    "sha256": (st.just(b"0" * 64), st.one_of(st.binary(max_size=70), st.just(b"F" * 64))),
    "number": (st.integers(1, 3), st.integers(-(2**31), 2**31 - 1)),
    "size": (st.integers(16, 2048), st.integers(-(2**31), 2**31 - 1)),
    "format": (st.sampled_from([b"webp", b"jpeg"]), st.sampled_from([b"png", b"WEBP", b"\xff"])),
    "encoding": (st.sampled_from([b"base64", b"raw"]), st.sampled_from([b"hex", b""])),
    "report": (st.sampled_from([name.encode() for name in REPORTS]), st.binary(max_size=9)),
    "limit": (st.integers(1, 100), st.integers(-(2**31), 2**31 - 1)),
    "hours": (st.floats(0.125, 720, width=32), st.floats(width=32)),
    "duplicates": (st.sampled_from([b"never", b"report"]), st.sampled_from([b"REPORT", b""])),
    "top_k": (st.integers(1, 100), st.integers(-(2**31), 2**31 - 1)),
    "offset": (st.integers(0, 10), st.integers(-(2**31), 2**31 - 1)),
    "crop": (CROPS, st.tuples(*[st.floats(width=32)] * 4)),
    "min_score": (st.floats(-1, 1, width=32), st.floats(width=32)),
    "image_weight": (st.floats(-2, 2, width=32), st.floats(width=32)),
    "text_weight": (st.floats(-2, 2, width=32), st.floats(width=32)),
    "like_weight": (st.floats(-2, 2, width=32), st.floats(width=32)),
}
# Inputs that have one value for each image, text or product.
COUNTED_BY = {
    "image_weight": "image",
    "crop": "image",
    "text_weight": "text",
    "like_weight": "like",
}


@st.composite
def tensors(draw: st.DrawFn, spec: TensorSpec, count: int, odd: bool) -> npt.NDArray[Any]:
    """A tensor of the spec's dtype with a batch dimension.

    Args:
        draw: of Hypothesis.
        spec: the input.
        count: how many values, where the spec leaves that open.
        odd: whether its values, and now and then its shape, may be wrong.
    """
    batch = draw(st.sampled_from([1, 1, 1, 0, 2])) if odd else 1
    shape = (batch, *(count if dim == -1 else dim for dim in spec.config_dims))
    right, wrong = VALUES[spec.name]
    values = st.one_of(right, wrong) if odd else right
    number = batch * (shape[1] if len(shape) > 1 else 1)
    array = np.empty((number, *shape[2:]), spec.numpy_dtype)
    for place in range(number):
        array[place] = draw(values)
    return array.reshape(shape)


@st.composite
def requests(draw: st.DrawFn, model: ModelSpec) -> dict[str, npt.NDArray[Any]]:
    """A request's tensors by name: the required ones, some others, and one or two that are odd."""
    names = [spec.name for spec in model.inputs]
    odd = draw(st.sets(st.sampled_from(names), max_size=2))
    counts = {name: draw(st.integers(1, 3)) for name in ("image", "text", "like")}
    sent: dict[str, npt.NDArray[Any]] = {}
    for spec in model.inputs:
        base = COUNTED_BY.get(spec.name, spec.name)
        if spec.optional and not (draw(st.booleans()) and (base == spec.name or base in sent)):
            continue
        count = counts.get(base, 1)
        if spec.name in odd:
            count = draw(st.integers(0, 9))
        sent[spec.name] = draw(tensors(spec, count, spec.name in odd))
    return sent
