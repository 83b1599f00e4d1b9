"""Sending calls with tritonclient: HTTP or gRPC, blocking or asyncio.

The four clients of tritonclient differ in how they are opened, how they take a time limit and
what they raise when a connection fails. A `Connection` holds those differences; the two
transports on top hold everything else once. tritonclient's modules are imported where a
connection is opened, so that one protocol works without the other's packages.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from tritonclient.utils import InferenceServerException

from bls_models.specs import ModelSpec
from product_match_client.arguments import header_arguments, seconds_argument
from product_match_client.calls import Call, Result
from product_match_client.endpoint import Endpoint, endpoint_from_url
from product_match_client.errors import (
    BadRequestError,
    ServerError,
    error_from_connection,
    error_from_triton,
)
from product_match_client.results import LATER_OUTPUTS, Outputs


class InferResult(Protocol):
    """An answer of tritonclient."""

    def as_numpy(self, name: str) -> Any:
        """The output tensor of that name, or None."""


class BlockingTriton(Protocol):
    """What the HTTP and gRPC clients of tritonclient have in common."""

    def infer(self, **arguments: Any) -> InferResult:
        """Run a model."""

    def is_model_ready(self, model_name: str, **arguments: Any) -> bool:
        """Whether a model answers."""

    def close(self) -> None:
        """Close the connections."""


class AsyncTriton(Protocol):
    """The same with coroutines."""

    def infer(self, **arguments: Any) -> Awaitable[InferResult]:
        """Run a model."""

    def is_model_ready(self, model_name: str, **arguments: Any) -> Awaitable[bool]:
        """Whether a model answers."""

    def close(self) -> Awaitable[None]:
        """Close the connections."""


Triton = TypeVar("Triton")


@dataclass(frozen=True)
class Connection(Generic[Triton]):
    """A client of tritonclient and what is particular to it.

    Attributes:
        triton: the client; it connects with the first call.
        make_input: its InferInput class.
        failures: what it raises, beside InferenceServerException, where no answer comes.
        options: arguments that every call takes.
    """

    triton: Triton
    make_input: Callable[[str, list[int], str], Any]
    failures: tuple[type[Exception], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def open_blocking(endpoint: Endpoint, timeout_s: float) -> Connection[BlockingTriton]:
    """A blocking connection.

    Args:
        endpoint: the server.
        timeout_s: seconds; over gRPC for a whole call, over HTTP for connecting and for each
            wait on the network.
    """
    if endpoint.protocol == "grpc":
        import tritonclient.grpc

        return Connection(
            tritonclient.grpc.InferenceServerClient(endpoint.address, ssl=endpoint.secure),
            tritonclient.grpc.InferInput,
            options={"client_timeout": timeout_s},
        )
    import tritonclient.http
    from geventhttpclient.response import HTTPParseError

    return Connection(
        tritonclient.http.InferenceServerClient(
            endpoint.address,
            connection_timeout=timeout_s,
            network_timeout=timeout_s,
            ssl=endpoint.secure,
        ),
        tritonclient.http.InferInput,
        failures=(OSError, HTTPParseError),
    )


def open_async(endpoint: Endpoint, timeout_s: float) -> Connection[AsyncTriton]:
    """An asyncio connection; to be opened inside the running loop.

    Args:
        endpoint: the server.
        timeout_s: seconds for a whole call.
    """
    if endpoint.protocol == "grpc":
        import tritonclient.grpc.aio

        return Connection(
            tritonclient.grpc.aio.InferenceServerClient(endpoint.address, ssl=endpoint.secure),
            tritonclient.grpc.aio.InferInput,
            options={"client_timeout": timeout_s},
        )
    import aiohttp
    import tritonclient.http.aio

    return Connection(
        tritonclient.http.aio.InferenceServerClient(
            endpoint.address,
            conn_timeout=timeout_s,
            ssl=endpoint.secure,
        ),
        tritonclient.http.aio.InferInput,
        failures=(OSError, aiohttp.ClientError),
    )


class _Transport(Generic[Triton]):
    """What does not depend on blocking or asyncio."""

    def __init__(
        self,
        connection: Connection[Triton],
        endpoint: Endpoint,
        timeout_s: float,
        headers: Mapping[str, str],
    ) -> None:
        self._connection = connection
        self._endpoint = endpoint
        self._timeout_s = timeout_s
        # gRPC refuses capital letters in metadata keys; HTTP does not care
        self._headers = {name.lower(): value for name, value in headers.items()}
        self._closed = False

    def _common_arguments(self) -> dict[str, Any]:
        # tritonclient adds headers of its own to the dictionary: each call gets a copy
        return {"headers": dict(self._headers), **self._connection.options}

    def _infer_arguments(self, call: Call[Result]) -> dict[str, Any]:
        inputs = []
        for tensor in call.tensors:
            infer_input = self._connection.make_input(
                tensor.name, list(tensor.array.shape), tensor.dtype
            )
            infer_input.set_data_from_numpy(tensor.array)
            inputs.append(infer_input)
        return {
            "model_name": call.spec.name,
            "inputs": inputs,
            "request_id": call.request_id,
            # Microseconds; the server then does not begin what nobody waits for any more.
            "timeout": round(self._timeout_s * 1e6),
            **self._common_arguments(),
        }

    def _outputs(self, result: InferResult, spec: ModelSpec) -> Outputs:
        found = {name: result.as_numpy(name) for name in spec.output_names}
        outputs = {name: array for name, array in found.items() if array is not None}
        missing = [name for name in found if name not in outputs and name not in LATER_OUTPUTS]
        if missing:
            raise ServerError(
                f"{spec.name} at {self._endpoint.url} answered without {', '.join(missing)}; "
                "is the server of another version than this client?",
                url=self._endpoint.url,
                model=spec.name,
            )
        return outputs

    @contextmanager
    def _errors_as_client_errors(self, model: str) -> Iterator[None]:
        if self._closed:
            raise BadRequestError("this client is closed; make another one")
        try:
            yield
        except InferenceServerException as error:
            raise error_from_triton(error, self._endpoint.url, model) from error
        except self._connection.failures as error:
            url = self._endpoint.url
            raise error_from_connection(error, url, model, self._timeout_s) from error


class BlockingTransport(_Transport[BlockingTriton]):
    """Sends calls and waits."""

    def send(self, call: Call[Result]) -> Result:
        """Send one call.

        Raises:
            ClientError: any of its kinds.
        """
        with self._errors_as_client_errors(call.spec.name):
            result = self._connection.triton.infer(**self._infer_arguments(call))
        return call.parse(self._outputs(result, call.spec))

    def is_model_ready(self, model: str) -> bool:
        """Ask whether a model answers.

        Raises:
            ClientError: the server could not be asked.
        """
        with self._errors_as_client_errors(model):
            return self._connection.triton.is_model_ready(model, **self._common_arguments())

    def close(self) -> None:
        """Close the connections."""
        self._closed = True
        self._connection.triton.close()


def blocking_transport(
    url: str, timeout_s: float, headers: Mapping[str, str] | None = None
) -> BlockingTransport:
    """A transport to a server; see `ProductMatchClient` for the arguments.

    Raises:
        BadRequestError: the url, the time limit or the headers cannot be used.
    """
    endpoint = endpoint_from_url(url)
    timeout_s, headers = seconds_argument("timeout_s", timeout_s), header_arguments(headers)
    connection = open_blocking(endpoint, timeout_s)
    return BlockingTransport(connection, endpoint, timeout_s, headers)


class AsyncTransport(_Transport[AsyncTriton]):
    """Sends calls with coroutines."""

    async def send(self, call: Call[Result]) -> Result:
        """Send one call.

        Raises:
            ClientError: any of its kinds.
        """
        with self._errors_as_client_errors(call.spec.name):
            result = await self._connection.triton.infer(**self._infer_arguments(call))
        return call.parse(self._outputs(result, call.spec))

    async def is_model_ready(self, model: str) -> bool:
        """Ask whether a model answers.

        Raises:
            ClientError: the server could not be asked.
        """
        with self._errors_as_client_errors(model):
            return await self._connection.triton.is_model_ready(model, **self._common_arguments())

    async def close(self) -> None:
        """Close the connections."""
        self._closed = True
        await self._connection.triton.close()
