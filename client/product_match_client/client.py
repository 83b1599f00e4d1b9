"""The clients: the same methods, blocking and as coroutines."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Unpack

from bls_models.specs import PRODUCT_INGEST, PRODUCT_MATCH
from product_match_client.arguments import header_arguments, seconds_argument
from product_match_client.calls import (
    Call,
    MatchOptions,
    Result,
    delete_call,
    feedback_call,
    get_call,
    match_call,
    picture_call,
    reembed_call,
    report_call,
    upsert_call,
)
from product_match_client.endpoint import endpoint_from_url
from product_match_client.errors import BadRequestError, ClientError
from product_match_client.images import ImageSource
from product_match_client.results import IngestResult, MatchResult, ProductPicture
from product_match_client.transports import AsyncTransport, blocking_transport, open_async

DEFAULT_URL = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S = 30.0
MODELS = (PRODUCT_MATCH.name, PRODUCT_INGEST.name)


class ProductMatchClient:
    """A blocking client of one server.

    It holds connections, so one object should serve many calls; use it as a context manager or
    call `close`. It belongs to one thread at a time (tritonclient's HTTP client is not
    thread-safe). Nothing is retried: a call that fails says so.

    Args:
        url: ``http://``, ``https://``, ``grpc://`` or ``grpcs://host:port``; a bare
            ``host:port`` means HTTP.
        timeout_s: seconds; over gRPC for a whole call, over HTTP for connecting and for each
            wait on the network.
        headers: sent with every request, as HTTP headers or gRPC metadata.
        allow_private_links: whether pictures by link may lead to this machine and into private
            networks.

    Raises:
        BadRequestError: the url, the time limit or the headers cannot be used.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        *,
        allow_private_links: bool = False,
    ) -> None:
        self._links = allow_private_links
        self._transport = blocking_transport(url, timeout_s, headers)

    def __enter__(self) -> ProductMatchClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; the client cannot be used afterwards."""
        self._transport.close()

    def match(
        self,
        images: ImageSource | Iterable[ImageSource] = (),
        texts: str | Iterable[str] = (),
        **options: Unpack[MatchOptions],
    ) -> MatchResult:
        """Find the products that look and read like what is given.

        At least one image, text or product (``like``) is needed.

        Args:
            images: photos of the thing, one or several; see `ImageSource`. Those by link are
                fetched from here, a few at once, of at most 10 MiB and 30 s each, and kept in
                ``~/.cache/product-match`` until they change.
            texts: descriptions of it, one or several.
            options: see `MatchOptions`.

        Returns:
            The matches, best first or as ``sort`` says; there may be none.

        Raises:
            BadRequestError: the request cannot be answered as it is.
            ServiceUnavailableError: the service is away or too slow.
            ServerError: the server failed.
        """
        return self._transport.send(
            match_call(images, texts, **options, allow_private_links=self._links)
        )

    def upsert(
        self,
        product: Mapping[str, Any],
        images: ImageSource | Iterable[ImageSource] | None = None,
        *,
        caption: str | None = None,
        duplicates: str | None = None,
    ) -> IngestResult:
        """Create a product or replace it. Sending one that has not changed is cheap.

        Args:
            product: product_id, name, description, category, price, currency, and attributes,
                a flat object of text, numbers and booleans.
            images: its pictures; None or none at all keeps the stored ones.
            caption: ``missing`` lets the server describe the first picture of a product that has
                no description; the server's default is ``never``.
            duplicates: ``report`` (the server's default) looks for other products with the same
                or nearly the same pictures; ``never`` leaves that out.

        Returns:
            Its status is ``created``, ``updated`` or ``unchanged``; the details say what became
            of a description that was asked for, and have the ``duplicates`` of a product that was
            written.

        Raises:
            BadRequestError: the product or a picture cannot be accepted.
            ServiceUnavailableError: the service is away or too slow.
            ServerError: the server failed.
        """
        return self._transport.send(upsert_call(product, images, caption, duplicates, self._links))

    def delete(self, product_id: str) -> IngestResult:
        """Remove a product.

        Returns:
            Its status is ``deleted`` or ``not_found``.

        Raises:
            ClientError: as for `upsert`.
        """
        return self._transport.send(delete_call(product_id))

    def reembed(self, product_id: str) -> IngestResult:
        """Compute a stored product's vectors anew, as after a change of the server's bundle.

        Raises:
            ClientError: as for `upsert`; a product that is not stored is a BadRequestError.
        """
        return self._transport.send(reembed_call(product_id))

    def get(self, product_id: str) -> dict[str, Any] | None:
        """The document of a product, or None if there is no such product.

        Raises:
            ClientError: as for `upsert`.
        """
        return self._transport.send(get_call(product_id))

    def feedback(self, request_id: str, product_id: str, event: str) -> str:
        """Tell what became of a match, for reports and evaluations; telling it again is no harm.

        Args:
            request_id: of the match: ``details["request_id"]`` of its result.
            product_id: the product it is about.
            event: ``accepted`` (that was it), ``rejected`` (that was not), or ``clicked``.

        Returns:
            ``recorded``.

        Raises:
            ClientError: as for `upsert`.
        """
        return self._transport.send(feedback_call(request_id, product_id, event))

    def picture(
        self,
        product_id: str | None = None,
        number: int | None = None,
        *,
        sha256: str | None = None,
        size: int | None = None,
        format: str | None = None,
    ) -> ProductPicture:
        """A stored picture, scaled, to be shown.

        Args:
            product_id: whose picture.
            number: which of the product's, from 1, which is the server's default.
            sha256: the picture itself, in place of a product; documents have it in ``images``.
            size: longest side in pixels, 16 to 2048; a picture is never enlarged. The server's
                default is the stored picture's own size.
            format: ``webp`` (the server's default) or ``jpeg``.

        Raises:
            NotFoundError: there is no such product or picture.
            BadRequestError: a value cannot be used.
            ServiceUnavailableError: the service is away or too slow.
            ServerError: the server failed.
        """
        return self._transport.send(picture_call(product_id, number, sha256, size, format))

    def report(
        self, report: str, *, limit: int | None = None, hours: float | None = None
    ) -> dict[str, Any]:
        """How the server does; behind a gateway it takes a key of the class ingest.

        Args:
            report: ``matches`` (the latest requests), ``errors``, ``history`` (figures over time),
                ``stages`` (times by stage), ``feedback`` (accuracy by it), ``products`` (the most
                matched) or ``server`` (bundle, index and learned metric).
            limit: most entries or products, or the number of a history's buckets, 1 to 100; the
                server's default is 20, and 24 buckets.
            hours: how far back history, stages, feedback and products go, from 0.1; the server's
                default is 24, and for feedback all that it keeps.

        Returns:
            The report; docs/api.md has its fields. ``cut`` is true where there was more than one
            report takes.

        Raises:
            ClientError: as for `upsert`.
        """
        return self._transport.send(report_call(report, limit, hours))

    def is_ready(self) -> bool:
        """Whether the server says that it answers; False also where it cannot be asked."""
        try:
            return all(self._transport.is_model_ready(model) for model in MODELS)
        except ClientError:
            return False


class AsyncProductMatchClient:
    """`ProductMatchClient` with coroutines; many calls may be under way at once.

    It belongs to the event loop that makes its first call, until it is closed there; a call in
    another loop is a BadRequestError.

    Args:
        url: as for `ProductMatchClient`.
        timeout_s: seconds for a whole call.
        headers: as for `ProductMatchClient`.
        allow_private_links: as for `ProductMatchClient`.

    Raises:
        BadRequestError: the url, the time limit or the headers cannot be used.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        headers: Mapping[str, str] | None = None,
        *,
        allow_private_links: bool = False,
    ) -> None:
        self._links = allow_private_links
        self._endpoint = endpoint_from_url(url)
        self._timeout_s = seconds_argument("timeout_s", timeout_s)
        self._headers = header_arguments(headers)
        self._opened: AsyncTransport | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> AsyncProductMatchClient:
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.close()

    @property
    def _transport(self) -> AsyncTransport:
        # Opened with the first call: aiohttp binds its connections to the running loop.
        if self._opened is None:
            self._opened = AsyncTransport(
                open_async(self._endpoint, self._timeout_s),
                self._endpoint,
                self._timeout_s,
                self._headers,
            )
            self._loop = asyncio.get_running_loop()
        elif self._loop is not asyncio.get_running_loop():
            raise BadRequestError(
                "this client has its connections in another event loop; make one client within "
                "each asyncio.run (`async with AsyncProductMatchClient(...)`), and close it there"
            )
        return self._opened

    async def _send(self, build: Callable[[], Call[Result]]) -> Result:
        transport = self._transport
        # Building reads and fetches pictures, which would hold up the loop.
        return await transport.send(await asyncio.to_thread(build))

    async def close(self) -> None:
        """Close the connections.

        Raises:
            BadRequestError: they are another event loop's.
        """
        if self._opened is not None:
            await self._transport.close()
            self._opened = None

    async def match(
        self,
        images: ImageSource | Iterable[ImageSource] = (),
        texts: str | Iterable[str] = (),
        **options: Unpack[MatchOptions],
    ) -> MatchResult:
        """Find the products that look and read like what is given.

        Arguments, result and errors are those of `ProductMatchClient.match`.
        """
        return await self._send(
            lambda: match_call(images, texts, **options, allow_private_links=self._links)
        )

    async def upsert(
        self,
        product: Mapping[str, Any],
        images: ImageSource | Iterable[ImageSource] | None = None,
        *,
        caption: str | None = None,
        duplicates: str | None = None,
    ) -> IngestResult:
        """Create a product or replace it, as `ProductMatchClient.upsert` does."""
        return await self._send(
            lambda: upsert_call(product, images, caption, duplicates, self._links)
        )

    async def delete(self, product_id: str) -> IngestResult:
        """Remove a product, as `ProductMatchClient.delete` does."""
        return await self._send(lambda: delete_call(product_id))

    async def reembed(self, product_id: str) -> IngestResult:
        """Compute a stored product's vectors anew, as `ProductMatchClient.reembed` does."""
        return await self._send(lambda: reembed_call(product_id))

    async def get(self, product_id: str) -> dict[str, Any] | None:
        """The document of a product, as `ProductMatchClient.get` does."""
        return await self._send(lambda: get_call(product_id))

    async def feedback(self, request_id: str, product_id: str, event: str) -> str:
        """Tell what became of a match, as `ProductMatchClient.feedback` does."""
        return await self._send(lambda: feedback_call(request_id, product_id, event))

    async def picture(
        self,
        product_id: str | None = None,
        number: int | None = None,
        *,
        sha256: str | None = None,
        size: int | None = None,
        format: str | None = None,
    ) -> ProductPicture:
        """A stored picture, as of `ProductMatchClient.picture`."""
        return await self._send(lambda: picture_call(product_id, number, sha256, size, format))

    async def report(
        self, report: str, *, limit: int | None = None, hours: float | None = None
    ) -> dict[str, Any]:
        """How the server does, as `ProductMatchClient.report` tells it."""
        return await self._send(lambda: report_call(report, limit, hours))

    async def is_ready(self) -> bool:
        """Whether the server says that it answers; False also where it cannot be asked."""
        transport = self._transport
        try:
            return all([await transport.is_model_ready(model) for model in MODELS])
        except ClientError:
            return False
