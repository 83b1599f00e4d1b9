"""Errors of the server, as the page shows them."""

from __future__ import annotations

from html import escape

from product_match_client.errors import ClientError


def alert(error: ClientError | str) -> str:
    """HTML that says what went wrong, in the server's words; screen readers say it at once."""
    return f'<div class="pm-alert" role="alert">{escape(str(error))}</div>'
