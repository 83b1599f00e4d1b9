"""What the tools answer, as the schemas that agents are shown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from product_match_client.results import IngestResult, Match, MatchResult

# Without digits that tell nothing and that an agent has to read.
Short = Annotated[float, AfterValidator(lambda number: round(number, 4))]


class FoundProduct(BaseModel):
    """A product that was found."""

    product_id: str
    name: str | None = Field(None, description="null while the server's database is away")
    category: str | None = None
    price: float | None = None
    currency: str | None = None
    attributes: dict[str, str | int | float | bool] = Field(
        default_factory=dict, description="What filters know as attributes.<key>."
    )
    score: Short = Field(
        description="How alike it is, about -1 to 1: 1 is the very picture or words, 0 is unlike. "
        "For comparing the matches of one answer; it is no probability."
    )
    image_score: Short | None = Field(None, description="The same by its pictures alone.")
    text_score: Short | None = Field(None, description="The same by its words alone.")


class FoundObject(BaseModel):
    """One of several things in a photo."""

    number: int = Field(description="From 1, the surest first.")
    box: list[Short] = Field(
        description="x0, y0, x1, y1 in the upright photo, as fractions of its width and height."
    )
    score: Short = Field(description="How sure it is that there is a product at all, 0 to 1.")
    matches: list[FoundProduct] = Field(description="What it may be; empty: not in the catalogue.")


class Found(BaseModel):
    """The products that were found."""

    matches: list[FoundProduct] = Field(
        description="Best first, or in the order of sort. Empty: nothing in the catalogue is like "
        "what was asked for, or passes the filter. That is an answer, not a failure."
    )
    likely: bool | None = Field(
        None,
        description="Whether the best match is good enough to be the very product. false: it is "
        "only the nearest of what there is. null: not known, as for words alone and for "
        "more_like_this.",
    )
    min_score: float | None = Field(
        None, description="Products with lower scores were left out; null: none were."
    )
    caption: str | None = Field(
        None, description="The first photo in words, made by a small model."
    )
    objects: list[FoundObject] = Field(
        default_factory=list, description="Several things in the photo, each matched by itself."
    )
    best_object: int | None = Field(
        None, description="Which object fits the words best; 0 is the whole photo."
    )
    facets: dict[str, Any] = Field(
        default_factory=dict, description="Counts over all that was found, by field."
    )
    degraded: list[str] = Field(
        default_factory=list, description="Parts of the server that could not do their share."
    )
    request_id: str | None = Field(None, description="Of this match in the server's log.")


class Product(BaseModel):
    """A product of the catalogue."""

    product_id: str
    name: str
    category: str | None = None
    description: str | None = None
    description_generated: bool = Field(
        False, description="The description was made by a model from the first picture."
    )
    price: float | None = None
    currency: str | None = None
    attributes: dict[str, str | int | float | bool] = Field(default_factory=dict)
    pictures: int = Field(description="How many it has.")
    picture_url: str | None = Field(None, description="Its first picture, for people to open.")
    created: str | None = None
    updated: str | None = None
    revision: int | None = Field(None, description="Raised by every change.")


class Duplicate(BaseModel):
    """Another product with the same picture."""

    product_id: str
    kind: str = Field(description="exact: the same file; near: nearly the same picture.")
    cosine: Short


class Added(BaseModel):
    """What became of a product that was sent."""

    product_id: str
    status: str = Field(description="created, updated (there was one with this id) or unchanged.")
    revision: int
    generated_description: str | None = Field(
        None, description="What the first picture was described as, with caption=missing."
    )
    duplicates: list[Duplicate] = Field(
        default_factory=list, description="Other products with the same pictures; it was stored."
    )
    degraded: list[str] = Field(
        default_factory=list, description="Parts of the server that could not do their share."
    )


def found_from_result(result: MatchResult) -> Found:
    """The answer of a match."""
    details = result.details
    return Found(
        matches=_products(result.matches),
        likely=details.get("likely"),
        min_score=details.get("min_score"),
        caption=result.caption or None,
        objects=[
            FoundObject(
                number=item.number,
                box=list(item.box),
                score=item.score,
                matches=_products(item.matches),
            )
            for item in result.objects
        ],
        best_object=result.best_object,
        facets=result.facets,
        degraded=details.get("degraded", []),
        request_id=details.get("request_id"),
    )


def product_from_document(document: Mapping[str, Any]) -> Product:
    """The answer for a product's document."""
    return Product(**{**document, "pictures": len(document.get("images") or ())})


def added_from_result(result: IngestResult) -> Added:
    """The answer of an upsert."""
    caption = result.details.get("caption") or {}
    return Added(
        product_id=result.product_id,
        status=result.status,
        revision=result.revision,
        generated_description=caption.get("text") if caption.get("used") else None,
        duplicates=result.details.get("duplicates", []),
        degraded=result.details.get("degraded", []),
    )


def _products(matches: Iterable[Match]) -> list[FoundProduct]:
    return [
        FoundProduct(
            **{
                **match.product,
                "product_id": match.product_id,
                "score": match.score,
                "image_score": match.image_score,
                "text_score": match.text_score,
            }
        )
        for match in matches
    ]
