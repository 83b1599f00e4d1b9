"""How the server does, by its own word, over both protocols."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from serving_support import (
    UNSTEADY_MS,
    RestartableDatabase,
    SampleProduct,
    Serving,
    change_model,
    serving,
    wait_for,
)

from bls_models.bundle import Bundle
from bls_models.database.store import FEEDBACK
from bls_models.specs import REPORTS
from product_match_client import (
    AsyncProductMatchClient,
    BadRequestError,
    ProductMatchClient,
    ServiceUnavailableError,
)

pytestmark = pytest.mark.server


def post(server: Serving, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """The status and the answer of ``generate``."""
    request = urllib.request.Request(
        f"{server.triton.http_url}/v2/models/product_report/generate",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, json.load(error)


@pytest.fixture
def matched(
    server: Serving, client: ProductMatchClient, catalogue: list[SampleProduct], protocol: str
) -> Iterator[str]:
    """The request id of a match that is in the log, the latest one."""
    request_id = f"report-{protocol}"
    client.match(catalogue[0].queries[0], request_id=request_id)
    server.log_entry(request_id)
    yield request_id
    server.database["match_log"].delete_many({"request_id": request_id})


def test_the_latest_match_is_told_as_it_was_logged(
    server: Serving, client: ProductMatchClient, matched: str
) -> None:
    told = client.report("matches", limit=1)
    (entry,) = told["entries"]
    logged = server.log_entry(matched)
    assert (entry["request_id"], entry["status"]) == (matched, "ok")
    assert datetime.fromisoformat(entry["time"]) == logged["time"]
    (image,) = entry["inputs"]["images"]
    assert set(image) == {"bytes", "sha256"}
    assert entry["matches"] == logged["matches"]
    assert "_id" not in entry


def test_a_refused_match_is_among_the_errors(
    server: Serving, client: ProductMatchClient, protocol: str
) -> None:
    request_id = f"refused-{protocol}"
    with pytest.raises(BadRequestError):
        client.match(texts="mug", top_k=0, request_id=request_id)
    server.log_entry(request_id)
    found = client.report("errors", limit=100)["entries"]
    (entry,) = [item for item in found if item["request_id"] == request_id]
    assert (entry["log"], entry["error"]["type"]) == ("match_log", "RequestError")
    assert "top_k" in entry["error"]["message"]
    server.database["match_log"].delete_many({"request_id": request_id})


def test_figures_count_the_match(server: Serving, client: ProductMatchClient, matched: str) -> None:
    buckets = client.report("history", hours=1, limit=6)["buckets"]
    assert len(buckets) == 6
    assert buckets[-1]["found"] + buckets[-1]["degraded"] >= 1
    stages = client.report("stages")["stages"]
    assert {"decode", "encode", "search", "total"} <= stages.keys()
    assert 0 < stages["total"]["p50_ms"] <= stages["total"]["p99_ms"]
    best = server.log_entry(matched)["matches"][0]["product_id"]
    products = client.report("products", limit=100)["products"]
    assert best in {row["product_id"] for row in products}


def test_feedback_counts_in_the_report(
    server: Serving, client: ProductMatchClient, matched: str
) -> None:
    best = server.log_entry(matched)["matches"][0]["product_id"]
    client.feedback(matched, best, "accepted")
    wait_for(lambda: server.database[FEEDBACK].find_one({"request_id": matched}), "it is stored")
    told = wait_for(lambda: client.report("feedback")["variants"].get("default"), "it is told")
    assert told["judged"] >= 1
    server.database[FEEDBACK].delete_many({"request_id": matched})


def test_the_server_tells_of_itself(
    server: Serving, client: ProductMatchClient, catalogue: list[SampleProduct], bundle: Bundle
) -> None:
    told = client.report("server")
    assert told["bundle"]["fingerprint"] == bundle.fingerprint
    details = client.match(texts="mug").details["index"]
    assert details.keys() < told["index"].keys()
    assert told["index"]["following"]
    assert told["index"]["products"] == told["products"] >= len(catalogue)
    assert told["index"]["lag_seconds"] >= 0
    assert (told["metric"]["mode"], told["metric"]["version"]) == ("manual", "none")
    assert told["degraded"] == []


def test_coroutines_and_json_get_reports_too(server: Serving) -> None:
    async def ask() -> list[dict[str, Any]]:
        async with AsyncProductMatchClient(server.url("http")) as client:
            return await asyncio.gather(*(client.report(name) for name in REPORTS))

    assert [told["report"] for told in asyncio.run(ask())] == list(REPORTS)
    status, answer = post(server, {"report": "history", "hours": 2.0, "limit": 4})
    assert status == 200
    assert len(json.loads(answer["report"])["buckets"]) == 4
    for body, message in (
        ({"report": "sales"}, "report: 'sales'; expected matches | errors"),
        ({"report": "history", "hours": 1000.0}, "hours: 1000; expected 0.1 to 720"),
        ({"report": "matches", "limit": 0}, "limit: 0; expected 1 to 100"),
    ):
        status, answer = post(server, body)
        assert status == 400
        assert message in answer["error"]


@pytest.fixture
def unsteady(bundle: Bundle, restartable: RestartableDatabase, tmp_path: Any) -> Iterator[Serving]:
    """A server whose database can be taken away."""
    limit = {"PRODUCT_MATCH_MONGODB_TIMEOUT_MS": str(UNSTEADY_MS)}
    with serving(tmp_path / "state", restartable.uri, "reports", **limit) as running:
        yield running


@pytest.mark.slow
def test_without_its_parts_a_server_says_which_one_is_away(
    unsteady: Serving, restartable: RestartableDatabase
) -> None:
    with unsteady.client("grpc") as client:
        now = datetime.now(UTC)
        assert abs(datetime.fromisoformat(client.report("server")["time"]) - now) < timedelta(1)
        change_model(unsteady, "product_match", "unload")
        told = wait_for(
            lambda: (told := client.report("server"))["degraded"] and told, "the index is missed"
        )
        assert (told["index"], told["degraded"]) == (None, ["index"])
        restartable.stop()
        for report in REPORTS:
            with pytest.raises(ServiceUnavailableError, match="MongoDB failed while"):
                client.report(report)
