"""The part of the tab that imports files."""

from __future__ import annotations

import asyncio
import tempfile
import time
from argparse import ArgumentTypeError
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import gradio as gr

from bls_models.errors import SetupError
from demo.alerts import alert
from demo.catalogue import import_words as words
from demo.catalogue.faults import FormError
from demo.catalogue.import_run import ImportRun, reported_rows
from demo.server import Server
from product_match_client.errors import ClientError
from seed.import_command import column_mapping
from seed.options import ReadOptions

CONCURRENCY_ID = "catalogue-import"
LOOK_SECONDS = 0.25
SHOWN_ROWS = 200
REPORT = "import-errors.jsonl"
ABOUT = """CSV, JSON, JSON Lines, XML, Excel or Parquet, also in a zip or gzip file; a zip may hold
the pictures too. Pictures that are named by a path are not read, since they are not here: give
links to them, which may not lead into private networks. Products that are there already are
replaced; those that have not changed stay as they are."""


def read_options(
    columns: str, encoding: str, decimal_mark: str, currency: str, category: str
) -> ReadOptions:
    """What a visitor says of a file.

    Raises:
        FormError: a line of the columns is not NAME=COLUMN.
    """
    lines = [line.strip() for line in columns.splitlines() if line.strip()]
    try:
        mapped = dict(map(column_mapping, lines))
    except ArgumentTypeError as error:
        raise FormError(str(error)) from error
    return ReadOptions(
        columns=mapped,
        encoding=encoding.strip(),
        decimal_mark=decimal_mark,
        currency=currency.strip().upper(),
        category=category.strip(),
    )


class Importing:
    """Imports of the visitors, of which one runs at a time.

    Args:
        server: where they go.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._runs: dict[str | None, ImportRun] = {}

    async def start(
        self,
        key: str,
        file: str | None,
        is_dry: bool,
        columns: str,
        encoding: str,
        decimal_mark: str,
        currency: str,
        category: str,
        request: gr.Request,
    ) -> AsyncIterator[list[Any]]:
        """Import a file, or look at what that would do; yields as `Importing.shown`."""
        if not file:
            yield self.shown(alert("choose a file first"))
            return
        with tempfile.TemporaryDirectory(prefix="import-") as folder:
            report = Path(folder) / REPORT
            try:
                said = read_options(columns, encoding, decimal_mark, currency, category)
                run = ImportRun(Path(file), said, lambda: self._server.separate_client(key), report)
                if is_dry:
                    yield self.shown(words.progress(run))
                    told = await asyncio.to_thread(run.dry_run)
                    yield self.shown(words.dry_run(told))
                    return
                async for shown in self._followed(run, report, request.session_hash):
                    yield shown
            except (ClientError, SetupError, FormError, OSError) as error:
                yield self.shown(alert(str(error)))

    async def _followed(
        self, run: ImportRun, report: Path, session: str | None
    ) -> AsyncIterator[list[Any]]:
        self._runs[session] = run
        begun = time.monotonic()
        work = asyncio.create_task(asyncio.to_thread(run.work))
        try:
            while not work.done():
                yield self.shown(words.progress(run), runs=True)
                await asyncio.wait({work}, timeout=LOOK_SECONDS)
            counts = await work
        finally:
            # Also where the visitor has gone: the next one's turn comes when this one is over.
            run.stop()
            await asyncio.wait({work})
            del self._runs[session]
        rows = reported_rows(report, SHOWN_ROWS)
        yield self.shown(
            words.summary(counts, run.total, time.monotonic() - begun)
            + words.row_table(rows, counts),
            str(report) if rows else None,
        )

    def stop(self, request: gr.Request) -> None:
        """End a visitor's import after the rows that are under way."""
        run = self._runs.get(request.session_hash)
        if run is not None:
            run.stop()

    @staticmethod
    def shown(html: str, report: str | None = None, runs: bool = False) -> list[Any]:
        """Updates of the result, the report's button and the stop button."""
        return [
            html,
            gr.update(value=report, visible=report is not None),
            gr.update(interactive=runs),
        ]


def add(server: Server, key: gr.Textbox) -> None:
    """The section, within the block under way."""
    importing = Importing(server)
    gr.HTML(f'<p class="catalogue-hint">{ABOUT}</p>')
    file = gr.File(label="Catalogue file", elem_id="catalogue-file", height=120)
    with gr.Accordion("What the file does not say itself", open=False):
        with gr.Row():
            category = gr.Textbox(
                "", label="Category", info="of products that have none", max_length=128
            )
            currency = gr.Textbox(
                "", label="Currency", info="of prices that name none", max_length=3
            )
            decimal_mark = gr.Dropdown(
                [("as the file tells", ""), ("point", "."), ("comma", ",")], value="",
                label="Decimal mark", info="what 1.299 and 1,299 mean",
            )  # fmt: skip
            encoding = gr.Textbox(
                "",
                label="Encoding",
                info="of text that is not UTF-8, such as cp1252",
                max_length=32,
            )
        columns = gr.Textbox(
"",
            label="Columns", lines=2, placeholder="product_id=Article number",
            info="a field or attribute and the column it is read from, NAME=COLUMN, one a line",
        )  # fmt: skip
    is_dry = gr.Checkbox(
        True, label="Dry run: only tell what an import would do, and what is missing in the file"
    )
    with gr.Row():
        start = gr.Button("Import", variant="primary", elem_id="catalogue-import")
        stop = gr.Button("Stop", interactive=False, elem_id="catalogue-stop")
    result = gr.HTML(elem_id="catalogue-imported")
    report = gr.DownloadButton(
        "Download these rows (JSONL)", visible=False, elem_id="catalogue-report"
    )
    start.click(
        importing.start,
        [key, file, is_dry, columns, encoding, decimal_mark, currency, category],
        [result, report, stop],
        concurrency_limit=1,
        concurrency_id=CONCURRENCY_ID,
        show_progress="hidden",
        api_visibility="private",
    )
    stop.click(importing.stop, queue=False, api_visibility="private")
