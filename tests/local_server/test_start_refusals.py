"""What ``python -m local_server`` cannot use is one line that says what to do, and soon."""

from __future__ import annotations

import importlib.util
import re
import shutil
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from local_server import __main__ as local_server
from local_server import stack
from local_server.database import local_database


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """No signal handlers in this process, and a short wait for databases that are away."""
    monkeypatch.setattr(signal, "signal", lambda *arguments: None)
    monkeypatch.setattr(stack, "EXTERNAL_DATABASE_MS", 200)


@pytest.fixture
def a_file(tmp_path: Path) -> Path:
    (tmp_path / "a file").touch()
    return tmp_path / "a file"


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port on which nobody listens, kept from others."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        yield probe.getsockname()[1]


def refusal(capsys: pytest.CaptureFixture[str], *argv: str | Path) -> str:
    """The one line that the command ends with, before it has built or started anything."""
    assert local_server.main([str(part) for part in argv]) == 1
    captured = capsys.readouterr()
    assert "models:" not in captured.out
    (line,) = captured.err.splitlines()
    return line


@pytest.mark.parametrize("port", [-1, 65536, 80000])
@pytest.mark.parametrize("name", ["http", "grpc", "metrics", "mongodb"])
def test_a_port_that_cannot_be(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, port: int
) -> None:
    line = refusal(capsys, "run", "--state", tmp_path, f"--{name}-port={port}")
    variable = f"{name.upper()}_PORT"
    assert f"{variable}={port} is out of range; expected a number from 0 to 65535" in line


@pytest.mark.parametrize("command", ["run", "smoke"])
def test_a_state_folder_that_is_a_file(
    capsys: pytest.CaptureFixture[str], a_file: Path, command: str
) -> None:
    line = refusal(capsys, command, "--state", a_file)
    assert line.endswith(f"{a_file} cannot be made (File exists); choose another with --state")


@pytest.mark.parametrize("command", ["logs", "import", "reembed", "sync-check", "feedback"])
def test_commands_for_a_running_server(
    capsys: pytest.CaptureFixture[str], a_file: Path, command: str
) -> None:
    assert "start" in refusal(capsys, command, "--state", a_file)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host:80000", "Port out of range"),
        ("ftp://host", "expected one of http"),
        ("grpc://host:8001", "expected Triton's HTTP endpoint"),
    ],
)
def test_an_address_to_check(capsys: pytest.CaptureFixture[str], url: str, message: str) -> None:
    assert message in refusal(capsys, "sync-check", "--url", url)


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("mongodb+srv://user:secret@cluster0.example.invalid/", "MONGODB_URI cannot be used"),
        ("mongodb://user:secret@127.0.0.1:{port}/", "does not answer: 127.0.0.1:"),
        ("mongodb://user:secret@host.example.invalid/", "does not answer: host.example.invalid:"),
    ],
)
def test_a_database_that_is_not_there(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, closed_port: int, uri: str, message: str
) -> None:
    uri = uri.format(port=closed_port)
    line = refusal(capsys, "run", "--state", tmp_path / "state", "--mongodb-uri", uri)
    assert message in line
    assert "secret" not in line


@pytest.mark.server
def test_a_database_that_refuses_the_credentials(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stack, "EXTERNAL_DATABASE_MS", 20_000)
    with local_database(tmp_path / "database", 0) as uri:
        uri = uri.replace("//", "//user:secret@")
        line = refusal(capsys, "run", "--state", tmp_path / "state", "--mongodb-uri", uri)
    assert "refuses: authentication failed; check the user, the password" in line
    assert "secret" not in line


def test_a_python_backend_that_lacks_a_library(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own stub, away from the libraries that lie beside it."""
    found = importlib.util.find_spec("pytriton").submodule_search_locations[0]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = Path("tritonserver", "python_backend_stubs", version, "triton_python_backend_stub")
    alone = tmp_path / "packages" / "pytriton"
    (alone / stub).parent.mkdir(parents=True)
    (alone / "__init__.py").touch()
    shutil.copy2(Path(found, stub), alone / stub)
    monkeypatch.syspath_prepend(alone.parent)
    monkeypatch.delenv("LD_LIBRARY_PATH", raising=False)
    line = refusal(capsys, "run", "--state", tmp_path / "state")
    assert re.search(r"cannot run here: .*lib\S+\.so\S*: cannot open shared object file", line)
