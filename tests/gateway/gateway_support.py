"""A real nginx with the gateway's configuration, and an upstream that tells what reached it."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from serving_support import wait_for
from tritonclient.grpc import service_pb2

from bls_models.errors import SetupError
from gateway.__main__ import check
from gateway.config import nginx_command, script_module, write_configuration
from gateway.options import GatewayOptions
from local_server.processes import LOOPBACK, ManagedProcess, free_port

SHOP_KEY = "shop-key-" + "0123456789abcdef" * 2
LOADER_KEY = "loader-key-" + "0123456789abcdef" * 2
KEYS = f"# two clients\nshop match {SHOP_KEY}\n\nloader ingest {LOADER_KEY}\n"
JSON = {"Content-Type": "application/json"}
MATCH = "/v2/models/product_match/generate"
INFER = "/v2/models/product_match/infer"
SERVICE = "/inference.GRPCInferenceService/"
START_SECONDS = 60.0
ANSWER_SECONDS = 60.0


def need_nginx() -> None:
    """Skip the test where there is no nginx with its module; `make test` could not fetch it."""
    try:
        script_module()
    except SetupError as error:
        pytest.skip(str(error))


@dataclass(frozen=True)
class Answer:
    """An HTTP answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True)
class Gateway:
    """A running gateway."""

    http_port: int
    grpc_port: int
    process: ManagedProcess

    def url(self, protocol: str) -> str:
        """Its address for a protocol, ``http`` or ``grpc``."""
        return f"{protocol}://{LOOPBACK}:{self.http_port if protocol == 'http' else self.grpc_port}"

    def ask(
        self,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        *,
        method: str = "",
        key: str = SHOP_KEY,
    ) -> Answer:
        """One HTTP request; an iterable body is sent in chunks as it comes."""
        sent = {**({"X-API-Key": key} if key else {}), **(headers or {})}
        return ask(self.http_port, path, body, sent, method=method)

    def call(
        self, method: str, message: bytes, metadata: Mapping[str, str] | None = None
    ) -> tuple[grpc.StatusCode, bytes | str]:
        """A gRPC call of raw bytes: OK and the answer, or another status and its message."""
        with grpc.insecure_channel(f"{LOOPBACK}:{self.grpc_port}") as channel:
            function = channel.unary_unary(
                SERVICE + method, request_serializer=None, response_deserializer=None
            )
            sent = {"x-api-key": SHOP_KEY} if metadata is None else metadata
            try:
                return grpc.StatusCode.OK, function(
                    message, metadata=tuple(sent.items()), timeout=ANSWER_SECONDS
                )
            except grpc.RpcError as error:
                return error.code(), error.details()

    def logged(self, answer: Answer) -> dict[str, Any]:
        """The access log's entry of an answer; it is written once the answer is out."""
        request_id = answer.headers["X-Request-ID"]

        def find() -> dict[str, Any] | None:
            lines = self.process.log.read_text(encoding="utf-8").splitlines()
            entries = [json.loads(line) for line in lines if line.startswith("{")]
            return next((item for item in entries if item["request_id"] == request_id), None)

        return wait_for(find, f"{request_id} is in the access log")


def match_message(name: str = "product_match", request_id: str = "") -> bytes:
    """A ModelInferRequest for a text."""
    request = service_pb2.ModelInferRequest(model_name=name, id=request_id)
    tensor = request.inputs.add(name="text", datatype="BYTES", shape=[1, 1])
    tensor.contents.bytes_contents.append(b"red mug")
    return bytes(request.SerializeToString())


def ask(
    port: int,
    path: str,
    body: bytes | Iterable[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
    *,
    method: str = "",
) -> Answer:
    """One HTTP request to a port of this machine."""
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=ANSWER_SECONDS)
    chunked = body is not None and not isinstance(body, bytes)
    sent = dict(headers or {}) | ({"Transfer-Encoding": "chunked"} if chunked else {})
    with contextlib.closing(connection):
        method = method or ("GET" if body is None else "POST")
        # A refusal may come, and the connection end, before the whole body was sent.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.request(method, path, body, sent, encode_chunked=chunked)
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read())


