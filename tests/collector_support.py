"""A small OpenTelemetry collector: it takes what Triton sends over OTLP/HTTP."""

from __future__ import annotations

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from serving_support import wait_for

from local_server.processes import LOOPBACK


@dataclass
class Collector:
    """An OTLP/HTTP endpoint that keeps the spans it gets."""

    url: str = ""
    spans: list[dict[str, Any]] = field(default_factory=list)
    services: set[str] = field(default_factory=set)

    def trace(self, trace_id: str, *names: str) -> dict[str, dict[str, Any]]:
        """The spans of a trace by name, once those named are there."""

        def find() -> dict[str, dict[str, Any]] | None:
            # Triton names each model's computation alike; those are not asked for here.
            found = {item["name"]: item for item in self.spans if item["traceId"] == trace_id}
            return found if set(names) <= set(found) else None

        # Triton sends spans in batches, every few seconds.
        return wait_for(find, f"{names} are in trace {trace_id}")


@contextlib.contextmanager
def running_collector() -> Iterator[Collector]:
    """Run a collector on a free port until the end of the block."""
    collector = Collector()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.path == "/v1/traces"
            for resource in body["resourceSpans"]:
                for attribute in resource["resource"]["attributes"]:
                    if attribute["key"] == "service.name":
                        collector.services.add(attribute["value"]["stringValue"])
                for scope in resource["scopeSpans"]:
                    collector.spans += scope["spans"]
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        collector.url = f"http://{LOOPBACK}:{server.server_address[1]}/v1/traces"
        thread = threading.Thread(target=server.serve_forever, name="collector")
        thread.start()
        try:
            yield collector
        finally:
            server.shutdown()
            thread.join()
