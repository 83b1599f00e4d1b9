"""Traces of requests, which Triton itself sends to an OpenTelemetry collector."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bls_models.errors import SetupError
from bls_models.settings import setting

SERVICE_NAME = "product-match"
# It ends up among comma-separated settings on a command line.
_URL = re.compile(r"https?://[A-Za-z0-9.:_\[\]-]+(/[A-Za-z0-9._/-]*)?")


@dataclass(frozen=True)
class TraceOptions:
    """Options of whatever starts a tritonserver."""

    trace_url: str = setting(
        "",
        "TRACE_URL",
        "OTLP/HTTP endpoint of an OpenTelemetry collector, such as "
        "`http://collector:4318/v1/traces`; unset: no traces.",
    )
    trace_rate: int = setting(
        100,
        "TRACE_RATE",
        "Of so many requests one is traced; 0: only those whose caller traces them, with a "
        "`traceparent` header. Those are traced in any case.",
    )

    def __post_init__(self) -> None:
        """Check the values.

        Raises:
            SetupError: one cannot be used.
        """
        if self.trace_url and not _URL.fullmatch(self.trace_url):
            raise SetupError(
                f"TRACE_URL={self.trace_url!r} cannot be used; "
                "set an address as http://collector:4318/v1/traces"
            )
        if self.trace_rate < 0:
            raise SetupError(f"TRACE_RATE={self.trace_rate} is too small; the least is 0")

    def trace_flags(self) -> list[str]:
        """The flags of tritonserver for them."""
        if not self.trace_url:
            return []
        settings = (
            "mode=opentelemetry",
            "level=TIMESTAMPS",
            f"rate={self.trace_rate}",
            f"opentelemetry,url={self.trace_url}",
            f"opentelemetry,resource=service.name={SERVICE_NAME}",
        )
        return [f"--trace-config={setting}" for setting in settings]
