"""The ``product-match`` command: match, add, remove and get products from a shell."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bls_models.specs import CAPTION_MODES, DESCRIPTION_MODES, OBJECT_MODES, REPORTS, SORTS
from product_match_client.client import DEFAULT_TIMEOUT_S, DEFAULT_URL, ProductMatchClient
from product_match_client.credentials import API_KEY_VARIABLE, headers_from_environment
from product_match_client.documents import (
    attribute_from_text,
    pictures_of_document,
    price_from_text,
)
from product_match_client.errors import BadRequestError, ClientError
from product_match_client.images import ImageSource, encoded_images
from product_match_client.results import MatchResult
from product_match_client.tables import print_description, print_matches, print_product
from product_match_client.terminal import open_console, plain, printable, printable_json

EXIT_OK = 0
EXIT_SERVICE = 1
EXIT_INPUT = 2

PRODUCT_FLAGS = ("id", "name", "description", "category", "price", "currency", "attribute")

# Formats that a picture can be drawn in.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")

# Formats that a product's picture comes in.
SHOWN_SUFFIXES = {".webp": "webp", ".jpg": "jpeg", ".jpeg": "jpeg"}
SHA256 = re.compile("[0-9a-fA-F]{64}")

Command = Callable[[argparse.Namespace, ProductMatchClient, Console], int]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        0 for success, 1 where the service failed, 2 where the input was wrong.
    """
    arguments = build_parser().parse_args(argv)
    command: Command = arguments.command
    try:
        headers = headers_from_environment()
        with ProductMatchClient(
            arguments.url,
            arguments.timeout,
            headers,
            allow_private_links=arguments.allow_private_links,
        ) as client:
            return command(arguments, client, open_console())
    except ClientError as error:
        sys.stderr.write(f"product-match: {printable(error)}\n")
        return EXIT_INPUT if isinstance(error, BadRequestError) else EXIT_SERVICE


