"""The service in containers: started and ended with make, asked and looked at from outside."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from container_engine import Engine

from local_server.processes import LOOPBACK, free_ports
from product_match_client import ProductMatchClient

CALL_SECONDS = 30.0
# One client here asks as much as many.
SETTINGS = "GATEWAY_MATCH_RATE=1000\nGATEWAY_MATCH_BURST=1000\n"
PORTS = ("GATEWAY_HTTP_PORT", "GATEWAY_GRPC_PORT", "DEMO_PORT", "PROMETHEUS_PORT", "GRAFANA_PORT")


class Service:
    """The service of a checkout, on free ports.

    Args:
        engine: runs it.
        checkout: the project.
        files: Compose files beside the project's, by their paths in it.
        variables: further variables of make.
    """

    def __init__(
        self, engine: Engine, checkout: Path, files: Sequence[str], variables: Sequence[str]
    ) -> None:
        self.engine = engine
        self.checkout = checkout
        self.ports = dict(zip(PORTS, free_ports(len(PORTS)), strict=True))
        self.log = engine.folder / "make.log"
        self._variables = variables
        self.secrets = checkout / "docker" / "secrets"
        self.secrets.mkdir()
        (self.secrets / "settings.env").write_text(SETTINGS, encoding="utf-8")
        self.keep(*files)
        if files:
            # The local database calls its replica set as it likes, and this leaves it be.
            subprocess.run([str(checkout / "docker" / "make-secrets.sh")], check=True)
            uri = self.secrets / "mongodb-uri"
            text = uri.read_text(encoding="utf-8")
            uri.chmod(0o644)
            uri.write_text(text.replace("replicaSet=rs0", "directConnection=true"), "utf-8")

    def keep(self, *files: str) -> None:
        """Say which Compose files each call of make takes from now on, beside the ports."""
        values = {**self.ports, "COMPOSE_FILES": " ".join(files)}
        lines = [f"{name} = {value}\n" for name, value in values.items()]
        (self.secrets / "settings.mk").write_text("".join(lines), encoding="utf-8")
        self.files = files

    def make(self, target: str, *variables: str) -> None:
        """Run a target of make in the checkout.

        Raises:
            AssertionError: it failed; the message is the end of what it said.
        """
        command = ["make", target, *self._variables, *variables]
        self.engine.run(command, self.checkout, self.log)

    def compose(self, *arguments: str) -> str:
        """The output of a command of Compose's."""
        files = ["docker/compose.yaml", *self.files]
        named = [word for file in files for word in ("--file", str(self.checkout / file))]
        return self.engine.docker("compose", *named, "--profile", "demo", *arguments)

    def containers(self) -> dict[str, dict[str, Any]]:
        """What Docker knows of each service's container, by service."""
        names = self.compose("ps", "--all", "--quiet").split()
        found = json.loads(self.engine.docker("inspect", *names))
        return {item["Config"]["Labels"]["com.docker.compose.service"]: item for item in found}

    def state(self, name: str) -> dict[str, Any]:
        """How a service's container is."""
        state: dict[str, Any] = self.containers()[name]["State"]
        return state

    def is_healthy(self, name: str) -> bool:
        """Whether a service's container runs and its check says so."""
        state = self.state(name)
        return bool(state["Running"] and state["Health"]["Status"] == "healthy")

    def inside(self, name: str, *command: str) -> str:
        """The output of a command in a service's container, as the service's user."""
        return self.compose("exec", "--no-TTY", name, *command)

    def secret(self, name: str) -> str:
        """A secret's text."""
        return (self.secrets / name).read_text(encoding="utf-8").strip()

    def key(self, client: str) -> str:
        """The API key of a client of the gateway."""
        lines = self.secret("gateway-keys").splitlines()
        return next(key for name, _, key in map(str.split, lines) if name == client)

    def url(self, port: str, scheme: str = "http") -> str:
        """The address of a port on this machine, by its variable."""
        return f"{scheme}://{LOOPBACK}:{self.ports[port]}"

    @contextmanager
    def client(
        self, protocol: str = "http", key: str | None = None
    ) -> Iterator[ProductMatchClient]:
        """A client of the gateway, with the shop's key unless another is given."""
        port = {"http": "GATEWAY_HTTP_PORT", "grpc": "GATEWAY_GRPC_PORT"}[protocol]
        url = self.url(port, protocol)
        api_key = self.key("shop") if key is None else key
        headers = {"X-API-Key": api_key} if api_key else {}
        with ProductMatchClient(url, CALL_SECONDS, headers) as client:
            yield client
