"""What the tab says of a product and of what became of it, as HTML."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from demo.catalogue.form import Document, sha256s
from demo.pictures import Picture
from product_match_client import IngestResult

Shown = Mapping[str | None, Picture]

SAVED = {
    "created": "Created {product}, revision {revision}. Matches show it within a second.",
    "updated": "Updated {product}, revision {revision}. Matches show it within a second.",
    "unchanged": "Nothing has changed: {product} keeps revision {revision}.",
}
CAPTION_FAILED = {
    "busy": "The captioner is busy: as many photos wait for it as may. Try again in a moment.",
    "timeout": "The captioner did not answer in time. Try again in a moment.",
    "unavailable": "There is no captioner that answers.",
    "no_image": "There is no picture to describe.",
    "not_asked": "The server did not ask for a description.",
}
KINDS = {"exact": "The same file", "near": "Nearly the same picture"}


def notice(text: str) -> str:
    """A paragraph that screen readers say when it appears."""
    return f'<p class="catalogue-notice" role="status">{escape(text)}</p>'


def heading(document: Document | None) -> str:
    """Which product the form shows."""
    if document is None:
        return '<h3 class="catalogue-heading">A new product</h3>'
    about = f"revision {document['revision']}"
    if document.get("description_generated"):
        about += ", its description is a generated one"
    name = escape(str(document["product_id"]))
    return f'<h3 class="catalogue-heading">{name} <small>{escape(about)}</small></h3>'


def stored_pictures(document: Document | None, shown: Shown) -> str:
    """The stored pictures, in their order."""
    label = '<div class="catalogue-label">Pictures</div>'
    stored = sha256s(document)
    if document is None or not stored:
        return f'{label}<p class="catalogue-hint">No pictures are stored.</p>'
    return label + _pictures(str(document["name"]), stored, shown)


def caption_words(caption: Mapping[str, Any]) -> str:
    """What became of a description that was asked for, as a sentence.

    Args:
        caption: ``details.caption`` of the server's answer.
    """
    status = caption["status"]
    sure = f"confidence {caption['confidence']:.2f}" if caption.get("confidence") else ""
    if status == "ok":
        return f"Suggested by the server ({sure})."
    if status == "low_confidence":
        if not caption.get("text"):
            return "The captioner found no words for this picture."
        return f"The captioner is not sure ({sure}): take it only if it is right."
    reason = f" ({caption['reason']})" if caption.get("reason") else ""
    return CAPTION_FAILED.get(status, f"No description: {status}.") + reason


def suggestion(caption: Mapping[str, Any]) -> str:
    """A suggested description and what there is to say of it."""
    text = caption.get("text") or ""
    quoted = f"<blockquote>{escape(text)}</blockquote>" if text else ""
    words = escape(caption_words(caption))
    return f'<div class="catalogue-suggestion" role="status">{quoted}<p>{words}</p></div>'


def outcome(result: IngestResult, saved: Document, gave_pictures: bool) -> str:
    """What became of a product that was saved."""
    said = SAVED.get(result.status, "{product}: " + result.status)
    lines = [said.format(product=result.product_id, revision=result.revision)]
    count = len(sha256s(saved))
    if not count:
        lines.append("It has no pictures, so only words find it.")
    elif result.status != "unchanged":
        became = "is what you sent" if gave_pictures else "stayed as it was"
        if count > 1:
            became = "are what you sent" if gave_pictures else "stayed as they were"
        lines.append(f"{'Its picture' if count == 1 else f'Its {count} pictures'} {became}.")
    caption = result.details.get("caption")
    if caption:
        is_described = caption["status"] == "ok"
        lines.append(
            "The server described its first picture." if is_described else caption_words(caption)
        )
    elif not saved.get("description"):
        lines.append(
            "It has no description: ask for a suggestion, or tick that the server describes it, "
            "and save again."
        )
    if "duplicates" in result.details.get("degraded", []):
        lines.append("Nobody could look for duplicates just now.")
    return outcome_box(lines)


def outcome_box(lines: Iterable[str]) -> str:
    """Paragraphs that say what came of something; screen readers say them when they appear."""
    paragraphs = "".join(f"<p>{escape(line)}</p>" for line in lines)
    return f'<div class="catalogue-outcome" role="status">{paragraphs}</div>'


def duplicates(
    saved: Document,
    found: Sequence[Mapping[str, Any]],
    others: Mapping[str, Document | None],
    shown: Shown,
) -> str:
    """The product's pictures beside those of each duplicate.

    Args:
        saved: the product.
        found: ``details.duplicates`` of the server's answer.
        others: the duplicates' documents by their ids; None for one that is gone since.
        shown: pictures by their sha256.
    """
    if not found:
        return ""
    own = _pictures(str(saved["name"]), sha256s(saved), shown)
    parts = []
    for duplicate in found:
        product_id = str(duplicate["product_id"])
        other = others.get(product_id)
        name = str(other["name"]) if other else "no longer there"
        said = KINDS.get(str(duplicate["kind"]), str(duplicate["kind"]))
        parts.append(
            f'<section class="catalogue-duplicate"><p><strong>{escape(said)}</strong> '
            f"({escape(str(duplicate['kind']))}, cosine {float(duplicate['cosine']):.3f}): "
            f"{escape(name)}</p>"
            '<div class="catalogue-sides">'
            f"<figure><figcaption>{escape(str(saved['product_id']))}</figcaption>{own}</figure>"
            f"<figure><figcaption>{escape(product_id)}</figcaption>"
            f"{_pictures(name, sha256s(other), shown)}</figure></div>"
            f'<button type="button" class="pm-button" data-open="{escape(product_id)}">'
            f"Open {escape(product_id)}</button></section>"
        )
    count = len(found)
    many = f"{count} other {'product shows' if count == 1 else 'products show'}"
    return (
        f'<div class="catalogue-duplicates"><h4>{many} the same or nearly the same picture</h4>'
        f"{''.join(parts)}</div>"
    )


def deletion(document: Document) -> str:
    """The question before a product is deleted."""
    count = len(sha256s(document))
    pictures = f"{count} {'picture' if count == 1 else 'pictures'}"
    return (
        f'<p class="catalogue-question" role="alert">Delete {escape(str(document["product_id"]))}, '
        f"{escape(str(document['name']))}, with its {pictures}? Nobody can bring it back.</p>"
    )


def _pictures(name: str, stored: Sequence[str], shown: Shown) -> str:
    images = "".join(
        f"<li>{shown.get(sha256, Picture()).html(f'{name}, picture {number}')}</li>"
        for number, sha256 in enumerate(stored, 1)
    )
    return (
        f'<ul class="catalogue-pictures">{images}</ul>'
        if stored
        else '<p class="catalogue-hint">no pictures</p>'
    )
