"""Links to products' pictures, for pages that show them.

A signed link holds until the end of the time window after the present one, so within a window a
picture's link stays the same: browsers keep what is behind it. Of a link only picture and end are
signed; whoever has it chooses the size. ``gateway/pictures.js`` checks it.
"""

from __future__ import annotations

import hmac
import re
import time
from collections.abc import Callable, Mapping
from typing import Any

from bls_models.product import json_bytes, mapping_or_empty, stored_images
from bls_models.settings import Settings

# A product's own attribute that says where its picture is.
OWN_LINK = "image_url"
# Longest side, in pixels, of a link that nobody has changed.
SIZE = 640
SHA256 = re.compile("[0-9a-f]{64}")


def signature(secret: str, sha256: str, expires: int) -> str:
    """HMAC-SHA256 of a link, in hex.

    Args:
        secret: shared with the gateway.
        sha256: the picture's, in hex.
        expires: the link's end, in seconds since 1970.
    """
    # By this name OpenSSL does it all, in a tenth of the time.
    return hmac.digest(secret.encode(), f"{sha256} {expires}".encode(), "sha256").hex()


class PictureLinks:
    """Makes links.

    Args:
        url: what they begin with; empty: there are none.
        secret: signs them; empty: they are not signed.
        window_s: seconds of a time window.
        clock: seconds since 1970.
    """

    def __init__(
        self, url: str, secret: str, window_s: int, clock: Callable[[], float] = time.time
    ) -> None:
        self._url = url.rstrip("/")
        self._secret = secret
        self._window_s = window_s
        self._clock = clock

    @classmethod
    def from_settings(cls, settings: Settings) -> PictureLinks:
        """As the settings say."""
        return cls(settings.picture_url, settings.picture_secret, settings.picture_link_seconds)

    def target(self, document: Mapping[str, Any]) -> str:
        """What a product's link leads to.

        Args:
            document: as it is stored.

        Returns:
            The address that the product itself names, else the sha256 of its first picture; empty
            where there is neither, or the server makes no links.
        """
        own = mapping_or_empty(document.get("attributes")).get(OWN_LINK)
        if isinstance(own, str) and own.startswith(("https://", "http://")):
            return own
        images = stored_images(document) if self._url else []
        # Who changed it by hand may have put anything there.
        return images[0]["sha256"] if images and SHA256.fullmatch(images[0]["sha256"]) else ""

    def put_into(self, product: bytes, target: str) -> bytes:
        """A product's JSON with the link of this moment, as ``picture_url``.

        Args:
            product: a JSON object that is not empty.
            target: of ``target``; empty leaves it as it is.
        """
        if not target:
            return product
        link = self.link(target)
        # A link of the server's has nothing in it that JSON would write otherwise.
        text = b'"%s"' % link.encode() if link is not target else json_bytes(link)
        return product[:-1] + b',"picture_url":' + text + b"}"

    def link(self, target: str) -> str:
        """The link to a target."""
        if not SHA256.fullmatch(target):
            return target
        link = f"{self._url}/{target}?size={SIZE}"
        if not self._secret:
            return link
        expires = (int(self._clock()) // self._window_s + 2) * self._window_s
        return f"{link}&expires={expires}&signature={signature(self._secret, target, expires)}"


NO_LINKS = PictureLinks("", "", 1)
