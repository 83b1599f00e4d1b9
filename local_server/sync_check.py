"""``make sync-check``: whether a server's index holds what its database holds."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any

from rich.console import Console
from rich.table import Table

from bls_models.errors import ServiceError, SetupError
from bls_models.specs import CHECK, PRODUCT_INDEX, REPAIR
from product_match_client.endpoint import endpoint_from_url
from product_match_client.terminal import plain

# A large catalogue is read page by page.
TIMEOUT_SECONDS = 600.0


def ask_for_check(http_url: str, repair: bool) -> dict[str, Any]:
    """Have a server compare its index with its database.

    Args:
        http_url: Triton's HTTP endpoint.
        repair: have what differs read again.

    Returns:
        The report of ``bls_models.replication.index_host.IndexHost.check``, and as
        ``index_metric`` the version that the index is made for.

    Raises:
        ServiceError: the server does not answer, or cannot check now.
        SetupError, BadRequestError: the address is none.
    """
    operation = REPAIR if repair else CHECK
    body = {
        "inputs": [
            {"name": "operation", "datatype": "BYTES", "shape": [1], "data": [operation]},
        ],
        "outputs": [{"name": "index_info"}],
    }
    if endpoint_from_url(http_url).protocol != "http":
        raise SetupError(f"the address is {http_url}; expected Triton's HTTP endpoint")
    request = urllib.request.Request(
        f"{http_url.rstrip('/')}/v2/models/{PRODUCT_INDEX.name}/infer",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_SECONDS) as answer:
            (output,) = json.load(answer)["outputs"]
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        raise ServiceError(f"{http_url} answered {error.code}: {text}") from error
    except OSError as error:
        raise ServiceError(f"{http_url} does not answer: {error}") from error
    info: dict[str, Any] = json.loads(output["data"][0])
    return {**info["sync_check"], "index_metric": info["metric"]}


def show_check(http_url: str, repair: bool, console: Console) -> int:
    """Check, print what differs.

    Returns:
        0, or 1 if something differs and was not repaired, or the index has another metric.

    Raises:
        ServiceError: see ``ask_for_check``.
    """
    report = ask_for_check(http_url, repair)
    found = sum(report["differences"].values())
    if report["products"]:
        console.print(_table(report["products"]))
    if found > len(report["products"]):
        console.print(f"... and {found - len(report['products'])} more")
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(report["differences"].items()))
    console.print(
        f"{report['products_in_database']} products in the database, "
        f"{report['products_in_index']} in the index, compared in {report['seconds']:.1f} s: "
        f"{f'{found} differ ({kinds})' if found else 'nothing differs'}"
        + (f", {report['repaired']} of them repaired" if found and repair else ""),
        highlight=False,
    )
    of_wanted = report["index_metric"] == report["metric"]
    if not of_wanted:
        console.print(
            f"The index is made for metric {report['index_metric']}, the database names "
            f"{report['metric']}: the server builds another one, or its log says why not",
            highlight=False,
        )
    return int(found > report["repaired"] or not of_wanted)


def _table(products: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False)
    for name in ("product", "what differs", "revision", "detail", ""):
        table.add_column(name, overflow="fold")
    for item in products:
        table.add_row(
            plain(item["product_id"]),
            plain(item["kind"], style="yellow" if item["repaired"] else "red"),
            str(item["revision"] or "-"),
            plain(item["detail"]),
            "repaired" if item["repaired"] else "",
        )
    return table
