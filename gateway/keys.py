"""API keys: who may call, and whether to write."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import SetupError

# What a key may do; an ingest key may do everything.
MATCH = "match"
INGEST = "ingest"
KEY_CLASSES = (MATCH, INGEST)

# nginx compares the keys of its maps without regard to case, so keys have lower case only.
_KEY = re.compile(r"[a-z0-9_-]{32,128}")
_CLIENT = re.compile(r"[a-z0-9_-]{1,64}")
KEY_BYTES = 32


@dataclass(frozen=True)
class ApiKey:
    """One line of the file.

    Attributes:
        client: its owner's name, as the access log and the rate limits have it. A client may
            have several keys, for a change from one to the next.
        key_class: ``match`` or ``ingest``.
        key: the secret.
    """

    client: str
    key_class: str
    key: str

    def __repr__(self) -> str:
        """Without the secret."""
        return f"ApiKey(client={self.client!r}, key_class={self.key_class!r})"


def read_keys(path: Path) -> list[ApiKey]:
    """The keys of a file; empty lines and those that start with ``#`` are skipped.

    Raises:
        SetupError: the file or a line cannot be used, or a key stands twice. The message names
            the line and never repeats what stands there.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SetupError(
            f"the API keys {path} cannot be read ({error.__class__.__name__}); write one with "
            "`python -m gateway new-key <client> <match or ingest>`"
        ) from error
    keys: dict[str, ApiKey] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        key = _read_line(line, f"{path}, line {number}")
        if key.key in keys:
            raise SetupError(f"{path}, line {number}: this key stands there twice; remove one")
        keys[key.key] = key
    if not keys:
        raise SetupError(
            f"{path} has no API key, so that nobody could call; write one with "
            "`python -m gateway new-key <client> <match or ingest>`"
        )
    return list(keys.values())


def _read_line(line: str, where: str) -> ApiKey:
    words = line.split()
    if len(words) != 3:
        raise SetupError(f"{where}: {len(words)} words, expected `<client> <class> <key>`")
    client, key_class, key = words
    if not _CLIENT.fullmatch(client):
        raise SetupError(f"{where}: a client's name is up to 64 of a-z, 0-9, - and _")
    if key_class not in KEY_CLASSES:
        raise SetupError(f"{where}: the class is one of {', '.join(KEY_CLASSES)}")
    if not _KEY.fullmatch(key):
        raise SetupError(f"{where}: a key is 32 to 128 of a-z, 0-9, - and _")
    return ApiKey(client, key_class, key)


def new_key_line(client: str, key_class: str) -> str:
    """A line with a fresh key of 256 random bits.

    Raises:
        SetupError: the name or the class cannot be used.
    """
    line = f"{client} {key_class} {secrets.token_hex(KEY_BYTES)}"
    _read_line(line, "new key")
    return line


def picture_secret_map(secret: str) -> str:
    """Nginx's ``$picture_secret``, as a map, which is the same for every request."""
    return f'map "" $picture_secret {{\n    default "{secret}";\n}}\n'


def key_maps(keys: Sequence[ApiKey]) -> str:
    """Nginx's maps from ``$api_key`` to ``$client`` and ``$key_class``."""
    parts = []
    for variable, values in (
        ("client", {key.key: key.client for key in keys}),
        ("key_class", {key.key: key.key_class for key in keys}),
    ):
        lines = [f'    "{key}" "{value}";' for key, value in values.items()]
        parts.append("\n".join([f"map $api_key ${variable} {{", '    default "";', *lines, "}"]))
    return "\n".join(parts) + "\n"
