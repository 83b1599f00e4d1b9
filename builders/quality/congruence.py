"""Congruence: does an encoder give the same vectors, and find the same products, in each precision?

``python -m builders quality`` compares the torch original with the FP32, FP16 and INT8 graphs on
the sample catalogue and, where a folder is given, on a data set of real photos.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bls_models.specs import ModelSpec
from bls_models.vectors import FloatArray
from builders.graphs.calibration import Feed
from builders.quality.metrics import Retrieval, Vectors, cosines, retrieval
from builders.quality.runners import LITERAL_BACKEND, Latency, Runner, alternating_latencies
from builders.quality.sets import RetrievalSet
from reporting.progress import Report

REFERENCE = "fp32"
ORIGINAL = "torch"

# What a graph may lose against FP32, as shares of the queries.
MAX_ACCURACY_LOSS = 0.005
MIN_TOP1_AGREEMENT = 0.95


@dataclass(frozen=True)
class EncoderQuality:
    """One runner of one encoder, measured.

    Attributes:
        model: the encoder's name.
        precision: ``torch`` or the graph's precision.
        backend: the library that computed.
        size: bytes of the weights or of the graph file.
        cosine_mean: to the torch original, over all pictures or texts of the sample.
        cosine_min: the least of them.
        retrieval: by the name of the retrieval set; of the original, on the sample alone.
        latency: of a graph where it serves, by batch size. The original is not timed: its idle
            threads go on spinning for a while and would slow down whatever is timed next.
    """

    model: str
    precision: str
    backend: str
    size: int
    cosine_mean: float
    cosine_min: float
    retrieval: dict[str, Retrieval]
    latency: dict[int, Latency]


def measure_encoder(
    spec: ModelSpec,
    runners: Sequence[Runner],
    sample: RetrievalSet,
    datasets: Sequence[RetrievalSet],
    timed: Sequence[Feed],
    rounds: int,
    report: Report,
) -> list[EncoderQuality]:
    """Measure every runner of an encoder.

    Args:
        spec: the encoder.
        runners: the torch original, FP32, and what is compared with them.
        sample: the set on which cosines are taken.
        datasets: further sets, for the graphs alone: the original takes minutes on a large one.
        timed: batches to time the graphs with.
        rounds: turns of each graph on each batch.
        report: called with a line on each step.
    """
    graphs = [runner for runner in runners if runner.precision != ORIGINAL]
    found: dict[str, dict[str, Retrieval]] = {runner.precision: {} for runner in runners}
    report(f"{spec.name}: {sample.name}")
    vectors = _encoded(runners, sample)
    for precision, own in vectors.items():
        found[precision][sample.name] = _compared(own, vectors[REFERENCE], sample)
    for dataset in datasets:
        report(f"{spec.name}: {dataset.name}")
        encoded = _encoded(graphs, dataset)
        for precision, own in encoded.items():
            found[precision][dataset.name] = _compared(own, encoded[REFERENCE], dataset)
    latencies: dict[str, dict[int, Latency]] = {runner.precision: {} for runner in runners}
    serving = [runner for runner in graphs if runner.backend != LITERAL_BACKEND]
    reference = [runner.precision for runner in serving].index(REFERENCE)
    for feed in timed:
        batch = len(next(iter(feed.values())))
        report(f"{spec.name}: time at batch {batch}")
        times = alternating_latencies(serving, feed, rounds, reference)
        for runner, latency in zip(serving, times, strict=True):
            latencies[runner.precision][batch] = latency
    original = vectors[ORIGINAL]
    rows = []
    for runner in runners:
        own = vectors[runner.precision]
        near = np.concatenate(
            [cosines(own.catalogue, original.catalogue), cosines(own.queries, original.queries)]
        )
        rows.append(
            EncoderQuality(
                model=spec.name,
                precision=runner.precision,
                backend=runner.backend,
                size=runner.size,
                cosine_mean=float(near.mean()),
                cosine_min=float(near.min()),
                retrieval=found[runner.precision],
                latency=latencies[runner.precision],
            )
        )
    return rows


def shortfalls(rows: Sequence[EncoderQuality]) -> list[str]:
    """What keeps a graph from standing in for FP32, as sentences; empty: nothing.

    Accuracy counts on every set, agreement on the sample alone: where a data set's classes are
    so alike that even FP32 errs often, near-ties change places without being worse.
    """
    reference = {row.model: row for row in rows if row.precision == REFERENCE}
    problems = []
    for row in rows:
        if row.precision in (ORIGINAL, REFERENCE):
            continue
        usual = reference[row.model].retrieval
        name = f"{row.model} {row.precision}"
        for number, (place, own) in enumerate(row.retrieval.items()):
            loss = usual[place].top1_accuracy - own.top1_accuracy
            if loss > MAX_ACCURACY_LOSS:
                problems.append(
                    f"{name} loses {100 * loss:.2f} points of top-1 accuracy on {place}; "
                    f"at most {100 * MAX_ACCURACY_LOSS:.1f} are allowed"
                )
            if number == 0 and own.top1_agreement < MIN_TOP1_AGREEMENT:
                problems.append(
                    f"{name} agrees with {REFERENCE} on {100 * own.top1_agreement:.1f}% of the "
                    f"first matches on {place}; expected {100 * MIN_TOP1_AGREEMENT:.0f}%"
                )
    return problems


def _encoded(runners: Sequence[Runner], task: RetrievalSet) -> dict[str, Vectors]:
    """A set's vectors by precision; each batch is read once, for all runners."""
    catalogue: dict[str, list[FloatArray]] = {runner.precision: [] for runner in runners}
    queries: dict[str, list[FloatArray]] = {runner.precision: [] for runner in runners}
    for feeds, vectors in ((task.catalogue, catalogue), (task.queries, queries)):
        for feed in feeds():
            for runner in runners:
                vectors[runner.precision].append(runner.encode(feed))
    return {
        name: Vectors(np.concatenate(catalogue[name]), np.concatenate(queries[name]))
        for name in catalogue
    }


def _compared(own: Vectors, reference: Vectors, task: RetrievalSet) -> Retrieval:
    return retrieval(own, reference, task.catalogue_ids, task.query_ids)
