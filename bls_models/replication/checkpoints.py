"""Where a follower goes on after a restart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from bls_models.database.change_stream import Token
from bls_models.replication.product_loader import LeftOut


@dataclass(frozen=True)
class Progress:
    """How far the index has followed.

    Attributes:
        token: where the change stream goes on.
        changes: changes applied so far, a number that only grows.
        left_out: products that are left out now.
    """

    token: Token
    changes: int
    left_out: Mapping[str, LeftOut]


class Checkpoints(Protocol):
    """Keeps how far an index has followed, with the index where nobody else keeps that."""

    @property
    def age_seconds(self) -> float | None:
        """Seconds since the newest was up to date, None where there is none."""
        ...

    def begin(self) -> None:
        """Keep them from now on."""
        ...

    def restore(self) -> Progress | None:
        """Fill the index with what it held at the newest that fits; None if there is none.

        Raises:
            DatabaseError: the database, which must be the same, does not answer.
        """
        ...

    def offer(self, progress: Progress) -> None:
        """Keep one if it is time; called by whoever changes the index, after a change.

        Raises:
            DatabaseError: the database does not answer.
        """
        ...

    def close(self, progress: Progress | None) -> None:
        """Keep a last one.

        Args:
            progress: None where the index does not hold the whole catalogue.
        """
        ...
