"""How good matches are: by the feedback on them, and by what the learned metric gains."""

from __future__ import annotations

from demo.operations.figures import clock, count, interval, moment, share
from demo.operations.reports import Report
from demo.operations.tables import Column, Markup, bar, card, numbers, paragraph, table

NO_FEEDBACK = "No feedback yet."
NO_METRIC = "none"
COLUMNS = (
    "raw and learned: left-out pictures that find their product first, without a metric and with "
    "it; gain in points; seen: of products that the fit knew, unseen: of others."
)


def feedback(report: Report) -> Markup:
    """Accuracy by day and by variant."""
    if not report["days"]:
        return card("Accuracy by feedback", paragraph(NO_FEEDBACK))
    parts = [
        paragraph(
            "top-1: the share of judged requests whose accepted product was first, with its "
            "interval of 95%."
        ),
        _accuracy("day", dict(reversed(report["days"].items()))),
        _accuracy("variant", report["variants"]),
    ]
    if report["cut"]:
        parts.append(paragraph("There is so much feedback that the oldest is left out."))
    return card("Accuracy by feedback", *parts)


def _accuracy(name: str, groups: dict[str, Report]) -> Markup:
    rows = [
        (
            group,
            bar(row["top1"] or 0.0, *row["top1_interval"]) if row["judged"] else "",
            share(row["top1"]),
            interval(row["top1_interval"]) if row["judged"] else "",
            share(row["top5"]),
            count(row["judged"]),
            count(row["clicks"]),
        )
        for group, row in groups.items()
    ]
    columns = (Column(name), Column(""), *numbers("top-1", "95%", "top-5", "judged", "clicks"))
    return table(f"Accuracy by {name}", columns, rows, NO_FEEDBACK)


def learned_metric(server: Report) -> Markup:
    """The metric that is served, and all versions with what they gain."""
    metric, now = server["metric"], moment(server["time"])
    served = metric["version"]
    rows = [
        (
            item["version"],
            "served" if item["version"] == served else "",
            clock(moment(item["time"]), now),
            share(item["raw"]),
            share(item["both"]),
            f"{100 * (item['both'] - item['raw']):+.1f}",
            share(item["seen"]),
            share(item["unseen"]),
            count(item["products"]),
            count(item["views"]),
        )
        for item in metric["versions"]
    ]
    columns = (
        Column("version"),
        Column(""),
        *numbers("fitted", "raw", "learned", "gain", "seen", "unseen", "products", "views"),
    )
    versions = table("Versions of the learned metric", columns, rows, "None was fitted yet.")
    notes = [paragraph(COLUMNS)] if rows else []
    return card("Learned metric", paragraph(_served(metric)), versions, *notes)


def _served(metric: Report) -> str:
    version = metric["version"]
    if version == NO_METRIC:
        return f"None is served: pictures are compared as they are (mode {metric['mode']})."
    for item in metric["versions"]:
        if item["version"] == version:
            return (
                f"{version} is served (mode {metric['mode']}): {share(item['both'])} of left-out "
                f"pictures find their product first, {share(item['raw'])} without it."
            )
    return f"{version} is served (mode {metric['mode']})."
