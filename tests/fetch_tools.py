"""Bring the programs that the tests run: nginx with its JavaScript module, promtool, Chromium.

Debian's packages are unpacked into ``build/tools``, which takes no root. What the system has is
used as it is. What cannot be had is named in a line, and the next run tries again.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import SetupError
from gateway.config import SCRIPT_MODULE, script_module

TOOLS = Path(__file__).resolve().parent.parent / "build" / "tools"
# Says that everything is there; make looks for it.
MARKER = ".complete"

# The system's sources, keys and installed packages; lists and downloads in a folder of the user's
# own. Commands that the system runs after an update are for root.
APT_OPTIONS = """\
Dir::State "{folder}/state";
Dir::Cache "{folder}/cache";
Dir::State::Lists "{folder}/state/lists";
APT::Sandbox::User "root";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"""
# The variables are for one program alone; others have the system's libraries.
WRAPPER = """\
#!/bin/sh
root=$(cd "$(dirname "$0")/../.." && pwd)
{variables}exec "$root/{program}" "$@"
"""
VARIABLE = 'export {name}="{paths}${{{name}:+:${name}}}"\n'
# Containers let no program make a sandbox, and have a small /dev/shm.
BROWSER_OPTIONS = ("--no-sandbox", "--disable-dev-shm-usage")
# A browser that cannot start may wait for ever.
BROWSER_SECONDS = 120.0
# The fonts that were unpacked and no others, so that a page looks the same on every machine. A name
# that is none of theirs gets the first.
FONTS = """\
<?xml version="1.0"?>
<fontconfig>
  <dir prefix="relative">../../usr/share/fonts</dir>
  <alias><family>sans-serif</family><prefer><family>DejaVu Sans</family></prefer></alias>
  <alias><family>serif</family><prefer><family>DejaVu Serif</family></prefer></alias>
  <alias><family>monospace</family><prefer><family>DejaVu Sans Mono</family></prefer></alias>
  <match>
    <edit name="family" mode="append_last"><string>DejaVu Sans</string></edit>
  </match>
</fontconfig>
"""


@dataclass(frozen=True)
class Tool:
    """A program and the packages that bring it.

    Attributes:
        name: the program's.
        packages: what an administrator would install.
        folder: where its package has the program.
    """

    name: str
    packages: tuple[str, ...]
    folder: str

    @property
    def command(self) -> str:
        """What installs it for everyone."""
        return f"apt-get install {' '.join(self.packages)}"

    def is_there(self) -> bool:
        """Whether the system or an earlier run has it."""
        return shutil.which(self.name) is not None

    def fetch(self, apt: Apt, folder: Path) -> None:
        """Unpack it into an empty folder."""
        with tempfile.TemporaryDirectory(dir=apt.folder) as unpacked:
            apt.unpack(self.packages, Path(unpacked))
            (folder / self.folder).mkdir(parents=True)
            program = f"{self.folder}/{self.name}"
            shutil.move(f"{unpacked}/{program}", folder / program)
        run(str(folder / program), "--version")


class Nginx(Tool):
    """nginx, its module, and the libraries of both that the system lacks."""

    def is_there(self) -> bool:
        try:
            script_module()
        except SetupError:
            return False
        return True

    def fetch(self, apt: Apt, folder: Path) -> None:
        # nginx itself also where the system has it: a module fits one version.
        apt.unpack({"nginx", *self.packages, *apt.lacking(self.packages)}, folder)
        program = folder / self.folder / self.name
        program.rename(folder / "usr/lib/nginx/nginx")
        wrap(folder, program, "usr/lib/nginx/nginx")
        configuration = apt.folder / "check.conf"
        configuration.write_text(
            f'load_module "{folder}/usr/lib/nginx/modules/{SCRIPT_MODULE}";\n'
            f'pid "{apt.folder}/check.pid";\nevents {{}}\n',
            encoding="utf-8",
        )
        check = ["-t", "-e", "stderr", "-p", str(apt.folder), "-c", str(configuration)]
        run(str(program), *check)


class Chromium(Tool):
    """Chromium with fonts, and the libraries that the system lacks."""

    def fetch(self, apt: Apt, folder: Path) -> None:
        apt.unpack({*self.packages, *apt.lacking(self.packages)}, folder)
        (folder / "etc/fonts").mkdir(parents=True, exist_ok=True)
        (folder / "etc/fonts/fonts.conf").write_text(FONTS, encoding="utf-8")
        # In place of Debian's own wrapper, which knows /usr/lib and /etc only.
        program = folder / self.folder / self.name
        program.unlink()
        wrap(folder, program, "usr/lib/chromium/chromium", FONTCONFIG_PATH="etc/fonts")
        page = "data:text/html,<script>document.write(6 * 7)</script>"
        profile = f"--user-data-dir={apt.folder}/profile"
        options = (*BROWSER_OPTIONS, "--headless", profile, "--dump-dom")
        shown = run(str(program), *options, page, seconds=BROWSER_SECONDS)
        if "42</body>" not in shown:
            raise SetupError(f"{self.name}: a page with 42 is shown as {shown!r}")


NGINX = Nginx("nginx", ("nginx-light", "libnginx-mod-http-js"), "usr/sbin")
# The package also has Prometheus itself, which no test runs.
PROMTOOL = Tool("promtool", ("prometheus",), "usr/bin")
CHROMIUM = Chromium("chromium", ("chromium", "fonts-dejavu-core"), "usr/bin")
ALL = (NGINX, PROMTOOL, CHROMIUM)


class Apt:
    """apt-get for any user, with the newest lists.

    Args:
        folder: an empty one.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("state/lists/partial", "cache/archives/partial"):
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "apt.conf").write_text(APT_OPTIONS.format(folder=folder), encoding="utf-8")
        # One source of several that fails is no matter if the packages come from the others.
        self._trouble: SetupError | None = None
        try:
            self._get("-o", "APT::Update::Error-Mode=any", "update")
        except SetupError as error:
            self._trouble = error

    def lacking(self, packages: Iterable[str]) -> set[str]:
        """The packages that installing these would add; nothing is installed."""
        return new_packages(
            self._get("--simulate", "install", "--no-install-recommends", *packages)
        )

    def unpack(self, packages: Iterable[str], folder: Path) -> None:
        """Download packages and unpack them into a folder."""
        with tempfile.TemporaryDirectory(dir=self.folder) as downloads:
            self._get("download", *sorted(packages), folder=Path(downloads))
            for package in sorted(Path(downloads).glob("*.deb")):
                run("dpkg-deb", "--extract", str(package), str(folder))

    def _get(self, *arguments: str, folder: Path | None = None) -> str:
        options = ["-qq", "-c", str(self.folder / "apt.conf")]
        try:
            return run("apt-get", *options, *arguments, folder=folder)
        except SetupError as error:
            raise self._trouble or error from error