def build_parser() -> argparse.ArgumentParser:
    """The command line; what runs is in ``command``."""
    parser = argparse.ArgumentParser(
        prog="product-match",
        description="Find products by photos and text, and edit them. "
        f"A gateway's API key is read from ${API_KEY_VARIABLE}.",
    )
    _add_connection_flags(parser)
    parser.set_defaults(
        url=os.environ.get("PRODUCT_MATCH_URL") or DEFAULT_URL,
        timeout=DEFAULT_TIMEOUT_S,
        allow_private_links=False,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    # Accepted after the command too, where they must not overwrite what came before it.
    shared = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_connection_flags(shared)

    def command(name: str, run: Command, help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, parents=[shared], help=help)
        made.set_defaults(command=run)
        return made

    _add_match_flags(command("match", run_match, "find products"))
    _add_product_flags(command("add", run_add, "create or replace a product"))
    remove = command("remove", run_remove, "remove products")
    remove.add_argument("id", nargs="+", help="a product's id")
    get = command("get", run_get, "show a product")
    get.add_argument("id", help="the product's id")
    get.add_argument("--json", action="store_true", help="print the document as JSON")
    _add_picture_flags(command("picture", run_picture, "fetch a product's picture"))
    report = command("report", run_report, "tell how the server does, as JSON")
    report.add_argument("name", choices=REPORTS, help="what to tell of: %(choices)s")
    report.add_argument("--limit", type=int, metavar="N", help="how many entries, products or "
        "steps of time (default: 20, and 24 steps)")  # fmt: skip
    report.add_argument("--hours", type=float, metavar="H", help="how far back (default: 24; "
        "feedback: all)")  # fmt: skip
    return parser


def _add_match_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("photo", nargs="*", help="a photo (JPEG, PNG, WebP, HEIC, AVIF, GIF, BMP) or the link of "
        "one; several of one thing")  # fmt: skip
    add("--text", action="append", default=[], help="what it is, in words; repeatable")
    add("--image-weight", action="append", type=float, metavar="W", help="one for each photo, in "
        "order; negative pushes away (default: 1)")  # fmt: skip
    add("--text-weight", action="append", type=float, metavar="W", help="one for each text, in "
        "order; negative pushes away (default: 1)")  # fmt: skip
    add("--like", action="append", default=[], metavar="ID", help="a product to find more like; "
        "repeatable")  # fmt: skip
    add("--like-weight", action="append", type=float, metavar="W", help="one for each --like, in "
        "order; negative pushes away (default: 1)")  # fmt: skip
    add("--crop", action="append", type=crop_from_text, metavar="X0,Y0,X1,Y1", help="one for each "
        "photo, in order, from 0 to 1; 0,0,1,1 is the whole photo")  # fmt: skip
    add("--filter", type=object_from_text, metavar="JSON",
        help="""conditions, e.g. '{"price": {"$lt": 50}}'""")  # fmt: skip
    add("--facet", action="append", default=[], type=facet_argument, metavar="FIELD=N",
        help="count the N most frequent values of a field among all that is found, or with "
        "FIELD=A,B,... how many are in ranges with these bounds; repeatable")  # fmt: skip
    add("--sort", choices=SORTS, help="the order of all that is found (default: score); written "
        "--sort=-price for the dearest first")  # fmt: skip
    add("--top-k", type=int, metavar="N", help="how many products (default: 5)")
    add("--offset", type=int, metavar="N", help="how many of the best to skip")
    add("--min-score", type=float, metavar="S", help="leave out lower scores (default: the "
        "server's; -1 leaves out nothing)")  # fmt: skip
    add("--caption", choices=CAPTION_MODES, help="describe the first photo in words (default: "
        "auto, for photos without text)")  # fmt: skip
    add("--objects", choices=OBJECT_MODES, help="match each of several products in the photo, "
        "always or where there is more than one (default: never)")  # fmt: skip
    add("--max-objects", type=int, metavar="N", help="how many products in the photo at most "
        "(default: 8)")  # fmt: skip
    add("--picture", type=picture_path, metavar="OUT.png", help="draw on the photo what was found "
        "where, into a file (PNG, JPEG, WebP); takes --objects always unless told "
        "otherwise")  # fmt: skip
    add("--json", action="store_true", help="print the answer as JSON")


def _add_product_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "product",
        nargs="?",
        metavar="PRODUCT.json",
        help="the product's document; - reads stdin. Its images are links, or names relative to "
        "the file",
    )
    add("--image", action="append", metavar="P", help="a picture or the link of one; repeatable")
    for flag in ("id", "name", "description", "category", "currency"):
        add(f"--{flag}", help=f"the product's {flag}, in place of a file")
    add("--price", type=price_argument, help="the product's price")
    add("--attribute", action="append", type=attribute_argument, metavar="K=V", help="numbers, "
        "true and false are read as such (a file can keep them text); repeatable")  # fmt: skip
    add("--caption", choices=DESCRIPTION_MODES, help="missing: describe the first picture where "
        "there is no description (default: never)")  # fmt: skip


def _add_picture_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("id", metavar="ID|SHA256", help="a product's id, or the 64 hexadecimal digits of a picture")
    add("--number", type=int, metavar="N", help="which of the product's pictures (default: 1)")
    add("--size", type=int, metavar="PIXELS", help="longest side, 16 to 2048 (default: the stored "
        "picture's own)")  # fmt: skip
    add("--out", type=shown_picture_path, metavar="FILE", help="where to write it, as .webp, .jpg "
        "or .jpeg (default: stdout, as WebP)")  # fmt: skip


def run_match(arguments: argparse.Namespace, client: ProductMatchClient, console: Console) -> int:
    """``match``: find products and print them."""
    photos: Sequence[ImageSource] = arguments.photo
    objects = arguments.objects
    if arguments.picture is not None:
        if len(photos) != 1:
            raise BadRequestError(f"--picture draws on one photo; got {len(photos)}")
        # Read here, to draw on the very photo that was sent.
        photos = encoded_images(photos, arguments.allow_private_links)
        objects = objects or "always"
    result = client.match(
        photos,
        arguments.text,
        image_weights=arguments.image_weight,
        text_weights=arguments.text_weight,
        like=arguments.like,
        like_weights=arguments.like_weight,
        crops=arguments.crop,
        top_k=arguments.top_k,
        offset=arguments.offset,
        filter=arguments.filter,
        facets=facets_from_arguments(arguments.facet),
        sort=arguments.sort,
        min_score=arguments.min_score,
        caption=arguments.caption,
        objects=objects,
        max_objects=arguments.max_objects,
    )
    if arguments.json:
        sys.stdout.write(printable_json(dataclasses.asdict(result)) + "\n")
    else:
        first_rank = 1 + (arguments.offset or 0)
        print_matches(result, console, first_rank, hints_for_no_match(arguments, result))
    if arguments.picture is not None:
        # Pillow and the decoders are of no use to other commands, which start sooner without.
        from product_match_client.drawing import picture_of_matches, save_picture

        (photo,) = photos
        assert isinstance(photo, bytes)
        save_picture(picture_of_matches(photo, result), arguments.picture)
        if not arguments.json:
            console.print(plain(f"drawn: {arguments.picture}"))
    return EXIT_OK


