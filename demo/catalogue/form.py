"""A product's document as fields of the form, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from demo.catalogue.attributes import attributes_from_rows
from demo.catalogue.faults import FormError
from product_match_client.documents import price_from_text

Document = dict[str, Any]


@dataclass(frozen=True)
class Form:
    """What stands in the form.

    Attributes:
        product_id: of the product.
        name: of the product.
        category: of the product.
        description: empty for none.
        price: empty for none.
        currency: an ISO 4217 code in any case; empty for none.
        attributes: the table's rows, as `attributes.reading` puts them.
        describe: whether the server may describe a product without a description.
    """

    product_id: str
    name: str
    category: str
    description: str
    price: str
    currency: str
    attributes: str
    describe: bool


def document_from_form(form: Form, opened: Document | None) -> Document:
    """The document to send.

    A generated description that was not touched is sent with its mark, so that it stays one; one
    that was emptied is sent empty, which is how a product says that it has none and wants none.

    Args:
        form: as it was filled.
        opened: the document that the form was filled from; None for a new product.

    Raises:
        FormError: the price or an attribute cannot be read.
    """
    document: Document = {
        "product_id": form.product_id.strip(),
        "name": form.name,
        "category": form.category,
        "attributes": attributes_from_rows(form.attributes),
    }
    if form.price.strip():
        try:
            document["price"] = price_from_text(form.price)
        except ValueError as error:
            raise FormError(str(error)) from error
    if form.currency.strip():
        document["currency"] = form.currency.strip().upper()
    was_generated = bool(opened and opened.get("description_generated"))
    if form.description.strip():
        document["description"] = form.description
        if was_generated and opened and form.description == opened.get("description"):
            document["description_generated"] = True
    elif was_generated and not form.describe:
        document["description"] = ""
    return document


def price_text(document: Document) -> str:
    """The price of a document as the form has it; empty for none."""
    price = document.get("price")
    # The server takes prices below 1e12; whole numbers are shown without decimals.
    return "" if price is None else f"{price:.15g}"


def sha256s(document: Document | None) -> list[str]:
    """The stored pictures of a document, in their order."""
    return [image["sha256"] for image in (document or {}).get("images", [])]
