"""The same request as a command and as a program, to be copied."""

from __future__ import annotations

import json
import shlex
from typing import Any

from bls_models.specs import PRODUCT_MATCH
from demo.find.query import Query
from product_match_client.credentials import API_KEY_HEADER, API_KEY_VARIABLE
from product_match_client.endpoint import endpoint_from_url

PHOTO = "photo.jpg"
# What the client's options are called on the wire.
TENSORS = {"image_weights": "image_weight", "text_weights": "text_weight"}
ONLY_HTTP = "# The page asks over gRPC; curl needs the address of the server's HTTP endpoint."


def curl_text(query: Query, url: str, with_key: bool) -> str:
    """A command that sends the query to ``generate`` and prints the answer.

    Args:
        query: of the page; its photo is called photo.jpg.
        url: the server's, as the client takes it.
        with_key: whether it sends the key of ``PRODUCT_MATCH_API_KEY``.
    """
    endpoint = endpoint_from_url(url)
    if endpoint.protocol != "http":
        return ONLY_HTTP
    scheme = "https" if endpoint.secure else "http"
    address = f"{scheme}://{endpoint.address}/v2/models/{PRODUCT_MATCH.name}/generate"
    headers = ["-H 'Content-Type: application/json'"]
    if with_key:
        headers.append(f'-H "X-API-Key: ${API_KEY_VARIABLE}"')
    curl = f"curl -s {' '.join(headers)}"
    body = json.dumps(_tensors(query), ensure_ascii=False)
    if not query.sends_photo:
        return f"{curl} \\\n  -d {shlex.quote(body)} \\\n  {shlex.quote(address)}"
    # The picture is too long for an argument of curl's.
    return (
        f'printf \'{{"image": "%s", %s\' "$(base64 -w0 {PHOTO})" \\\n'
        f"  {shlex.quote(body.removeprefix('{'))} \\\n"
        f"  | {curl} \\\n"
        f"  --data-binary @- {shlex.quote(address)}"
    )


def python_text(query: Query, url: str, with_key: bool) -> str:
    """A program that sends the query and prints what was found; arguments as for `curl_text`."""
    arguments = []
    if query.sends_photo:
        arguments.append(_literal(PHOTO))
    if query.words:
        arguments.append(f"texts={_literal(query.words)}")
    arguments += [f"{name}={_literal(value)}" for name, value in query.options().items()]
    client = _literal(url)
    lines = ["from product_match_client import ProductMatchClient", ""]
    if with_key:
        lines = ["import os", "", *lines]
        lines.append(f'headers = {{"{API_KEY_HEADER}": os.environ["{API_KEY_VARIABLE}"]}}')
        client += ", headers=headers"
    lines += [
        f"with ProductMatchClient({client}) as client:",
        "    result = client.match(",
        *(f"        {argument}," for argument in arguments),
        "    )",
        "for match in result.matches:",
        "    print(match.product_id, match.score)",
    ]
    if query.sends_photo and query.objects != "never":
        lines += [
            "for item in result.objects:",
            "    print(item.number, item.box, [match.product_id for match in item.matches])",
        ]
    return "\n".join(lines)


def _tensors(query: Query) -> dict[str, Any]:
    """The flat JSON of ``generate``, but for the picture."""
    tensors: dict[str, Any] = {"text": query.words} if query.words else {}
    for name, value in query.options().items():
        # A filter is JSON in a text.
        flat = json.dumps(value, ensure_ascii=False) if isinstance(value, dict) else value
        tensors[TENSORS.get(name, name)] = flat
    return tensors


def _literal(value: Any) -> str:
    """A text, number, list or object as Python writes it, with double quotes."""
    # Without true, false and null JSON is Python, if it keeps to Unicode.
    return json.dumps(value, ensure_ascii=False)
