"""The tools for agents, called by the SDK's own client."""

from __future__ import annotations

import base64
import importlib.util
import io
import json
import re
import signal
import subprocess
import sys
import tomllib
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import pytest
from agent_support import (
    MODULE,
    READING,
    TOKEN_VARIABLE,
    answered,
    environment,
    found,
    over_http,
    over_stdio,
    shown,
    told,
    tools_over_http,
)
from mcp import Client
from mcp.types import CallToolResult, Tool
from PIL import Image
from serving_support import (
    ROOT,
    SAMPLE,
    WAIT_SECONDS,
    SampleProduct,
    Serving,
    picture,
    wait_for,
)

from local_server.processes import free_port
from product_match_client import BadRequestError
from product_match_client.agent_tools.command import INGEST_KEY_VARIABLE, build_parser, main
from product_match_client.agent_tools.photos import pictures_from_agent
from product_match_client.credentials import API_KEY_VARIABLE
from product_match_client.links import LARGEST_PICTURE

BAD_FILTER = {"price": {"$near": 5}}


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.server
def test_an_agent_finds_and_looks_at_products_over_stdio(
    server: Serving, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    item = catalogue[0]
    wanted = item.product["product_id"]
    photo = item.queries[0]
    scene = base64_of((SAMPLE / "scenes" / "0001.webp").read_bytes())

    async def ask(agent: Client) -> tuple[list[Tool], list[CallToolResult]]:
        tools = (await agent.list_tools()).tools
        call = agent.call_tool
        return tools, [
            await call("match_product", {"photos": [base64_of(photo.read_bytes())], "pictures": 2}),
            await call("match_product", {"photos": [str(photo.relative_to(SAMPLE))], "top_k": 1}),
            await call(
                "match_product",
                {
                    "text": "mug",
                    "filter": {"category": "mug"},
                    "sort": "price",
                    "facets": {"attributes.colour": 2},
                    "top_k": 3,
                },
            ),
            await call(
                "match_product",
                {"photos": [f"data:image/webp;base64,{scene}"], "objects": "auto", "top_k": 1},
            ),
            await call(
                "more_like_this",
                {"product_ids": ["mug-classic-red"], "text": "blue", "text_weight": 2, "top_k": 3},
            ),
            await call("get_product", {"product_id": wanted, "picture_number": 1}),
            await call("match_product", {"photos": [base64_of(picture(3))], "min_score": 1}),
        ]

    flags = ("--photos", str(SAMPLE))
    tools, results = over_stdio(ask, server.url("grpc"), tmp_path / "log", *flags)
    assert [tool.name for tool in tools] == READING
    assert all(tool.description and tool.output_schema for tool in tools)

    by_photo, by_file, by_words, of_scene, alike, got, nothing = results
    first, *_ = answered(by_photo)["matches"]
    assert first["product_id"] == wanted
    assert {key: first[key] for key in ("name", "price", "currency", "attributes")} == {
        key: item.product[key] for key in ("name", "price", "currency", "attributes")
    }
    assert first["score"] == first["image_score"] > 0.5
    assert answered(by_photo)["likely"] is True
    assert f"1. {wanted} " in told(by_photo)
    assert f"picture of {wanted}" in told(by_photo)
    assert [Image.open(io.BytesIO(data)).format for data in shown(by_photo)] == ["JPEG", "JPEG"]

    assert found(by_file) == [wanted]
    assert shown(by_file) == []

    prices = [match["price"] for match in answered(by_words)["matches"]]
    assert len(prices) == 3
    assert prices == sorted(prices)
    assert len(answered(by_words)["facets"]["attributes.colour"]["values"]) == 2

    objects = answered(of_scene)["objects"]
    assert len(objects) > 1
    assert all(len(item["box"]) == 4 and len(item["matches"]) <= 1 for item in objects)

    assert found(alike)[0] == "mug-classic-blue"
    assert answered(alike)["likely"] is None

    product = answered(got)
    assert product["description"] == item.product.get("description")
    assert product["pictures"] == len(item.images)
    assert wanted in told(got)
    assert len(shown(got)) == 1

    assert found(nothing) == []
    assert "probably not in the catalogue" in told(nothing)


@pytest.mark.server
def test_what_fails_is_a_tool_error_in_the_words_of_the_server(
    server: Serving, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    with server.client() as client:
        with pytest.raises(BadRequestError) as refused:
            client.match(texts="mug", filter=BAD_FILTER)
        with pytest.raises(BadRequestError) as unreadable:
            client.match([b"no picture"])
    (tmp_path / "photos").mkdir()
    (tmp_path / "secret.txt").write_text("secret", encoding="utf-8")
    (tmp_path / "photos" / "link.txt").symlink_to(tmp_path / "secret.txt")
    calls = [
        ("match_product", {"text": "mug", "filter": BAD_FILTER}, str(refused.value)),
        ("match_product", {"photos": [base64_of(b"no picture")]}, "image[0]"),
        ("match_product", {}, "at least one image, text or product"),
        ("match_product", {"text": "mug", "limit": 3}, "limit"),
        ("match_product", {"text": "mug", "top_k": 21}, "top_k"),
        ("match_product", {"photos": ["http://127.0.0.1:9/a.jpg"]}, "is a private address"),
        ("match_product", {"photos": ["../secret.txt"]}, "is no file below"),
        ("match_product", {"photos": ["link.txt"]}, "is no file below"),
        ("match_product", {"photos": [str(tmp_path / "secret.txt")]}, "is no file below"),
        ("more_like_this", {"product_ids": ["no-such"]}, "no product 'no-such'"),
        ("get_product", {"product_id": "no-such"}, "there is no product 'no-such'"),
        ("get_product", {"product_id": "mug-classic-red", "picture_number": 99}, "number: "),
        ("add_product", {"product_id": "x", "name": "x", "category": "x"}, "add_product"),
    ]

    async def ask(agent: Client) -> list[CallToolResult]:
        return [await agent.call_tool(name, arguments) for name, arguments, _ in calls]

    flags = ("--photos", str(tmp_path / "photos"))
    results = over_stdio(ask, server.url("http"), tmp_path / "log", *flags)
    for (name, arguments, words), result in zip(calls, results, strict=True):
        assert result.is_error, (name, arguments)
        assert words in told(result)
    assert "image[0]" in str(unreadable.value)


def test_a_server_that_is_away_is_told(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"

    async def ask(agent: Client) -> CallToolResult:
        return await agent.call_tool("match_product", {"text": "mug"})

    result = over_stdio(ask, url, tmp_path / "log")
    assert result.is_error
    assert f"cannot reach {url}" in told(result)


def test_a_signal_ends_it_though_it_waits_for_the_agent() -> None:
    command = [sys.executable, "-m", MODULE]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, env=environment("", {}), text=True) as tools:
        try:
            assert tools.stdin is not None
            assert tools.stdout is not None
            tools.stdin.write('{"jsonrpc": "2.0", "id": 1, "method": "ping"}\n')
            tools.stdin.flush()
            assert json.loads(tools.stdout.readline())["id"] == 1
            tools.send_signal(signal.SIGINT)
            assert tools.wait(WAIT_SECONDS) == -signal.SIGINT
        finally:
            tools.kill()


@pytest.mark.server
def test_an_agent_adds_a_product_over_http_and_finds_it(
    server: Serving, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    product_id = f"agents-{uuid.uuid4().hex}"
    photo = base64_of(picture(4711))
    product = {
        "product_id": product_id,
        "name": "Quilt",
        "category": "quilt",
        "price": 49.5,
        "currency": "EUR",
        "attributes": {"rows": 4, "washable": True},
        "pictures": [photo],
        "caption": "missing",
    }

    async def add(agent: Client) -> tuple[list[str], CallToolResult, CallToolResult]:
        names = [tool.name for tool in (await agent.list_tools()).tools]
        call = agent.call_tool
        return names, await call("add_product", product), await call("add_product", product)

    async def match(agent: Client) -> CallToolResult:
        return await agent.call_tool("match_product", {"photos": [photo], "top_k": 1})

    async def get(agent: Client) -> CallToolResult:
        return await agent.call_tool("get_product", {"product_id": product_id})

    with tools_over_http(server.url("http"), tmp_path, "--add-without-key") as (endpoint, _):
        try:
            names, created, again = over_http(add, endpoint)
            assert names == [*READING, "add_product"]
            assert answered(created)["status"] == "created"
            assert answered(again)["status"] == "unchanged"
            wait_for(lambda: found(over_http(match, endpoint)) == [product_id], "it is found")
            stored = answered(over_http(get, endpoint))
            assert stored["attributes"] == product["attributes"]
            assert stored["pictures"] == 1
        finally:
            with server.client() as client:
                client.delete(product_id)


@pytest.mark.server
def test_callers_over_http_need_the_token_where_there_is_one(
    server: Serving, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    token = {TOKEN_VARIABLE: "a-token-of-the-test"}

    async def ask(agent: Client) -> CallToolResult:
        return await agent.call_tool("match_product", {"text": "red mug", "top_k": 1})

    flags = ("--host", "0.0.0.0")
    with tools_over_http(server.url("http"), tmp_path, *flags, **token) as (endpoint, _):
        assert found(over_http(ask, endpoint, "a-token-of-the-test"))
        for headers in ({}, {"Authorization": "Bearer another"}):
            request = urllib.request.Request(endpoint, b"{}", headers)
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request)
            with refused.value:
                assert refused.value.code == 401


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--http=8765", "--host=0.0.0.0"], TOKEN_VARIABLE),
        (["--http=8765", "--photos=."], "leave out one of --photos and --http"),
        (["--http=65536"], "expected a port"),
        (["--photos=no-such-folder"], "no-such-folder is no folder"),
        (["--url=ftp://shop"], "the scheme is 'ftp'"),
    ],
)
def test_what_would_be_unsafe_or_cannot_be_is_refused_at_the_start(
    flags: list[str],
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(TOKEN_VARIABLE, raising=False)
    assert main(flags) == 2
    assert words in capsys.readouterr().err


def test_a_missing_sdk_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main([]) == 2
    assert "with its extra agents" in capsys.readouterr().err


def test_the_documented_configuration_is_one_that_the_command_takes() -> None:
    document = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```json\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)
    (tools,) = json.loads(block)["mcpServers"].values()
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert scripts["scripts"][Path(tools["command"]).name] == f"{main.__module__}:main"
    assert build_parser().parse_args(tools["args"]).photos == Path("/path/to/photos")
    assert set(tools["env"]) == {"PRODUCT_MATCH_URL", API_KEY_VARIABLE, INGEST_KEY_VARIABLE}


def test_files_are_read_only_where_a_folder_was_named() -> None:
    with pytest.raises(BadRequestError, match="Files are read only where"):
        pictures_from_agent(["photo.jpg"], None)


def test_pictures_beyond_the_largest_are_refused_before_they_are_sent(tmp_path: Path) -> None:
    with (tmp_path / "large.jpg").open("wb") as stream:
        stream.truncate(LARGEST_PICTURE + 1)
    for given in ("large.jpg", "A" * (LARGEST_PICTURE * 3 // 2)):
        with pytest.raises(BadRequestError, match="send a smaller copy"):
            pictures_from_agent([given], tmp_path)
