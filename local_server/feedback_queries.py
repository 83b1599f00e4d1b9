"""Requests of which a product was accepted, as queries that ``make eval`` can ask again."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable
from pathlib import Path

from bls_models.errors import SetupError
from bls_models.report.feedback import JudgedRequest

COLUMNS = ("image", "text", "product_id")


def photos_by_hash(folder: Path) -> dict[str, Path]:
    """The files below a folder by their sha256.

    Raises:
        SetupError: there is no such folder.
    """
    if not folder.is_dir():
        raise SetupError(f"{folder} is no folder; name one with the photos that were sent")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in files}


def write_queries(
    path: Path, requests: Iterable[JudgedRequest], photos: dict[str, Path]
) -> tuple[int, int]:
    """Write a CSV with a line for each request of which a product was accepted.

    A line has the first photo that is known and all texts.

    Args:
        path: the file to write.
        requests: with their feedback.
        photos: by sha256.

    Returns:
        Lines written, and requests left out because none of their photos is known and they had
        no texts.
    """
    written = lost = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as stream:
        lines = csv.writer(stream)
        lines.writerow(COLUMNS)
        for request in requests:
            if not request.accepted:
                continue
            known = [photos[name] for name in request.image_hashes if name in photos]
            if not known and not request.texts:
                lost += 1
                continue
            image = str(known[0].resolve()) if known else ""
            lines.writerow([image, " ".join(request.texts), " ".join(request.accepted)])
            written += 1
    return written, lost
