"""The processes of a Triton's Python models, as /proc shows them.

Triton never starts such a process again, and goes on answering that the model is ready.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
SERVER = "tritonserver"
# As the kernel cuts it off: a process that has ended has no command line any more.
STUB = "triton_python_b"
ENDED = "ZX"
MODEL_FILE = "/1/model.py"


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    name: str
    state: str

    def command(self) -> list[str]:
        try:
            return (
                (PROC / str(self.pid) / "cmdline")
                .read_bytes()
                .decode("utf-8", "replace")
                .split("\0")
            )
        except OSError:
            return []


def _processes() -> Iterator[_Process]:
    for folder in PROC.glob("[0-9]*"):
        try:
            text = (folder / "stat").read_text(errors="replace")
        except OSError:
            # It has ended meanwhile.
            continue
        name = text[text.index("(") + 1 : text.rindex(")")]
        state, parent = text.rpartition(")")[2].split()[:2]
        yield _Process(int(folder.name), int(parent), name, state)


def model_processes(server: int) -> dict[int, str]:
    """The models' living processes: model by process id.

    Args:
        server: Triton's process id.
    """
    return {
        item.pid: Path(file).parent.parent.name
        for item in _processes()
        if item.parent == server and item.state not in ENDED
        for file in item.command()
        if file.endswith(MODEL_FILE)
    }


def dead_model_processes(server: int) -> list[int]:
    """Ids of model processes that ended by themselves and that Triton still counts on.

    Args:
        server: Triton's process id.
    """
    return [
        item.pid
        for item in _processes()
        if item.parent == server and item.name == STUB and item.state in ENDED
    ]
