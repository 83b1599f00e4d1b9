"""Arguments of a wrong type, refused with the client's own error before anything is sent."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from product_match_client.errors import BadRequestError


def text_argument(name: str, value: Any) -> str:
    """A text.

    Raises:
        BadRequestError: it is something else.
    """
    if not isinstance(value, str):
        raise _wrong_type(name, value, "text (str)")
    return value


def text_arguments(name: str, value: Any) -> list[Any]:
    """One text or several, as a list.

    Raises:
        BadRequestError: it is neither; each text is checked where it becomes a tensor.
    """
    if isinstance(value, str):
        return [value]
    if isinstance(value, bytes | bytearray | memoryview | Mapping) or not isinstance(
        value, Iterable
    ):
        raise _wrong_type(name, value, "text (str) or a list of texts")
    return list(value)


def list_argument(name: str, value: Any) -> Any:
    """A list or array of values; None is left as it is.

    Raises:
        BadRequestError: it has no length.
    """
    if value is not None:
        try:
            len(value)
        except TypeError as error:  # numpy's scalars have a len() that fails
            raise _wrong_type(name, value, "a list, with a value for each") from error
    return value


def object_argument(name: str, value: Any) -> Mapping[str, Any]:
    """A mapping, to be sent as a JSON object.

    Raises:
        BadRequestError: it is something else.
    """
    if not isinstance(value, Mapping):
        raise _wrong_type(name, value, "a mapping (dict), sent as a JSON object")
    return value


def seconds_argument(name: str, value: Any) -> float:
    """A time limit in seconds.

    Raises:
        BadRequestError: it is no number, not finite, or not above zero.
    """
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise _wrong_type(name, value, "a number of seconds")
    if not (math.isfinite(value) and value > 0):
        raise BadRequestError(f"{name}: got {value!r}; expected seconds above 0, e.g. 30")
    return value


def header_arguments(value: Any) -> dict[str, str]:
    """Headers by name; None means none.

    Raises:
        BadRequestError: names or values are no text, or no header can hold them. The message
            does not show values, which may be secret.
    """
    headers = {} if value is None else dict(object_argument("headers", value))
    for name, text in headers.items():
        text_argument("headers: a name", name)
        text_argument(f"headers[{name!r}]", text)
        if not (name + text).isascii() or not (name + text).isprintable():
            raise BadRequestError(
                f"headers[{name!r}]: holds characters that no header can have; expected printable "
                "ASCII, without line ends"
            )
    return headers


def _wrong_type(name: str, value: Any, expected: str) -> BadRequestError:
    return BadRequestError(f"{name}: got {type(value).__name__}; expected {expected}")
