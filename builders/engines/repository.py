"""The model repository of the GPU profile: the built one, with engines of the GPU at hand.

Engines belong to the graphs that they are compiled from, one TensorRT and one model of GPU. They
are kept in a folder named for all three, on a volume that outlives the container, so that each is
compiled once, and servers of other graphs, as of another precision, leave them alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from bls_models.bundle import Bundle, graph_file
from bls_models.errors import SetupError
from bls_models.specs import ENGINE_SPECS
from builders.engines.building import BUILDER_REVISION
from builders.engines.profiles import profiles_for
from builders.engines.tensorrt_api import Compiler, compiler_for_target

PROJECT = Path(__file__).resolve().parents[2]
# What the engine builder writes.
ENGINE_FILES = frozenset({"model.plan", "model.plan.json"})
RECIPE_DIGITS = 12


def compiled_repository(repository: Path, state: Path, report: Callable[[str], None]) -> Path:
    """The repository with engines for the GPU at hand, compiled where they are not there yet.

    Several servers may share ``state``: one compiles, the others wait for it.

    Args:
        repository: the built model repository; it is only read.
        state: where engines are kept, under ``engines``.
        report: called with a line on each step.

    Raises:
        BundleError: the repository is not built.
        SetupError: TensorRT or the GPU is missing, or an engine does not compile.
    """
    bundle = Bundle.read(repository)
    compiler = compiler_for_target("gpu")
    folder = state / "engines" / engines_key(bundle, compiler)
    report(f"engines: {folder}")

    def build(linked: Path) -> None:
        command = [sys.executable, "-m", "builders", "engines", "--target", "gpu"]
        # A process of its own: its TensorRT and CUDA memory are not the server's.
        done = subprocess.run(
            [*command, "--bundle", bundle.name, "--repository", str(linked)],
            # Where its report of the engines goes.
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(PROJECT)},
            check=False,
        )
        if done.returncode:
            raise SetupError("the engines could not be compiled; see above")

    return repository_with_engines(repository, folder, build)


def repository_with_engines(repository: Path, folder: Path, build: Callable[[Path], None]) -> Path:
    """A repository of this server's own, with the engines of a folder that servers share.

    In the folder a repository is linked and built by one server at a time. None serves from it: the
    next to come would take the links away while Triton reads them.

    Args:
        repository: the built model repository; it is only read.
        folder: where the engines are kept.
        build: makes those that are missing in the repository that it is given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder / "lock"):
        linked = folder / "model_repository"
        link_repository(repository, linked)
        build(linked)
        own = Path(tempfile.mkdtemp(prefix="product-match-")) / "model_repository"
        for source in linked.rglob("*"):
            if source.is_dir():
                continue
            target = own / source.relative_to(linked)
            target.parent.mkdir(parents=True, exist_ok=True)
            # An engine stays where it is; a new one would be another file under its name.
            if source.is_symlink() or source.name in ENGINE_FILES:
                target.symlink_to(source.resolve())
            else:
                shutil.copy2(source, target)
    return own


def engines_key(bundle: Bundle, compiler: Compiler) -> str:
    """The name of the engines' folder, in which one set of engines fits.

    Args:
        bundle: the bundle that is served; each model's first precision is compiled.
        compiler: the TensorRT and the GPU.

    Returns:
        Fingerprint, precisions, a hash of all else that the bundle and this code give an engine,
        TensorRT and GPU.
    """
    precisions = {name: served[0] for name, served in bundle.precisions.items()}
    recipe = {
        spec.name: {
            "graph": bundle.files[graph_file(spec.name, precisions[spec.name])],
            "profiles": [profile.as_json() for profile in profiles_for(spec, bundle)],
        }
        for spec in ENGINE_SPECS
        if spec.name in precisions
    }
    content = json.dumps([BUILDER_REVISION, recipe], sort_keys=True).encode()
    words = (
        bundle.fingerprint,
        *sorted(set(precisions.values())),
        hashlib.sha256(content).hexdigest()[:RECIPE_DIGITS],
        f"{compiler.package}-{compiler.version}",
        compiler.gpu or "cc" + "-".join(compiler.compute_capabilities),
    )
    return "-".join(re.sub(r"[^A-Za-z0-9.]+", "-", word).strip("-") for word in words)


def link_repository(repository: Path, linked: Path) -> None:
    """Make ``linked`` a repository of links to the files of another, beside its own engines.

    Links of an earlier repository are replaced, and models that it no longer has are removed;
    engines of the others stay.
    """
    linked.mkdir(parents=True, exist_ok=True)
    for model in linked.iterdir():
        if model.is_dir() and not (repository / model.name).is_dir():
            shutil.rmtree(model)
    for path in linked.rglob("*"):
        if path.is_symlink() or (path.is_file() and path.name not in ENGINE_FILES):
            path.unlink()
    for source in sorted(repository.rglob("*")):
        if not source.is_file() or source.name in ENGINE_FILES or "__pycache__" in source.parts:
            continue
        link = linked / source.relative_to(repository)
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(source.resolve())


@contextlib.contextmanager
def _lock(path: Path) -> Iterator[None]:
    with path.open("w") as stream:
        # It ends with its process, so a server that was killed leaves none behind.
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield
