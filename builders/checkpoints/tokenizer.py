"""Tokenizers of checkpoints, as JSON that pads and cuts the way their model was trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from bls_models.errors import BundleError
from builders.checkpoints.pretrained import read_settings

# Tokenizers of SigLIP 2. It was trained on lower-case text, which Gemma's own tokenizer keeps
# as it is.
SIGLIP2_TOKENIZERS = ("Gemma", "Siglip2")


def tokenizer_from_checkpoint(folder: Path, max_tokens: int, fixed_length: bool = False) -> str:
    """A checkpoint's tokenizer as JSON, cutting at ``max_tokens`` with the end token kept.

    Args:
        folder: holds ``tokenizer.json`` and, for the padding token, ``tokenizer_config.json``.
        max_tokens: most tokens of a text, those the tokenizer adds among them.
        fixed_length: pad every text to ``max_tokens``; otherwise to the longest of a batch.

    Raises:
        BundleError: there is no such tokenizer, or it has no token to pad with.
    """
    from tokenizers import Tokenizer

    read_settings(folder, "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_truncation(max_length=max_tokens)
    pad_id, pad_token = _padding(tokenizer, folder)
    tokenizer.enable_padding(
        direction="right",
        length=max_tokens if fixed_length else None,
        pad_id=pad_id,
        pad_token=pad_token,
    )
    return str(tokenizer.to_str())


def tokenizer_json_from_checkpoint(folder: Path) -> str:
    """A checkpoint's tokenizer as JSON, neither padding nor cutting.

    Raises:
        BundleError: there is none.
    """
    from tokenizers import Tokenizer

    read_settings(folder, "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return str(tokenizer.to_str())


def siglip_tokenizer_from_checkpoint(folder: Path, max_tokens: int) -> str:
    """SigLIP's or SigLIP 2's tokenizer: every text is ``max_tokens`` long, SigLIP 2's lower-case.

    Raises:
        BundleError: see ``tokenizer_from_checkpoint``.
    """
    from tokenizers import Tokenizer, normalizers

    tokenizer = Tokenizer.from_str(tokenizer_from_checkpoint(folder, max_tokens, fixed_length=True))
    settings = _settings(folder)
    lower = settings.get("do_lower_case") or str(settings.get("tokenizer_class")).startswith(
        SIGLIP2_TOKENIZERS
    )
    if lower:
        steps = [tokenizer.normalizer] if tokenizer.normalizer else []
        # It changes nothing where the tokenizer does it already.
        tokenizer.normalizer = normalizers.Sequence([normalizers.Lowercase(), *steps])
    return str(tokenizer.to_str())


def end_token_id(tokenizer_json: str, folder: Path) -> int:
    """The id that ends every text, also one that was cut.

    Raises:
        BundleError: the tokenizer ends texts differently or not at all.
    """
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(tokenizer_json)
    expected = _token(_settings(folder), "eos_token")
    wanted = None if expected is None else tokenizer.token_to_id(expected)
    most = tokenizer.truncation["max_length"]
    for text in ("mug", "mug " * most):
        encoding = tokenizer.encode(text)
        last = encoding.ids[sum(encoding.attention_mask) - 1]
        if wanted is None or last != wanted:
            raise BundleError(
                f"the tokenizer of {folder} ends texts with token {last}, not with its eos_token "
                f"{expected!r} (id {wanted}), which the model pools; download tokenizer.json and "
                "tokenizer_config.json of the original repository again"
            )
    assert wanted is not None
    return int(wanted)


def padding_id(tokenizer_json: str) -> int:
    """The id that a tokenizer of ``tokenizer_from_checkpoint`` pads with."""
    from tokenizers import Tokenizer

    tokenizer: Any = Tokenizer.from_str(tokenizer_json)
    return int(tokenizer.padding["pad_id"])


def _padding(tokenizer: Any, folder: Path) -> tuple[int, str]:
    """Id and text of the padding token: the tokenizer's own, else that of its settings."""
    if tokenizer.padding:
        return int(tokenizer.padding["pad_id"]), str(tokenizer.padding["pad_token"])
    token = _token(_settings(folder), "pad_token")
    pad_id = None if token is None else tokenizer.token_to_id(token)
    if token is None or pad_id is None:
        raise BundleError(
            f"the tokenizer of {folder} has no token to pad with (pad_token is {token!r}); "
            "download tokenizer.json and tokenizer_config.json of the original repository again"
        )
    return int(pad_id), token


def _settings(folder: Path) -> dict[str, Any]:
    """``tokenizer_config.json``; empty where there is none, because some tokenizers need none."""
    if not (folder / "tokenizer_config.json").is_file():
        return {}
    return read_settings(folder, "tokenizer_config.json")


def _token(settings: dict[str, Any], key: str) -> str | None:
    """A special token's text; older files wrap it."""
    value = settings.get(key)
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
