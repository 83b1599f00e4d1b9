"""Writing for people what catalogues hold, which may be anything."""

from __future__ import annotations

from typing import TextIO

from product_match_client.terminal import printable


def write_line(stream: TextIO, line: str) -> None:
    """Write one line at once; what a terminal would obey, or the stream cannot show, is escaped."""
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = printable(line).replace("\n", "\\n")
    stream.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
