"""Named settings of fusion and scoring, of which each request gets one: A/B tests.

The request id decides, so a repeated request gets the same variant, on every server alike.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from bls_models.errors import SetupError
from bls_models.index.view_scores import POWER, POWERS
from bls_models.metric.catalogue import NONE
from bls_models.settings import Settings

DEFAULT = "default"
VARIABLE = "PRODUCT_MATCH_VARIANTS"
_NAME = re.compile(r"[A-Za-z0-9_-]{1,32}")
# Factors of 0 would leave nothing to search by where the query has only that part.
FACTORS = (0.01, 100.0)
SHARES = (0.0, 1.0)


@dataclass(frozen=True)
class Variant:
    """How the parts of a query are weighed.

    Attributes:
        name: as it stands in answers and logs.
        image_weight: factor on the weights of a query's images, 0.01 to 100.
        text_weight: factor on the weights of its texts, 0.01 to 100.
        word_weight: see the setting of this name, 0 to 1.
        caption_weight: see the setting of this name, 0 to 1.
        cross_modal_weight: see the setting of this name, 0 to 1.
        view_power: how much the best of a product's views counts beside the others
            (``bls_models.index.view_scores``), 1 to 32.
        min_score: of requests that name none, -1 to 1; None: as without variants.
        raw: compare image vectors as they are, whatever metric is served (``"metric": "none"``).
    """

    name: str
    image_weight: float = 1.0
    text_weight: float = 1.0
    word_weight: float = 0.0
    caption_weight: float = 0.0
    cross_modal_weight: float = 0.0
    view_power: float = POWER
    min_score: float | None = None
    raw: bool = False


METRIC = "metric"
VALUES = tuple(item.name for item in fields(Variant) if item.name not in ("name", "raw"))
RANGES = {
    "share": SHARES,
    "image_weight": FACTORS,
    "text_weight": FACTORS,
    "word_weight": SHARES,
    "caption_weight": SHARES,
    "cross_modal_weight": SHARES,
    "view_power": POWERS,
    "min_score": (-1.0, 1.0),
}


class Variants:
    """The default and the variants beside it, each with its share of the requests.

    Args:
        default: for the requests that no share takes.
        shares: variants with their shares of all requests, together at most 1.
    """

    def __init__(self, default: Variant, shares: Mapping[Variant, float]) -> None:
        self._default = default
        self._shares = dict(shares)

    @classmethod
    def from_settings(cls, settings: Settings) -> Variants:
        """The settings' own weights as the default, and what ``PRODUCT_MATCH_VARIANTS`` names.

        Raises:
            SetupError: the variable cannot be used; the message says why.
        """
        default = Variant(
            DEFAULT,
            word_weight=settings.word_weight,
            caption_weight=settings.caption_weight,
            cross_modal_weight=settings.cross_modal_weight,
        )
        shares: dict[Variant, float] = {}
        for name, values in _object(settings.variants or "{}").items():
            if not _NAME.fullmatch(name) or name == DEFAULT:
                raise _refusal(
                    f"the name {name!r}",
                    f"1 to 32 letters, digits, - or _, and not {DEFAULT!r}",
                )
            if not isinstance(values, dict):
                raise _refusal(f"{name}: {values!r}", "an object with a share and values")
            unknown = sorted(set(values) - {"share", METRIC, *VALUES})
            if unknown:
                known = ", ".join(("share", *VALUES, METRIC))
                raise _refusal(f"{name}: {', '.join(unknown)}", f"only {known}")
            if values.get(METRIC, NONE) != NONE:
                raise _refusal(f"{name}: metric {values[METRIC]!r}", f"{NONE!r}, or nothing")
            share = _number(name, "share", values.get("share"))
            given = {key: _number(name, key, values[key]) for key in VALUES if key in values}
            inherited = {key: getattr(default, key) for key in VALUES}
            shares[Variant(name, **inherited | given, raw=METRIC in values)] = share
        if sum(shares.values()) > 1 + 1e-9:
            raise _refusal(f"shares of {sum(shares.values()):g} together", "at most 1")
        return cls(default, shares)

    @property
    def default(self) -> Variant:
        """For the requests that no share takes."""
        return self._default

    @property
    def any_raw(self) -> bool:
        """Whether any of them compares raw vectors."""
        return any(variant.raw for variant in self._shares)

    def of(self, request_id: str) -> Variant:
        """The variant of a request."""
        if not self._shares:
            return self._default
        digest = hashlib.sha256(request_id.encode(errors="surrogatepass")).digest()
        place = int.from_bytes(digest[:8], "big") / 2**64
        for variant, share in self._shares.items():
            if place < share:
                return variant
            place -= share
        return self._default


def _object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise _refusal(f"no JSON ({error})", "a JSON object") from error
    if not isinstance(value, dict):
        raise _refusal(f"a JSON {type(value).__name__}", "a JSON object")
    return value


def _number(variant: str, key: str, value: object) -> float:
    least, most = RANGES[key]
    # To Python, true is a number.
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        got = "is missing" if value is None else f"is {value!r}"
        raise _refusal(f"{variant}: {key} {got}", f"a number from {least:g} to {most:g}")
    return float(value)


def _refusal(got: str, expected: str) -> SetupError:
    return SetupError(
        f"environment variable {VARIABLE} cannot be used: {got}; expected {expected}, as in "
        '{"words-first": {"share": 0.1, "text_weight": 2}}'
    )
