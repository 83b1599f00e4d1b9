"""The part of the tab that imports files."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from argparse import ArgumentTypeError
from collections import defaultdict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gradio as gr

from bls_models.errors import SetupError
from demo.alerts import alert
from demo.catalogue import import_words as words
from demo.catalogue.faults import FormError
from demo.catalogue.import_run import ImportRun, reported_rows
from demo.server import Server
from demo.uploads import uploaded
from product_match_client.errors import ClientError
from seed.import_command import column_mapping
from seed.importer import ImportCounts
from seed.options import ReadOptions

# How many visitors at once may import, try that without sending anything, or stop.
IMPORTS, DRY_RUNS, STOPS = 1, 2, 8
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
    """Imports and dry runs of the visitors.

    Args:
        server: where they go.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._runs: defaultdict[str | None, set[ImportRun]] = defaultdict(set)

    def starting(self, is_dry: bool) -> Callable[..., AsyncIterator[list[Any]]]:
        """The handler that imports a file, or tells what that would do; it yields as `shown`."""

        async def start(
            key: str,
            file: str | None,
            columns: str,
            encoding: str,
            decimal_mark: str,
            currency: str,
            category: str,
            request: gr.Request,
        ) -> AsyncIterator[list[Any]]:
            if not file:
                yield self.shown(alert("choose a file first"))
                return
            with tempfile.TemporaryDirectory(prefix="import-") as folder:
                report = Path(folder) / REPORT
                try:
                    said = read_options(columns, encoding, decimal_mark, currency, category)
                    run = ImportRun(
                        uploaded(file), said, lambda: self._server.separate_client(key), report
                    )
                    follow = self._followed(
                        run, run.dry_run if is_dry else run.work, report, request.session_hash
                    )
                    # Closed at once where the visitor has gone.
                    async with contextlib.aclosing(follow) as steps:
                        async for shown in steps:
                            yield shown
                except (ClientError, SetupError, FormError, OSError) as error:
                    yield self.shown(alert(str(error)))

        return start

    async def _followed(
        self,
        run: ImportRun,
        job: Callable[[], ImportCounts | str],
        report: Path,
        session: str | None,
    ) -> AsyncGenerator[list[Any]]:
        """How far a run is, again and again, and what came of it."""
        self._runs[session].add(run)
        begun = time.monotonic()
        work = asyncio.create_task(asyncio.to_thread(job))
        try:
            while not work.done():
                yield self.shown(words.progress(run), runs=True)
                await asyncio.wait({work}, timeout=LOOK_SECONDS)
        finally:
            # Also where the visitor has gone: the next one's turn comes when this one is over.
            run.stop()
            await asyncio.wait({work})
            self._runs[session].discard(run)
            if not self._runs[session]:
                del self._runs[session]
        outcome = work.result()
        if isinstance(outcome, str):
            yield self.shown(words.dry_run(outcome))
            return
        rows = reported_rows(report, SHOWN_ROWS)
        yield self.shown(
            words.summary(outcome, run.total, time.monotonic() - begun)
            + words.row_table(rows, outcome),
            str(report) if rows else None,
        )

    async def stop(self, request: gr.Request) -> None:
        """End what a visitor runs after the rows that are under way."""
        for run in self._runs.get(request.session_hash, ()):
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
            "", label="Columns", lines=2, placeholder="product_id=Article number",
            info="a field or attribute and the column it is read from, NAME=COLUMN, one a line",
        )  # fmt: skip
    with gr.Row():
        look = gr.Button("Dry run", variant="primary", elem_id="catalogue-dry-run")
        start = gr.Button("Import", elem_id="catalogue-import")
        stop = gr.Button("Stop", interactive=False, elem_id="catalogue-stop")
    gr.HTML(
        '<p class="catalogue-hint">A dry run sends nothing: it tells what an import would do, and '
        "what is missing in the file.</p>"
    )
    result = gr.HTML(elem_id="catalogue-imported")
    report = gr.DownloadButton(
        "Download these rows (JSONL)", visible=False, elem_id="catalogue-report"
    )
    for button, is_dry, limit in (look, True, DRY_RUNS), (start, False, IMPORTS):
        button.click(
            importing.starting(is_dry),
            [key, file, columns, encoding, decimal_mark, currency, category],
            [result, report, stop],
            concurrency_limit=limit,
            concurrency_id=f"catalogue-{'dry-run' if is_dry else 'import'}",
            show_progress="hidden",
        )
    stop.click(importing.stop, concurrency_limit=STOPS, concurrency_id="catalogue-stop")
