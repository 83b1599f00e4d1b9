"""``python -m evaluation``: how often the products of a catalogue are found.

Indexes a catalogue into a database of its own, asks the served ``product_match`` with held-out
photos, with words, and with both, and reports how often the right product comes first, what is
taken for what, and what a least score lets through: by raw image vectors, and by the metric that
is fitted to the catalogue, if it gets one.

With photos of several products (``--scenes``) it asks for the objects in these instead, and reports
how many of the products are found, and how often the first match of those is right.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from bls_models.bundle import Bundle
from bls_models.errors import ProductMatchError
from bls_models.specs import QUERY_KINDS
from builders.graphs.calibration import pictures_of_folder
from evaluation.contact_sheet import contact_sheet
from evaluation.figures import Outcome
from evaluation.ranking import DirectRanker, Ranker, asked_with, parted, served_ranker
from evaluation.report import KindResult, MetricResult, report_from_results, show_results
from evaluation.scenes.asking import scene_outcomes
from evaluation.scenes.report import scenes_report, show_scenes
from evaluation.scenes.sets import LAYOUT, scenes_of_folder
from evaluation.scenes.sheet import scenes_sheet
from evaluation.sets import (
    LAYOUTS,
    EvaluationQuery,
    EvaluationSet,
    evaluation_set,
    is_evaluation_set,
)
from product_match_client import ClientError
from reporting.progress import Report, counted_lines, timed_lines
from reporting.reports import machine, write_report

PROJECT = Path(__file__).resolve().parent.parent
# Where output goes to a file, lines need not fit a window.
REPORT_WIDTH = 120
MOST_STRANGERS = 300


def main(argv: Sequence[str] | None = None) -> int:
    """Evaluate, show and write; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m evaluation", description=__doc__)
    add = parser.add_argument
    add("--dataset", type=Path, help=f"{LAYOUTS}; default: the sample catalogue")
    add("--catalog", type=Path, help="the products of a .csv file of queries")
    add("--iconic", action="store_true", help="of the Grocery Store layout, index the studio "
        "pictures alone")  # fmt: skip
    add("--strangers", type=Path, help="what is not in the catalogue, to study thresholds with: a "
        "folder of photos, or a set of its own (see --dataset)")  # fmt: skip
    add("--scenes", type=Path, help=f"photos of several products of the catalogue, {LAYOUT}")
    add("--direct", action="store_true", help="the same engines and index in this process, "
        "without Triton and database: faster")  # fmt: skip
    add("--repository", type=Path, default=PROJECT / "model_repository", help="built models")
    add("--output", type=Path, help="JSON to write, reports/eval.json or reports/scenes.json if "
        "left out; the contact sheet gets the same name with .png")  # fmt: skip
    options = parser.parse_args(argv)
    if options.scenes is not None and options.direct:
        parser.error("objects are looked for by the server alone; leave --direct or --scenes out")
    if options.output is None:
        name = "eval.json" if options.scenes is None else "scenes.json"
        options.output = PROJECT / "reports" / name
    report = timed_lines()
    try:
        if options.scenes is None:
            evaluate(options, report)
        else:
            evaluate_scenes(options, report)
    except (ProductMatchError, ClientError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def evaluate(options: argparse.Namespace, report: Report) -> None:
    """Measure, show and write.

    Raises:
        SetupError: the set, the models or a server cannot be used.
        ClientError: the server failed.
    """
    content = evaluation_set(options.dataset, options.catalog, options.iconic)
    bundle = Bundle.read(options.repository)
    strangers = [] if options.strangers is None else stranger_queries(options.strangers)
    report(f"{content.name}: {len(content.queries)} queries on {len(content.rows)} products")
    with _ranker(options, content, report) as ranker:
        results = _results(ranker, content, strangers, bundle, report)
        report("metric: fitting")
        fit = ranker.fit_metric()
        by_metric: dict[str, KindResult] = {}
        not_in_fit: dict[str, list[Outcome]] = {}
        if fit.metric is not None:
            by_metric = _results(ranker, content, strangers, bundle, report)
            if isinstance(ranker, DirectRanker):
                not_in_fit = _not_in_fit(ranker, content, report)
    metric = MetricResult(fit, by_metric, not_in_fit)
    facts = {
        **_facts(content, bundle),
        "words": content.words,
        "path": "direct" if options.direct else "served",
        "strangers": None if options.strangers is None else options.strangers.name,
    }
    write_report(options.output, report_from_results(facts, results, metric))
    sheet = options.output.with_suffix(".png")
    pictures = {str(row.product["product_id"]): row.images for row in content.rows}
    drawn = next(iter((by_metric or results).values())).outcomes
    contact_sheet(drawn, pictures).save(sheet)
    show_results(_console(), results, metric)
    report(f"written to {options.output} and {sheet}")


def evaluate_scenes(options: argparse.Namespace, report: Report) -> None:
    """Measure photos of several products, show and write.

    Raises:
        SetupError: the set, the photos, the models or a server cannot be used.
        ClientError: the server failed.
    """
    content = evaluation_set(options.dataset, options.catalog, options.iconic)
    scenes = scenes_of_folder(options.scenes, content.rows)
    bundle = Bundle.read(options.repository)
    report(f"{options.scenes.name}: {len(scenes)} photos on {len(content.rows)} products")
    with served_ranker(options.repository, content, report) as ranker:
        raw = scene_outcomes(ranker, scenes, report)
        report("metric: fitting")
        fit = ranker.fit_metric()
        by_metric = [] if fit.metric is None else scene_outcomes(ranker, scenes, report)
    facts = {"scenes_of": options.scenes.name, **_facts(content, bundle)}
    write_report(options.output, scenes_report(facts, raw, by_metric, fit))
    sheet = options.output.with_suffix(".png")
    scenes_sheet(by_metric or raw).save(sheet)
    show_scenes(_console(), raw, by_metric, fit)
    report(f"written to {options.output} and {sheet}")


def _facts(content: EvaluationSet, bundle: Bundle) -> dict[str, Any]:
    """What was evaluated, and where."""
    return {
        "dataset": content.name,
        "products": len(content.rows),
        "views": sum(len(row.images) for row in content.rows),
        "bundle": {"name": bundle.name, "fingerprint": bundle.fingerprint},
        "machine": machine(),
    }


def _console() -> Console:
    console = Console()
    if not console.is_terminal:
        console.width = REPORT_WIDTH
    return console


def stranger_queries(path: Path) -> list[EvaluationQuery]:
    """Queries for what is not in the catalogue: those of a set, or a folder's photos.

    Raises:
        SetupError: there are none, or the set cannot be used.
    """
    if is_evaluation_set(path):
        return list(evaluation_set(path).queries)
    photos = pictures_of_folder(path, MOST_STRANGERS)
    return [EvaluationQuery(photo.name, photo, "", frozenset({""}), "") for photo in photos]


@contextlib.contextmanager
def _ranker(
    options: argparse.Namespace, content: EvaluationSet, report: Report
) -> Iterator[Ranker]:
    if options.direct:
        yield DirectRanker(options.repository, content, report)
        return
    with served_ranker(options.repository, content, report) as ranker:
        yield ranker


def _results(
    ranker: Ranker,
    content: EvaluationSet,
    strangers: Sequence[EvaluationQuery],
    bundle: Bundle,
    report: Report,
) -> dict[str, KindResult]:
    """What the set's queries and strangers find, by kind; kinds that no query has are left out."""
    results = {}
    for kind in QUERY_KINDS:
        outcomes = _asked(ranker, content.queries, kind, kind, report)
        if outcomes:
            others = _asked(ranker, strangers, kind, f"strangers, {kind}", report)
            results[kind] = KindResult(
                outcomes, [item.top_score for item in others], bundle.min_scores.get(kind)
            )
    return results


def _not_in_fit(
    ranker: DirectRanker, content: EvaluationSet, report: Report
) -> dict[str, list[Outcome]]:
    """What queries find whose products the metric's fit has not seen, by kind."""
    found: dict[str, list[Outcome]] = {}
    for part in parted([str(row.product["product_id"]) for row in content.rows]):
        report(f"metric: fitting without {len(part)} products")
        ranker.fit_metric(left_out=part)
        queries = [query for query in content.queries if query.product_ids <= part]
        for kind in QUERY_KINDS:
            outcomes = _asked(ranker, queries, kind, f"products not in the fit, {kind}", report)
            if outcomes:
                found.setdefault(kind, []).extend(outcomes)
    return found


def _asked(
    ranker: Ranker, queries: Sequence[EvaluationQuery], kind: str, name: str, report: Report
) -> list[Outcome]:
    """The outcomes of those queries that have what the kind needs."""
    asked = [(query, inputs) for query in queries if (inputs := asked_with(query, kind))]
    outcomes = []
    count = counted_lines(lambda line: report(f"{name}: {line}"), "queries")
    for number, (query, inputs) in enumerate(asked, start=1):
        outcomes.append(Outcome(query, ranker(*inputs)))
        count(number, len(asked))
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
