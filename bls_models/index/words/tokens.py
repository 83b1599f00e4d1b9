"""The words of queries and of products, folded alike, and the keys that stand for them."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import blake2b

from bls_models.index.filters.language import ATTRIBUTE_PREFIX

# Shorter numbers are too like each other.
LEAST_NUMBER = 4
# Longer ones have too many that are like them, and are no article numbers.
MOST_NUMBER = 24
# A query has no more words; what follows is left out.
MOST_WORDS = 64
# Longest run of words that is also taken for one number that someone wrote in groups.
MOST_GROUPS = 6
# A product has no more words: those of its id and name come first.
MOST_PRODUCT_WORDS = 512

_PARTS = re.compile(r"\d+|[^\W\d_]+")
_DIGIT = re.compile(r"\d")
_DIGITS, _LETTERS = "0123456789", "abcdefghijklmnopqrstuvwxyz"


def words(text: str) -> list[str]:
    """The words of a text in their order, folded: letters and digits apart, and together.

    ``TX-4821-B`` and ``tx4821b`` are both ``tx``, ``4821``, ``b`` and ``tx4821b``.
    """
    return [word for chunk in _folded(text).split() for word in with_whole(_PARTS.findall(chunk))]


def with_whole(parts: Sequence[str]) -> list[str]:
    """The parts of a word, and where there are several the whole."""
    both = [*parts, "".join(parts)] if len(parts) > 1 else parts
    return [singular(word) for word in both]


def chunks(text: str) -> list[list[str]]:
    """The parts of each word of a query, folded, together at most ``MOST_WORDS``."""
    found, left = [], MOST_WORDS
    for chunk in _folded(text).split():
        if parts := _PARTS.findall(chunk)[:left]:
            found.append(parts)
            left -= len(parts)
    return found


def _folded(text: str) -> str:
    # Folding may take apart what was composed.
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())


def singular(word: str) -> str:
    """An English plural's singular, roughly; both sides are folded alike."""
    if not word.endswith("s") or len(word) <= 3 or not (word.isascii() and word.isalpha()):
        return word
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "xes", "ches", "shes", "zes")):
        return word[:-2]
    return word if word.endswith(("ss", "us", "is")) else word[:-1]


def whole_name(found: Iterable[str]) -> str:
    """A word for all words of a name, in any order."""
    return "\0".join(["", *sorted(set(found))])


def is_number(word: str) -> bool:
    """Whether it is a whole number of something, as article numbers are."""
    return LEAST_NUMBER <= len(word) <= MOST_NUMBER and _DIGIT.search(word) is not None


def runs(parts: Sequence[Sequence[str]]) -> Iterator[tuple[int, int, str]]:
    """Numbers that neighbouring words of a query make, with the places of these."""
    for begin in range(len(parts)):
        run = "".join(parts[begin])
        for end in range(begin + 2, min(begin + MOST_GROUPS, len(parts)) + 1):
            run += "".join(parts[end - 1])
            if len(run) > MOST_NUMBER:
                break
            if is_number(run):
                yield begin, end, run


def near(number: str) -> set[str]:
    """What is one edit away: a sign more, less or another of its kind, or two swapped."""
    found = set()
    kinds = [_DIGITS if sign.isdigit() else _LETTERS for sign in number]
    for at, kind in enumerate(kinds):
        before, after = number[:at], number[at + 1 :]
        found.add(before + after)
        found.update(before + sign + after for sign in kind)
        found.update(before + sign + number[at:] for sign in kind)
        if after:
            found.add(before + after[0] + number[at] + after[1:])
    found.update(number + sign for sign in kinds[-1])
    found.discard(number)
    return found


def key_of(word: str) -> int:
    """64 bits that stand for a word, the same in every process."""
    return int.from_bytes(blake2b(word.encode(errors="replace"), digest_size=8).digest(), "big")


def product_keys(product_id: str, values: Mapping[str, object]) -> list[int]:
    """The keys of a product's words, each once, at most ``MOST_PRODUCT_WORDS``.

    Args:
        product_id: the product.
        values: by declared field, as ``Columns.get`` gives them. Strings count: ``name``,
            ``category`` and attributes.
    """
    name = values.get("name")
    named = words(name) if isinstance(name, str) else []
    # The parts of ids are in names, or they are nothing that anyone asks for.
    found = [*words(product_id)[-1:], *named]
    if named:
        found.append(whole_name(named))
    # In an order that does not depend on where the values come from.
    said = [
        value
        for field, value in sorted(values.items())
        if isinstance(value, str) and (field == "category" or field.startswith(ATTRIBUTE_PREFIX))
    ]
    found += words(" ".join(said))
    return [key_of(word) for word in list(dict.fromkeys(found))[:MOST_PRODUCT_WORDS]]
