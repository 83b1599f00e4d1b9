"""podman with a storage, a state and a network of the tests' own, all of which end with it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from container_images import STAND_INS

PROGRAMS = ("podman", "conmon", "runc", "catatonit", "nsenter", "unshare")
PLUGINS = Path("/usr/lib/cni")
INSTALL = (
    "apt-get install --no-install-recommends podman runc catatonit containernetworking-plugins"
)
NETWORK = "pods"
SUBNET = "10.88.7."
MOUNTS = Path("/proc/self/mounts")


class Podman:
    """podman in a network namespace of its own.

    Nothing leaves the namespace, and no rule of this machine's firewall holds in it.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.within = ["nsenter", f"--net={folder}/namespace"]
        (folder / "namespace").touch()
        subprocess.run(["unshare", f"--net={folder}/namespace", "true"], check=True)
        for name in ("root", "run", "tmp", "networks", "addresses", "scratch"):
            (folder / name).mkdir()
        bridge = {
            "type": "bridge",
            "bridge": NETWORK,
            "isGateway": True,
            "ipam": {
                "type": "host-local",
                "dataDir": str(folder / "addresses"),
                "ranges": [[{"subnet": f"{SUBNET}0/24"}]],
            },
        }
        network = {"cniVersion": "0.4.0", "name": NETWORK, "plugins": [bridge]}
        (folder / "networks" / "pods.conflist").write_text(json.dumps(network), encoding="utf-8")
        conf = folder / "containers.conf"
        conf.write_text(
            f"""
[network]
network_backend = "cni"
network_config_dir = "{folder}/networks"
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
runtime = "runc-without-limits"
[engine.runtimes]
runc-without-limits = ["{STAND_INS}/runc-without-limits"]
""",
            encoding="utf-8",
        )
        self._environment = os.environ | {
            "CONTAINERS_CONF": str(conf),
            # The tests probe; podman would with systemd's timers.
            "DISABLE_HC_SYSTEMD": "true",
            "TMPDIR": str(folder / "scratch"),
        }

    def run(
        self, *arguments: str, text: str | None = None, seconds: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run a command of podman's."""
        folders = {"root": "root", "runroot": "run", "tmpdir": "tmp"}
        options = [f"--{name}={self.folder / folder}" for name, folder in folders.items()]
        return subprocess.run(
            [*self.within, "podman", *options, *arguments],
            env=self._environment,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )

    def podman(self, *arguments: str, text: str | None = None) -> str:
        """The output of a command of podman's.

        Raises:
            AssertionError: it failed; the message is what it said.
        """
        done = self.run(*arguments, text=text)
        assert done.returncode == 0, f"podman {' '.join(arguments)}: {done.stderr}{done.stdout}"
        return done.stdout

    def reach(self, command: Sequence[str], **options: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this machine where pods can be reached."""
        return subprocess.run(
            [*self.within, *command],
            env=os.environ | options,
            capture_output=True,
            text=True,
            check=False,
        )

    def stop(self) -> None:
        """End every pod."""
        self.podman("pod", "rm", "--all", "--force", "--time=0")


def check_podman() -> None:
    """Refuse a machine that lacks a program.

    Raises:
        AssertionError: it does; the message says how to install it.
    """
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    missing += [str(PLUGINS)] if not (PLUGINS / "bridge").is_file() else []
    assert not missing, f"{', '.join(missing)} missing; install: {INSTALL}"


@contextlib.contextmanager
def running_podman() -> Iterator[Podman]:
    """podman until the end of the block; nothing that it mounted is left."""
    folder = Path(tempfile.mkdtemp(prefix="pods-"))
    with contextlib.ExitStack() as ends:
        ends.callback(shutil.rmtree, folder)
        ends.callback(_unmount, folder)
        podman = Podman(folder)
        ends.callback(podman.stop)
        yield podman


def _unmount(folder: Path) -> None:
    mounted = [line.split()[1] for line in MOUNTS.read_text(encoding="utf-8").splitlines()]
    for path in reversed([path for path in mounted if path.startswith(f"{folder}/")]):
        subprocess.run(["umount", path], check=True)
