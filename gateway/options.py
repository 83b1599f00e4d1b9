"""What the gateway can be told, all by environment variables."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from ipaddress import ip_network
from pathlib import Path

from bls_models.errors import SetupError
from bls_models.settings import LOG_FORMATS, setting, values_from_environment

# Each of these ends up in nginx's configuration, where a stray quote or brace would be syntax.
_ADDRESS = re.compile(r"[A-Za-z0-9._-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.-]+(:\d{1,5})?")
_PATH = re.compile(r"/[A-Za-z0-9._/-]*")
LARGEST_PORT = 65535


@dataclass(frozen=True)
class GatewayOptions:
    """Options of ``python -m gateway``. Rates are requests a second."""

    http_port: int = setting(8080, "GATEWAY_HTTP_PORT", "Port for HTTP clients.")
    grpc_port: int = setting(8081, "GATEWAY_GRPC_PORT", "Port for gRPC clients.")
    upstream_http: str = setting(
        "triton:8000", "GATEWAY_UPSTREAM_HTTP", "Triton's HTTP endpoint, `host:port`."
    )
    upstream_grpc: str = setting(
        "triton:8001", "GATEWAY_UPSTREAM_GRPC", "Triton's gRPC endpoint, `host:port`."
    )
    keys_file: str = setting(
        "/run/secrets/gateway-keys",
        "GATEWAY_KEYS_FILE",
        "The API keys: a line each, `<client> <match or ingest> <key>`.",
    )
    max_body_mb: int = setting(32, "GATEWAY_MAX_BODY_MB", "Largest request body, in MiB.")
    match_rate: int = setting(
        20,
        "GATEWAY_MATCH_RATE",
        "Matches, feedback and metadata requests a second for each client.",
    )
    match_burst: int = setting(
        40,
        "GATEWAY_MATCH_BURST",
        "Such requests that a client may send at once on top of its rate.",
    )
    ingest_rate: int = setting(20, "GATEWAY_INGEST_RATE", "Writes a second for each client.")
    ingest_burst: int = setting(
        40, "GATEWAY_INGEST_BURST", "Writes that a client may send at once on top of its rate."
    )
    address_connections: int = setting(
        100, "GATEWAY_ADDRESS_CONNECTIONS", "Requests under way at once for each client address."
    )
    timeout_s: int = setting(
        30, "GATEWAY_TIMEOUT_S", "Longest wait for Triton's answer, in seconds."
    )
    cors_origins: str = setting(
        "",
        "GATEWAY_CORS_ORIGINS",
        "Web origins that browsers may call from, separated by spaces, or `*`.",
    )
    tls_certificate: str = setting(
        "", "GATEWAY_TLS_CERT", "Certificate chain (PEM); with it both ports speak TLS."
    )
    tls_key: str = setting("", "GATEWAY_TLS_KEY", "The certificate's private key (PEM).")
    trusted_proxies: str = setting(
        "",
        "GATEWAY_TRUSTED_PROXIES",
        "Networks of proxies in front, separated by spaces, whose `X-Forwarded-For` names the "
        "client's address.",
    )
    log_format: str = setting(
        "json",
        "GATEWAY_LOG_FORMAT",
        "Lines of the access log: `json`, one object a line, or `text`.",
    )
    folder: str = setting(
        "/tmp/gateway",
        "GATEWAY_FOLDER",
        "Folder for nginx's configuration and temporary files.",
    )

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            SetupError: one cannot be used; the message names its variable.
        """
        for item in fields(self):
            value = getattr(self, item.name)
            if isinstance(value, int):
                largest = LARGEST_PORT if item.name.endswith("_port") else 1_000_000
                if not 1 <= value <= largest:
                    raise _refusal(item.metadata["env"], value, f"a number from 1 to {largest}")
        self._check("upstream_http", _ADDRESS, "host:port")
        self._check("upstream_grpc", _ADDRESS, "host:port")
        for name in ("keys_file", "folder", "tls_certificate", "tls_key"):
            if getattr(self, name) or name in ("keys_file", "folder"):
                self._check(name, _PATH, "an absolute path of letters, digits and . _ - /")
        if self.log_format not in LOG_FORMATS:
            raise _refusal("GATEWAY_LOG_FORMAT", self.log_format, " or ".join(LOG_FORMATS))
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise SetupError(
                "TLS takes both GATEWAY_TLS_CERT and GATEWAY_TLS_KEY; set both, or neither"
            )
        for origin in self.cors_origins.split():
            if origin != "*" and not _ORIGIN.fullmatch(origin):
                raise _refusal("GATEWAY_CORS_ORIGINS", origin, "origins as https://shop.example")
        for network in self.trusted_proxies.split():
            try:
                ip_network(network)
            except ValueError:
                raise _refusal(
                    "GATEWAY_TRUSTED_PROXIES", network, "networks as 10.0.0.0/8"
                ) from None

    def _check(self, name: str, pattern: re.Pattern[str], expected: str) -> None:
        value = getattr(self, name)
        if not pattern.fullmatch(value):
            (item,) = (item for item in fields(self) if item.name == name)
            raise _refusal(item.metadata["env"], value, expected)

    @property
    def keys_path(self) -> Path:
        """``keys_file`` as a path."""
        return Path(self.keys_file)

    @property
    def folder_path(self) -> Path:
        """``folder`` as a path."""
        return Path(self.folder)

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> GatewayOptions:
        """Options from the environment; unset variables keep their defaults.

        Raises:
            SetupError: a variable cannot be used.
        """
        return cls(**values_from_environment(cls, os.environ if environ is None else environ))


def _refusal(variable: str, value: object, expected: str) -> SetupError:
    return SetupError(f"environment variable {variable}={value!r} cannot be used; set {expected}")