@contextlib.contextmanager
def running_gateway(
    folder: Path, http_upstream: int, grpc_upstream: int, **options: Any
) -> Iterator[Gateway]:
    """Run nginx in front of two ports of this machine, with generous limits unless told."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = folder / "keys"
    keys.write_text(KEYS, encoding="utf-8")
    chosen: dict[str, Any] = {
        "http_port": free_port(),
        "grpc_port": free_port(),
        "upstream_http": f"{LOOPBACK}:{http_upstream}",
        "upstream_grpc": f"{LOOPBACK}:{grpc_upstream}",
        "keys_file": str(keys),
        "match_rate": 1000,
        "match_burst": 1000,
        "ingest_rate": 1000,
        "ingest_burst": 1000,
    }
    # Started as root, nginx has workers of another user, whom pytest's own folders keep out.
    with tempfile.TemporaryDirectory(prefix="gateway-") as nginx:
        settled = GatewayOptions(**(chosen | {"folder": nginx} | options))
        command = nginx_command(write_configuration(settled))
        process = ManagedProcess("nginx", command, folder / "nginx.log", os.environ)
        try:
            process.wait_until(lambda: _listens(settled), START_SECONDS)
            yield Gateway(settled.http_port, settled.grpc_port, process)
        finally:
            process.stop()


def _listens(options: GatewayOptions) -> bool:
    with contextlib.redirect_stderr(None):
        return check(options) == 0


# --- an upstream that remembers -----------------------------------------------------------------


@dataclass
class Received:
    """What reached the upstream."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Recorder:
    """An HTTP server in Triton's place that says what it was sent, and may hold some answers."""

    port: int = 0
    # Requests whose path has this in it are answered while ``answers`` is set.
    held: str = ""
    answers: threading.Event = field(default_factory=threading.Event)
    # Of its answers.
    status: int = 200
    body: bytes = b"{}"
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[Received] = field(default_factory=list)
    connections: int = 0


@contextlib.contextmanager
def running_recorder() -> Iterator[Recorder]:
    """Run the recorder on a free port until the end of the block."""
    recorder = Recorder()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def setup(self) -> None:
            recorder.connections += 1
            super().setup()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            recorder.requests.append(Received(self.path, headers, body))
            if recorder.held and recorder.held in self.path:
                recorder.answers.wait()
            self.send_response(recorder.status)
            for name, value in recorder.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(recorder.body)))
            self.end_headers()
            self.wfile.write(recorder.body)

        def do_GET(self) -> None:
            self.do_POST()

        def log_message(self, format: str, *arguments: Any) -> None:
            pass

    with http.server.ThreadingHTTPServer((LOOPBACK, 0), Handler) as server:
        server.daemon_threads = True
        recorder.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, name="recorder")
        thread.start()
        try:
            yield recorder
        finally:
            recorder.answers.set()
            server.shutdown()
            thread.join()


@dataclass
class GrpcRecorder:
    """A gRPC server in Triton's place that keeps what it was sent, and may hold its answers.

    Attributes:
        port: where it listens.
        calls: metadata and message of each call, in order of their arrival.
        answers: calls are answered while it is set.
    """

    port: int = 0
    calls: list[tuple[dict[str, str | bytes], bytes]] = field(default_factory=list)
    answers: threading.Event = field(default_factory=threading.Event)


@contextlib.contextmanager
def running_grpc_recorder(threads: int = 4) -> Iterator[GrpcRecorder]:
    """Run it on a free port until the end of the block; it answers until told otherwise."""
    recorder = GrpcRecorder()
    recorder.answers.set()

    def answer(message: bytes, context: grpc.ServicerContext) -> bytes:
        recorder.calls.append((dict(context.invocation_metadata()), message))
        recorder.answers.wait()
        return b""

    class Everything(grpc.GenericRpcHandler):  # type: ignore[misc]
        def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            return grpc.unary_unary_rpc_method_handler(answer)

    with ThreadPoolExecutor(threads) as pool:
        options = [("grpc.max_receive_message_length", -1)]
        server = grpc.server(pool, [Everything()], options=options)
        recorder.port = server.add_insecure_port(f"{LOOPBACK}:0")
        server.start()
        try:
            yield recorder
        finally:
            recorder.answers.set()
            server.stop(None).wait()