def run_add(arguments: argparse.Namespace, client: ProductMatchClient, console: Console) -> int:
    """``add``: create or replace one product."""
    product, images = product_from_arguments(arguments)
    result = client.upsert(product, images, caption=arguments.caption)
    console.print(plain(f"{result.product_id}: {result.status} (revision {result.revision})"))
    if "caption" in result.details:
        print_description(result.details["caption"], console)
    for item in result.details.get("duplicates", ()):
        line = f"{item['kind']} duplicate of {item['product_id']} (cosine {item['cosine']:.3f})"
        console.print(plain(line))
    return EXIT_OK


def run_remove(arguments: argparse.Namespace, client: ProductMatchClient, console: Console) -> int:
    """``remove``: remove products; an id that does not exist makes the exit status 2."""
    statuses = set()
    for product_id in arguments.id:
        result = client.delete(product_id)
        statuses.add(result.status)
        console.print(plain(f"{product_id}: {result.status.replace('_', ' ')}"))
    return EXIT_INPUT if "not_found" in statuses else EXIT_OK


def run_get(arguments: argparse.Namespace, client: ProductMatchClient, console: Console) -> int:
    """``get``: show one product."""
    product = client.get(arguments.id)
    if product is None:
        raise BadRequestError(f"there is no product {arguments.id!r}")
    if arguments.json:
        sys.stdout.write(printable_json(product) + "\n")
    else:
        print_product(product, console)
    return EXIT_OK


def run_picture(arguments: argparse.Namespace, client: ProductMatchClient, console: Console) -> int:
    """``picture``: fetch a product's picture, into a file or to stdout."""
    out: Path | None = arguments.out
    if out is None and sys.stdout.isatty():
        raise BadRequestError("a terminal shows no pictures; name a file with --out")
    by_hash = SHA256.fullmatch(arguments.id) is not None
    found = client.picture(
        None if by_hash else arguments.id,
        arguments.number,
        sha256=arguments.id if by_hash else None,
        size=arguments.size,
        format=None if out is None else SHOWN_SUFFIXES[out.suffix.lower()],
    )
    if out is None:
        sys.stdout.buffer.write(found.data)
        return EXIT_OK
    try:
        out.write_bytes(found.data)
    except OSError as error:
        raise BadRequestError(f"cannot write {out}: {error.strerror or error}") from error
    console.print(plain(f"{out}: {found.width} x {found.height} pixels"))
    return EXIT_OK


def run_report(arguments: argparse.Namespace, client: ProductMatchClient, console: Console) -> int:
    """``report``: print a report."""
    report = client.report(arguments.name, limit=arguments.limit, hours=arguments.hours)
    sys.stdout.write(printable_json(report) + "\n")
    return EXIT_OK


def hints_for_no_match(arguments: argparse.Namespace, result: MatchResult) -> list[str]:
    """What could be changed in a ``match`` that found nothing."""
    hints = []
    # The request's own, or the server's default.
    if result.details.get("min_score") is not None:
        hints.append("a lower --min-score")
    if arguments.filter is not None:
        hints.append("fewer conditions in --filter")
    if arguments.offset:
        hints.append("a smaller --offset")
    # Without conditions every product is a match, so the catalogue has none.
    return hints or ["adding products: product-match add, or python -m seed import"]


def facets_from_arguments(given: Sequence[tuple[str, Any]]) -> dict[str, Any] | None:
    """What ``match`` was told to count; None for nothing.

    Raises:
        BadRequestError: a field twice.
    """
    facets = dict(given)
    if len(facets) < len(given):
        raise BadRequestError("give each field in one --facet; a field is counted in one way")
    return facets or None


