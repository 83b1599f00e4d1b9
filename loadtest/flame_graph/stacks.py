"""Stacks that perf has recorded, folded: few frames each, and how often each stack was seen."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path

# What is part of a file's path: the name it is shown by, and the kind that has its colour.
LIBRARIES = (
    ("[kernel", "kernel", "kernel"), ("libpython", "Python", "Python"),
    ("simplejpeg", "libjpeg", "decoding"), ("cv2", "OpenCV", "decoding"),
    ("PIL", "Pillow", "decoding"), ("pillow", "Pillow", "decoding"),
    ("openblas", "OpenBLAS", "numpy"), ("numpy", "numpy", "numpy"),
    ("perf-", "generated code", "OpenVINO"), ("anon", "generated code", "OpenVINO"),
    ("libtbb", "TBB", "OpenVINO"), ("openvino", "OpenVINO", "OpenVINO"),
    ("backend_stub", "stub", "Triton"), ("libtriton_python", "Python backend", "Triton"),
    ("libtritonserver", "Triton", "Triton"), ("tritonserver", "HTTP", "Triton"),
    ("faiss", "FAISS", "other"), ("libsqlite", "SQLite", "other"),
    ("libcrypto", "OpenSSL", "other"), ("libc.so", "C library", "C library"),
    ("ld-linux", "C library", "C library"), ("libstdc++", "C++ library", "C library"),
)  # fmt: skip
KINDS = {name: kind for _, name, kind in LIBRARIES}
# Where a stack could not be read further.
NO_FILE = ("anon", "//anon", "[heap]", "[stack]", "[unknown]")
UNKNOWN = "[unknown]"
# Shown only where they run themselves: all begin in them, and enter the kernel through them.
PASSED_THROUGH = frozenset({"C library", "C++ library"})
# What threads of Triton's stub, and of engines in it, are called by the kernel.
STUB_THREAD = "triton_python_b"

FRAME = re.compile(r"\s*[0-9a-f]+ (.*) \((.*)\)$")

# Outermost frame first; the thread's name before all.
Stack = tuple[str, ...]


def fold(script: str) -> dict[int, Counter[Stack]]:
    """How often each stack was seen, by process id.

    Frames of one library that follow each other become one, followed by the function that runs. Of
    the kernel there is only what it was entered for, of the interpreter only that it runs.

    Args:
        script: what ``perf script --no-inline -F comm,pid,tid,ip,sym,dso`` writes.
    """
    folded: dict[int, Counter[Stack]] = defaultdict(Counter)
    for block in script.split("\n\n"):
        head, *lines = block.strip("\n").split("\n")
        if begin := re.match(r"\s*(.+?)\s+(\d+)/", head):
            frames = [found.groups() for line in lines if (found := FRAME.match(line))]
            # The threads of a stage differ by their number alone.
            thread = re.sub(r"-\d+$", "", begin[1]).replace(STUB_THREAD, "other threads")
            libraries = _merged([(name, path) for name, path in frames])
            folded[int(begin[2])][(thread, *libraries)] += 1
    return dict(folded)


def short_name(name: str) -> str:
    """A function's name without arguments, namespaces and what its templates are filled with."""
    shorter = re.sub(r"<[^<>]*>", "", name)
    while shorter != name:
        name, shorter = shorter, re.sub(r"<[^<>]*>", "", shorter)
    return re.split(r"[(@\[]", name)[0].rsplit("::", 1)[-1].strip() or name


def _merged(frames: Sequence[tuple[str, str]]) -> list[str]:
    """Libraries from the outermost to that of the function that runs, then its name if known.

    Args:
        frames: function and file, innermost first.
    """
    merged: list[str] = []
    for place, (name, path) in reversed(list(enumerate(frames))):
        library = _library(path)
        if library == "kernel":
            return [*merged, f"kernel: {_entry([name for name, _ in frames[: place + 2]])}"]
        if place and (path.startswith(NO_FILE) or library in PASSED_THROUGH):
            continue
        if merged[-1:] != [library]:
            merged.append(library)
    if merged and merged[-1] != "Python" and frames[0][0] != UNKNOWN:
        merged.append(short_name(frames[0][0]))
    return merged


def _library(path: str) -> str:
    for part, name, _ in LIBRARIES:
        if part in path:
            return name
    return Path(path).name.split(".")[0]


def _entry(names: Sequence[str]) -> str:
    """What the kernel was entered for.

    Args:
        names: functions of the kernel, innermost first, and the one that called it.
    """
    for name in names:
        if call := re.match(r"__(?:x64|arm64)_sys_(\w+)", name):
            return call[1]
        if "page_fault" in name:
            return "page fault"
    # On its way back it is no more in a function that says what it was entered for.
    caller = re.sub(r"^_*(GI_+|libc_)?", "", short_name(names[-1]))
    return caller if caller.islower() else "other"
