"""Reports of measurements: the machine that they belong to, and their JSON file."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bls_models.cpus import cpu_count
from bls_models.engines.precisions import int8_support
from bls_models.files import atomic_write


def machine() -> dict[str, Any]:
    """The machine that the numbers belong to."""
    return {
        "cpu": _cpu_model(),
        "cores": cpu_count(),
        "int8": str(int8_support()),
        "load_average": os.getloadavg()[0],
    }


def write_report(path: Path, report: Mapping[str, Any] | Sequence[Any]) -> None:
    """Write a report as JSON, at once or not at all."""
    with atomic_write(path) as stream:
        stream.write(f"{json.dumps(report, indent=2)}\n".encode())


def _cpu_model() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()
