"""How the ``product-match`` command shows answers in a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from product_match_client.results import Match, MatchedObject, MatchResult
from product_match_client.terminal import plain


def print_matches(
    result: MatchResult, console: Console, first_rank: int = 1, hints: Sequence[str] = ()
) -> None:
    """Print the matches as a table, those of each object in one of its own, then the facets.

    Args:
        result: the answer.
        console: where to print.
        first_rank: the rank of the first match; more than 1 on a later page.
        hints: what could be tried where nothing matches at all.
    """
    if result.objects:
        whole = MatchedObject(0, (0.0, 0.0, 1.0, 1.0), 1.0, result.matches)
        for item in (whole, *result.objects):
            heading = object_text(item, is_best=item.number == result.best_object)
            console.print(plain(heading, style="bold magenta"))
            _print_table(item.matches, console, first_rank)
            console.print()
    else:
        _print_table(result.matches, console, first_rank)
        if result.facets:
            console.print()
    for field, counted in result.facets.items():
        console.print(facet_table(field, counted))
        console.print()
    if hints and not _all_matches(result):
        console.print(plain(f"What could be tried: {'; '.join(hints)}.", style="dim"))
    alone = alone_text(result)
    if alone:
        console.print(plain(alone))
    if result.caption:
        console.print(plain(caption_text(result)))
    console.print(plain(details_text(result), style="dim"))
    degraded = result.details.get("degraded")
    if degraded:
        console.print(plain(f"The service is degraded: {', '.join(degraded)}", style="yellow"))


def _print_table(matches: Iterable[Match], console: Console, first_rank: int) -> None:
    """One line a match, or that there is none."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("#", justify="right", style="dim")
    table.add_column("id", style="cyan", overflow="fold")
    table.add_column("name", overflow="fold")
    table.add_column("price", justify="right", no_wrap=True)
    table.add_column("score", justify="right", style="bold green", no_wrap=True)
    table.add_column("image", justify="right", no_wrap=True)
    table.add_column("text", justify="right", no_wrap=True)
    for rank, match in enumerate(matches, start=first_rank):
        table.add_row(
            str(rank),
            plain(match.product_id),
            plain(match.product.get("name", "")),
            plain(price_text(match.product)),
            score_text(match.score),
            score_text(match.image_score),
            score_text(match.text_score),
        )
    if table.row_count:
        console.print(table)
    else:
        console.print("no product matches", style="bold")


def facet_table(field: str, counted: Mapping[str, Any]) -> Table:
    """One line a value or range of a field, with the number of products."""
    least, most = (counted.get(name) for name in ("least", "most"))
    between = "" if least is None else f" ({value_text(least)} to {value_text(most)})"
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column(plain(f"{field}{between}"), overflow="fold")
    table.add_column("products", justify="right", style="green", no_wrap=True)
    for item in counted.get("values", ()):
        table.add_row(plain(value_text(item["value"])), str(item["count"]))
    for item in counted.get("ranges", ()):
        table.add_row(range_text(item["from"], item["to"]), str(item["count"]))
    for name, text in (("others", "other values"), ("missing", "no value")):
        if counted.get(name):
            table.add_row(text, str(counted[name]), style="dim")
    return table


def range_text(low: float | None, high: float | None) -> str:
    """A range, of which ``high`` is no part; None is no bound."""
    if low is None:
        return f"below {value_text(high)}"
    return f"{value_text(low)} " + ("and above" if high is None else f"to below {value_text(high)}")


def value_text(value: Any) -> str:
    """A value of a field: text as it is, a number without zeros at its end, yes or no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:.12g}" if isinstance(value, int | float) else str(value)


def object_text(item: MatchedObject, is_best: bool) -> str:
    """The heading of an object's table: where it is and how sure of it the server is."""
    best = ", fits the text best" if is_best else ""
    if not item.number:
        return f"whole photo{best}"
    x0, y0, x1, y1 = (f"{100 * side:.0f}" for side in item.box)
    place = f"{x0}-{x1}% from the left, {y0}-{y1}% from the top"
    return f"object {item.number}: {place} (score {item.score:.2f}){best}"


def alone_text(result: MatchResult) -> str:
    """Why the whole photo was matched alone though objects were asked for; empty otherwise."""
    found = result.details.get("objects", {})
    status = found.get("status", "not_asked")
    if result.objects or status == "not_asked":
        return ""
    if status == "no_image":
        return "objects: there is no photo to look for them in"
    if status == "unavailable":
        return f"objects: could not be looked for: {found.get('reason') or 'unavailable'}"
    return f"objects: {found.get('found', 0)} found; the whole photo was matched alone"


def caption_text(result: MatchResult) -> str:
    """One line with the caption and how sure of it the server is."""
    caption = result.details.get("caption", {})
    confidence = caption.get("confidence")
    notes = [] if confidence is None else [f"confidence {confidence:.2f}"]
    if caption.get("used"):
        notes.append("searched with")
    return f"caption: {result.caption}" + (f" ({', '.join(notes)})" if notes else "")


def print_description(caption: Mapping[str, Any], console: Console) -> None:
    """Print what became of a description that was asked for."""
    if caption.get("used"):
        console.print(plain(f"description: {caption.get('text')} (generated)"))
    elif caption.get("status") != "not_asked":
        reason = caption.get("reason") or str(caption.get("status")).replace("_", " ")
        console.print(plain(f"no description was generated: {reason}", style="yellow"))


def print_product(product: Mapping[str, Any], console: Console) -> None:
    """Print a product's document, a field a line; its attributes are indented."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in product.items():
        if isinstance(value, Mapping):
            table.add_row(plain(name), "")
            for key, item in value.items():
                table.add_row(plain(f"  {key}"), plain(item))
        elif isinstance(value, list):
            table.add_row(plain(name), plain("\n".join(map(str, value))))
        else:
            table.add_row(plain(name), plain(value))
    console.print(table)


def price_text(product: Mapping[str, Any]) -> str:
    """The price with its currency; a dash where there is none."""
    price = product.get("price")
    if not isinstance(price, int | float):
        return "-"
    return f"{price:,.2f} {product.get('currency') or ''}".rstrip()


def score_text(score: float | None) -> str:
    """A score with three decimals; a dash where the modality was not used."""
    return "-" if score is None else f"{score:.3f}"


def details_text(result: MatchResult) -> str:
    """One line on the answer: how many matches, how long, which bundle, which request."""
    parts = [_counted(len(_all_matches(result)), "match", "matches")]
    if result.objects:
        parts.append(_counted(len(result.objects), "object", "objects"))
    milliseconds = result.details.get("milliseconds", {}).get("total")
    if milliseconds is not None:
        parts.append(f"{milliseconds:.0f} ms")
    bundle = result.details.get("bundle", {}).get("name")
    if bundle:
        parts.append(f"bundle {bundle}")
    request_id = result.details.get("request_id")
    if request_id:
        parts.append(f"request {request_id}")
    return ", ".join(parts)


def _all_matches(result: MatchResult) -> list[Match]:
    """Those of the whole photo and of every object."""
    return [*result.matches, *(match for item in result.objects for match in item.matches)]


def _counted(count: int, one: str, several: str) -> str:
    return f"{count} {one if count == 1 else several}"
