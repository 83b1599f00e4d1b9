"""The match that local start-up shows: a photo that is not in the catalogue."""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from bls_models.errors import SetupError
from product_match_client import (
    BadRequestError,
    MatchResult,
    ProductMatchClient,
    ServiceUnavailableError,
)
from product_match_client.tables import print_matches
from product_match_client.terminal import plain
from reporting.progress import Report
from seed.rows import read_products

TOP_K = 5
# A large index takes this long to load.
INDEX_SECONDS = 300.0
RETRY_SECONDS = 1.0


@dataclass(frozen=True)
class Photo:
    """A query photo with its right answer.

    Attributes:
        path: the picture.
        product_id: the product it shows.
        held_out: whether it is no picture of the catalogue itself.
    """

    path: Path
    product_id: str
    held_out: bool


def query_photo(catalog: Path) -> Photo:
    """A held-out photo where the catalogue has some, else a picture of its first product.

    Raises:
        SetupError: no row of the catalogue has a picture.
    """
    listing = catalog / "products.jsonl"
    if listing.is_file():
        with listing.open(encoding="utf-8") as lines:
            for line in lines:
                # A line that is no product is the importer's to report.
                with contextlib.suppress(ValueError, KeyError, TypeError, IndexError):
                    product = json.loads(line)
                    path = catalog / product["queries"][0]
                    return Photo(path, product["product_id"], held_out=True)
    for row in read_products(catalog):
        if row.images:
            return Photo(row.images[0], row.product["product_id"], held_out=False)
    raise SetupError(f"no product of {catalog} has a picture; there is nothing to match with")


def first_match(url: str, catalog: Path, console: Console, report: Report) -> None:
    """Match a photo and show it; where the catalogue has none to send, match a word.

    Raises:
        ClientError: no match succeeds.
    """
    try:
        photo = query_photo(catalog)
        result = match_photo(url, photo)
    except (SetupError, BadRequestError) as error:
        # A catalogue without a good picture can be served all the same.
        report(f"no match of a photo to show: {error}")
        _answered(url, texts="anything")
    else:
        show_match(console, url, photo, result)


def match_photo(url: str, photo: Photo) -> MatchResult:
    """Match the photo on the running server, once its index is loaded.

    Raises:
        ClientError: the server refused, failed, or was not ready in time.
    """
    return _answered(url, images=photo.path)


def _answered(url: str, images: Path | tuple[()] = (), texts: str | tuple[()] = ()) -> MatchResult:
    deadline = time.monotonic() + INDEX_SECONDS
    with ProductMatchClient(url) as client:
        while True:
            try:
                return client.match(images, texts, top_k=TOP_K)
            except ServiceUnavailableError:
                if time.monotonic() > deadline:
                    raise
            time.sleep(RETRY_SECONDS)


def curl_line(url: str, photo: Photo) -> str:
    """A command for a shell that repeats the match with curl."""
    path = shlex.quote(str(photo.path))
    endpoint = f"{url}/v2/models/product_match/generate"
    return (
        f'printf \'{{"image": "%s", "top_k": {TOP_K}}}\' "$(base64 -w0 {path})" \\\n'
        f"  | curl -s -H 'Content-Type: application/json' --data-binary @- {endpoint}"
    )


def show_match(console: Console, url: str, photo: Photo, result: MatchResult) -> None:
    """The ranked products as a table, and how to ask again."""
    kind = "a photo that is not in the catalogue" if photo.held_out else "a catalogue picture"
    console.print()
    console.print(plain("product_match", "bold").append_text(plain(f" on {photo.path}, {kind}:")))
    print_matches(result, console)
    console.print("\nThe same with curl:", highlight=False)
    console.print(curl_line(url, photo), highlight=False, markup=False, soft_wrap=True)
