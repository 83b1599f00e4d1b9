"""``python -m builders engines``: the engines of the bundle in the model repository."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from bls_models.bundle import TOKENIZER_FILE, Bundle
from bls_models.errors import BundleError, ProductMatchError, SetupError
from bls_models.specs import ENGINE_SPECS, ModelSpec
from builders.bundle.graphs import BundleGraphs, GraphInputs
from builders.config import BundleConfig, read_bundle_config
from builders.engines.building import BuiltEngine, engine_from_onnx
from builders.engines.gpu_config import write_gpu_config
from builders.engines.profiles import profiles_for
from builders.engines.reading import check_engine
from builders.engines.report import report_row, write_engine_report
from builders.engines.tensorrt_api import (
    RTX_COMPUTE_CAPABILITIES,
    TARGETS,
    Compiler,
    compiler_for_target,
)
from builders.graphs.inventory import graphs_by_precision
from builders.graphs.precisions import PRECISIONS, graph_path, graphs_folder
from reporting.progress import Report, timed_lines


def build_engines(
    target: str,
    report: Report,
    *,
    bundle_name: str | None = None,
    precisions: Sequence[str] = (),
    compute_capabilities: Sequence[str] = RTX_COMPUTE_CAPABILITIES,
    specs: Sequence[ModelSpec] | None = None,
    repository: Path = Path("model_repository"),
    build: Path = Path("build"),
    reports: Path = Path("reports"),
) -> list[BuiltEngine]:
    """Compile every engine model, read each engine back, and write ``engines.json``.

    With target ``gpu`` the plan goes to ``<repository>/<model>/1/model.plan`` and the model's
    ``configs/gpu.pbtxt`` is written; a model has one engine there, by default of the precision
    that the bundle's file asks for. With ``rtx`` the plans go to
    ``<build>/engines/rtx/<bundle>/<model>.<precision>.plan``, by default of every graph there is.

    Args:
        target: ``gpu`` or ``rtx``.
        report: called with a line on each step.
        bundle_name: the bundle that the repository must hold; None: whichever it holds.
        precisions: which to build; empty: the default.
        compute_capabilities: which GPUs to compile for, with ``rtx``.
        specs: the engine models; None: all of the bundle.
        repository: the model repository.
        build: the folder of quantised graphs, RTX engines and timing caches.
        reports: the folder of ``engines.json``.

    Raises:
        BundleError: the bundle or a graph is missing or unfit.
        SetupError: TensorRT or the GPU is missing, or several precisions with ``gpu``.
    """
    if target == "gpu" and len(precisions) > 1:
        raise SetupError(
            f"target 'gpu' serves one precision, got {', '.join(precisions)}; choose one"
        )
    bundle = Bundle.read(repository)
    if bundle_name not in (None, bundle.name):
        raise BundleError(
            f"{repository} holds bundle {bundle.name}; "
            f"build {bundle_name} first: make models BUNDLE={bundle_name}"
        )
    compiler = compiler_for_target(target, compute_capabilities)
    report(f"{compiler.package} {compiler.version}, bundle {bundle.name} ({bundle.fingerprint})")
    engines = []
    for spec in engine_specs_of(bundle) if specs is None else specs:
        for precision, graph in _chosen_graphs(
            spec, bundle, target, precisions, repository, build
        ).items():
            engine = engine_from_onnx(
                graph,
                spec,
                profiles_for(spec, bundle),
                compiler,
                _plan_path(spec, bundle, precision, target, repository, build),
                bundle=bundle,
                precision=precision,
                report=report,
                timing_cache=_timing_cache(compiler, build),
            )
            try:
                check_engine(engine.path, spec, bundle, compiler)
            except BundleError:
                # Not to be served, and not to be used again.
                engine.path.unlink(missing_ok=True)
                raise
            engines.append(engine)
        if target == "gpu":
            report(f"{spec.name}: {write_gpu_config(spec, bundle, repository)}")
    write_engine_report(reports / "engines.json", [report_row(engine) for engine in engines])
    return engines


def engine_specs_of(bundle: Bundle) -> tuple[ModelSpec, ...]:
    """The engine models of a bundle."""
    return tuple(spec for spec in ENGINE_SPECS if spec.name in bundle.models)


def _chosen_graphs(
    spec: ModelSpec,
    bundle: Bundle,
    target: str,
    precisions: Sequence[str],
    repository: Path,
    build: Path,
) -> dict[str, Path]:
    graphs = graphs_by_precision(spec, bundle, repository, build)
    default = bundle.precisions[spec.name][:1] if target == "gpu" else graphs
    chosen = precisions or default
    for precision in chosen:
        if precision not in graphs:
            raise BundleError(
                f"there is no {precision} graph of {spec.name}, only {', '.join(graphs)}: "
                f"build {graph_path(build / 'graphs', bundle.name, spec.name, precision)} "
                "first (docs/engines.md says how)"
            )
    return {precision: graphs[precision] for precision in chosen}


def _plan_path(
    spec: ModelSpec, bundle: Bundle, precision: str, target: str, repository: Path, build: Path
) -> Path:
    if target == "gpu":
        return repository / spec.name / "1" / "model.plan"
    return build / "engines" / target / bundle.name / f"{spec.name}.{precision}.plan"


def _timing_cache(compiler: Compiler, build: Path) -> Path | None:
    if compiler.gpu is None:
        return None
    gpu = re.sub(r"\W+", "-", compiler.gpu)
    return build / "engines" / "timing" / f"{compiler.package}-{compiler.version}-{gpu}.cache"


def main(argv: Sequence[str]) -> int:
    """Build the engines; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m builders engines", description=__doc__)
    parser.add_argument("--target", choices=TARGETS, default="gpu")
    parser.add_argument(
        "--bundle", help="name or TOML file of the bundle that the repository must hold"
    )
    parser.add_argument(
        "--precision", choices=PRECISIONS, action="append", default=[], help="may be repeated"
    )
    parser.add_argument(
        "--compute-capability",
        action="append",
        metavar="X.Y",
        help=f"with --target rtx; may be repeated; default {' '.join(RTX_COMPUTE_CAPABILITIES)}",
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    arguments = parser.parse_args(argv)
    report = timed_lines()
    try:
        # First, so that no graph is made for a compiler that is not there.
        compiler_for_target(arguments.target)
        config = read_bundle_config(arguments.bundle or Bundle.read(arguments.repository).name)
        wanted = arguments.precision or (PRECISIONS if arguments.target == "rtx" else ())
        _make_graphs(config, arguments.repository, wanted, report)
        engines = build_engines(
            arguments.target,
            report,
            bundle_name=config.name,
            precisions=wanted,
            compute_capabilities=arguments.compute_capability or RTX_COMPUTE_CAPABILITIES,
            repository=arguments.repository,
            build=graphs_folder(arguments.repository).parent,
        )
    except ProductMatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    reused = sum(engine.reused for engine in engines)
    report(f"{len(engines)} engines, {reused} of them reused; see reports/engines.json")
    return 0


def _make_graphs(
    config: BundleConfig, repository: Path, precisions: Sequence[str], report: Report
) -> None:
    """Make the graphs that are to be compiled, where they are not there yet."""
    bundle = Bundle.read(repository)
    captioner, detector = bundle.captioner, bundle.detector
    inputs = GraphInputs(
        bundle.preprocess,
        (repository / TOKENIZER_FILE).read_text(encoding="utf-8"),
        None if captioner is None else captioner.preprocess,
        None if detector is None else detector.preprocess,
    )
    graphs = BundleGraphs(graphs_folder(repository), config, inputs, report)
    for spec in engine_specs_of(bundle):
        for precision in precisions:
            graphs.path(spec.name, precision)
