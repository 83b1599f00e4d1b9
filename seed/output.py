"""Writing for people what catalogues hold, which may be anything."""

from __future__ import annotations

from typing import TextIO


def write_line(stream: TextIO, line: str) -> None:
    """Write a line at once; what the stream cannot show is written as escapes.

    Control characters are escaped too, so that a catalogue cannot steer a terminal.
    """
    encoding = getattr(stream, "encoding", None) or "utf-8"
    shown = "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in line
    )
    stream.write(shown.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()
