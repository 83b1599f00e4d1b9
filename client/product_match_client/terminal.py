"""Text in a terminal: stored text must not steer it, and any encoding must do."""

from __future__ import annotations

import io
import json
import re
import sys
from typing import Any

from rich.console import Console
from rich.text import Text

# Control characters but line end and tab, what turns the direction of writing, other line ends,
# and halves of surrogate pairs, which no encoding has.
UNSAFE = re.compile(
    r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)


def printable(text: object) -> str:
    r"""Text in which what a terminal would obey is written as an escape, e.g. ``\x1b``."""
    return UNSAFE.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), str(text))


def plain(text: object, style: str = "") -> Text:
    """Printable text in one style, in which rich reads no markup."""
    return Text(printable(text), style=style)


def printable_json(value: Any) -> str:
    """Indented JSON that a terminal shows as it is; in ASCII where stdout is not of Unicode."""
    encoding = (sys.stdout.encoding or "").lower()
    text = json.dumps(value, ensure_ascii=not encoding.startswith("utf"), indent=2)
    return UNSAFE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def open_console() -> Console:
    """Stdout, on which a character that its encoding lacks becomes an escape, not an error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    return Console(highlight=False)
