"""The tools for agents through the gateway, with the keys of their environment."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from agent_support import READING, answered, found, over_stdio, shown, told
from gateway_support import LOADER_KEY, SHOP_KEY, Gateway
from mcp import Client
from mcp.types import CallToolResult
from serving_support import SampleProduct, Serving

pytestmark = pytest.mark.server


async def names_of(agent: Client) -> list[str]:
    return [tool.name for tool in (await agent.list_tools()).tools]


def test_a_key_that_may_match_is_enough_for_all_that_reads(
    gateway: Gateway, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    product_id = catalogue[0].product["product_id"]

    async def ask(agent: Client) -> tuple[list[str], list[CallToolResult]]:
        call = agent.call_tool
        return await names_of(agent), [
            await call("match_product", {"text": "mug", "top_k": 1, "pictures": 1}),
            await call("more_like_this", {"product_ids": [product_id], "top_k": 1}),
            await call("get_product", {"product_id": product_id, "picture_number": 1}),
        ]

    log, key = tmp_path / "log", {"PRODUCT_MATCH_API_KEY": SHOP_KEY}
    names, (matched, alike, got) = over_stdio(ask, gateway.url("http"), log, **key)
    assert names == READING
    assert len(found(matched)) == len(found(alike)) == len(shown(matched)) == len(shown(got)) == 1
    assert answered(got)["product_id"] == product_id
    _, (refused, *_) = over_stdio(ask, gateway.url("http"), log)
    assert refused.is_error
    assert "401" in told(refused)


def test_a_key_that_may_write_adds_products(
    gateway: Gateway, server: Serving, tmp_path: Path
) -> None:
    product_id = f"agents-{uuid.uuid4().hex}"

    async def ask(agent: Client) -> tuple[list[str], CallToolResult]:
        product = {"product_id": product_id, "name": "Quilt", "category": "quilt"}
        return await names_of(agent), await agent.call_tool("add_product", product)

    keys = {"PRODUCT_MATCH_API_KEY": SHOP_KEY, "PRODUCT_MATCH_INGEST_KEY": LOADER_KEY}
    try:
        names, added = over_stdio(ask, gateway.url("grpc"), tmp_path / "log", **keys)
        assert names == [*READING, "add_product"]
        assert answered(added)["status"] == "created"
    finally:
        with server.client() as client:
            client.delete(product_id)
