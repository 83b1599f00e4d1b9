"""The find tab: photos and words in, products out."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import gradio as gr

from bls_models.errors import ImageError
from demo.alerts import alert
from demo.find.answer import EVERYTHING, HINT, answer_html, pictures_of
from demo.find.choices import CatalogueChoices
from demo.find.photo import photo_input
from demo.find.query import Query, filter_of, liked_from_text, number_of
from demo.find.samples import sample_photos, samples_html
from demo.find.snippets import curl_text, python_text
from demo.preview import preview
from demo.server import Server
from demo.uploads import uploaded
from product_match_client.errors import ClientError

SCRIPT = (Path(__file__).resolve().parents[1] / "assets" / "find.js").read_text(encoding="utf-8")
SAMPLE_SCRIPT = """
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  productFinder.chosen = { ...button.dataset, url: button.firstElementChild.src };
  trigger("click");
});
"""
MOST_MATCHES = 24
WEIGHTS = {"minimum": -1, "maximum": 2, "step": 0.1, "value": 1}
SCENE_SIZE = 960
CODE = {"interactive": False, "wrap_lines": True, "buttons": ["copy"]}
PRICES = ("Price from", "Price to")
LEAST_SCORE = "Least score"


class FindTab:
    """The tab's parts and what they do.

    Args:
        server: that is asked.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._choices = CatalogueChoices(server)
        self._samples = sample_photos()
        with gr.Row(elem_classes="find"):
            with gr.Column(scale=1, min_width=280, elem_classes="find-ask"):
                self._add_query()
            with gr.Column(scale=2, min_width=320, elem_classes="find-found"):
                self._results = gr.HTML(
                    HINT,
                    js_on_load=SCRIPT,
                    server_functions=[self._feedback_function()],
                    elem_classes="find-results",
                )
                with gr.Accordion("The same request to copy", open=False, visible=False) as copies:
                    with gr.Tab("curl"):
                        self._curl = gr.Code(language="shell", label="curl", **CODE)
                    with gr.Tab("Python"):
                        self._python = gr.Code(language="python", label="Python", **CODE)
                self._copies = copies
        # Put there by the script, read when an answer is asked for.
        self._named_sample = gr.Textbox("", visible=False)
        self._liked, self._weak = (gr.Textbox("", visible="hidden") for _ in range(2))
        self._connect()

    def _add_query(self) -> None:
        """What a visitor can ask with."""
        self._photo = photo_input()
        self._sample = gr.HTML(samples_html(self._samples), js_on_load=SAMPLE_SCRIPT)
        self._words = gr.Textbox(
            label="Words", placeholder="red coffee mug", max_lines=1, elem_classes="find-words"
        )
        self._search = gr.Button("Find", variant="primary", elem_classes="find-search")
        with gr.Accordion("Filters", open=False):
            self._category = gr.Dropdown(
                [], label="Category", multiselect=True, value=[], elem_classes="find-category"
            )
            with gr.Row(elem_classes="find-prices"):
                # No gr.Number, which shows an empty field as 0.
                self._least, self._most = (
                    gr.Textbox(label=label, placeholder="any", max_lines=1, min_width=90)
                    for label in PRICES
                )
            self._refresh = gr.Button("Read them from the catalogue again", size="sm")
        self._choices_alert = gr.HTML(visible=False)
        with gr.Accordion("More options", open=False):
            self._photo_weight = gr.Slider(label="Weight of the photo", **WEIGHTS)
            self._words_weight = gr.Slider(label="Weight of the words", **WEIGHTS)
            self._min_score = gr.Textbox(
                label=LEAST_SCORE, placeholder="the server's own", info="-1 to 1", max_lines=1
            )
            self._top_k = gr.Slider(1, MOST_MATCHES, 6, step=1, label="Matches")
            self._objects = gr.Radio(
                [("look for them", "auto"), ("never", "never")],
                value="auto",
                label="Several products in a photo",
            )

    def _connect(self) -> None:
        """Every way to ask ends in one event; see the script for when it comes."""
        # What is shown goes with a photo of one's own alone.
        self._photo.input(None, js="() => { productFinder.chosen = { does: 'unlike' }; }")
        asked = gr.on(
            [
                self._search.click,
                self._words.submit,
                self._photo.input,
                self._sample.click,
                self._results.submit,
                self._category.input,
                self._least.submit,
                self._most.submit,
            ],
            None,
            None,
            [self._photo, self._words, self._liked, self._weak],
            js="() => productFinder.ask()",
        )
        asked.then(None, js="() => productFinder.search()")
        answered = self._results.tick(
            self._find,
            [
                self._photo,
                self._named_sample,
                self._words,
                self._category,
                self._least,
                self._most,
                self._photo_weight,
                self._words_weight,
                self._min_score,
                self._top_k,
                self._objects,
                self._liked,
                self._weak,
            ],
            [
                self._results,
                self._copies,
                self._curl,
                self._python,
            ],
            js="(...inputs) => productFinder.send(...inputs)",
            # The script sees to it that one comes after the other.
            trigger_mode="multiple",
            show_progress="minimal",
            show_progress_on=self._results,
        )
        answered.then(None, js="() => { productFinder.ended(); }")
        answered.failure(
            None, None, [self._results, self._copies], js="() => productFinder.failed()"
        )

    def filters_read_with(self, page: gr.Blocks) -> None:
        """Read what there is to filter by when the page opens, and when it is asked for again."""
        shown = [self._category, self._least, self._most, self._choices_alert]
        page.load(self._read_choices, None, shown, show_progress="hidden")
        self._refresh.click(self._read_choices_anew, None, shown, show_progress="hidden")

    def edit_leads_to(self, tabs: gr.Tabs, product_id: gr.Textbox) -> None:
        """Let a card's Edit open a product in the catalogue tab.

        Args:
            tabs: of the page.
            product_id: the catalogue tab's; a new value opens that product.
        """

        def open_product(event: gr.EventData) -> tuple[Any, str]:
            return gr.Tabs(selected="catalogue"), str(event.product)

        self._results.click(
            open_product,
            None,
            [tabs, product_id],
            show_progress="hidden",
        )

    async def _find(
        self,
        photo: str | None,
        sample: str,
        words: str | None,
        categories: list[str],
        least: str | None,
        most: str | None,
        photo_weight: float,
        words_weight: float,
        min_score: str | None,
        top_k: int,
        objects: str,
        liked: str,
        weak: str,
    ) -> list[Any]:
        answer, copies = HINT, [gr.update(visible=False), "", ""]
        try:
            prices = [number_of(*field) for field in zip(PRICES, (least, most), strict=True)]
            query = Query(
                photo=self._samples.get(sample) or (uploaded(photo) if photo else None),
                words=(words or "").strip(),
                liked=liked_from_text(liked),
                filter=filter_of(categories or [], *prices),
                photo_weight=photo_weight,
                words_weight=words_weight,
                min_score=EVERYTHING if weak else number_of(LEAST_SCORE, min_score),
                top_k=int(top_k),
                objects=objects,
            )
            if not query.is_empty:
                answer = await self._answer(query)
                said = self._server.shown_url, self._server.needs_key
                texts = curl_text(query, *said), python_text(query, *said)
                copies = [gr.update(visible=True), *texts]
        except ClientError as error:
            answer = alert(error)
        return [answer, *copies]

    async def _answer(self, query: Query) -> str:
        async with self._server.client() as client:
            images = [query.photo] if query.sends_photo and query.photo else []
            result = await client.match(images, query.words or (), **query.options())
            pictures = await self._server.pictures.fetch(client, pictures_of(result))
        photo_url = ""
        if result.objects and query.photo:
            try:
                photo_url = await asyncio.to_thread(_scene, query.photo)
            except ImageError:
                # The server takes larger photos than the page draws on; the boxes stay.
                photo_url = ""
        return answer_html(query, result, pictures, photo_url)

    def _feedback_function(self) -> Any:
        """What the page's script calls to tell what became of a match."""

        async def feedback(data: dict[str, Any]) -> dict[str, str]:
            request_id, product_id, event = (
                str(data.get(name, "")) for name in ("request", "product", "event")
            )
            try:
                async with self._server.client() as client:
                    return {"status": await client.feedback(request_id, product_id, event)}
            except ClientError as error:
                return {"alert": str(error)}

        return feedback

    async def _read_choices_anew(self) -> list[Any]:
        return await self._read_choices(anew=True)

    async def _read_choices(self, anew: bool = False) -> list[Any]:
        try:
            choices = await self._choices.read(anew)
        except ClientError as error:
            failure = gr.update(value=alert(error), visible=True)
            return [gr.skip(), gr.skip(), gr.skip(), failure]
        return [
            gr.update(choices=choices.labelled),
            gr.update(placeholder=_price(choices.least_price)),
            gr.update(placeholder=_price(choices.most_price)),
            gr.update(value="", visible=False),
        ]


def _scene(photo: Path) -> str:
    return preview(photo.read_bytes(), SCENE_SIZE)


def _price(price: float | None) -> str:
    return "any" if price is None else f"{price:,.2f}"


def add(server: Server) -> FindTab:
    """Add the tab's parts to where the page is being built."""
    return FindTab(server)
