"""The connection to Milvus: made when it is first needed, with a time limit on all it does."""

from __future__ import annotations

import contextlib
import logging
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bls_models.errors import IndexUnavailableError, SetupError
from bls_models.settings import Settings
from bls_models.watchdog import progress

REMEDY = "check that it runs and that MILVUS_URI and MILVUS_TOKEN are right, then try again"
# How soon a channel tries again to reach a Milvus that was away; gRPC's own is minutes.
GRPC_OPTIONS = {"grpc.max_reconnect_backoff_ms": 1000}


class MilvusConnection:
    """A connection for all threads of a process.

    Args:
        settings: address, token, certificate and time limit.

    Raises:
        SetupError: see ``check_connection_settings``.

    Attributes:
        seconds: longest wait for one operation, which every call of ``client`` is given as its
            ``timeout``.
    """

    def __init__(self, settings: Settings) -> None:
        check_connection_settings(settings)
        self._uri = settings.milvus_uri
        # It may have a password.
        self._address = re.sub(r"//[^/]*@", "//", self._uri)
        self._token = settings.milvus_token
        self._certificate = settings.milvus_certificate
        self.seconds = settings.milvus_timeout_ms / 1000
        self._lock = threading.Lock()
        self._client: Any = None
        self._closed = False
        self._failed_at = float("-inf")

    @property
    def client(self) -> Any:
        """The ``pymilvus.MilvusClient``; what it raises is to be met by ``errors``.

        Raises:
            IndexUnavailableError: Milvus does not answer in time, or ``close`` was called.
            SetupError: the address cannot be used.
        """
        asked = time.monotonic()
        with self._lock:
            if self._closed:
                raise IndexUnavailableError(
                    f"the connection to Milvus at {self._address} is closed; try again"
                )
            if self._client is None:
                if self._failed_at > asked:
                    # So that many do not wait one after the other.
                    raise IndexUnavailableError(f"Milvus at {self._address} is away; {REMEDY}")
                try:
                    self._client = self._connected()
                except IndexUnavailableError:
                    self._failed_at = time.monotonic()
                    raise
            return self._client

    @contextlib.contextmanager
    def errors(self, doing: str) -> Iterator[None]:
        """Turn the client's errors into ``IndexUnavailableError`` with what was being done."""
        # Here, because an environment for FAISS has neither.
        pymilvus_errors, grpc = _modules()
        try:
            yield
        except (pymilvus_errors.MilvusException, grpc.RpcError, grpc.FutureTimeoutError) as error:
            raise IndexUnavailableError(
                f"Milvus failed while {doing}: {_words(error)}; {REMEDY}"
            ) from error
        finally:
            progress()

    def close(self) -> None:
        """Close it for good: whoever still works with it is refused."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    def _connected(self) -> Any:
        errors, _ = _modules()
        from pymilvus import MilvusClient

        options: dict[str, Any] = {"grpc_options": GRPC_OPTIONS}
        if self._certificate:
            options["server_pem_path"] = self._certificate
        try:
            with self.errors(f"connecting to {self._address}"):
                client = MilvusClient(
                    self._uri,
                    token=self._token,
                    timeout=self.seconds,
                    dedicated=True,
                    **options,
                )
        except IndexUnavailableError as error:
            if isinstance(error.__cause__, errors.ConnectionConfigException):
                raise SetupError(
                    f"MILVUS_URI={self._address} cannot be used; set it to e.g. "
                    "http://milvus:19530, or to a path in a folder that is there and ends in .db"
                ) from None
            raise
        # It would connect anew itself when Milvus is away, one thread after the other, each for as
        # long as it may; gRPC's channel does so beside them.
        client._handler._on_rpc_error = lambda error: False
        return client


def check_connection_settings(settings: Settings) -> None:
    """Refuse at a server's start what could never connect.

    Raises:
        SetupError: pymilvus is not installed, or the certificate cannot be used.
    """
    _modules()
    certificate = settings.milvus_certificate
    if not certificate:
        return
    if not settings.milvus_uri.startswith("https://"):
        raise SetupError(
            "MILVUS_CERTIFICATE is set, but MILVUS_URI has no TLS; set the address to https://, or "
            "unset the certificate"
        )
    if not Path(certificate).is_file():
        raise SetupError(
            f"MILVUS_CERTIFICATE={certificate} is not there; set it to the file of the authority's "
            "certificates (PEM), or unset it"
        )


def _modules() -> tuple[Any, Any]:
    """The errors of pymilvus, and gRPC."""
    try:
        import grpc
        from pymilvus import exceptions
    except ImportError as error:
        raise SetupError(
            f"the engine milvus needs {error.name}, which is not installed: install the extra with "
            "`pip install -e '.[milvus]'`, build images with `make images EXTRAS=milvus`, or set "
            "PRODUCT_MATCH_INDEX_ENGINE=faiss"
        ) from error
    # It logs each error with a trace, and raises it: what it says is in our errors.
    logging.getLogger("pymilvus").setLevel(logging.CRITICAL)
    return exceptions, grpc


def _words(error: Any) -> str:
    """What Milvus says, and gRPC, in a line."""
    said = []
    for item in (error, error.__cause__):
        if hasattr(item, "details"):
            said.append(f"{item.code().name}: {item.details()}")
        elif item is not None:
            said.append(str(getattr(item, "message", "") or item))
    return " ".join(": ".join(dict.fromkeys(said)).split())
