"""What the chart and its documents start runs against a real Triton and a real database."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from chart_support import MINIMAL, ROOT, Manifest, container, environment, merged, render
from serving_support import SampleProduct, Serving, wait_for

from local_server.processes import free_port

START_SECONDS = 120
DOCUMENTS = ("kubernetes.md", "operations.md")


def shell_blocks(document: str) -> list[str]:
    text = (ROOT / "docs" / document).read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    return [re.sub(f"^{indent}", "", body, flags=re.MULTILINE) for indent, body in blocks]


@dataclass(frozen=True)
class Pod:
    """The server's container, run as a process.

    Attributes:
        process: the first of the container.
        spec: the container of the chart.
        ports: HTTP, gRPC and metrics.
    """

    process: subprocess.Popen[bytes]
    spec: Manifest
    ports: tuple[int, int, int]

    def probe(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run a probe's command."""
        probe = self.spec[f"{name}Probe"]
        python, *arguments = probe["exec"]["command"]
        assert python == "python3"
        return subprocess.run(
            [sys.executable, *arguments, f"--url=http://127.0.0.1:{self.ports[0]}"],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            # On a busy machine the wait for the interpreter counts too.
            timeout=probe["timeoutSeconds"] + 30,
        )


@pytest.fixture
def pod(tmp_path: Path, database_uri: str) -> Iterator[Pod]:
    """Started with the variables that the chart gives, but for paths and ports of this machine."""
    slack = {name: {"timeoutSeconds": 60} for name in ("startup", "readiness", "liveness")}
    spec = container(render(merged(MINIMAL, {"probe": slack})), "triton")
    (tmp_path / "uri").write_text(database_uri + "\n", encoding="utf-8")
    ports = (free_port(), free_port(), free_port())
    variables = environment(spec) | {
        "MONGODB_URI_FILE": str(tmp_path / "uri"),
        "PRODUCT_MATCH_DATABASE": f"chart_{uuid.uuid4().hex}",
        "STATE": str(tmp_path / "state"),
        **dict(zip(("HTTP_PORT", "GRPC_PORT", "METRICS_PORT"), map(str, ports), strict=True)),
    }
    inherited = {name: value for name, value in os.environ.items() if name != "MONGODB_URI"}
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "local_server.container"],
            cwd=ROOT,
            env=inherited | variables,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Pod(process, spec, ports)
    finally:
        process.terminate()
        process.wait()


def listens(address: str, port: int) -> bool:
    with socket.socket() as connection:
        connection.settimeout(5)
        return connection.connect_ex((address, port)) == 0


@pytest.mark.server
def test_the_server_starts_is_probed_and_stops_as_the_chart_says(pod: Pod) -> None:
    assert pod.probe("readiness").returncode == 1, "it cannot have started yet"
    wait_for(
        lambda: pod.process.poll() is not None or pod.probe("startup").returncode == 0,
        "the start-up probe succeeds",
        START_SECONDS,
    )
    assert pod.process.poll() is None, "the server ended"
    for name in ("readiness", "liveness"):
        done = pod.probe(name)
        assert done.returncode == 0, done.stderr
    # Another address of the loopback network stands for the pod's: only the metrics are there.
    http, grpc, metrics = pod.ports
    assert [listens("127.0.0.1", port) for port in (http, grpc)] == [True, True]
    assert [listens("127.0.0.2", port) for port in (http, grpc)] == [False, False]
    assert listens("127.0.0.2", metrics)
    pod.process.send_signal(signal.SIGTERM)
    assert pod.process.wait(START_SECONDS) == 0


@pytest.mark.parametrize("document", DOCUMENTS)
def test_shell_commands_of_a_document_are_shell(document: str) -> None:
    blocks = shell_blocks(document)
    assert len(blocks) >= 2
    for block in blocks:
        done = subprocess.run(
            ["bash", "-n"], input=block, text=True, capture_output=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, ""), block


def test_the_secret_of_keys_is_made_as_the_document_says(tmp_path: Path) -> None:
    (block,) = (text for text in shell_blocks("kubernetes.md") if "new-key" in text)
    commands = block[block.index(".venv/bin/python -m gateway") : block.index("helm -n")]
    commands = commands.replace(".venv/bin/python", f'"{sys.executable}"')
    # In kubectl's place, what it is called with.
    script = 'kubectl() { printf "%s\\n" "$@"; }\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script + commands],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = (tmp_path / "keys.txt").read_text(encoding="utf-8").split("\n")
    keys = {words[1]: words[2] for words in map(str.split, lines) if words}
    assert keys.keys() == {"match", "ingest"}
    for name, key in keys.items():
        assert f"--from-literal={name}={key}" in done.stdout


@pytest.mark.server
def test_the_program_that_reembeds_finds_the_products_of_another_bundle(
    server: Serving, catalogue: list[SampleProduct], tmp_path: Path
) -> None:
    (block,) = (text for text in shell_blocks("operations.md") if "reembed_stale" in text)
    program = block[block.index("PYTHON'\n") + len("PYTHON'\n") : block.rindex("PYTHON")]
    product = catalogue[0].product["product_id"]
    server.database["products"].update_one({"_id": product}, {"$set": {"fingerprint": "0" * 16}})
    address = server.database.client.address
    assert address is not None
    (tmp_path / "uri").write_text("mongodb://{}:{}".format(*address), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", program.replace("http://127.0.0.1:8000", server.triton.http_url)],
        cwd=ROOT,
        env=os.environ
        | {
            "MONGODB_URI_FILE": str(tmp_path / "uri"),
            "PRODUCT_MATCH_DATABASE": server.database.name,
            "PYTHONPATH": f"{ROOT}:{ROOT / 'client'}",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "1 reembedded, 0 failed" in done.stdout
