"""``python -m loadtest.bench_plot``: the benchmarks' reports as pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from bls_models.specs import PRODUCT_MATCH
from loadtest.open_load import IN_TIME, LATE, REFUSED
from local_server.options import PROJECT

COLOURS = {"raw": "#b0b7c3", "usual": "#d9a441", "tuned": "#6aa97c", PRODUCT_MATCH.name: "#3b6ea5"}
# The others of the catalogue's report lie close to these.
SCALE_KINDS = ("image", "text", "both", "image, filter keeps 1%")
OUTCOME_COLOURS = {IN_TIME: "#6aa97c", REFUSED: "#d9a441", LATE: "#b5523b"}
STAGE_COLOURS = ("#6aa97c", "#3b6ea5", "#d9a441", "#9b6a9f", "#b0b7c3")


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw what reports there are; returns 1 if there is none."""
    parser = argparse.ArgumentParser(prog="python -m loadtest.bench_plot", description=__doc__)
    parser.add_argument("--reports", type=Path, default=PROJECT / "reports", help="folder with "
        "bench.json, catalogue_scale.json and overload.json")  # fmt: skip
    parser.add_argument("--out", type=Path, help="folder for the pictures (default: the same)")
    options = parser.parse_args(arguments)
    out = options.out or options.reports
    out.mkdir(parents=True, exist_ok=True)
    drawn = 0
    for name, draw in (
        ("bench", plot_bench),
        ("catalogue_scale", plot_scale),
        ("overload", plot_overload),
    ):
        report = options.reports / f"{name}.json"
        if report.is_file():
            draw(json.loads(report.read_text(encoding="utf-8")), out / f"{name}.png")
            drawn += 1
    if not drawn:
        sys.stderr.write(
            f"{options.reports} holds no report; run `make bench`, `scale` or `overload`\n"
        )
    return 0 if drawn else 1


def plot_bench(report: Mapping[str, Any], path: Path) -> None:
    """Throughput and latency by clients, and where a request's time goes.

    Args:
        report: of ``loadtest.bench``.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    rows = {report["clients"]: report} | {
        1 if key == "one_client" else int(key.removeprefix("clients_")): report[key]
        for key in report
        if key == "one_client" or key.startswith("clients_")
    }
    clients = sorted(rows)
    names = [name for name in COLOURS if name in report]
    picture = Figure(figsize=(13, 3.6), layout="constrained")
    throughput, latency, stages = picture.subplots(1, 3, width_ratios=(2, 2, 1.3))
    for axes, key, title in (
        (throughput, "throughput", "requests a second"),
        (latency, "p99_ms", "p99 latency, ms"),
    ):
        width = 0.8 / len(names)
        for number, name in enumerate(names):
            places = [at + (number - (len(names) - 1) / 2) * width for at in range(len(clients))]
            values = [rows[count][name][key] for count in clients]
            axes.bar(places, values, width, label=name, color=COLOURS[name])
        axes.set(title=title, xlabel="clients")
        axes.set_xticks(range(len(clients)), [str(count) for count in clients])
    throughput.legend(frameon=False)
    bottom = 0.0
    parts = {k: v for k, v in report[PRODUCT_MATCH.name]["stages"].items() if k != "total"}
    for (stage, value), colour in zip(parts.items(), STAGE_COLOURS, strict=False):
        stages.bar([0], [value], 0.6, bottom=bottom, label=f"{stage} {value:.1f}", color=colour)
        bottom += value
    stages.set(title=f"ms by stage, {report['clients']} clients", xlim=(-0.4, 1.9))
    stages.set_xticks([])
    stages.legend(frameon=False, loc="center right", reverse=True, handlelength=1)
    picture.savefig(path, dpi=110)


def plot_scale(report: Mapping[str, Any], path: Path) -> None:
    """Milliseconds of a search by the size of the catalogue, dashed where all is scored.

    Args:
        report: of ``loadtest.catalogue_scale``.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    sizes = report["sizes"]
    picture = Figure(figsize=(6.5, 3.6), layout="constrained")
    axes = picture.subplots()
    for kind in [kind for kind in SCALE_KINDS if kind in sizes[0]["ms_per_query"]]:
        values = [row["ms_per_query"][kind]["batch_1"] for row in sizes]
        views = [row["views"] for row in sizes]
        (line,) = axes.loglog(views, values, marker="o", label=kind)
        flat = [row["flat_ms_per_query"][kind]["batch_1"] for row in sizes]
        axes.loglog(views, flat, linestyle="--", linewidth=1, color=line.get_color())
    axes.set(title="ms a search (dashed: Flat)", xlabel="views in the catalogue")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False)
    picture.savefig(path, dpi=110)


def plot_overload(report: Mapping[str, Any], path: Path) -> None:
    """What becomes of requests, by how many are sent.

    Args:
        report: of ``loadtest.overload``.
        path: the PNG to write.
    """
    from matplotlib.figure import Figure

    rows = sorted(report["loads"], key=lambda row: row["asked"] / row["capacity"])
    asked = [row["asked"] / row["capacity"] for row in rows]
    picture = Figure(figsize=(9.5, 3.6), layout="constrained")
    rates, latency = picture.subplots(1, 2, width_ratios=(1.4, 1))
    bands = [[row[name] / row["capacity"] for row in rows] for name in OUTCOME_COLOURS]
    rates.stackplot(
        asked, bands, labels=list(OUTCOME_COLOURS), colors=list(OUTCOME_COLOURS.values())
    )
    rates.axhline(1, color="#333333", linestyle="--", linewidth=1)
    label = "requests sent, 1: what the server can carry"
    rates.set(title="what becomes of them", xlabel=label)
    rates.margins(0)
    rates.legend(frameon=False, loc="upper left")
    for key, name in (("answered_p50_ms", "median"), ("answered_p99_ms", "p99")):
        latency.plot(asked, [row[key] for row in rows], marker="o", label=name)
    latency.set(title="latency of the answers, ms", xlabel=label)
    latency.set_ylim(bottom=0)
    latency.grid(alpha=0.3)
    latency.legend(frameon=False)
    picture.savefig(path, dpi=110)


if __name__ == "__main__":
    sys.exit(main())
