"""``python -m builders duplicate-threshold``: from which cosine on two pictures are copies.

For ``PRODUCT_MATCH_DUPLICATE_COSINE``: the share of copies that a threshold finds, and the share of
pictures that it takes for a copy of another product's.
"""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.table import Table

from bls_models.bundle import Bundle
from bls_models.cpus import cpu_count
from bls_models.engines.cpu import CpuEngine
from bls_models.engines.precisions import graph_on_cpu
from bls_models.errors import ProductMatchError
from bls_models.images.decoding import ImageLimits, decode_image
from bls_models.images.preprocessing import prepare_pixels
from bls_models.settings import Settings
from bls_models.specs import IMAGE_ENCODER
from bls_models.vectors import FloatArray, Pixels
from builders.catalogue import read_catalogue
from builders.quality.sets import listed_pictures
from reporting.reports import write_report

PROJECT = Path(__file__).resolve().parents[2]
THRESHOLDS = (0.9, 0.92, 0.94, 0.95, 0.96, 0.97, 0.98, 0.99)
# Copies are made of every n-th picture, so that a large set takes minutes.
MOST_COPIED = 300
ENCODED_AT_ONCE = 16


def recompressed(image: Image.Image, quality: int) -> Image.Image:
    """The picture as it comes out of a JPEG file."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def trimmed(image: Image.Image, share: float) -> Image.Image:
    """The picture without this share of its width and height on each side."""
    width, height = image.size
    left, top = round(width * share), round(height * share)
    return image.crop((left, top, width - left, height - top))


# What shops do to a supplier's picture; brighter by a tenth, trimmed on each side.
COPIES: Mapping[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG 75": lambda image: recompressed(image, 75),
    "JPEG 40": lambda image: recompressed(image, 40),
    "half size": lambda image: image.resize((image.width // 2, image.height // 2)),
    "2% trimmed": lambda image: trimmed(image, 0.02),
    "5% trimmed": lambda image: trimmed(image, 0.05),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
}


class PictureEncoder:
    """Pictures to vectors with the served graph, as ``product_ingest`` makes them."""

    def __init__(self, repository: Path) -> None:
        bundle = Bundle.read(repository)
        settings = Settings()
        self._limits = ImageLimits(settings.max_image_bytes, settings.max_image_pixels)
        self._preprocess = bundle.preprocess
        self._engine = CpuEngine(
            graph_on_cpu(repository, IMAGE_ENCODER.name), IMAGE_ENCODER, split_rows=True
        )
        self._pool = ThreadPoolExecutor(cpu_count())

    def read(self, path: Path) -> Pixels:
        """A picture file, upright, RGB, (H, W, 3)."""
        return decode_image(path.read_bytes(), str(path), self._limits)

    def encode(
        self, paths: Sequence[Path], change: Callable[[Image.Image], Image.Image] | None = None
    ) -> FloatArray:
        """Vectors (n, D) of picture files, or of what ``change`` makes of them."""

        def pixels(path: Path) -> Pixels:
            picture = self.read(path)
            if change:
                picture = np.asarray(change(Image.fromarray(picture)))
            return prepare_pixels(picture, self._preprocess)

        vectors = [
            self._engine.infer({"image": np.stack(list(self._pool.map(pixels, batch)))})[
                IMAGE_ENCODER.output_names[0]
            ]
            for batch in _batches(paths)
        ]
        return np.concatenate(vectors)


def nearest_of_others(vectors: FloatArray, owners: Sequence[str]) -> FloatArray:
    """The largest cosine of each picture to one of another product, (n,)."""
    names = np.array(owners)
    nearest = [
        np.where(names == owner, -1.0, vectors @ vector).max()
        for vector, owner in zip(vectors, owners, strict=True)
    ]
    return np.array(nearest, np.float32)


def shares_above(cosines: FloatArray) -> dict[str, float]:
    """The share of cosines that reach each threshold."""
    return {f"{t:.2f}": round(float((cosines >= t).mean()), 5) for t in THRESHOLDS}


def measured(
    encoder: PictureEncoder, pictures: Sequence[tuple[Path, str]], progress: Callable[[str], None]
) -> dict[str, dict[str, float]]:
    """Shares of each kind of copy, and of pictures of other products, above each threshold.

    Args:
        encoder: makes vectors.
        pictures: files with the product that each shows.
        progress: told what is done next.
    """
    paths, owners = [path for path, _ in pictures], [owner for _, owner in pictures]
    progress(f"{len(paths)} pictures")
    vectors = encoder.encode(paths)
    found = {"another": shares_above(nearest_of_others(vectors, owners))}
    step = -(-len(paths) // MOST_COPIED)
    for name, change in COPIES.items():
        progress(name)
        copies = encoder.encode(paths[::step], change)
        found[name] = shares_above((copies * vectors[::step]).sum(axis=1))
    return found


def main(argv: Sequence[str]) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m builders duplicate-threshold",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--dataset", type=Path, help="folder in the Grocery Store layout: its iconic "
        "pictures, one a product, and its train pictures, one fine class a product")  # fmt: skip
    add("--catalog", type=Path, default=PROJECT / "seed" / "sample", help="a catalogue")
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--report", type=Path, default=PROJECT / "reports" / "duplicate_threshold.json",
        help="JSON to write")  # fmt: skip
    options = parser.parse_args(argv)
    console = Console()
    try:
        encoder = PictureEncoder(options.repository)
        sets = {
            options.catalog.name: [
                (path, str(item.product["product_id"]))
                for item in read_catalogue(options.catalog)
                for path in item.images
            ]
        }
        if options.dataset:
            iconic = sorted(options.dataset.glob("iconic-images-and-descriptions/**/*.jpg"))
            if iconic:
                sets[f"{options.dataset.name}, iconic"] = [(path, path.stem) for path in iconic]
            sets[f"{options.dataset.name}, train"] = listed_pictures(options.dataset, "train.txt")
        report = {}
        for name, pictures in sets.items():
            with console.status(name) as status:
                report[name] = measured(encoder, pictures, status.update)
            console.print(_table(name, len(pictures), report[name]))
    except ProductMatchError as error:
        sys.stderr.write(f"duplicate-threshold: {error}\n")
        return 1
    write_report(options.report, report)
    return 0


def _table(name: str, count: int, shares: Mapping[str, Mapping[str, float]]) -> Table:
    table = Table(title=f"\n{name}, {count} pictures: share with a cosine of at least", box=None)
    table.add_column("", no_wrap=True)
    for threshold in THRESHOLDS:
        table.add_column(f"{threshold:.2f}", justify="right")
    for kind, row in shares.items():
        cells = (f"{share:.2%}" if 0 < share < 0.1 else f"{share:.0%}" for share in row.values())
        table.add_row(kind, *cells)
    return table


def _batches(paths: Sequence[Path]) -> Iterator[Sequence[Path]]:
    for start in range(0, len(paths), ENCODED_AT_ONCE):
        yield paths[start : start + ENCODED_AT_ONCE]
