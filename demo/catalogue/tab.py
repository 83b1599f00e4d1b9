"""The tab that edits single products and imports files."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import gradio as gr

from demo.alerts import alert
from demo.catalogue import attributes, import_section, words
from demo.catalogue.editing import Editor, Opened, Saved
from demo.catalogue.faults import FormError
from demo.catalogue.form import Document, Form, price_text
from demo.catalogue.new_pictures import new_pictures
from demo.server import Server
from product_match_client.errors import ClientError

PICTURES = ["image", ".heic", ".heif", ".avif"]
OPENS = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("[data-open]");
  if (button) trigger("click", {product_id: button.dataset.open});
});
"""


@dataclass(frozen=True)
class CatalogueTab:
    """What other tabs may use.

    Attributes:
        product_id: a hidden field: the product whose id is put here is opened, and the field is
            empty again.
        key: the field for the ingest key.
    """

    product_id: gr.Textbox
    key: gr.Textbox


class Handlers:
    """The tab's handlers; each returns updates of its outputs in their order.

    Args:
        editor: asks the server.
    """

    def __init__(self, editor: Editor) -> None:
        self._editor = editor

    async def open(self, product_id: str, key: str) -> list[Any]:
        """Open a product; updates what is said above and below the form, the id and the form."""
        product_id = product_id.strip()
        if not product_id:
            return _kept(above=alert("say which product: its id is empty"))
        try:
            opened = await self._editor.open(product_id, key)
        except ClientError as error:
            return _kept(above=alert(error), product_id=product_id)
        if opened is None:
            said = f"There is no product {product_id}. Fill in the form to add it."
            return [words.notice(said), "", product_id, *form_values(None)]
        return [words.notice(f"Opened {product_id}."), "", product_id, *form_values(opened)]

    async def open_named(self, product_id: str, key: str) -> list[Any]:
        """Open the product that another tab names, and empty the field that it named it in."""
        if not product_id:
            return [gr.skip()] * (4 + FORM_FIELDS)
        return ["", *await self.open(product_id, key)]

    async def open_duplicate(self, key: str, event: gr.EventData) -> list[Any]:
        """Open the duplicate whose button was clicked."""
        return await self.open(str(event.product_id), key)

    async def save(
        self, key: str, opened: Document | None, uploads: list[str] | None, *fields: Any
    ) -> list[Any]:
        """Save the form; updates as `open`."""
        try:
            saved = await self._editor.save(Form(*fields), uploads or [], opened, key)
        except (ClientError, FormError) as error:
            return _kept(below=alert(str(error)))
        told = _told(saved, bool(uploads))
        return ["", told, saved.result.product_id, *form_values(saved.opened)]

    async def show_new(self, uploads: list[str] | None) -> str:
        """Show the pictures that are chosen."""
        return await asyncio.to_thread(new_pictures, uploads or [])

    async def suggest(
        self, key: str, opened: Document | None, uploads: list[str] | None
    ) -> list[Any]:
        """Ask for a description; updates the words on it, its text, and the button to take it."""
        try:
            caption = await self._editor.suggest(uploads or [], opened, key)
        except (ClientError, FormError) as error:
            return [alert(str(error)), "", gr.update(visible=False)]
        text = caption.get("text") or ""
        return [words.suggestion(caption), text, gr.update(visible=bool(text))]

    async def ask(self, opened: Document | None) -> list[Any]:
        """Ask once more before a product is deleted; updates what is said, and the question."""
        if opened is None:
            return [alert("open the product that is to be deleted"), gr.skip(), gr.skip()]
        return ["", words.deletion(opened), gr.update(visible=True)]

    async def delete(self, opened: Document | None, key: str) -> list[Any]:
        """Delete the product, about which was asked; updates as `open`."""
        if opened is None:
            return _kept(below=alert("open the product that is to be deleted"))
        try:
            result = await self._editor.delete(opened["product_id"], key)
        except ClientError as error:
            return _kept(below=alert(error))
        said = (
            f"Deleted {result.product_id}. Matches leave it out within a second."
            if result.status == "deleted"
            else f"{result.product_id} was gone already."
        )
        return ["", words.notice(said), "", *form_values(None)]


# What `form_values` updates.
FORM_FIELDS = 13


def form_values(opened: Opened | None) -> list[Any]:
    """The form of a stored product, or an empty one: the values of `FORM_FIELDS` components."""
    document: Document = opened.document if opened else {}
    return [
        words.heading(opened.document if opened else None),
        opened.document if opened else None,
        document.get("name", ""),
        document.get("category", ""),
        document.get("description", ""),
        price_text(document),
        document.get("currency", ""),
        attributes.attribute_table(document.get("attributes", {})),
        words.stored_pictures(document, opened.shown if opened else {}),
        None,
        "",
        gr.update(visible=False),
        gr.update(visible=False),
    ]


def _kept(above: str = "", below: str = "", product_id: str | None = None) -> list[Any]:
    """Words above and below a form that stays as it is."""
    kept = gr.skip() if product_id is None else product_id
    return [above, below, kept, *[gr.skip()] * FORM_FIELDS]


