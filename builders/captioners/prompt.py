"""The prompt of a captioner as token ids, in its checkpoint's own chat format."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bls_models.errors import BundleError
from builders.checkpoints.pretrained import read_settings
from builders.config import CaptionerConfig

# Where checkpoints keep their chat template, in the order in which transformers looks.
TEMPLATE_FILE = "chat_template.jinja"
OLD_TEMPLATE_FILE = "chat_template.json"
TOKENIZER_SETTINGS_FILE = "tokenizer_config.json"

SPECIAL_TOKENS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True)
class ImageTokens:
    """How a family writes a picture into its prompt.

    Attributes:
        placeholder: what the chat template puts where a picture goes.
        before: special tokens before the visual tokens.
        visual: the token that stands for each visual token.
        after: special tokens after them.
    """

    placeholder: str
    before: tuple[str, ...]
    visual: str
    after: tuple[str, ...]

    def text(self, count: int) -> str:
        """The picture with ``count`` visual tokens."""
        return "".join((*self.before, *[self.visual] * count, *self.after))


def prompt_from_checkpoint(
    config: CaptionerConfig, folder: Path, tokens: ImageTokens, count: int, image_token_id: int
) -> list[int]:
    """Token ids of one user turn, a picture and the bundle's prompt, up to the answer.

    Args:
        config: has the prompt.
        folder: the checkpoint, with ``tokenizer.json`` and a chat template.
        tokens: how the family writes a picture.
        count: visual tokens of a picture.
        image_token_id: the id that the model's config gives ``tokens.visual``.

    Raises:
        BundleError: the bundle has no prompt, the checkpoint has no chat template, its template
            or its tokenizer does not know the family's tokens.
    """
    from tokenizers import Tokenizer

    if not config.prompt:
        raise BundleError(
            f"{config.family} needs a prompt in the bundle's [captioner], such as "
            'prompt = "Describe the product in one sentence."'
        )
    read_settings(folder, "tokenizer.json")
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    for token in {*tokens.before, tokens.visual, *tokens.after}:
        if tokenizer.token_to_id(token) is None:
            raise BundleError(
                f"the tokenizer of {folder} has no token {token!r}, which {config.family} writes "
                "a picture with; download tokenizer.json of the original repository"
            )
    if tokenizer.token_to_id(tokens.visual) != image_token_id:
        raise BundleError(
            f"{folder}: the tokenizer's id of {tokens.visual!r} is "
            f"{tokenizer.token_to_id(tokens.visual)}, config.json says image_token_id = "
            f"{image_token_id}; use tokenizer and config of the same checkpoint"
        )
    settings = read_settings(folder, TOKENIZER_SETTINGS_FILE)
    special = {name: _text(settings.get(name)) for name in SPECIAL_TOKENS}
    chat = _rendered(_template(folder, settings), config.prompt, special, folder)
    if chat.count(tokens.placeholder) != 1:
        raise BundleError(
            f"the chat template of {folder} writes {tokens.placeholder!r} "
            f"{chat.count(tokens.placeholder)} times for one picture and the prompt "
            f"{config.prompt!r}, expected once; use the template of the original repository, and "
            "no special tokens in the prompt"
        )
    chat = chat.replace(tokens.placeholder, tokens.text(count))
    # As transformers does it: a template that writes the first token has the tokenizer add none.
    begun = bool(special["bos_token"]) and chat.startswith(str(special["bos_token"]))
    return list(tokenizer.encode(chat, add_special_tokens=not begun).ids)


def _template(folder: Path, tokenizer_settings: dict[str, Any]) -> str:
    """The checkpoint's chat template."""
    if (folder / TEMPLATE_FILE).is_file():
        return (folder / TEMPLATE_FILE).read_text(encoding="utf-8")
    settings = tokenizer_settings
    if (folder / OLD_TEMPLATE_FILE).is_file():
        settings = read_settings(folder, OLD_TEMPLATE_FILE)
    template = settings.get("chat_template")
    if not isinstance(template, str):
        raise BundleError(
            f"checkpoint {folder} has no chat template ({TEMPLATE_FILE}, {OLD_TEMPLATE_FILE} or "
            f"chat_template in {TOKENIZER_SETTINGS_FILE}); download that of the original "
            "repository, and use a checkpoint that was trained on instructions"
        )
    return template


def _rendered(template: str, prompt: str, special: dict[str, str | None], folder: Path) -> str:
    from jinja2 import TemplateError
    from transformers.utils.chat_template_utils import render_jinja_template

    turn = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": prompt}]}
    try:
        chats, _ = render_jinja_template(
            [[turn]], chat_template=template, add_generation_prompt=True, **special
        )
    except TemplateError as error:
        raise BundleError(
            f"the chat template of {folder} cannot be used for a picture and a text ({error}); "
            "download that of the original repository"
        ) from error
    return str(chats[0])


def _text(token: Any) -> str | None:
    """A special token's text; older files wrap it."""
    value = token.get("content") if isinstance(token, dict) else token
    return value if isinstance(value, str) else None
