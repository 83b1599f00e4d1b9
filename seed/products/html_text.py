"""The text of descriptions that shops keep as HTML."""

from __future__ import annotations

import re
from html import unescape
from html.parser import HTMLParser

# A tag or an entity; "5 < 6" and "R&B" have none.
MARKUP = re.compile(r"</?[A-Za-z][^<>]*>|<!--|&(#\d+|#[xX][0-9a-fA-F]+|[A-Za-z][A-Za-z0-9]+);")
_BLOCKS = (
    "address article aside blockquote br dd div dl dt figcaption figure footer h1 h2 h3 h4 h5 h6 "
    "header hr li main nav ol p pre section table tbody td th thead tr ul"
)
BLOCKS = frozenset(_BLOCKS.split())
UNSEEN = frozenset({"script", "style", "template", "head"})


def text_from_html(text: str) -> str:
    """What a reader sees of HTML, blocks on lines of their own; other text as it is."""
    if not MARKUP.search(text):
        return text.strip()
    if "<" not in text:
        return unescape(text).strip()
    parser = _Text()
    parser.feed(text)
    parser.close()
    lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(parser.parts).split("\0"))
    return "\n".join(line for line in lines if line)


class _Text(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._unseen = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in UNSEEN:
            self._unseen += 1
        elif tag in BLOCKS:
            self.parts.append("\0")

    def handle_endtag(self, tag: str) -> None:
        if tag in UNSEEN:
            self._unseen = max(self._unseen - 1, 0)
        elif tag in BLOCKS:
            self.parts.append("\0")

    def handle_data(self, data: str) -> None:
        if not self._unseen:
            self.parts.append(data)