def _told(saved: Saved, gave_pictures: bool) -> str:
    document = saved.opened.document
    found = saved.result.details.get("duplicates", [])
    return words.outcome(saved.result, document, gave_pictures) + words.duplicates(
        document, found, saved.others, saved.shown
    )


def add(server: Server) -> CatalogueTab:
    """The tab, within the block under way."""
    handlers = Handlers(Editor(server))
    key = gr.Textbox(
        "",
        label="Ingest key",
        type="password",
        info="One of the gateway's keys of the class ingest; none for a server that asks for none. "
        "It is forgotten when the page is closed.",
        html_attributes=gr.InputHTMLAttributes(autocomplete="off"),
        elem_id="catalogue-key",
    )
    named = gr.Textbox("", visible="hidden", elem_id="catalogue-named")
    with gr.Row(equal_height=True, elem_classes="catalogue-open"):
        product_id = gr.Textbox(
            "", label="Product id", scale=3, min_width=120, elem_id="catalogue-id", max_length=128
        )
        open_it = gr.Button("Open", scale=1, min_width=70, elem_id="catalogue-open")
        new = gr.Button("New", scale=1, min_width=70, elem_id="catalogue-new")
    found = gr.HTML(elem_classes="catalogue-said", elem_id="catalogue-found")
    heading = gr.HTML(words.heading(None))
    opened = gr.State(None)
    with gr.Row():
        with gr.Column(scale=3, min_width=320):
            with gr.Row():
                name = gr.Textbox("", label="Name", max_length=512, elem_id="catalogue-name")
                category = gr.Textbox(
                    "", label="Category", max_length=128, elem_id="catalogue-category"
                )
            description = gr.Textbox(
                "", label="Description", lines=3, max_length=8192, elem_id="catalogue-description"
            )
            with gr.Row():
                suggest = gr.Button("Suggest a description", size="sm", elem_id="catalogue-suggest")
                take = gr.Button(
                    "Use this description", size="sm", visible=False, elem_id="catalogue-take"
                )
            suggestion = gr.HTML(elem_classes="catalogue-said", elem_id="catalogue-suggestion")
            suggested = gr.State("")
            describe = gr.Checkbox(
                False,
                label="Without a description, let the server write one from the first picture",
                elem_id="catalogue-describe",
            )
            with gr.Row():
                price = gr.Textbox(
                    "", label="Price", placeholder="59.90", max_length=32, elem_id="catalogue-price"
                )
                currency = gr.Textbox(
                    "",
                    label="Currency",
                    max_length=3,
                    placeholder="EUR",
                    elem_id="catalogue-currency",
                )
            table = gr.HTML(
                attributes.attribute_table({}),
                js_on_load=attributes.EDITS,
                elem_id=attributes.TABLE_ID,
            )
            rows = gr.Textbox("", visible=False)
        with gr.Column(scale=2, min_width=280):
            pictures = gr.HTML(words.stored_pictures(None, {}), elem_id="catalogue-pictures")
            uploads = gr.File(
                label="New pictures",
                file_count="multiple",
                file_types=PICTURES,
                height=150,
                elem_id="catalogue-uploads",
            )
            chosen = gr.HTML(elem_classes="catalogue-chosen", elem_id="catalogue-chosen")
            gr.HTML(
                '<p class="catalogue-hint">New pictures replace all that are stored. Without new '
                "ones the stored ones stay. Files are sent as they are.</p>"
            )
    with gr.Row():
        save = gr.Button("Save", variant="primary", elem_id="catalogue-save")
        delete = gr.Button("Delete…", elem_id="catalogue-delete")
    notice = gr.HTML(js_on_load=OPENS, elem_classes="catalogue-said", elem_id="catalogue-notice")
    with gr.Group(visible=False) as confirm:
        question = gr.HTML(elem_id="catalogue-question")
        with gr.Row():
            sure = gr.Button("Delete it", variant="stop", elem_id="catalogue-sure")
            keep = gr.Button("Keep it", elem_id="catalogue-keep")
    with gr.Accordion("Import a file", open=False, elem_id="catalogue-import-section"):
        import_section.add(server, key)

    form = [
        heading, opened, name, category, description, price, currency, table, pictures, uploads,
        suggestion, take, confirm,
    ]  # fmt: skip
    shown = [found, notice, product_id, *form]
    fields = [product_id, name, category, description, price, currency, rows, describe]
    saved_from = [key, opened, uploads, *fields]
    gr.on([open_it.click, product_id.submit], handlers.open, [product_id, key], shown)
    named.change(handlers.open_named, [named, key], [named, *shown])
    notice.click(handlers.open_duplicate, key, shown)
    new.click(lambda: ["", "", "", *form_values(None)], None, shown)
    save.click(handlers.save, saved_from, shown, js=attributes.reading(saved_from.index(rows)))
    uploads.change(handlers.show_new, uploads, chosen, show_progress="hidden")
    suggest.click(handlers.suggest, [key, opened, uploads], [suggestion, suggested, take])
    take.click(
        lambda text: [text, "", gr.update(visible=False)],
        suggested,
        [description, suggestion, take],
    )
    delete.click(handlers.ask, opened, [notice, question, confirm])
    keep.click(lambda: gr.update(visible=False), None, confirm)
    sure.click(handlers.delete, [opened, key], shown)
    return CatalogueTab(named, key)
