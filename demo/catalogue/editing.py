"""What the tab asks of the server for one product."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo.catalogue.faults import FormError
from demo.catalogue.form import Document, Form, document_from_form, sha256s
from demo.catalogue.words import Shown
from demo.server import Server
from demo.uploads import uploaded
from product_match_client import AsyncProductMatchClient, IngestResult


@dataclass(frozen=True)
class Opened:
    """A stored product.

    Attributes:
        document: as the server has it.
        shown: its pictures by their sha256.
    """

    document: Document
    shown: Shown


@dataclass(frozen=True)
class Saved:
    """A product that was saved.

    Attributes:
        result: the server's answer.
        opened: the product as it is stored now.
        others: the documents of its duplicates by their ids; None for one that is gone since.
        shown: the pictures of all of them by their sha256.
    """

    result: IngestResult
    opened: Opened
    others: dict[str, Document | None]
    shown: Shown


class Editor:
    """Reads and writes single products.

    All methods raise ClientError with the server's words where it refuses.

    Args:
        server: where they are.
    """

    def __init__(self, server: Server) -> None:
        self._server = server

    async def open(self, product_id: str, key: str) -> Opened | None:
        """A product with its pictures; None where there is none of this id."""
        async with self._server.client(key) as client:
            return await self._opened(client, product_id)

    async def save(
        self, form: Form, uploads: Sequence[str], opened: Document | None, key: str
    ) -> Saved:
        """Create a product or replace it.

        Args:
            form: what it is to be.
            uploads: files of its new pictures, which replace the stored ones; none: those stay.
            opened: the document that the form was filled from; None for a new product.
            key: an ingest key; empty: the page's own.

        Raises:
            FormError: the form cannot be sent, or another product has the id.
        """
        document = document_from_form(form, opened)
        product_id = document["product_id"]
        async with self._server.client(key) as client:
            is_new = opened is None or opened["product_id"] != product_id
            if is_new and product_id and await client.get(product_id) is not None:
                raise FormError(
                    f"there is a product {product_id} already; open it to change it, or choose "
                    "another id"
                )
            result = await client.upsert(
                document,
                [uploaded(upload) for upload in uploads],
                caption="missing" if form.describe else None,
            )
            stored = await self._opened(client, result.product_id)
            if stored is None:
                raise FormError(f"{result.product_id} was saved, and somebody has deleted it since")
            names = [item["product_id"] for item in result.details.get("duplicates", [])]
            found = await asyncio.gather(*map(client.get, names))
            others = dict(zip(names, found, strict=True))
            wanted = [sha256 for other in found for sha256 in sha256s(other)]
            shown = {**stored.shown, **await self._server.pictures.fetch(client, wanted)}
        return Saved(result, stored, others, shown)

    async def delete(self, product_id: str, key: str) -> IngestResult:
        """Remove a product."""
        async with self._server.client(key) as client:
            return await client.delete(product_id)

    async def suggest(
        self, uploads: Sequence[str], opened: Document | None, key: str
    ) -> dict[str, Any]:
        """The server's description of the first picture, with what became of it.

        Args:
            uploads: files of new pictures; without one the first stored picture is described.
            opened: the product in the form; None for a new one.
            key: an ingest key; empty: the page's own.

        Raises:
            FormError: there is no picture.
        """
        stored = sha256s(opened)
        if not uploads and not stored:
            raise FormError("there is no picture to describe; choose one first")
        async with self._server.client(key) as client:
            picture: Path | bytes = (
                uploaded(uploads[0])
                if uploads
                else (await client.picture(sha256=stored[0], format="jpeg")).data
            )
            result = await client.match(picture, caption="always", top_k=1)
        caption: dict[str, Any] = result.details["caption"]
        return caption

    async def _opened(self, client: AsyncProductMatchClient, product_id: str) -> Opened | None:
        document = await client.get(product_id)
        if document is None:
            return None
        shown = await self._server.pictures.fetch(client, sha256s(document))
        return Opened(document, shown)
