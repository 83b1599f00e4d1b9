"""``python -m builders quality``: compares a bundle's graphs with their originals."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from bls_models.errors import ProductMatchError
from bls_models.images import Preprocess
from bls_models.specs import IMAGE_ENCODER, TEXT_ENCODER, ModelSpec
from builders.bundle import build_bundle, fingerprint_of
from builders.calibration import (
    Calibration,
    CalibrationData,
    Feed,
    add_calibration_flags,
    calibration_from_flags,
    image_calibration,
    text_calibration,
)
from builders.catalogue import SAMPLE_CATALOGUE, read_catalogue
from builders.config import BundleConfig, read_bundle_config
from builders.graphs import (
    PRECISIONS,
    graph_from_fp32,
    graph_path,
    graphs_folder,
    int8_recipe_of,
)
from builders.quality import EncoderQuality, measure_encoder, shortfalls
from builders.quality_report import report_from_rows, table_from_rows
from builders.quality_runners import CpuRunner, Runner, TorchRunner
from builders.quality_sets import (
    RetrievalSet,
    photo_set_from_catalogue,
    photo_set_from_dataset,
    text_set_from_catalogue,
)
from builders.served_runner import ServedRunner
from loadtest.report import machine, write_report

BATCH_SIZES = (1, 8)
# Where output goes to a file, lines need not fit a window.
REPORT_WIDTH = 132
Report = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, show and write; returns 1 if a graph cannot stand in for FP32."""
    parser = argparse.ArgumentParser(prog="python -m builders quality", description=__doc__)
    parser.add_argument("--bundle", default="mini", help="bundle name or path of a TOML file")
    parser.add_argument("--catalog", type=Path, default=SAMPLE_CATALOGUE)
    parser.add_argument(
        "--dataset",
        type=Path,
        action="append",
        default=[],
        help="folder with train.txt and val.txt of real photos; may be given again",
    )
    add_calibration_flags(parser)
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument(
        "--served",
        metavar="HOST:PORT",
        help="gRPC address of a Triton whose encoders are compared too",
    )
    parser.add_argument("--platform", help="what must run the served encoders, e.g. tensorrt_plan")
    parser.add_argument("--rounds", type=int, default=15, help="turns of each runner when timed")
    parser.add_argument("--output", type=Path, default=Path("reports/quality.json"))
    arguments = parser.parse_args(argv)
    start = time.monotonic()

    def report(line: str) -> None:
        print(f"[{time.monotonic() - start:5.1f} s] {line}", flush=True)

    try:
        config = read_bundle_config(arguments.bundle)
        data = calibration_from_flags(arguments)
        sources = [_source(config, spec, arguments) for spec in (IMAGE_ENCODER, TEXT_ENCODER)]
        if not all(path.is_file() for path in sources):
            build_bundle(config, arguments.repository, report)
        measured = [
            _measure_images(config, data, arguments, report),
            _measure_texts(config, data, arguments, report),
        ]
        fingerprint = fingerprint_of(config)
    except ProductMatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    rows = [row for encoder in measured for row in encoder]
    problems = shortfalls(rows)
    write_report(
        arguments.output, report_from_rows(config.name, fingerprint, machine(), rows, problems)
    )
    console = Console()
    if not console.is_terminal:
        console.width = REPORT_WIDTH
    for encoder in measured:
        console.print(table_from_rows(encoder))
    for problem in problems:
        print(f"too far from fp32: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _measure_images(
    config: BundleConfig, data: CalibrationData, arguments: argparse.Namespace, report: Report
) -> list[EncoderQuality]:
    from builders.image_encoder import image_encoder_from_config

    module = image_encoder_from_config(config.image_encoder)
    preprocess = Preprocess(module.pixels.image_size, module.pixels.resize)
    sample = photo_set_from_catalogue(read_catalogue(arguments.catalog), preprocess)
    datasets = [photo_set_from_dataset(folder, preprocess) for folder in arguments.dataset]
    graphs = _graph_runners(
        _source(config, IMAGE_ENCODER, arguments),
        IMAGE_ENCODER,
        config.image_encoder.family,
        lambda: image_calibration(data.pictures, preprocess),
        report,
    )
    runners = [TorchRunner(module, IMAGE_ENCODER), *graphs, *_served(IMAGE_ENCODER, arguments)]
    return measure_encoder(
        IMAGE_ENCODER, runners, sample, datasets, _timed(sample), arguments.rounds, report
    )


def _measure_texts(
    config: BundleConfig, data: CalibrationData, arguments: argparse.Namespace, report: Report
) -> list[EncoderQuality]:
    from builders.text_encoder import text_encoder_from_config, tokenizer_from_config

    tokenizer_json = tokenizer_from_config(config.text_encoder)
    sample = text_set_from_catalogue(read_catalogue(arguments.catalog), tokenizer_json)
    graphs = _graph_runners(
        _source(config, TEXT_ENCODER, arguments),
        TEXT_ENCODER,
        config.text_encoder.family,
        lambda: text_calibration(data.texts, tokenizer_json),
        report,
    )
    module = text_encoder_from_config(config.text_encoder)
    runners = [TorchRunner(module, TEXT_ENCODER), *graphs, *_served(TEXT_ENCODER, arguments)]
    return measure_encoder(
        TEXT_ENCODER, runners, sample, [], _timed(sample), arguments.rounds, report
    )


def _source(config: BundleConfig, spec: ModelSpec, arguments: argparse.Namespace) -> Path:
    return graph_path(graphs_folder(arguments.repository), config.name, spec.name, "fp32")


def _graph_runners(
    source: Path,
    spec: ModelSpec,
    family: str,
    calibration: Callable[[], Calibration],
    report: Report,
) -> list[Runner]:
    """A runner for each precision, whose graph is built where it is not there."""
    recipe = int8_recipe_of(family)
    return [
        CpuRunner(graph_from_fp32(source, name, recipe, calibration, report), spec, name)
        for name in PRECISIONS
    ]


def _served(spec: ModelSpec, arguments: argparse.Namespace) -> list[Runner]:
    """The runner of the server to compare with, where one was named."""
    if arguments.served is None:
        return []
    return [ServedRunner(arguments.served, spec, arguments.repository, arguments.platform)]


def _timed(sample: RetrievalSet) -> list[Feed]:
    """Batches of queries, as a server meets them."""
    feed = next(iter(sample.queries()))
    return [{name: array[:size] for name, array in feed.items()} for size in BATCH_SIZES]


if __name__ == "__main__":
    sys.exit(main())
