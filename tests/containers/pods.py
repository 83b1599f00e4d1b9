"""Pods of the chart as podman 4.3 can play them, and what a cluster does with them besides.

podman starts the containers; ``Cluster`` does what belongs to volumes, names and Secrets, and
``Pod`` probes and ends a pod as a kubelet would. docs/kubernetes.md lists how that differs from a
cluster.
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pod_engine import NETWORK, SUBNET, Podman
from serving_support import ROOT

Manifest = dict[str, Any]
# As chart_support has it.
NAMESPACE = "shops"
# In a process of its own: Helm's library may crash beside inference libraries.
RENDER = """
import json, sys
from chart_support import merged, render, value_file
file, changes = json.load(sys.stdin)
json.dump(render(merged(value_file(file), changes)), sys.stdout)
"""
HTTP_GET = """
import sys, urllib.request
urllib.request.urlopen(sys.argv[1], timeout=float(sys.argv[2]))
"""
CONNECT = """
import socket, sys
socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[3]))
"""
# Above what a probe may take: starting one takes long on a busy machine.
SLACK_SECONDS = 30.0


def rendered(file: str, changes: Manifest) -> list[Manifest]:
    """The chart's objects with a file of values and further ones."""
    folders = [ROOT, ROOT / "client", ROOT / "tests", ROOT / "tests" / "helm"]
    done = subprocess.run(
        [sys.executable, "-c", RENDER],
        input=json.dumps([file, changes]),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(map(str, folders))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    manifests: list[Manifest] = json.loads(done.stdout)
    return manifests


def pod_template(manifest: Manifest) -> Manifest | None:
    """Metadata and specification of the pods that an object has, if any."""
    if manifest["kind"] == "Pod":
        return manifest
    template: Manifest | None = manifest.get("spec", {}).get("template")
    return template


@dataclass(frozen=True)
class Pod:
    """A pod that was started.

    Attributes:
        engine: runs it.
        name: its own.
        address: by which other pods, and ``Podman.reach``, reach it.
        spec: its specification, as the chart has it.
    """

    engine: Podman
    name: str
    address: str
    spec: Manifest

    @property
    def containers(self) -> dict[str, Manifest]:
        """Its containers without those that only prepare, by name."""
        return {item["name"]: item for item in self.spec["containers"]}

    def inside(self, container: str, *command: str) -> str:
        """The output of a command in a container, as the container's user."""
        return self.engine.podman("exec", f"{self.name}-{container}", *command)

    def logs(self, container: str) -> str:
        """All that a container has said."""
        done = self.engine.run("logs", f"{self.name}-{container}")
        return done.stdout + done.stderr

    def status(self, container: str) -> int:
        """The exit status of a container, when it has ended."""
        return int(self.engine.podman("wait", f"{self.name}-{container}"))

    def runs(self, container: str) -> bool:
        """Whether a container has not ended."""
        return self._known(container, "{{.State.Running}}") == "true"

    def memory_limit(self, container: str) -> int:
        """Bytes of memory that a container may take; 0: as many as there are."""
        return int(self._known(container, "{{.HostConfig.Memory}}"))

    def _known(self, container: str, form: str) -> str:
        name = f"{self.name}-{container}"
        return self.engine.podman("inspect", "--format", form, name).strip()

    def probe(self, container: str, name: str) -> subprocess.CompletedProcess[str]:
        """Do what a probe of the chart says: a command in the container, or a call from outside."""
        item = self.containers[container]
        probe = item[f"{name}Probe"]
        seconds = probe.get("timeoutSeconds", 1)
        ports = {port["name"]: port["containerPort"] for port in item["ports"]}
        if "exec" in probe:
            command = probe["exec"]["command"]
            return self.engine.run(
                "exec", f"{self.name}-{container}", *command, seconds=seconds + SLACK_SECONDS
            )
        if "httpGet" in probe:
            get = probe["httpGet"]
            scheme = get.get("scheme", "HTTP").lower()
            url = f"{scheme}://{self.address}:{ports[get['port']]}{get['path']}"
            return self.engine.reach([sys.executable, "-c", HTTP_GET, url, str(seconds)])
        port = ports[probe["tcpSocket"]["port"]]
        return self.connect(port, seconds)

    def connect(self, port: int, seconds: float = 5.0) -> subprocess.CompletedProcess[str]:
        """Connect to a port of its address, from outside."""
        return self.engine.reach(
            [sys.executable, "-c", CONNECT, self.address, str(port), str(seconds)]
        )

    def succeeds(self, name: str) -> bool:
        """Whether the probe of all containers that have it succeeds now."""
        return all(
            self.probe(container, name).returncode == 0
            for container, item in self.containers.items()
            if f"{name}Probe" in item
        )

    def terminate(self) -> dict[str, int]:
        """End it as Kubernetes does; 137 is the status of a container that had to be killed.

        Each container does what is to be done before its end, gets the signal that its image names,
        and has until the end of the pod's grace.
        """
        deadline = time.monotonic() + self.spec.get("terminationGracePeriodSeconds", 30)

        def end(container: str) -> int:
            name = f"{self.name}-{container}"
            before = self.containers[container].get("lifecycle", {}).get("preStop")
            if before:
                # Fails where it ends the container itself.
                self.engine.run("exec", name, *before["exec"]["command"])
            left = max(1, int(deadline - time.monotonic()))
            self.engine.podman("stop", f"--time={left}", name)
            return self.status(container)

        with ThreadPoolExecutor() as executor:
            return dict(zip(self.containers, executor.map(end, self.containers), strict=True))

    def remove(self) -> None:
        """Take it away, with its containers."""
        self.engine.podman("pod", "rm", "--force", "--time=0", self.name)


class Cluster:
    """What of a cluster the pods need: names, volumes, Secrets.

    Args:
        engine: runs the pods.
        secrets: the entries of Secrets, by name.
    """

    def __init__(self, engine: Podman, secrets: Mapping[str, Mapping[str, str]]) -> None:
        self.engine = engine
        self.secrets = {name: dict(entries) for name, entries in secrets.items()}
        self._maps: dict[str, dict[str, str]] = {}
        self._services: list[Manifest] = []
        self._names: dict[str, str] = {}
        self._pods = 0
        self._volumes = engine.folder / "volumes"
        self._volumes.mkdir()

    def add(self, manifests: list[Manifest]) -> None:
        """Take over Secrets, ConfigMaps and Services, which pods that are then played use."""
        for item in manifests:
            name = item["metadata"]["name"]
            if item["kind"] == "Secret":
                self.secrets[name] = item["stringData"]
            elif item["kind"] == "ConfigMap":
                self._maps[name] = item["data"]
            elif item["kind"] == "Service":
                self._services.append(item)

    def play(self, manifest: Manifest) -> Pod:
        """Start one pod of an object, adapted to podman.

        Raises:
            AssertionError: podman refuses it, or it could not be started.
        """
        pod, adapted = self._adapt(manifest)
        self.engine.podman(
            *("kube", "play", f"--network={NETWORK}", f"--ip={pod.address}", "-"),
            text=json.dumps(adapted),
        )
        return pod

    def _adapt(self, manifest: Manifest) -> tuple[Pod, Manifest]:
        """A pod of an object, and its manifest for podman."""
        template = pod_template(manifest)
        assert template is not None, f"{manifest['kind']} has no pods"
        stateful = manifest["kind"] == "StatefulSet"
        name = manifest["metadata"]["name"] + ("-0" if stateful else "")
        self._pods += 1
        pod = Pod(self.engine, name, f"{SUBNET}{self._pods + 1}", template["spec"])
        labels = template["metadata"]["labels"]
        for service in self._services:
            if service["spec"]["selector"].items() <= labels.items():
                self._names[service["metadata"]["name"]] = pod.address
        if stateful:
            domain = f"{manifest['spec']['serviceName']}.{NAMESPACE}.svc"
            self._names[f"{name}.{domain}"] = pod.address

        spec = copy.deepcopy(template["spec"])
        # podman would start again what ends while its pod is ended.
        spec.setdefault("restartPolicy", "Never")
        spec["hostAliases"] = [
            {"ip": address, "hostnames": [host]} for host, address in self._names.items()
        ]
        claims = [
            {"name": claim["metadata"]["name"]}
            for claim in manifest["spec"].get("volumeClaimTemplates", [])
        ]
        group = spec["securityContext"]["fsGroup"]
        folders = {
            volume["name"]: self._folder(volume, group)
            for volume in [*spec.get("volumes", []), *claims]
        }
        spec["volumes"] = []
        for item in [*spec.get("initContainers", []), *spec["containers"]]:
            for entry in item.get("env", []):
                if "valueFrom" in entry:
                    reference = entry.pop("valueFrom")["secretKeyRef"]
                    entry["value"] = self.secrets[reference["name"]][reference["key"]]
            for mount in item.get("volumeMounts", []):
                path = folders[mount["name"]] / mount.pop("subPath", "")
                if not path.exists():
                    self._own(path, group)
                mount["name"] = f"volume-{len(spec['volumes'])}"
                kind = "File" if path.is_file() else "Directory"
                source = {"path": str(path), "type": kind}
                spec["volumes"].append({"name": mount["name"], "hostPath": source})
        metadata = {"name": name, "labels": labels}
        return pod, {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}

    def _folder(self, volume: Manifest, group: int) -> Path:
        """A volume's folder, which the group may write to, with what the volume holds."""
        folder = Path(tempfile.mkdtemp(dir=self._volumes))
        if "emptyDir" in volume and volume["emptyDir"].get("medium") == "Memory":
            size = volume["emptyDir"]["sizeLimit"].removesuffix("i")
            subprocess.run(["mount", "-t", "tmpfs", f"-osize={size}", "pods", folder], check=True)
        self._own(folder, group)
        source = volume.get("secret") or volume.get("configMap") or {}
        entries: Mapping[str, str] = {}
        if source:
            secret = source.get("secretName")
            entries = self.secrets[secret] if secret else self._maps[source["name"]]
        for item in source.get("items", [{"key": key, "path": key} for key in entries]):
            file = folder / item["path"]
            file.write_text(entries[item["key"]], encoding="utf-8")
            file.chmod(source.get("defaultMode", 0o644))
            os.chown(file, 0, group)
        return folder

    @staticmethod
    def _own(folder: Path, group: int) -> None:
        folder.mkdir(exist_ok=True)
        os.chown(folder, 0, group)
        folder.chmod(0o2770)
