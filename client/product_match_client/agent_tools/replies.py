"""Results of tool calls: structured content, a short text of the same, and pictures."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence

from mcp.types import CallToolResult, ContentBlock, ImageContent, TextContent
from pydantic import BaseModel

from product_match_client.agent_tools.answers import Added, Found, FoundProduct, Product
from product_match_client.results import ProductPicture
from product_match_client.tables import price_text, score_text

# Models differ in what they read; all read this one.
PICTURE_FORMAT = "jpeg"


def reply(answer: BaseModel, text: str, more: Sequence[ContentBlock] = ()) -> CallToolResult:
    """A result whose structured content is the answer."""
    return CallToolResult(
        content=[TextContent(text=text), *more],
        structured_content=answer.model_dump(mode="json"),
    )


def picture_content(title: str, picture: ProductPicture) -> list[ContentBlock]:
    """A picture, after a line that says what it shows."""
    data = base64.b64encode(picture.data).decode("ascii")
    return [TextContent(text=title), ImageContent(data=data, mime_type=picture.content_type)]


def found_text(found: Found, offset: int = 0) -> str:
    """The matches, a line each.

    Args:
        found: the answer.
        offset: how many were skipped.
    """
    whole = "the whole photo: " if found.objects else ""
    lines = [whole + (_likely_text(found) if found.matches else _nothing_text(found, offset))]
    lines += _match_lines(found.matches, offset)
    for item in found.objects:
        box = ", ".join(f"{side:.2f}" for side in item.box)
        said = "" if item.matches else ": no product of the catalogue is like it"
        lines.append(f"object {item.number} at {box}, sure {score_text(item.score)}{said}")
        lines += _match_lines(item.matches, offset)
    if found.best_object is not None:
        lines.append(f"best object for the words: {found.best_object}")
    if found.caption:
        lines.append(f"the photo in words: {_quoted(found.caption)}")
    if found.facets:
        lines.append(f"facets: {json.dumps(found.facets, ensure_ascii=False)}")
    return "\n".join([*lines, *_degraded_lines(found.degraded)])


def product_text(product: Product) -> str:
    """The whole product as JSON, in which no text of it can pass for anything else."""
    return product.model_dump_json(exclude_none=True, indent=2)


def added_text(added: Added) -> str:
    """What became of a product, and what was seen on the way."""
    lines = [f"{added.product_id}: {added.status} (revision {added.revision})"]
    if added.generated_description:
        lines.append(f"generated description: {_quoted(added.generated_description)}")
    lines += [
        f"{item.kind} duplicate of {item.product_id} (cosine {score_text(item.cosine)})"
        for item in added.duplicates
    ]
    return "\n".join([*lines, *_degraded_lines(added.degraded)])


def _match_lines(matches: Sequence[FoundProduct], offset: int) -> list[str]:
    return [
        f"{rank}. {item.product_id} {_quoted(item.name or '')} {price_text(item.model_dump())}, "
        f"score {score_text(item.score)}"
        for rank, item in enumerate(matches, start=1 + offset)
    ]


def _likely_text(found: Found) -> str:
    if found.likely is None:
        return "likely: not known for this kind of request"
    if found.likely:
        return "likely: true, the best match may be the very product"
    return "likely: false, these are only the nearest products of the catalogue"


def _nothing_text(found: Found, offset: int) -> str:
    if offset:
        return "no further product is found"
    if found.min_score is None:
        return "no product is found: none passes the filter, or the catalogue is empty"
    return (
        f"no product is found: none that passes the filter has a score of {found.min_score:g} or "
        "more, so what was asked for is probably not in the catalogue"
    )


def _degraded_lines(degraded: Sequence[str]) -> list[str]:
    return [f"degraded, these parts could not do their share: {', '.join(degraded)}"][
        : len(degraded)
    ]


def _quoted(text: str) -> str:
    """Stored text within quotes, on one line."""
    return json.dumps(text, ensure_ascii=False)