def new_packages(simulation: str) -> set[str]:
    """The packages that a simulated installation adds.

    Those that it would bring up to date stay as they are: libc is of no use beside the system's.
    """
    return set(re.findall(r"^Inst (\S+) \(", simulation, re.MULTILINE))


def wrap(folder: Path, wrapper: Path, program: str, **variables: str) -> None:
    """Write a script that runs a program with what was unpacked beside it.

    Args:
        folder: what was unpacked.
        wrapper: the script, two folders below.
        program: its path in the folder.
        variables: paths in the folder; each comes before what its variable has.
    """
    # Some, such as NSS's, have no version in their names.
    libraries = sorted({str(path.parent.relative_to(folder)) for path in folder.rglob("lib*.so*")})
    paths = {name: [path] for name, path in variables.items()} | {"LD_LIBRARY_PATH": libraries}
    lines = [
        VARIABLE.format(name=name, paths=":".join(f"$root/{path}" for path in found))
        for name, found in paths.items()
        if found
    ]
    wrapper.write_text(WRAPPER.format(variables="".join(lines), program=program), encoding="utf-8")
    wrapper.chmod(0o755)


def run(*command: str, folder: Path | None = None, seconds: float | None = None) -> str:
    """The output of a command.

    Raises:
        SetupError: it fails, or takes longer than it may; the message is a line of what it said.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except OSError as error:
        raise SetupError(f"{command[0]}: {error.strerror}") from error
    except subprocess.TimeoutExpired as error:
        raise SetupError(f"{Path(command[0]).name}: no end after {seconds:g} s") from error
    if done.returncode:
        said = (done.stderr or done.stdout).strip().splitlines() or [f"status {done.returncode}"]
        # apt-get's first error is the cause, and there may be warnings before it.
        first = next((line for line in said if line.startswith("E: ")), said[-1])
        raise SetupError(f"{Path(command[0]).name}: {first.removeprefix('E: ')}")
    return done.stdout


def add_to_path(tools: Path = TOOLS) -> None:
    """Let this process and its children find what was brought."""
    brought = [str(tools / tool.name / tool.folder) for tool in ALL]
    os.environ["PATH"] = os.pathsep.join([*brought, os.environ.get("PATH", os.defpath)])


def bring(tools: Path, wanted: Iterable[Tool]) -> list[str]:
    """Bring what is not there.

    Returns:
        A line for each tool that could not be had.
    """
    tools.mkdir(parents=True, exist_ok=True)
    lines = []
    with tempfile.TemporaryDirectory(dir=tools) as work:
        apt: Apt | None = None
        for tool in wanted:
            try:
                apt = apt or Apt(Path(work, "apt"))
                made = Path(work, tool.name)
                made.mkdir()
                tool.fetch(apt, made)
                shutil.rmtree(tools / tool.name, ignore_errors=True)
                made.rename(tools / tool.name)
            except (SetupError, OSError) as error:
                lines.append(
                    f"{tool.name} is missing and cannot be fetched ({error}); "
                    f"install it: {tool.command}"
                )
    return lines


def main(tools: Path = TOOLS) -> int:
    """Bring what is not there; what cannot be had is no failure."""
    add_to_path(tools)
    wanted = [tool for tool in ALL if not tool.is_there()]
    if wanted:
        names = ", ".join(tool.name for tool in wanted)
        print(f"Fetching {names}, which the tests run")
    lines = bring(tools, wanted)
    for line in lines:
        print(line)
    if not lines:
        (tools / MARKER).touch()
    return 0


if __name__ == "__main__":
    sys.exit(main())
