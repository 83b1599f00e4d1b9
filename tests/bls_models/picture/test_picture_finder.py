"""Pictures are found, scaled and kept; what is not there is named."""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image
from serving_support import blocks, encoded, wait_for

from bls_models.errors import (
    DatabaseError,
    ImageError,
    MissingImageError,
    NotFoundError,
    RequestError,
    StoredImageError,
)
from bls_models.images.decoding import ImageLimits
from bls_models.images.memory import MemoryBudget
from bls_models.picture import finder as finder_module
from bls_models.picture.finder import FoundPicture, PictureFinder
from bls_models.picture.request import PictureQuery
from bls_models.picture.scaling import ENCODING_BYTES, scaled_picture
from bls_models.settings import Settings
from bls_models.telemetry.metrics import CACHE_HITS, CACHE_MISSES, PICTURES, Metrics, MetricSpec

LIMITS = ImageLimits(10 * 2**20, 50_000_000, 512 * 2**20)
# Smooth, since encoders keep colours coarsely.
WIDE = Image.merge(
    "RGB", [Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180)]
).resize((400, 200))
FORMATS = {"webp": "WEBP", "jpeg": "JPEG"}


class Counts(Metrics):
    """Adds up."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, ...]] = Counter()
        self._lock = threading.Lock()

    def add(self, spec: MetricSpec, amount: float = 1.0, *labels: str) -> None:
        with self._lock:
            self.values[spec.name, *labels] += int(amount)


class Database:
    """Products and pictures; counts reads, and can be away."""

    def __init__(self, **products: Sequence[bytes]) -> None:
        self.files = {
            hashlib.sha256(data).hexdigest(): data for item in products.values() for data in item
        }
        self.products = {
            name: {
                "_id": name,
                "images": [{"sha256": hashlib.sha256(data).hexdigest()} for data in item],
            }
            for name, item in products.items()
        }
        self.reads: list[str] = []
        self.away = False

    def find_products(self, ids: Sequence[str], fields: Sequence[str]) -> dict[str, Any]:
        assert list(fields) == ["images"]
        return {key: self.products[key] for key in ids if key in self.products}

    def read(self, sha256: str) -> bytes:
        self.reads.append(sha256)
        if self.away:
            raise DatabaseError("MongoDB is away")
        if sha256 not in self.files:
            raise MissingImageError("gone")
        return self.files[sha256]


Make = Callable[..., PictureFinder]


@pytest.fixture
def make() -> Iterator[Make]:
    made: list[PictureFinder] = []

    def finder(
        database: Database, metrics: Metrics | None = None, **settings: Any
    ) -> PictureFinder:
        made.append(
            PictureFinder(
                database,  # type: ignore[arg-type]
                database,  # type: ignore[arg-type]
                Settings(**settings),
                metrics or Metrics(),
            )
        )
        return made[-1]

    yield finder
    for item in made:
        item.close()


def opened(found: FoundPicture) -> Image.Image:
    return Image.open(io.BytesIO(found.data))


def raw(**values: Any) -> PictureQuery:
    return PictureQuery(**{"encoding": "raw", **values})


# --- scaling ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize(
    ("size", "wanted"),
    [(None, (400, 200)), (2048, (400, 200)), (100, (100, 50)), (33, (33, 16)), (16, (16, 8))],
)
def test_a_picture_is_scaled_and_never_enlarged(
    kind: str, size: int | None, wanted: tuple[int, int]
) -> None:
    budget = MemoryBudget(2**30)
    made = scaled_picture(encoded(WIDE), "stored image", size, kind, LIMITS, budget)
    assert (made.width, made.height) == wanted
    with Image.open(io.BytesIO(made.data)) as image:
        assert (image.format, image.size) == (FORMATS[kind], wanted)
        small = np.asarray(WIDE.resize(wanted, Image.Resampling.BOX), float)
        assert np.abs(np.asarray(image.convert("RGB"), float) - small).mean() < 12


def test_a_picture_is_upright_and_tells_nothing_else() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a camera"
    data = encoded(WIDE, "JPEG", exif=exif, comment=b"somewhere")
    for kind in FORMATS:
        made = scaled_picture(data, "stored image", 100, kind, LIMITS, MemoryBudget(2**30))
        assert (made.width, made.height) == (50, 100)
        assert b"camera" not in made.data
        assert b"somewhere" not in made.data


def test_a_side_of_no_pixels_keeps_one() -> None:
    thin = encoded(Image.new("RGB", (3000, 2)))
    made = scaled_picture(thin, "stored image", 16, "webp", LIMITS, MemoryBudget(2**30))
    assert (made.width, made.height) == (16, 1)


def test_a_picture_that_is_too_long_for_its_format_is_made_shorter() -> None:
    long = encoded(Image.new("RGB", (20_000, 10)))
    made = scaled_picture(long, "stored image", None, "webp", LIMITS, MemoryBudget(2**30))
    assert (made.width, made.height) == (16_383, 8)


def test_memory_is_held_for_the_encoder_and_within_the_budget() -> None:
    held: list[int] = []

    class Noting(MemoryBudget):
        def hold(self, amount: int) -> Any:
            held.append(amount)
            return super().hold(amount)

    small = ImageLimits(2**20, 10**6, 400 * 200 * 10)
    for limits in (LIMITS, small):
        scaled_picture(encoded(WIDE), "stored image", None, "webp", limits, Noting(2**30))
    assert held == [400 * 200 * ENCODING_BYTES["webp"], 400 * 200 * 10]


# --- finding ------------------------------------------------------------------------------------

FIRST, SECOND = encoded(blocks(1, 64)), encoded(blocks(2, 48))


def test_a_picture_is_named_by_its_product_or_its_hash(make: Make) -> None:
    finder = make(Database(mug=[FIRST, SECOND]))
    first = finder.find(raw(product_id="mug"))
    assert opened(first).size == (64, 64) == (first.width, first.height)
    assert first.content_type == "image/webp"
    assert first.sha256 == hashlib.sha256(FIRST).hexdigest()
    second = finder.find(raw(product_id="mug", number=2, format="jpeg"))
    assert opened(second).size == (48, 48)
    assert second.content_type == "image/jpeg"
    assert finder.find(raw(sha256=second.sha256, format="jpeg")) == second


def test_unless_raw_is_asked_for_it_is_text(make: Make) -> None:
    finder = make(Database(mug=[FIRST]))
    text = finder.find(PictureQuery("mug")).data
    assert base64.b64decode(text, validate=True) == finder.find(raw(product_id="mug")).data


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (raw(product_id="none"), "product_id: 'none' is not stored"),
        (raw(product_id="mug", number=2), "number: 2; expected 1 to 1. Product 'mug' has 1"),
        (raw(product_id="bare"), "number: 1; expected a product with pictures"),
        (raw(sha256="0" * 64), "sha256: picture 0000"),
        (raw(product_id="gone"), "product_id: picture "),
    ],
)
def test_what_is_not_there_is_named(make: Make, query: PictureQuery, message: str) -> None:
    database = Database(mug=[FIRST], bare=[], gone=[SECOND])
    del database.files[hashlib.sha256(SECOND).hexdigest()]
    with pytest.raises(NotFoundError, match=message):
        make(database).find(query)


def test_a_picture_is_scaled_once_for_each_size_and_format(make: Make) -> None:
    database, counts = Database(mug=[FIRST]), Counts()
    finder = make(database, counts)
    queries = [
        raw(product_id="mug", size=size, format=kind) for size in (16, 32) for kind in FORMATS
    ]
    for query in (*queries, *queries):
        finder.find(query)
    assert len(database.reads) == 4
    assert counts.values[CACHE_HITS.name, "pictures"] == 4
    assert counts.values[CACHE_MISSES.name, "pictures"] == 4


def test_what_is_kept_fits_the_budget_and_is_not_kept_for_ever(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, seconds in ((10, 300.0), (2**20, 0.0)):
        monkeypatch.setattr(finder_module, "KEPT_SECONDS", seconds)
        database = Database(mug=[FIRST])
        finder = make(database, picture_cache_bytes=limit)
        for _ in range(2):
            finder.find(raw(product_id="mug"))
        assert len(database.reads) == 2


def test_what_is_kept_is_shown_while_the_database_is_away(make: Make) -> None:
    database = Database(mug=[FIRST])
    finder = make(database)
    known = raw(sha256=hashlib.sha256(FIRST).hexdigest(), size=20)
    found = finder.find(known)
    database.away = True
    assert finder.find(known) == found
    with pytest.raises(DatabaseError):
        finder.find(raw(sha256=known.sha256, size=21))


def test_a_bad_request_fails_alone_and_all_are_counted(make: Make) -> None:
    database = Database(mug=[FIRST], broken=[b"no picture"])
    counts = Counts()
    finder = make(database, counts)
    unread = ImageError("size", "1", "16")
    found = finder.run(
        [unread, raw(product_id="mug"), raw(product_id="x"), raw(product_id="broken")]
    )
    assert found[0] is unread
    assert isinstance(found[1], FoundPicture)
    assert isinstance(found[2], NotFoundError)
    assert isinstance(found[3], StoredImageError)
    assert str(found[3]).startswith("stored image ")
    database.away = True
    assert isinstance(finder.run([raw(sha256="0" * 64)])[0], DatabaseError)
    outcomes = {key[1]: count for key, count in counts.values.items() if key[0] == PICTURES.name}
    assert outcomes == {"ok": 1, "not_found": 1, "client_error": 1, "error": 2}


def test_stored_pictures_beyond_the_limits_are_no_fault_of_the_client(make: Make) -> None:
    finder = make(Database(mug=[FIRST]), max_image_pixels=64 * 63)
    with pytest.raises(StoredImageError, match=r"64 x 64 pixels.* raise the limits") as caught:
        finder.find(raw(product_id="mug"))
    assert not isinstance(caught.value, RequestError)


class SlowDatabase(Database):
    """Reads while ``goes_on`` is set."""

    def __init__(self, **products: Sequence[bytes]) -> None:
        super().__init__(**products)
        self.goes_on = threading.Event()

    def read(self, sha256: str) -> bytes:
        assert self.goes_on.wait(60)
        return super().read(sha256)


@pytest.mark.parametrize("is_away", [False, True])
def test_a_picture_that_is_just_being_scaled_is_waited_for(make: Make, is_away: bool) -> None:
    database, counts = SlowDatabase(mug=[FIRST]), Counts()
    database.away = is_away
    # Nothing is kept, so only those who wait together share.
    finder = make(database, counts, picture_cache_bytes=1, decode_threads=3)
    query = raw(product_id="mug", size=20)
    with ThreadPoolExecutor(1) as batches:
        batch = batches.submit(finder.run, [query] * 3)
        try:
            wait_for(lambda: counts.values[CACHE_HITS.name, "pictures"] == 2, "two wait")
        finally:
            database.goes_on.set()
        found = batch.result()
    assert len(database.reads) == 1
    kind = DatabaseError if is_away else FoundPicture
    assert [type(item) for item in found] == [kind] * 3
    database.away = False
    assert isinstance(finder.find(query), FoundPicture)
    assert len(database.reads) == 2
