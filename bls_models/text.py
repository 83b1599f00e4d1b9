"""Text in the one form in which it is stored and compared."""

from __future__ import annotations

import re
import unicodedata

# What has no width and no meaning in a line of text; a zero byte glues two words together.
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
# The same in text of several lines.
CONTROL_IN_LINES = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")


def normalised(text: str) -> str:
    """In Unicode's form NFC, in which letters with accents are one character where they can be."""
    return unicodedata.normalize("NFC", text)


def one_line(text: str) -> str:
    """NFC, every control character a space."""
    return CONTROL.sub(" ", normalised(text))


def several_lines(text: str) -> str:
    """NFC, every control character but tabs and line ends a space."""
    return CONTROL_IN_LINES.sub(" ", normalised(text))
