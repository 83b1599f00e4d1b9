"""What the gateway can be told, all by environment variables."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self

from pydantic import AfterValidator, Field, model_validator

from bls_models.errors import SetupError
from bls_models.settings import (
    PICTURE_SECRET,
    EnvironmentSettings,
    LogFormat,
    Secret,
    matching,
    setting,
)

# Each of these ends up in nginx's configuration, where a stray quote or brace would be syntax.
_PATH = r"/[A-Za-z0-9._/-]*"
_PATH_WORDS = "an absolute path of letters, digits and . _ - /"
_ORIGIN = re.compile(r"\*|https?://[A-Za-z0-9.-]+(:\d{1,5})?")

Address = Annotated[
    str, matching(r"[A-Za-z0-9._-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", "host:port")
]
File = Annotated[str, matching(_PATH, _PATH_WORDS)]
OptionalFile = Annotated[str, matching(f"({_PATH})?", _PATH_WORDS)]
Port = Annotated[int, Field(ge=1, le=65535)]
Number = Annotated[int, Field(ge=1, le=1_000_000)]


def _origins(text: str) -> str:
    for origin in text.split():
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"origins as https://shop.example, not {origin!r}")
    return text


def _networks(text: str) -> str:
    for network in text.split():
        try:
            ip_network(network)
        except ValueError:
            raise ValueError(f"networks as 10.0.0.0/8, not {network!r}") from None
    return text


class GatewayOptions(EnvironmentSettings):
    """Options of ``python -m gateway``. Rates are requests a second."""

    http_port: Port = setting(8080, "GATEWAY_HTTP_PORT", "Port for HTTP clients.")
    grpc_port: Port = setting(8081, "GATEWAY_GRPC_PORT", "Port for gRPC clients.")
    upstream_http: Address = setting(
        "triton:8000", "GATEWAY_UPSTREAM_HTTP", "Triton's HTTP endpoint, `host:port`."
    )
    upstream_grpc: Address = setting(
        "triton:8001", "GATEWAY_UPSTREAM_GRPC", "Triton's gRPC endpoint, `host:port`."
    )
    keys_file: File = setting(
        "/run/secrets/gateway-keys",
        "GATEWAY_KEYS_FILE",
        "The API keys: a line each, `<client> <match or ingest> <key>`.",
    )
    max_body_mb: Number = setting(32, "GATEWAY_MAX_BODY_MB", "Largest request body, in MiB.")
    match_rate: Number = setting(
        20,
        "GATEWAY_MATCH_RATE",
        "Matches, feedback, calls of `product_picture` and `product_report`, and metadata requests "
        "a second for each client, at each gateway: with several, a client that uses all of them "
        "gets so many times as much.",
    )
    match_burst: Number = setting(
        40,
        "GATEWAY_MATCH_BURST",
        "Such requests that a client may send at once on top of its rate.",
    )
    ingest_rate: Number = setting(
        20, "GATEWAY_INGEST_RATE", "Writes a second for each client, at each gateway."
    )
    ingest_burst: Number = setting(
        40, "GATEWAY_INGEST_BURST", "Writes that a client may send at once on top of its rate."
    )
    picture_rate: Number = setting(
        100,
        "GATEWAY_PICTURE_RATE",
        "Pictures a second (`/pictures/`) for each client, and for each address without a key.",
    )
    picture_burst: Number = setting(
        200,
        "GATEWAY_PICTURE_BURST",
        "Pictures that it may ask for at once on top of its rate: those of a page.",
    )
    picture_requests: Number = setting(
        64,
        "GATEWAY_PICTURE_REQUESTS",
        "Pictures under way at once by signed links, without a key, beside `GATEWAY_REQUESTS`.",
    )
    picture_address_requests: Number = setting(
        32, "GATEWAY_PICTURE_ADDRESS_REQUESTS", "The same for each address."
    )
    picture_secret: Secret = setting(
        "",
        PICTURE_SECRET,
        "Checks signed links to pictures; the server, which signs them, needs the same. Empty: "
        "pictures take a key.",
        secret=True,
    )
    requests: Number = setting(
        128,
        "GATEWAY_REQUESTS",
        "Requests under way at once of all clients, from their first byte to the answer's last. "
        "The gateway's folder needs this times `GATEWAY_MAX_BODY_MB`.",
    )
    client_requests: Number = setting(
        64, "GATEWAY_CLIENT_REQUESTS", "Requests under way at once of each client."
    )
    address_connections: Number = setting(
        100,
        "GATEWAY_ADDRESS_CONNECTIONS",
        "Requests under way at once of each address, of those without a known key.",
    )
    workers: Annotated[int, Field(ge=0, le=1024)] = setting(
        0,
        "GATEWAY_WORKERS",
        "nginx's processes; 0: one a CPU of the affinity and of the cgroup's quota, and 4 at most.",
    )
    timeout_s: Number = setting(
        30, "GATEWAY_TIMEOUT_S", "Longest wait for Triton's answer, in seconds."
    )
    cors_origins: Annotated[str, AfterValidator(_origins)] = setting(
        "",
        "GATEWAY_CORS_ORIGINS",
        "Web origins that browsers may call from, separated by spaces, or `*`.",
    )
    tls_certificate: OptionalFile = setting(
        "", "GATEWAY_TLS_CERT", "Certificate chain (PEM); with it both ports speak TLS."
    )
    tls_key: OptionalFile = setting("", "GATEWAY_TLS_KEY", "The certificate's private key (PEM).")
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = setting(
        "",
        "GATEWAY_TRUSTED_PROXIES",
        "Networks of proxies in front, separated by spaces, whose `X-Forwarded-For` names the "
        "client's address.",
    )
    log_format: LogFormat = setting(
        "json",
        "GATEWAY_LOG_FORMAT",
        "Lines of the access log: `json`, one object a line, or `text`.",
    )
    folder: File = setting(
        "/tmp/gateway",
        "GATEWAY_FOLDER",
        "Folder for nginx's configuration and temporary files.",
    )

    @model_validator(mode="after")
    def _tls_is_whole(self) -> Self:
        if bool(self.tls_certificate) != bool(self.tls_key):
            raise SetupError(
                "TLS takes both GATEWAY_TLS_CERT and GATEWAY_TLS_KEY; set both, or neither"
            )
        return self

    @property
    def keys_path(self) -> Path:
        """``keys_file`` as a path."""
        return Path(self.keys_file)

    @property
    def folder_path(self) -> Path:
        """``folder`` as a path."""
        return Path(self.folder)
