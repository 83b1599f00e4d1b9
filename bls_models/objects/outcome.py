"""What became of looking for objects, for answers and logs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

NOT_ASKED = "not_asked"
NO_IMAGE = "no_image"
NONE = "none"
OK = "ok"
UNAVAILABLE = "unavailable"


@dataclass(frozen=True)
class ObjectsOutcome:
    """What became of looking for objects.

    Attributes:
        status: ``ok`` (objects are matched one by one); ``none`` (only the whole photo is);
            ``not_asked``; ``no_image`` (asked for, and there is no photo); ``unavailable`` (nobody
            could look, ``reason`` says why).
        found: objects that the detector found, matched or not.
        reason: of ``unavailable``, or why objects have no matches.
    """

    status: str = NOT_ASKED
    found: int = 0
    reason: str = ""

    @property
    def details(self) -> dict[str, Any]:
        """For an answer's ``details``."""
        details: dict[str, Any] = {"status": self.status, "found": self.found}
        return details | ({"reason": self.reason} if self.reason else {})
