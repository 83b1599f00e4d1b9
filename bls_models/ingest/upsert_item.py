"""One product that is to be written: what was sent, what is stored, what must be computed."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bls_models.captions.waiting import NO_IMAGE, NOT_ASKED, OK, CaptionOutcome
from bls_models.database.pictures import stored_hashes
from bls_models.database.store import Document
from bls_models.errors import ProductError
from bls_models.product import (
    check_product,
    client_document,
    mapping_or_empty,
    stored_revision,
)
from bls_models.vectors import FloatArray

CREATED, UPDATED, UNCHANGED = "created", "updated", "unchanged"


@dataclass(frozen=True)
class Duplicate:
    """Another product with the same picture, or one that looks like it.

    Attributes:
        product_id: the other product.
        kind: ``exact`` (the same file) or ``near``.
        cosine: of the two most similar pictures.
    """

    product_id: str
    kind: str
    cosine: float


class Upsert:
    """One product on its way into the database.

    A generated description belongs to the picture that it describes: a product that is sent
    without one keeps it as long as that picture is its first.

    Args:
        product: the checked client fields; for ``reembed`` the id alone.
        images: encoded images; None keeps the stored ones.
        reembed: write what is stored once more, with every vector computed anew.
        describe: describe the first picture where there is no description.
        returns_generated: the client says that the description is a generated one, as of a
            document that it was given; where it is, that counts as sent without one.
        find_duplicates: tell of other products with the same pictures.
    """

    def __init__(
        self,
        product: dict[str, Any],
        images: Sequence[bytes] | None,
        *,
        reembed: bool = False,
        describe: bool = False,
        returns_generated: bool = False,
        find_duplicates: bool = False,
    ) -> None:
        self._sent = product
        self.product_id: str = product["product_id"]
        self.reembed = reembed
        self.describe = describe
        self.find_duplicates = find_duplicates
        # None: not looked for.
        self.duplicates: list[Duplicate] | None = None
        self.duplicates_failed = False
        self._returns_generated = returns_generated or reembed
        self.caption = CaptionOutcome(NOT_ASKED)
        # The same picture sent twice is one view.
        self.data: dict[str, bytes] | None = None
        self._numbers: dict[str, int] = {}
        if images is not None:
            self.data = {}
            for number, data in enumerate(images):
                sha256 = hashlib.sha256(data).hexdigest()
                self.data.setdefault(sha256, data)
                self._numbers.setdefault(sha256, number)
        self.status = ""
        self.revision = 0
        self.error: Exception | None = None
        self._start_from(None)

    def read_from(self, stored: Document | None) -> None:
        """Start from what is stored now; all that depends on it is forgotten.

        Raises:
            ProductError: nothing is stored that could be embedded anew, or not a valid product.
        """
        if self.reembed:
            if stored is None:
                raise ProductError(
                    "product.product_id",
                    f"{self.product_id!r} is not stored",
                    "a stored product's id",
                )
            self._sent = check_product(client_document(stored))
        self._start_from(stored)

    def _start_from(self, stored: Document | None) -> None:
        self.stored = stored
        self.write_id = uuid.uuid4().hex
        self.revision = stored_revision(stored) + 1 if stored else 1
        if self.data is not None:
            self.hashes = list(self.data)
        else:
            self.hashes = stored_hashes(stored) if stored else []
        # Sent pictures that were stored before, for whichever product.
        self.shared_hashes: set[str] = set()
        self.records: dict[str, Document] = {}
        self.vectors: dict[str, FloatArray] = {}
        self.text_vector: FloatArray | None = None
        self.product = dict(self._sent)
        # Which picture a generated description is of, by which captioner, how sure.
        self.description_source: Document | None = None
        if stored is not None and stored.get("description_generated"):
            text = stored.get("description")
            source = dict(mapping_or_empty(stored.get("description_source")))
            # One of them may have been removed or changed by hand.
            if text and {"sha256", "confidence"} <= source.keys():
                self._keep_description(text, source)
        if self.describe and not self.hashes and "description" not in self.product:
            self.caption = CaptionOutcome(NO_IMAGE)

    @property
    def was_written(self) -> bool:
        """Whether it has ended and changed what is stored."""
        return self.status in (CREATED, UPDATED)

    @property
    def new_hashes(self) -> list[str]:
        """The pictures that the product did not have before."""
        before = set(stored_hashes(self.stored)) if self.stored else set()
        return [sha256 for sha256 in self.hashes if sha256 not in before]

    def is_of(self, document: Document | None) -> bool:
        """Whether a product's document is of the same write as the one that was read."""
        if self.stored is None or document is None:
            return self.stored is document
        return bool(self.stored.get("write_id") == document.get("write_id"))

    def _keep_description(self, text: str, source: Document) -> None:
        if self._returns_generated and self.product.get("description") == text:
            del self.product["description"]
        if self.lacks_description and self.hashes[0] == source["sha256"]:
            self.set_description(CaptionOutcome(OK, text, source["confidence"]), source)

    @property
    def lacks_description(self) -> bool:
        """Whether there is no description, and a picture to make one from."""
        return "description" not in self.product and bool(self.hashes)

    def set_description(self, caption: CaptionOutcome, source: Document) -> None:
        """Take a caption for the description, unless it failed or is not to be relied on.

        Args:
            caption: of the first picture.
            source: ``sha256`` of the picture, the captioner's fingerprint, ``confidence``.
        """
        self.caption = caption
        if caption.status == OK:
            self.product["description"] = caption.text
            self.description_source = source

    def tensor(self, sha256: str) -> str:
        """The place of a picture in the request, as error messages name it."""
        return f"image[{self._numbers[sha256]}]" if self._numbers else f"stored image {sha256}"

    def content_hash(self, fingerprint: str) -> str:
        """Hash over all that decides what is stored; equal hashes need no write."""
        content: dict[str, Any] = {
            "product": self.product,
            "images": self.hashes,
            "fingerprint": fingerprint,
        }
        if self.description_source is not None:
            content["description_generated"] = True
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