def product_from_arguments(
    arguments: argparse.Namespace,
) -> tuple[dict[str, Any], list[str] | None]:
    """What ``add`` was given, from its file, stdin or flags.

    Returns:
        The document, and its pictures; None where nothing is said of them.

    Raises:
        BadRequestError: there is no document or there are two, it is not a JSON object, or its
            pictures are given twice or are no list of names and links.
    """
    flags = {name: getattr(arguments, name) for name in PRODUCT_FLAGS}
    given = {name: value for name, value in flags.items() if value is not None}
    if arguments.product is not None:
        if given:
            flag = next(iter(given))
            raise BadRequestError(f"give the product as a file or by flags, not both (--{flag})")
        product = _product_from_file(arguments.product)
        # Names are relative to the file, as in a catalogue.
        images = pictures_of_document(product, Path(arguments.product).parent)
        if images and arguments.image:
            raise BadRequestError("give the pictures in the file or by --image, not both")
        return product, images or arguments.image
    if "id" not in given or "name" not in given:
        raise BadRequestError("give the product as a file, as - for stdin, or by --id and --name")
    product = {"product_id": given.pop("id"), **given}
    if "attribute" in product:
        product["attributes"] = dict(product.pop("attribute"))
    return product, arguments.image


def crop_from_text(text: str) -> tuple[float, ...]:
    """Four numbers of a crop.

    Raises:
        argparse.ArgumentTypeError: they are not four numbers.
    """
    try:
        crop = tuple(float(part) for part in text.split(","))
    except ValueError:
        crop = ()
    if len(crop) != 4:
        raise argparse.ArgumentTypeError(f"{text!r} is not X0,Y0,X1,Y1, e.g. 0.1,0,0.9,1")
    return crop


def facet_argument(text: str) -> tuple[str, int | list[float]]:
    """A field with the number of values that are wanted, or with the bounds of ranges.

    Raises:
        argparse.ArgumentTypeError: it is neither.
    """
    field, _, wanted = text.partition("=")
    try:
        if "," in wanted:
            return field.strip(), [float(part) for part in wanted.split(",") if part.strip()]
        return field.strip(), int(wanted)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not FIELD=N or FIELD=A,B,..., e.g. category=10 or price=10,50"
        ) from None


def picture_path(text: str) -> Path:
    """Where a picture is written.

    Raises:
        argparse.ArgumentTypeError: its ending names no format that pictures can have.
    """
    path = Path(text)
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not end in one of {', '.join(PICTURE_SUFFIXES)}"
        )
    return path


def shown_picture_path(text: str) -> Path:
    """Where a product's picture is written.

    Raises:
        argparse.ArgumentTypeError: its ending names no format that it can have.
    """
    path = Path(text)
    if path.suffix.lower() not in SHOWN_SUFFIXES:
        raise argparse.ArgumentTypeError(
            f"{text!r} does not end in one of {', '.join(SHOWN_SUFFIXES)}"
        )
    return path


def object_from_text(text: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        argparse.ArgumentTypeError: the text is something else.
    """
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not JSON: {error}") from error
    if not isinstance(value, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not a JSON object")
    return value


def attribute_argument(text: str) -> tuple[str, str | int | float | bool]:
    """The name and value of ``name=value``.

    Raises:
        argparse.ArgumentTypeError: there is no name or no ``=``.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise argparse.ArgumentTypeError(f"{text!r} is not K=V, e.g. colour=red")
    return name.strip(), attribute_from_text(value)


def price_argument(text: str) -> float:
    """A price.

    Raises:
        argparse.ArgumentTypeError: the text is not a number.
    """
    try:
        return price_from_text(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _add_connection_flags(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--url", help="http(s):// or grpc(s)://host:port (default: $PRODUCT_MATCH_URL, else "
        f"{DEFAULT_URL})")  # fmt: skip
    add("--timeout", type=float, metavar="S", help="seconds to wait (default: "
        f"{DEFAULT_TIMEOUT_S:g})")  # fmt: skip
    add("--allow-private-links", action="store_true", help="fetch pictures by link also from this "
        "machine and private networks")  # fmt: skip


def _product_from_file(name: str) -> dict[str, Any]:
    source = "stdin" if name == "-" else name
    try:
        data = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        product = json.loads(data.decode("utf-8-sig"))
    except OSError as error:
        raise BadRequestError(f"cannot read {source}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise BadRequestError(f"{source} is not JSON: {error}") from error
    if not isinstance(product, dict):
        raise BadRequestError(f"{source}: expected one product as a JSON object")
    return product
