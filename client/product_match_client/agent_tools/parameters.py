"""What the tools take, as the schemas that agents are shown.

Counts have bounds here, so that an answer fits into an agent's context; all else is left to the
server, whose messages say what would be right.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

MOST_MATCHES = 20
MOST_PICTURES = 5
MOST_PHOTOS = 8
MOST_LIKED = 8
# Pictures of a product that is sent; the server takes more, but not from one message of an agent.
MOST_ADDED = 8

PICTURE_FORMS = (
    "Each is an http(s) link that anybody can open, base64 or a data: URL of a JPEG, PNG, WebP, "
    "HEIC, AVIF, GIF or BMP file of at most 10 MiB, or the path of a file where the user "
    "allowed a folder."
)

Photos = Annotated[
    Sequence[str],
    Field(
        max_length=MOST_PHOTOS,
        description=f"Photos of one and the same thing, usually a single one. {PICTURE_FORMS}",
    ),
]
Text = Annotated[
    str,
    Field(
        description="What it is, in words: kind, colour, brand, article number. With photos it "
        "moves the answer towards these words."
    ),
]
Filter = Annotated[
    dict[str, Any] | None,
    Field(
        description="Conditions that matches must meet, decided before the search; a part of "
        'MongoDB\'s query language, e.g. {"category": "mug", "price": {"$lt": 20}, '
        '"attributes.colour": {"$in": ["red", "blue"]}}. Fields: category, currency, name, price, '
        "description_generated, attributes.<key>, product_id. Operators: $eq $ne $in $nin $gt $gte "
        "$lt $lte $and $or $not $exists. Texts must be equal in every letter: ask for facets to "
        "see which values there are."
    ),
]
TopK = Annotated[
    int, Field(ge=1, le=MOST_MATCHES, description="How many products, and of each object how many.")
]
Offset = Annotated[int, Field(ge=0, description="How many of the best to skip, for the next page.")]
Sort = Annotated[
    Literal["score", "price", "-price", "name", "-name"],
    Field(
        description="The order of all that is found; -price has the dearest first. With words "
        "alone everything that passes the filter is found: set min_score too."
    ),
]
MinScore = Annotated[
    float | None,
    Field(
        ge=-1,
        le=1,
        description="Leave out products with lower scores. Left out, the server's own least score "
        "holds where it has one, as for photos; -1 leaves out nothing and shows the nearest "
        "products even where none is right.",
    ),
]
Objects = Annotated[
    Literal["never", "auto", "always"],
    Field(
        description="Whether to find several things in one photo (a shelf, an outfit) and match "
        "each by itself: auto where there is more than one. Takes longer."
    ),
]
MaxObjects = Annotated[
    int | None, Field(ge=1, le=20, description="How many of them at most; the server's default: 8.")
]
Facets = Annotated[
    dict[str, int | list[float]] | None,
    Field(
        description="What to count among all that is found, by field: how many of the most "
        'frequent values, or growing bounds of ranges, e.g. {"category": 10, "price": [10, 50]}. '
        "Fields are those of filter but product_id."
    ),
]
Pictures = Annotated[
    int,
    Field(
        ge=0,
        le=MOST_PICTURES,
        description="Of how many of the best matches to send a small picture along, to look at "
        "before you choose; with objects the best of each comes first.",
    ),
]
ProductId = Annotated[str, Field(description="The product's id, as in a match.")]
PictureNumber = Annotated[
    int | None,
    Field(ge=1, description="Which of its pictures to send along, from 1; left out: none."),
]
PictureSize = Annotated[
    int, Field(ge=16, le=1024, description="That picture's longer side, in pixels.")
]
LikedIds = Annotated[
    list[str],
    Field(
        min_length=1,
        max_length=MOST_LIKED,
        description="Ids of the products to find more like; they are left out of the answer.",
    ),
]
Weights = Annotated[
    list[float] | None,
    Field(
        description="One for each product, default 1: how much it counts. A negative one finds "
        "what is unlike it."
    ),
]
TextWeight = Annotated[
    float | None,
    Field(description="How much the words count beside a product's 1; negative: away from them."),
]
NewId = Annotated[
    str, Field(description="1 to 128 printable characters without spaces and slashes.")
]
NewPictures = Annotated[
    Sequence[str],
    Field(
        max_length=MOST_ADDED,
        description="Its pictures, the best first, in place of stored ones; empty keeps those. "
        f"{PICTURE_FORMS}",
    ),
]
NewAttributes = Annotated[
    dict[str, str | int | float | bool] | None,
    Field(
        description='What else is known, flat, e.g. {"colour": "red"}; keys of letters, digits, _.'
    ),
]
Currency = Annotated[str | None, Field(description="ISO 4217, e.g. EUR.")]
NewCaption = Annotated[
    Literal["never", "missing"],
    Field(
        description="missing: where there is no description, the server writes one from the first "
        "picture and marks it as generated."
    ),
]
