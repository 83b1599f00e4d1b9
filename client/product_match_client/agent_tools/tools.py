"""The tools: what an agent calls, sent through the client."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import CallToolResult, ContentBlock, TextContent

from product_match_client.agent_tools.answers import (
    Added,
    Found,
    Product,
    added_from_result,
    found_from_result,
    product_from_document,
)
from product_match_client.agent_tools.parameters import (
    Currency,
    Facets,
    Filter,
    LikedIds,
    MaxObjects,
    MinScore,
    NewAttributes,
    NewCaption,
    NewId,
    NewPictures,
    Objects,
    Offset,
    Photos,
    PictureNumber,
    Pictures,
    PictureSize,
    ProductId,
    Sort,
    Text,
    TextWeight,
    TopK,
    Weights,
)
from product_match_client.agent_tools.photos import pictures_from_agent
from product_match_client.agent_tools.replies import (
    PICTURE_FORMAT,
    added_text,
    found_text,
    picture_content,
    product_text,
    reply,
)
from product_match_client.client import AsyncProductMatchClient
from product_match_client.errors import ClientError
from product_match_client.results import Match, MatchResult, ProductPicture

# Longer side in pixels: enough to tell products apart, at some 10 kB each.
SMALL_PICTURE = 256


@contextmanager
def errors_told() -> Iterator[None]:
    """Let the agent read what a call of the client failed of.

    Raises:
        ToolError: with the words of the client or the server.
    """
    try:
        yield
    except ClientError as error:
        raise ToolError(str(error)) from error


class ReadingTools:
    """What changes nothing.

    The methods are the tools: agents see their names and parameters, and are told the rest by the
    texts of `descriptions`. What fails is a ToolError with the words of the client or the server.

    Args:
        client: of the server; it needs a key that may match.
        photos: a folder below which files may be read; None: none are.
    """

    def __init__(self, client: AsyncProductMatchClient, photos: Path | None = None) -> None:
        self._client = client
        self._photos = photos

    async def match_product(
        self,
        photos: Photos = (),
        text: Text = "",
        filter: Filter = None,
        top_k: TopK = 5,
        offset: Offset = 0,
        sort: Sort = "score",
        min_score: MinScore = None,
        objects: Objects = "never",
        max_objects: MaxObjects = None,
        facets: Facets = None,
        pictures: Pictures = 0,
    ) -> Annotated[CallToolResult, Found]:
        """Find the products that look and read like photos and words."""
        with errors_told():
            result = await self._client.match(
                pictures_from_agent(photos, self._photos),
                [text] if text else [],
                filter=filter,
                top_k=top_k,
                offset=offset,
                sort=sort,
                min_score=min_score,
                objects=objects,
                max_objects=max_objects,
                facets=facets,
            )
        return await self._found(result, offset, pictures)

    async def more_like_this(
        self,
        product_ids: LikedIds,
        weights: Weights = None,
        text: Text = "",
        text_weight: TextWeight = None,
        filter: Filter = None,
        top_k: TopK = 5,
        offset: Offset = 0,
        min_score: MinScore = None,
        pictures: Pictures = 0,
    ) -> Annotated[CallToolResult, Found]:
        """Find products like stored ones."""
        with errors_told():
            result = await self._client.match(
                (),
                [text] if text else [],
                like=product_ids,
                like_weights=weights,
                text_weights=None if text_weight is None else [text_weight],
                filter=filter,
                top_k=top_k,
                offset=offset,
                min_score=min_score,
            )
        return await self._found(result, offset, pictures)

    async def get_product(
        self,
        product_id: ProductId,
        picture_number: PictureNumber = None,
        picture_size: PictureSize = 512,
    ) -> Annotated[CallToolResult, Product]:
        """The document of a product, and one of its pictures."""
        # The operation that gets a document needs a key that may write; a match of this one
        # product alone gives the same to every key.
        with errors_told():
            result = await self._client.match(
                (), [product_id], filter={"product_id": product_id}, min_score=-1, top_k=1
            )
        if not result.matches:
            raise ToolError(f"there is no product {product_id!r}")
        if "documents" in result.details.get("degraded", ()):
            raise ToolError("the server's database is away, so it knows only ids; try again later")
        more: list[ContentBlock] = []
        if picture_number is not None:
            with errors_told():
                picture = await self._client.picture(
                    product_id, picture_number, size=picture_size, format=PICTURE_FORMAT
                )
            more = picture_content(f"picture {picture_number} of {product_id}", picture)
        product = product_from_document(result.matches[0].product)
        return reply(product, product_text(product), more)

    async def _found(self, result: MatchResult, offset: int, pictures: int) -> CallToolResult:
        shown = _to_show(result)[:pictures]
        found = found_from_result(result)
        contents = await asyncio.gather(*(self._picture_of(match) for match in shown))
        return reply(found, found_text(found, offset), [item for part in contents for item in part])

    async def _picture_of(self, match: Match) -> list[ContentBlock]:
        """The picture of a match, or why there is none: the match is an answer without it."""
        title = f"picture of {match.product_id}"
        if match.picture is None:
            return [TextContent(text=f"{title}: it has none")]
        try:
            picture: ProductPicture = await self._client.picture(
                sha256=match.picture, size=SMALL_PICTURE, format=PICTURE_FORMAT
            )
        except ClientError as error:
            return [TextContent(text=f"{title}: {error}")]
        return picture_content(title, picture)


class WritingTools:
    """What changes the catalogue.

    Args:
        client: of the server; it needs a key that may write, where keys are asked for.
        photos: as for `ReadingTools`.
    """

    def __init__(self, client: AsyncProductMatchClient, photos: Path | None = None) -> None:
        self._client = client
        self._photos = photos

    async def add_product(
        self,
        product_id: NewId,
        name: str,
        category: str,
        description: str | None = None,
        price: float | None = None,
        currency: Currency = None,
        attributes: NewAttributes = None,
        pictures: NewPictures = (),
        caption: NewCaption = "never",
    ) -> Annotated[CallToolResult, Added]:
        """Create a product or replace it."""
        given = {
            "product_id": product_id,
            "name": name,
            "category": category,
            "description": description,
            "price": price,
            "currency": currency,
            "attributes": attributes,
        }
        product = {key: value for key, value in given.items() if value is not None}
        with errors_told():
            sources = pictures_from_agent(pictures, self._photos)
            result = await self._client.upsert(product, sources, caption=caption)
        added = added_from_result(result)
        return reply(added, added_text(added))


def _to_show(result: MatchResult) -> list[Match]:
    """The best matches, each product once; with objects the best of each comes first."""
    of_objects = [item.matches[0] for item in result.objects if item.matches]
    return list({match.product_id: match for match in (*of_objects, *result.matches)}.values())
