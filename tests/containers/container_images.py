"""The images that the containers are made of: the project's, and those that it builds upon.

Where a registry answers, those are the real ones. Elsewhere stand-ins have their names: Debian from
its packages, Python and Prometheus from Debian's, and in MongoDB's place the local database with
authentication and the real mongosh.
"""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from container_engine import Engine
from serving_support import ROOT

STAND_INS = Path(__file__).resolve().parent / "stand_ins"
STAND_IN_FILE = "tests/containers/stand_ins/compose.yaml"
# Made once; `make clean` removes it.
DEBIAN = ROOT / "build" / "containers" / "debian.tar"
DEBIAN_SUITE = "bookworm"
# As Debian's own image has it: without what only people read, nor what apt keeps.
UNREAD = ("doc", "info", "locale", "man")
KEEP_NOTHING = """\
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
Binary::apt-get::APT::Keep-Downloaded-Packages "false";
"""
# Whether there is a registry, and then what an image may take.
REGISTRY_SECONDS = 60.0
PULL_SECONDS = 900.0
AUTHORITIES = Path("/etc/ssl/certs/ca-certificates.crt")


@dataclass(frozen=True)
class BuildSettings:
    """What a build needs to reach the package registries here.

    Attributes:
        pip_conf: settings of pip.
        authorities: certificates that are trusted.
        mark: stands in both files.
    """

    pip_conf: Path
    authorities: Path
    mark: str

    def variables(self) -> list[str]:
        """As variables of make."""
        files = [f"PIP_CONF={self.pip_conf}", f"CA_BUNDLE={self.authorities}"]
        return [*files, "DOCKER_BUILD_ARGS=--network host"]

    def flags(self) -> list[str]:
        """As flags of ``docker build``."""
        secrets = [f"id=pip.conf,src={self.pip_conf}", f"id=ca.crt,src={self.authorities}"]
        return ["--network", "host", *(word for secret in secrets for word in ("--secret", secret))]


@contextlib.contextmanager
def build_settings(folder: Path) -> Iterator[BuildSettings]:
    """This machine's settings of pip, as containers can use them.

    Folders of wheels, which they cannot see, are served on loopback until the end of the block.
    """
    lines = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    found: dict[str, list[str]] = {}
    for line in lines:
        name, _, value = line.partition("=")
        words = value.strip("'").replace("\\n", " ").split()
        found.setdefault(name.rpartition(".")[2], []).extend(words)
    with contextlib.ExitStack() as servers:
        wheels = [
            servers.enter_context(_served(Path(word))) if Path(word).is_dir() else word
            for word in dict.fromkeys(found.get("find-links", []))
        ]
        settings = {
            name: [word for word in found.get(name, []) if word.startswith("http")]
            for name in ("index-url", "extra-index-url")
        } | {"find-links": wheels}
        mark = uuid.uuid4().hex
        conf, authorities = folder / "pip.conf", folder / "ca.crt"
        authorities.write_text(f"# {mark}\n" + AUTHORITIES.read_text(encoding="utf-8"), "utf-8")
        conf.write_text(
            f"# {mark}\n[global]\n"
            + "".join(f"{name} = {' '.join(words)}\n" for name, words in settings.items() if words),
            encoding="utf-8",
        )
        yield BuildSettings(conf, authorities, mark)


@contextlib.contextmanager
def _served(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None:
            """Nobody reads it."""

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/"
        finally:
            server.shutdown()
            thread.join()


def base_images() -> dict[str, str]:
    """The Dockerfile's base images by build argument."""
    text = (ROOT / "docker" / "Dockerfile").read_text(encoding="utf-8")
    return dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.MULTILINE))


def service_images() -> dict[str, str]:
    """The images of others that Compose runs, by service."""
    text = (ROOT / "docker" / "compose.yaml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    return {
        name: service["image"]
        for name, service in services.items()
        if not service["image"].startswith("product-match:")
    }


def pull(engine: Engine) -> bool:
    """Have all images of others that are needed, if a registry can be reached.

    Returns:
        Whether they are there now; else there is no registry, and stand-ins are to be made.

    Raises:
        AssertionError: the registry has the first one and lacks another.
    """
    names = base_images()
    try:
        engine.docker("pull", "--quiet", names["DEBIAN_IMAGE"], seconds=REGISTRY_SECONDS)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        print(f"stand-ins for the images of others: {error}")
        return False
    for image in (names["PYTHON_IMAGE"], *service_images().values()):
        engine.docker("pull", "--quiet", image, seconds=PULL_SECONDS)
    return True


def make_stand_ins(engine: Engine, settings: BuildSettings) -> None:
    """Make the base images under their names, and what ``STAND_IN_FILE`` names."""
    names = base_images()
    debian, python = names["DEBIAN_IMAGE"], names["PYTHON_IMAGE"]
    if not DEBIAN.is_file():
        assert shutil.which("mmdebstrap"), "mmdebstrap is missing: apt-get install mmdebstrap"
        DEBIAN.parent.mkdir(parents=True, exist_ok=True)
        made = DEBIAN.with_suffix(".partial.tar")
        apt_settings = DEBIAN.with_name("keep-nothing")
        apt_settings.write_text(KEEP_NOTHING, encoding="utf-8")
        subprocess.run(
            [
                *(
                    "mmdebstrap",
                    "--variant=minbase",
                    "--quiet",
                    "--include=usr-is-merged,usrmerge-",
                ),
                *(f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in UNREAD),
                '--customize-hook=chroot "$1" apt-get purge --yes --quiet=2 perl-modules-5.36',
                f"--customize-hook=copy-in {apt_settings} /etc/apt/apt.conf.d",
                '--customize-hook=rm -rf "$1"/var/cache/apt/* "$1"/var/lib/apt/lists/*',
                *(DEBIAN_SUITE, str(made)),
            ],
            env=os.environ | {"LC_ALL": "C"},
            check=True,
        )
        made.rename(DEBIAN)
    engine.docker("import", str(DEBIAN), debian)
    build_stand_in(engine, settings, "python", python, DEBIAN_IMAGE=debian)
    requirements = subprocess.run(
        [sys.executable, str(ROOT / "docker" / "requirements.py"), "local"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    (database,) = (line for line in requirements if line.startswith("SecantusDB"))
    for service, arguments in (
        ("database", {"PYTHON_IMAGE": python, "DATABASE": database}),
        ("prometheus", {"DEBIAN_IMAGE": debian}),
    ):
        build_stand_in(engine, settings, service, f"stand-in:{service}", **arguments)


def build_stand_in(
    engine: Engine, settings: BuildSettings, name: str, tag: str, **arguments: str
) -> None:
    """Build an image of ``stand_ins``."""
    engine.run(
        [
            *("docker", "build", *settings.flags(), "--tag", tag),
            *("--file", str(STAND_INS / f"{name}.Dockerfile")),
            *(word for item in arguments.items() for word in ("--build-arg", "=".join(item))),
            str(STAND_INS),
        ],
        ROOT,
        engine.folder / "images.log",
    )
