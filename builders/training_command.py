"""What the commands that train share: measure what was trained, and write what is known of it."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from typing import Any

import torch

from bls_models.errors import ProductMatchError, SetupError
from reporting.progress import Report, timed_lines
from reporting.reports import write_report

METRICS_FILE = "metrics.json"

Step = Callable[[argparse.Namespace, Report], dict[str, Any]]


def train_and_measure(arguments: argparse.Namespace, train: Step, evaluate: Step) -> int:
    """Train and measure, or with ``--evaluate`` only measure; returns the exit status.

    Args:
        arguments: with ``out``, the checkpoint's folder, ``evaluate`` and ``threads``, of torch.
        train: writes the checkpoint; returns what it was trained on.
        evaluate: returns further metrics.
    """
    torch.set_num_threads(arguments.threads)
    report = timed_lines()
    path = arguments.out / METRICS_FILE
    try:
        if not arguments.evaluate:
            metrics: dict[str, Any] = {"training": train(arguments, report)}
        elif path.is_file():
            metrics = json.loads(path.read_text(encoding="utf-8"))
        else:
            raise SetupError(
                f"{arguments.out} holds no {METRICS_FILE}; train first, without --evaluate"
            )
        metrics |= evaluate(arguments, report)
    except ProductMatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    write_report(path, metrics)
    report(f"{path} is written")
    return 0
