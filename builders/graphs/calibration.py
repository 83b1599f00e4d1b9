"""Calibration data: real pictures and texts, as the batches a graph is run on.

Which pictures and texts are taken depends on nothing but the files' names and order, so that two
builds from the same files give the same graph.
"""

from __future__ import annotations

import argparse
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from bls_models.errors import SetupError
from bls_models.images.decoding import ImageLimits, decode_pixels
from bls_models.images.preprocessing import Preprocess
from bls_models.product import embedding_text
from bls_models.vectors import Pixels
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue

T = TypeVar("T")

# One batch by input name.
Feed = dict[str, npt.NDArray[Any]]

DEFAULT_SAMPLES = 64
BATCH_SIZE = 8
PICTURE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})

# Local files may be larger than what a request may send.
LIMITS = ImageLimits(max_bytes=256 * 1024 * 1024, max_pixels=200_000_000)


@dataclass(frozen=True)
class CalibrationData:
    """What a graph is calibrated with: picture files and texts, at least one of each."""

    pictures: tuple[Path, ...]
    texts: tuple[str, ...]


@dataclass(frozen=True)
class Calibration:
    """The batches for one graph.

    Attributes:
        digest: hash over all that decides the batches.
        feeds: gives the batches, anew on each call.
    """

    digest: str
    feeds: Callable[[], Iterable[Feed]]


def image_calibration(pictures: Sequence[Path], preprocess: Preprocess) -> Calibration:
    """Calibration of a graph that takes pixels, with picture files."""
    digest = hashlib.sha256(repr(preprocess).encode())
    for path in pictures:
        digest.update(path.read_bytes())
    return Calibration(digest.hexdigest(), lambda: image_feeds(pictures, preprocess))


def text_calibration(texts: Sequence[str], tokenizer_json: str) -> Calibration:
    """Calibration of a graph that takes token ids, with texts."""
    digest = hashlib.sha256("\n".join((tokenizer_json, *texts)).encode())
    return Calibration(
        digest.hexdigest(), lambda: text_feeds(texts, Tokenizer.from_str(tokenizer_json))
    )


def spread(items: Sequence[T], count: int) -> list[T]:
    """At most ``count`` items, in their order and evenly far apart; always the same ones."""
    if len(items) <= count:
        return list(items)
    return [items[number * len(items) // count] for number in range(count)]


def calibration_from_catalogue(samples: int = DEFAULT_SAMPLES) -> CalibrationData:
    """The sample's pictures and the texts that stand for its products; no held-out photo.

    Args:
        samples: most pictures, and most texts.
    """
    products = read_catalogue(SAMPLE_CATALOGUE)
    pictures = [picture for item in products for picture in item.images]
    texts = [embedding_text({"attributes": {}} | item.product) for item in products]
    # A query is shorter than the text of a product: a name stands for those.
    names = [str(item.product["name"]) for item in products]
    half = samples // 2
    return CalibrationData(
        tuple(spread(pictures, samples)),
        (*spread(texts, samples - half), *spread(names, half)),
    )


def pictures_of_folder(folder: Path, samples: int = DEFAULT_SAMPLES) -> tuple[Path, ...]:
    """Pictures below a folder, chosen evenly in the order of their paths.

    Raises:
        SetupError: there is none.
    """
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in PICTURE_SUFFIXES)
    if not found:
        raise SetupError(
            f"{folder} holds no pictures ({', '.join(sorted(PICTURE_SUFFIXES))}) to calibrate with"
        )
    return tuple(spread(found, samples))


def texts_of_file(path: Path) -> tuple[str, ...]:
    """Lines of a UTF-8 text file, blank ones left out, chosen evenly.

    Raises:
        SetupError: the file does not exist, is not UTF-8, or has no line.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(f"{path} cannot be read as UTF-8 text: {error}") from error
    texts = [line for line in lines if line]
    if not texts:
        raise SetupError(f"{path} holds no text to calibrate with; expected one text a line")
    return tuple(spread(texts, DEFAULT_SAMPLES))


def add_calibration_flags(parser: argparse.ArgumentParser) -> None:
    """Flags that name other calibration data than the sample catalogue's."""
    add = parser.add_argument
    add("--calibration-pictures", type=Path, help="folder of pictures to calibrate INT8 with; "
        "default: the sample catalogue's")  # fmt: skip
    add("--calibration-texts", type=Path, help="file with a text a line to calibrate INT8 with; "
        "default: the sample catalogue's")  # fmt: skip


def calibration_from_flags(arguments: argparse.Namespace) -> CalibrationData:
    """The calibration data that the flags name; what they leave out is the sample catalogue's.

    Raises:
        SetupError: a folder or file holds nothing to calibrate with.
    """
    data = calibration_from_catalogue()
    if arguments.calibration_pictures is not None:
        data = replace(data, pictures=pictures_of_folder(arguments.calibration_pictures))
    if arguments.calibration_texts is not None:
        data = replace(data, texts=texts_of_file(arguments.calibration_texts))
    return data


def image_feeds(
    pictures: Sequence[Path], preprocess: Preprocess, batch_size: int = BATCH_SIZE
) -> Iterator[Feed]:
    """Batches of pixels, as ``image_encoder`` takes them.

    Args:
        pictures: JPEG, PNG or WebP files.
        preprocess: the square's side S and how to reach it.
        batch_size: pictures a batch, 1 to 8; the last batch may be smaller.

    Yields:
        ``image``: (B, S, S, 3) uint8, RGB.

    Raises:
        ImageError: a file cannot be read as a picture.
        ValueError: the batch size is out of range.
    """
    for batch in _batches(pictures, batch_size):
        pixels = [
            decode_pixels(path.read_bytes(), str(path), LIMITS, preprocess)[0] for path in batch
        ]
        yield {"image": np.stack(pixels)}


def text_feeds(
    texts: Sequence[str], tokenizer: Tokenizer, batch_size: int = BATCH_SIZE
) -> Iterator[Feed]:
    """Batches of token ids, as ``text_encoder`` takes them.

    Args:
        texts: any length; what exceeds the tokenizer's limit is cut.
        tokenizer: pads to the longest text of a batch.
        batch_size: texts a batch, 1 to 8; the last batch may be smaller.

    Yields:
        ``input_ids`` and ``attention_mask``: (B, L) int64.

    Raises:
        ValueError: the batch size is out of range.
    """
    for batch in _batches(texts, batch_size):
        encodings = tokenizer.encode_batch(list(batch))
        yield {
            "input_ids": np.array([item.ids for item in encodings], np.int64),
            "attention_mask": np.array([item.attention_mask for item in encodings], np.int64),
        }


def example_images(size: int) -> Pixels:
    """Smooth random pictures (3, S, S, 3), nearer to photos than white noise, to trace with."""
    random = np.random.default_rng(0)
    coarse = random.integers(0, 256, size=(3, 8, 8, 3))
    rows = np.arange(size) * 8 // size
    return coarse[:, rows][:, :, rows].astype(np.uint8)


def _batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    if not 1 <= size <= BATCH_SIZE:
        raise ValueError(f"batch size {size}; expected 1 to {BATCH_SIZE}")
    for start in range(0, len(items), size):
        yield items[start : start + size]
