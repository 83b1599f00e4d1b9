"""The gateway in front of the session's Triton."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from gateway_support import Gateway, Recorder, need_nginx, running_gateway, running_recorder
from serving_support import Serving


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Say that nginx is missing before Triton is started for it."""
    if item.get_closest_marker("server"):
        need_nginx()


@pytest.fixture(scope="session")
def gateway(server: Serving, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """nginx in front of the session's Triton."""
    ports = server.triton.ports
    folder = tmp_path_factory.mktemp("gateway")
    with running_gateway(folder, ports.http, ports.grpc) as running:
        yield running


@pytest.fixture(scope="session")
def recorder() -> Iterator[Recorder]:
    """An upstream that tells what reached it."""
    with running_recorder() as running:
        yield running


@pytest.fixture(scope="session")
def recorded(recorder: Recorder, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gateway]:
    """nginx in front of the recorder."""
    with running_gateway(tmp_path_factory.mktemp("recorded"), recorder.port, 9) as running:
        yield running
