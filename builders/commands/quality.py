"""``python -m builders quality``: compares a bundle's graphs with their originals."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from bls_models.errors import ProductMatchError
from bls_models.specs import ENCODER_SPECS, IMAGE_ENCODER, TEXT_ENCODER, ModelSpec
from builders.bundle.building import build_bundle
from builders.bundle.fingerprints import fingerprint_of
from builders.bundle.graphs import BundleGraphs, GraphInputs
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import BundleConfig, read_bundle_config
from builders.graphs.calibration import Feed, add_calibration_flags, calibration_from_flags
from builders.graphs.precisions import PRECISIONS, graph_path, graphs_folder
from builders.quality.congruence import EncoderQuality, measure_encoder, shortfalls
from builders.quality.report import report_from_rows, table_from_rows
from builders.quality.runners import Runner, TorchRunner, graph_runner
from builders.quality.served_runner import ServedRunner
from builders.quality.sets import (
    RetrievalSet,
    photo_set_from_catalogue,
    photo_set_from_dataset,
    text_set_from_catalogue,
)
from reporting.progress import Report, timed_lines
from reporting.reports import machine, write_report

if TYPE_CHECKING:
    import torch

BATCH_SIZES = (1, 8)
# Where output goes to a file, lines need not fit a window.
REPORT_WIDTH = 132


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show and write; returns 1 if a graph cannot stand in for FP32."""
    parser = argparse.ArgumentParser(prog="python -m builders quality", description=__doc__)
    add = parser.add_argument
    add("--bundle", default="mini", help="bundle name or path of a TOML file")
    add("--catalog", type=Path, default=SAMPLE_CATALOGUE)
    add("--dataset", type=Path, action="append", default=[], help="folder with train.txt and "
        "val.txt of real photos; may be given again")  # fmt: skip
    add_calibration_flags(parser)
    add("--repository", type=Path, default=Path("model_repository"))
    add("--served", metavar="HOST:PORT", help="gRPC address of a Triton whose encoders are "
        "compared too")  # fmt: skip
    add("--platform", help="what must run the served encoders, e.g. tensorrt_plan")
    add("--rounds", type=int, default=15, help="turns of each runner when timed")
    add("--output", type=Path, default=Path("reports/quality.json"))
    arguments = parser.parse_args(argv)
    report = timed_lines()
    try:
        config = read_bundle_config(arguments.bundle)
        folder = graphs_folder(arguments.repository)
        if not all(
            graph_path(folder, config.name, spec.name, "fp32").is_file() for spec in ENCODER_SPECS
        ):
            build_bundle(config, arguments.repository, report)
        measured = _measure(config, arguments, report)
        fingerprint = fingerprint_of(config)
    except ProductMatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = [row for encoder in measured for row in encoder]
    problems = shortfalls(rows)
    here = machine()
    write_report(arguments.output, report_from_rows(config.name, fingerprint, here, rows, problems))
    console = Console()
    if not console.is_terminal:
        console.width = REPORT_WIDTH
    console.print(f"{here['cpu']}, {here['cores']} cores: {here['int8']}", highlight=False)
    for encoder in measured:
        console.print(table_from_rows(encoder))
    for problem in problems:
        print(f"too far from fp32: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _measure(
    config: BundleConfig, arguments: argparse.Namespace, report: Report
) -> list[list[EncoderQuality]]:
    """Every runner of each encoder."""
    # Only now: torch takes seconds to import, and a wrong argument is told without it.
    from builders.encoders.image import image_encoder_from_config
    from builders.encoders.text import text_encoder_from_config, tokenizer_from_config

    images = image_encoder_from_config(config.image_encoder)
    texts = text_encoder_from_config(config.text_encoder)
    preprocess = images.pixels.preprocess
    tokenizer_json = tokenizer_from_config(config.text_encoder)
    graphs = BundleGraphs(
        graphs_folder(arguments.repository),
        config,
        GraphInputs(preprocess, tokenizer_json),
        report,
        lambda: calibration_from_flags(arguments),
    )
    catalogue = read_catalogue(arguments.catalog)
    datasets = [photo_set_from_dataset(folder, preprocess) for folder in arguments.dataset]

    def measured(
        spec: ModelSpec,
        original: torch.nn.Module,
        sample: RetrievalSet,
        others: Sequence[RetrievalSet],
    ) -> list[EncoderQuality]:
        runners: list[Runner] = [TorchRunner(original, spec)]
        runners += [graph_runner(graphs.path(spec.name, name), spec, name) for name in PRECISIONS]
        if arguments.served is not None:
            runners.append(
                ServedRunner(arguments.served, spec, arguments.repository, arguments.platform)
            )
        return measure_encoder(
            spec, runners, sample, others, _timed(sample), arguments.rounds, report
        )

    return [
        measured(IMAGE_ENCODER, images, photo_set_from_catalogue(catalogue, preprocess), datasets),
        measured(TEXT_ENCODER, texts, text_set_from_catalogue(catalogue, tokenizer_json), []),
    ]


def _timed(sample: RetrievalSet) -> list[Feed]:
    """Batches of queries, as a server meets them."""
    feed = next(iter(sample.queries()))
    return [{name: array[:size] for name, array in feed.items()} for size in BATCH_SIZES]


if __name__ == "__main__":
    sys.exit(main())
