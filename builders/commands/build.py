"""``python -m builders build``: a bundle's graphs into the model repository."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from bls_models.bundle import Bundle
from bls_models.errors import ProductMatchError
from builders.bundle.building import build_bundle, is_built
from builders.config import read_bundle_config
from builders.graphs.calibration import add_calibration_flags, calibration_from_flags
from reporting.progress import timed_lines


def main(argv: Sequence[str] | None = None) -> int:
    """Build unless the repository already holds the bundle; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m builders build", description=__doc__)
    parser.add_argument("--bundle", default="mini", help="bundle name or path of a TOML file")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--force", action="store_true", help="build even if it is built already")
    add_calibration_flags(parser)
    arguments = parser.parse_args(argv)
    report = timed_lines()
    try:
        config = read_bundle_config(arguments.bundle)
        # What was built may have been calibrated with something else than what is asked for.
        calibrated = arguments.calibration_pictures or arguments.calibration_texts
        force = arguments.force or calibrated is not None
        if not force and is_built(config, arguments.repository):
            bundle = Bundle.read(arguments.repository)
            report(f"bundle {bundle.name} ({bundle.fingerprint}) is built already")
            return 0
        bundle = build_bundle(
            config, arguments.repository, report, lambda: calibration_from_flags(arguments)
        )
    except ProductMatchError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    report(f"bundle {bundle.name} ({bundle.fingerprint}) is in {arguments.repository}")
    return 0
