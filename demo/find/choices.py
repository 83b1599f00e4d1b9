"""What there is to filter by: categories and prices as the catalogue has them."""

from __future__ import annotations

from dataclasses import dataclass

from product_match_client import AsyncProductMatchClient

# Words match every product somehow, so with this and no least score all are counted.
ANY_WORDS = "product"
MOST_CATEGORIES = 100


@dataclass(frozen=True)
class Choices:
    """Values of the catalogue's products.

    Attributes:
        categories: each with its number of products, the most frequent first.
        least_price: of all products; None: no product has one.
        most_price: likewise.
    """

    categories: tuple[tuple[str, int], ...]
    least_price: float | None
    most_price: float | None

    @property
    def labelled(self) -> list[tuple[str, str]]:
        """Categories for a drop-down: what is shown, and the value."""
        return [(f"{name} ({count:,})", name) for name, count in self.categories]


async def choices_of(client: AsyncProductMatchClient) -> Choices:
    """Ask the server.

    Raises:
        ClientError: it cannot be asked.
    """
    result = await client.match(
        texts=ANY_WORDS,
        top_k=1,
        min_score=-1,
        facets={"category": MOST_CATEGORIES, "price": [0]},
    )
    price = result.facets["price"]
    categories = (
        (str(item["value"]), int(item["count"])) for item in result.facets["category"]["values"]
    )
    return Choices(tuple(categories), price["least"], price["most"])
