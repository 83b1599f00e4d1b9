"""Pictures that are chosen and not saved yet, as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bls_models.errors import ImageError
from demo.pictures import Picture
from demo.preview import preview
from demo.uploads import uploaded

# Of more there are the names, in the list of files.
MOST_SHOWN = 12
SIZE = 160


def new_pictures(uploads: Sequence[str]) -> str:
    """Small pictures of the first uploads, in their order; what cannot be decoded says why."""
    if not uploads:
        return ""
    items = "".join(
        f"<li>{_shown(uploaded(upload)).html(Path(upload).name)}</li>"
        for upload in uploads[:MOST_SHOWN]
    )
    more = len(uploads) - MOST_SHOWN
    said = f'<p class="catalogue-hint">and {more} more</p>' if more > 0 else ""
    return f'<ul class="catalogue-pictures">{items}</ul>{said}'


def _shown(upload: Path) -> Picture:
    try:
        return Picture(preview(upload.read_bytes(), SIZE), "")
    except ImageError as error:
        return Picture(reason=str(error))
