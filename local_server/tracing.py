"""Traces of requests, which Triton itself sends to an OpenTelemetry collector."""

from __future__ import annotations

from typing import Annotated

from pydantic import NonNegativeInt

from bls_models.settings import EnvironmentSettings, matching, setting

SERVICE_NAME = "product-match"
# It ends up among comma-separated settings on a command line.
TraceUrl = Annotated[
    str,
    matching(
        r"(https?://[A-Za-z0-9.:_\[\]-]+(/[A-Za-z0-9._/-]*)?)?",
        "an address as http://collector:4318/v1/traces",
    ),
]


class TraceOptions(EnvironmentSettings):
    """Options of whatever starts a tritonserver."""

    trace_url: TraceUrl = setting(
        "",
        "TRACE_URL",
        "OTLP/HTTP endpoint of an OpenTelemetry collector, such as "
        "`http://collector:4318/v1/traces`; unset: no traces.",
    )
    trace_rate: NonNegativeInt = setting(
        100,
        "TRACE_RATE",
        "Of so many requests one is traced; 0: only those whose caller traces them, with a "
        "`traceparent` header. Those are traced in any case.",
    )

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
