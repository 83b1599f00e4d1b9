"""Checkpoints from the Hugging Face hub, through its own cache."""

from __future__ import annotations

import re
from pathlib import Path

from bls_models.errors import BundleError

REFERENCE = re.compile(r"(?P<repository>[\w.-]+/[\w.-]+)(@(?P<revision>\S+))?")

FILES = [
    "config.json",
    "preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "chat_template.json",
    "generation_config.json",
    "model*.safetensors",
    "model.safetensors.index.json",
]
# Some older repositories, openai/clip-vit-base-patch32 among them, have no safetensors.
PICKLED_WEIGHTS = ["pytorch_model*.bin", "pytorch_model.bin.index.json"]


def folder_from_hub(reference: str) -> Path:
    """The folder of a hub checkpoint, downloaded unless the cache holds it.

    What the cache holds is used as it is, so that a start needs no network and a moved branch
    does not change the vectors by itself; pin a revision to name the state that is meant.

    Args:
        reference: ``owner/name`` or ``owner/name@revision`` (branch, tag or commit).

    Raises:
        BundleError: not such a reference, or not in the cache and not to be had.
    """
    match = REFERENCE.fullmatch(reference)
    if match is None:
        raise BundleError(
            f"checkpoint 'hub:{reference}' is not hub:<owner>/<name> or "
            "hub:<owner>/<name>@<revision>; correct the bundle file"
        )
    repository, revision = match["repository"], match["revision"]
    cached = _cached(repository, revision)
    if cached is not None:
        return cached
    try:
        folder = _snapshot(repository, revision, local_files_only=False)
    # The layers below raise their own errors, OSError, ValueError and those of two HTTP clients.
    except Exception as error:
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        raise _unavailable(repository, revision, reason) from error
    if not _complete(folder):
        raise _unavailable(repository, revision, "only some of its files are there")
    return folder


def has_weights(folder: Path) -> bool:
    """Whether a checkpoint folder holds weights in a form that can be loaded."""
    return any(next(folder.glob(pattern), None) for pattern in ("*.safetensors", "*.bin"))


def _cached(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        folder = _snapshot(repository, revision, local_files_only=True)
    except LocalEntryNotFoundError:
        return None
    return folder if _complete(folder) else None


def _complete(folder: Path) -> bool:
    """Whether the least is there; a download that was cut off may have left a part."""
    return (folder / "config.json").is_file() and has_weights(folder)


def _unavailable(repository: str, revision: str | None, reason: str) -> BundleError:
    at, option = (f"@{revision}", f" --revision {revision}") if revision else ("", "")
    return BundleError(
        f"checkpoint hub:{repository}{at} cannot be downloaded ({reason}). "
        "Check the name, the revision and the network; a gated one needs `hf auth login`. "
        f"Without a network, run `hf download {repository}{option} --local-dir FOLDER` elsewhere "
        "and give that folder as the checkpoint, or set HF_HOME to a copy of a filled cache"
    )


def _snapshot(repository: str, revision: str | None, local_files_only: bool) -> Path:
    from huggingface_hub import snapshot_download

    def download(patterns: list[str]) -> Path:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                allow_patterns=patterns,
                local_files_only=local_files_only,
            )
        )

    folder = download(FILES)
    return folder if has_weights(folder) else download(FILES + PICKLED_WEIGHTS)
