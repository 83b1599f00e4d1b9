"""The perf_analyzer binary: found or installed, and run for one level of load."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from bls_models.errors import SetupError
from bls_models.files import atomic_write
from bls_models.specs import IMAGE_ENCODER, PRODUCT_MATCH
from loadtest.measurements import LoadError
from local_server.triton import find_installation

PROGRAM = "perf_analyzer"
# The last release whose binary runs with the C library of Debian 12 and Ubuntu 22.04. Its wheel is
# only taken apart: the environment has a newer tritonclient.
REQUIREMENT = (
    "tritonclient==2.41.1 "
    "--hash=sha256:22ad56ae5ab25518862dec85af0a8246a32a1e14e2ee1d86f1444ce432c254e1\n"
)
# Libraries that it needs, and how they are called in Triton's wheel.
LIBRARIES = {"libb64.so.0d": "libb64-*.so.0d", "libcudart.so.12": "libcudart-*.so.12*"}

# What it says where a model that product_match calls had no request in the window.
ALL_KNOWN = "failed to find the requested model version"
NOT_SETTLED = 2
MAX_WINDOWS = 6


@dataclass(frozen=True)
class Level:
    """One level of load.

    Attributes:
        sweep: ``concurrency`` or ``request_rate``.
        value: requests under way at once, or requests started a second.
    """

    sweep: str
    value: float

    @property
    def flags(self) -> list[str]:
        """As perf_analyzer takes it."""
        if self.sweep == "concurrency":
            return ["--concurrency-range", f"{self.value:.0f}"]
        # Independent users: requests do not come evenly.
        return ["--request-rate-range", f"{self.value:g}", "--request-distribution", "poisson"]


@dataclass(frozen=True)
class Analyzer:
    """A program that runs here.

    Attributes:
        program: its path.
        libraries: folder with what it links to; None: the system has it.
    """

    program: Path
    libraries: Path | None

    def run(self, arguments: Sequence[str]) -> subprocess.CompletedProcess[str]:
        """Run it and wait; the output holds both streams."""
        environment = dict(os.environ)
        if self.libraries is not None:
            known = environment.get("LD_LIBRARY_PATH")
            environment["LD_LIBRARY_PATH"] = os.pathsep.join(
                filter(None, [str(self.libraries), known])
            )
        return subprocess.run(
            [str(self.program), *arguments],
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def measure(
        self, address: str, inputs: Path, level: Level, window_s: float, stability: float, csv: Path
    ) -> str | None:
        """Measure one level over gRPC.

        Args:
            address: the server's host:port.
            inputs: what to send (``loadtest.perf.inputs``).
            level: the load.
            window_s: seconds of one measurement; three in a row have to agree.
            stability: how far those may differ, in percent.
            csv: where perf_analyzer writes its figures.

        Returns:
            What it printed; None if the figures did not settle within ``MAX_WINDOWS``.

        Raises:
            LoadError: a request failed, or the server does not answer.
        """
        csv.unlink(missing_ok=True)
        result = self.run(
            [
                *("-m", PRODUCT_MATCH.name, "-i", "grpc", "-u", address),
                *("--input-data", str(inputs), "--shape", "image:1"),
                *level.flags,
                *("--measurement-interval", f"{window_s * 1e3:.0f}"),
                *("--stability-percentage", f"{stability:g}", "--max-trials", str(MAX_WINDOWS)),
                f"--bls-composing-models={IMAGE_ENCODER.name}",
                *("-f", str(csv), "--verbose-csv"),
            ]
        )
        if result.returncode == NOT_SETTLED and "stable measurement" in result.stdout:
            return None
        if result.returncode and ALL_KNOWN in result.stdout:
            raise LoadError(
                f"{IMAGE_ENCODER.name} had nothing to do, because the server knows the vectors of "
                "these photos; start it with PRODUCT_MATCH_VECTOR_CACHE=1 for this measurement"
            )
        if result.returncode or not csv.is_file():
            raise LoadError(
                f"perf_analyzer ended with status {result.returncode}; it printed:\n"
                f"{result.stdout.strip()[-2000:]}"
            )
        return result.stdout


def find_analyzer(folder: Path) -> Analyzer:
    """The program on the PATH, else the one in ``folder``, which is installed if need be.

    Args:
        folder: of its own, so that nothing in the environment changes.

    Raises:
        SetupError: it cannot run here.
    """
    found = shutil.which(PROGRAM)
    analyzer = Analyzer(Path(found), None) if found else _installed(folder)
    answer = analyzer.run(["--version"])
    if answer.returncode:
        raise SetupError(
            f"{analyzer.program} does not run here: {answer.stdout.strip()[-500:]}. Put another "
            "build of perf_analyzer on the PATH, such as that of NVIDIA's tritonserver SDK image, "
            "or use `make loadtest`, which runs everywhere"
        )
    return analyzer


def _installed(folder: Path) -> Analyzer:
    program, libraries = folder / PROGRAM, folder / "lib"
    if not program.is_file():
        if (sys.platform, platform.machine()) != ("linux", "x86_64"):
            raise SetupError(
                f"perf_analyzer exists for Linux on x86-64 only, this is {sys.platform} on "
                f"{platform.machine()}; run `make perf URL=grpc://host:port` on such a machine, "
                "or use `make loadtest`, which runs everywhere"
            )
        _download(folder)
    _link_libraries(libraries)
    return Analyzer(program, libraries)


def _download(folder: Path) -> None:
    """Take the program out of its wheel."""
    folder.mkdir(parents=True, exist_ok=True)
    requirement = folder / "requirement.txt"
    requirement.write_text(REQUIREMENT, encoding="utf-8")
    download = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"),
            *("--no-deps", "--only-binary", ":all:", "--require-hashes"),
            *("--requirement", str(requirement), "--dest", str(folder)),
        ],
        text=True,
        capture_output=True,
    )
    if download.returncode:
        raise SetupError(
            f"perf_analyzer could not be installed: pip download of {REQUIREMENT.split()[0]} "
            f"failed: {download.stderr.strip()[-500:]}"
        )
    (wheel,) = folder.glob("tritonclient-*.whl")
    with zipfile.ZipFile(wheel) as archive, atomic_write(folder / PROGRAM) as stream:
        (member,) = (name for name in archive.namelist() if name.endswith(f"/bin/{PROGRAM}"))
        stream.write(archive.read(member))
        os.fchmod(stream.fileno(), 0o755)
    wheel.unlink()


def _link_libraries(folder: Path) -> None:
    """Give the libraries in Triton's wheel the names that the program asks for."""
    folder.mkdir(parents=True, exist_ok=True)
    sources = find_installation(folder).libraries
    for name, pattern in LIBRARIES.items():
        found = [path for source in sources for path in sorted(source.glob(pattern))]
        if not found:
            raise SetupError(
                f"perf_analyzer needs {name}, and Triton's wheel has no {pattern}; install the "
                "pinned server with `pip install -e '.[local]'`"
            )
        link = folder / name
        link.unlink(missing_ok=True)
        link.symlink_to(found[0])
