"""What there is to filter by: categories and prices as the catalogue has them."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from demo.server import Server

# Words match every product somehow, so with this and no least score all are counted.
ANY_WORDS = "product"
MOST_CATEGORIES = 100
# Counted is all that is found, also where no match is wanted: as far down as an answer may begin.
NO_MATCH = 10_000
KEPT_SECONDS = 60.0


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


class CatalogueChoices:
    """The choices, asked for once in a while for all visitors together.

    Each time is a match in the server's log, one without matches.

    Args:
        server: that is asked.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._reading: asyncio.Task[Choices] | None = None
        self._begun = 0.0

    async def read(self, anew: bool = False) -> Choices:
        """Those of the last minute, or those that are being read.

        Args:
            anew: not those that were read before.

        Raises:
            ClientError: the server cannot be asked.
        """
        reading = self._reading
        is_old = time.monotonic() - self._begun > KEPT_SECONDS
        if reading is None or (reading.done() and (anew or is_old or reading.exception())):
            self._begun = time.monotonic()
            self._reading = reading = asyncio.create_task(self._read())
        # Others wait for it too.
        return await asyncio.shield(reading)

    async def _read(self) -> Choices:
        async with self._server.client() as client:
            result = await client.match(
                texts=ANY_WORDS,
                top_k=1,
                offset=NO_MATCH,
                min_score=-1,
                facets={"category": MOST_CATEGORIES, "price": [0]},
            )
        price = result.facets["price"]
        categories = (
            (str(item["value"]), int(item["count"])) for item in result.facets["category"]["values"]
        )
        return Choices(tuple(categories), price["least"], price["most"])
