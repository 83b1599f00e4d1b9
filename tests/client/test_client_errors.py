"""Which error of a transport becomes which error of the client."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from tritonclient.utils import InferenceServerException

from product_match_client import (
    AsyncProductMatchClient,
    BadRequestError,
    ClientError,
    NotFoundError,
    ProductMatchClient,
    ServerError,
    ServiceUnavailableError,
)
from product_match_client.endpoint import endpoint_from_url
from product_match_client.errors import error_from_connection, error_from_triton

URL = "http://shop:8000"
SCHEMES = ("http", "grpc")
CALL_SECONDS = 30.0


@pytest.fixture
def closed_port() -> int:
    """A port on which nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


@pytest.fixture
def silent_port() -> Iterator[int]:
    """A port that accepts connections and never answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        ("400", BadRequestError),
        ("413", BadRequestError),
        ("StatusCode.INVALID_ARGUMENT", BadRequestError),
        ("429", ServiceUnavailableError),
        ("502", ServiceUnavailableError),
        ("503", ServiceUnavailableError),
        ("StatusCode.UNAVAILABLE", ServiceUnavailableError),
        ("StatusCode.DEADLINE_EXCEEDED", ServiceUnavailableError),
        ("500", ServerError),
        ("404", ServerError),
        ("StatusCode.INTERNAL", ServerError),
        ("StatusCode.NOT_FOUND", ServerError),
        (None, ClientError),
    ],
)
def test_the_status_decides_the_kind(status: str | None, kind: type[ClientError]) -> None:
    error = error_from_triton(InferenceServerException("why", status), URL, "product_match")
    assert type(error) is kind
    assert "why" in str(error)
    assert (error.status, error.url, error.model) == (status, URL, "product_match")


def test_a_bad_request_says_what_the_server_said_and_no_more() -> None:
    message = "image[1]: not a picture; expected JPEG, PNG or WebP."
    error = error_from_triton(InferenceServerException(message, "400"), URL, "product_match")
    assert str(error) == message


@pytest.mark.parametrize("status", ["404", "StatusCode.NOT_FOUND"])
def test_a_product_that_is_not_there_is_told_from_a_model_that_is_not(status: str) -> None:
    for message, kind in (
        ("product_id: 'mug' is not stored; expected a stored product's id.", NotFoundError),
        ("sha256: picture 00 is not stored; expected a picture.", NotFoundError),
        ("Request for unknown model: 'product_picture' is not found", ServerError),
    ):
        error = error_from_triton(InferenceServerException(message, status), URL, "product_picture")
        assert type(error) is kind
    assert issubclass(NotFoundError, BadRequestError)


@pytest.mark.parametrize("status", ["503", "500", "StatusCode.DEADLINE_EXCEEDED"])
def test_other_errors_name_the_server_and_the_model(status: str) -> None:
    error = error_from_triton(InferenceServerException("why", status), URL, "product_match")
    assert URL in str(error)
    assert "product_match" in str(error)


def test_a_timeout_names_its_limit() -> None:
    error = error_from_connection(TimeoutError(), URL, "product_match", 1.5)
    assert "within 1.5 s" in str(error)


def test_an_error_without_text_is_named_by_its_kind() -> None:
    error = error_from_connection(ConnectionResetError(), URL, "product_match", 1.5)
    assert str(error) == f"cannot reach {URL}: ConnectionResetError"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_closed_port_is_an_unavailable_service(scheme: str, closed_port: int) -> None:
    url = f"{scheme}://127.0.0.1:{closed_port}"
    with ProductMatchClient(url, 5.0, headers={"Authorization": "x"}) as client:
        with pytest.raises(ServiceUnavailableError, match=url):
            client.match(texts="x")
        assert client.is_ready() is False


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_closed_port_is_an_unavailable_service_for_coroutines(
    scheme: str, closed_port: int
) -> None:
    url = f"{scheme}://127.0.0.1:{closed_port}"

    async def ask() -> None:
        async with AsyncProductMatchClient(url, 5.0, headers={"Authorization": "x"}) as client:
            with pytest.raises(ServiceUnavailableError, match=url):
                await client.match(texts="x")
            for call in (client.upsert({"product_id": "p"}), client.delete("p"), client.get("p")):
                with pytest.raises(ServiceUnavailableError):
                    await call
            assert await client.is_ready() is False

    asyncio.run(ask())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_server_that_does_not_answer_is_an_unavailable_service(
    scheme: str, silent_port: int
) -> None:
    url = f"{scheme}://127.0.0.1:{silent_port}"
    with (
        ProductMatchClient(url, 0.2) as client,
        pytest.raises(ServiceUnavailableError, match="no answer from product_ingest"),
    ):
        client.get("p")

    async def ask() -> None:
        async with AsyncProductMatchClient(url, 0.2) as client:
            await client.get("p")

    with pytest.raises(ServiceUnavailableError, match="no answer from product_ingest"):
        asyncio.run(ask())


def test_a_host_that_does_not_resolve_is_an_unavailable_service() -> None:
    with (
        ProductMatchClient("http://nosuch.invalid:8000") as client,
        pytest.raises(ServiceUnavailableError, match=r"nosuch\.invalid"),
    ):
        client.get("p")


def test_a_bad_argument_is_refused_before_anything_is_sent(closed_port: int) -> None:
    with (
        ProductMatchClient(f"127.0.0.1:{closed_port}") as client,
        pytest.raises(BadRequestError, match="at least one"),
    ):
        client.match()


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("127.0.0.1:8000", ("http", False, "127.0.0.1:8000")),
        ("http://shop/", ("http", False, "shop")),
        ("https://shop/triton/", ("http", True, "shop/triton")),
        ("grpc://[::1]:8001", ("grpc", False, "[::1]:8001")),
        ("grpcs://shop:443", ("grpc", True, "shop:443")),
    ],
)
def test_urls_are_read(url: str, expected: tuple[Any, ...]) -> None:
    endpoint = endpoint_from_url(url)
    assert (endpoint.protocol, endpoint.secure, endpoint.address) == expected


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://shop", "the scheme is 'ftp'"),
        ("http://", "there is no host"),
        ("http://shop:port", "Port could not be cast"),
        ("http://me:secret@shop:8000", "send credentials with headers="),
        ("http://shop:8000?x=1", "a query or fragment"),
        ("grpc://shop", "a host and a port"),
        ("grpc://shop:8001/base", "a host and a port"),
    ],
)
def test_urls_without_meaning_are_refused(url: str, message: str) -> None:
    with pytest.raises(BadRequestError, match=message) as caught:
        endpoint_from_url(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("kind", [ProductMatchClient, AsyncProductMatchClient])
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": 7}, "url: got int; expected text"),
        ({"timeout_s": "30"}, "timeout_s: got str; expected a number of seconds"),
        ({"timeout_s": 0}, "expected seconds above 0"),
        ({"timeout_s": float("inf")}, "expected seconds above 0"),
        ({"headers": "x-api-key: k"}, "headers: got str; expected a mapping"),
        ({"headers": {"x-api-key": 7}}, r"headers\['x-api-key'\]: got int"),
        ({"headers": {7: "k"}}, "headers: a name: got int"),
        ({"headers": {"x-api-key": "schlüssel"}}, "expected printable ASCII"),
        ({"headers": {"x-api-key": "a\r\nb: c"}}, "expected printable ASCII"),
    ],
)
def test_a_client_refuses_arguments_that_it_could_not_use(
    kind: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadRequestError, match=message):
        kind(**arguments)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_closed_client_says_so(scheme: str, closed_port: int) -> None:
    with ProductMatchClient(f"{scheme}://127.0.0.1:{closed_port}") as client:
        pass
    with pytest.raises(BadRequestError, match="this client is closed; make another one"):
        client.get("p")


@pytest.mark.parametrize("scheme", SCHEMES)
def test_a_second_event_loop_is_told_to_have_its_own_client(scheme: str, closed_port: int) -> None:
    client = AsyncProductMatchClient(f"{scheme}://127.0.0.1:{closed_port}", timeout_s=CALL_SECONDS)

    async def use_elsewhere() -> None:
        for use in (client.match(texts="x"), client.is_ready(), client.close()):
            with pytest.raises(BadRequestError, match="in another event loop; make one client"):
                await use

    async def use() -> None:
        with pytest.raises(ServiceUnavailableError):
            await client.match(texts="x")
        await asyncio.to_thread(asyncio.run, use_elsewhere())
        await client.close()

    asyncio.run(use())
    # Closed, it may begin again anywhere.
    assert asyncio.run(_is_ready(client)) is False


async def _is_ready(client: AsyncProductMatchClient) -> bool:
    async with client:
        return await client.is_ready()
