"""The kinds of requests that users send, and how many of each."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from typing import Any

from bls_models.errors import SetupError
from loadtest.photos import scenes_from_photos, with_serial
from product_match_client.calls import Call, Facets, match_call
from product_match_client.results import MatchResult

# People send the same photo twice now and then.
REPEATED_SHARE = 0.1
# A shop's app: most people send a photo alone; captions are asked for now and then, and some
# photos show several products. Pages of products ask for more like them, lists for facets.
DEFAULT_MIX = {
    "image": 40,
    "text": 20,
    "both": 15,
    "filtered": 10,
    "captions": 5,
    "objects": 5,
    "like": 3,
    "facets": 2,
}
DEFAULT_MIX_TEXT = ",".join(f"{kind}={weight}" for kind, weight in DEFAULT_MIX.items())

FACETS: Facets = {"category": 10, "attributes.colour": 10, "price": [10, 20, 50]}

MatchCall = Call[MatchResult]


def parse_mix(text: str) -> dict[str, int]:
    """Weights by kind, from ``image=50,text=20``; kinds that are not named get none.

    Raises:
        SetupError: another form, an unknown kind, or no weight above 0.
    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        kind, _, weight = part.strip().partition("=")
        if kind not in DEFAULT_MIX or not weight.isdecimal() or kind in mix:
            raise SetupError(
                f"mix {text!r}: {part.strip()!r} is not <kind>=<whole number>, each kind once; "
                f"kinds are {', '.join(DEFAULT_MIX)}"
            )
        mix[kind] = int(weight)
    if not any(mix.values()):
        raise SetupError(f"mix {text!r} has no request in it; give a kind a weight above 0")
    return mix


def call_of_kind(kind: str, photo: bytes, product: Mapping[str, Any]) -> MatchCall:
    """A request of a kind of ``DEFAULT_MIX``, with that photo or the product's words, or both.

    Args:
        kind: one of ``DEFAULT_MIX``.
        photo: the encoded file; for ``objects`` one of ``scenes_from_photos``.
        product: its id, name and category.
    """
    if kind == "text":
        return match_call(texts=product["name"])
    if kind == "like":
        return match_call(like=product["product_id"])
    return match_call(
        photo,
        product["name"] if kind == "both" else (),
        filter={"category": product["category"]} if kind == "filtered" else None,
        facets=FACETS if kind == "facets" else None,
        caption="always" if kind == "captions" else "never",
        objects="auto" if kind == "objects" else None,
    )


class RequestMaker:
    """Makes requests at random, as the mix says.

    Args:
        photos: of ``loadtest.photos``, at least one.
        products: of the catalogue that the server holds, at least one; texts, filters and ids are
            taken from them.
        mix: weights by kind.
        seed: the same seed gives the same requests.

    Raises:
        SetupError: nothing to send.
    """

    def __init__(
        self,
        photos: Sequence[bytes],
        products: Sequence[Mapping[str, Any]],
        mix: Mapping[str, int],
        seed: int,
    ) -> None:
        if not photos or not products:
            raise SetupError(
                f"there are {len(photos)} photos and {len(products)} products to make requests "
                "from; expected at least one of each"
            )
        self._photos = photos
        self._scenes = scenes_from_photos(photos) if mix.get("objects") else []
        self._products = products
        self._kinds = list(mix)
        self._weights = list(mix.values())
        self._random = random.Random(seed)

    def make(self) -> tuple[str, MatchCall]:
        """A request and its kind."""
        (kind,) = self._random.choices(self._kinds, self._weights)
        photo = self._photo(self._scenes if kind == "objects" else self._photos)
        return kind, call_of_kind(kind, photo, self._random.choice(self._products))

    def _photo(self, photos: Sequence[bytes]) -> bytes:
        photo = self._random.choice(photos)
        if self._random.random() < REPEATED_SHARE:
            return photo
        return bytes(with_serial(photo, self._random.getrandbits(63)))
