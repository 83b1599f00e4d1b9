"""Every load tool and both baselines, briefly, against the real server."""

from __future__ import annotations

import contextlib
import csv
import http.client
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from serving_support import REPOSITORY, ROOT, SampleProduct, Serving, wait_for

from loadtest import bench, overload
from loadtest.baselines.running import BASELINES, running_baseline
from loadtest.http_load import Address
from loadtest.perf import __main__ as perf_command
from loadtest.traffic.mix import DEFAULT_MIX
from local_server.processes import free_port

pytestmark = pytest.mark.server

Catalogue = list[SampleProduct]
SCORE_TOLERANCE = 1e-3


# --- baselines --------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=BASELINES)
def baseline_address(
    request: pytest.FixtureRequest, server: Serving, catalogue: Catalogue, database_uri: str
) -> Iterator[Address]:
    """Each baseline in turn, on the products that the server has stored."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PRODUCT_MATCH_DATABASE", server.database.name)
        with running_baseline(request.param, database_uri, REPOSITORY) as (address, _):
            yield address


def post(address: Address, photo: bytes, query: str = "") -> tuple[int, dict[str, Any]]:
    with contextlib.closing(http.client.HTTPConnection(*address, timeout=60)) as connection:
        connection.request("POST", f"/match{query}", photo)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_baseline_answers_as_product_match_does(
    baseline_address: Address, server: Serving, catalogue: Catalogue
) -> None:
    with server.client() as client:
        for product in catalogue[::12]:
            photo = product.queries[0].read_bytes()
            status, answer = post(baseline_address, photo)
            expected = client.match(photo).matches
            found = answer["matches"]
            assert status == 200
            assert [item["product_id"] for item in found] == [item.product_id for item in expected]
            assert [item["score"] for item in found] == pytest.approx(
                [item.score for item in expected], abs=SCORE_TOLERANCE
            )
            assert [item["product"] for item in found] == [item.product for item in expected]


def test_a_baseline_gives_as_many_matches_as_asked(
    baseline_address: Address, catalogue: Catalogue
) -> None:
    photo = catalogue[0].queries[0].read_bytes()
    for top_k, expected in ((1, 1), (20, 20), (100, len(catalogue))):
        _, answer = post(baseline_address, photo, f"?top_k={top_k}")
        ids = [item["product_id"] for item in answer["matches"]]
        assert len(ids) == len(set(ids)) == expected


def test_a_baseline_refuses_what_is_no_photo(baseline_address: Address) -> None:
    status, answer = post(baseline_address, b"no photo")
    assert status == 400
    assert "expected a JPEG, PNG, WebP" in answer["detail"]


# --- the benchmark ----------------------------------------------------------------------------


@pytest.mark.nightly
def test_the_benchmark_measures_all_contestants(tmp_path: Path) -> None:
    report = tmp_path / "bench.json"
    status = bench.main(
        [
            *("--rounds", "1", "--seconds", "1", "--other-seconds", "1", "--kind-seconds", "1"),
            *("--clients", "2", "1", "--report", str(report)),
        ]
    )
    assert status == 0
    found = json.loads(report.read_text())
    names = ("raw", "usual", "tuned", "product_match")
    assert set(names) < set(found["accuracy"])
    assert found["accuracy"]["agreement"] == 1.0
    for rows in (found, found["one_client"]):
        for name in names:
            row = rows[name]
            assert row["throughput"] > 0
            assert row["cpu_ms_per_request"] > 0
            assert row["peak_memory_mb"] > 50
            assert row["p50_ms"] <= row["p95_ms"] <= row["p99_ms"]
            assert 0 <= row["idle"] <= 1
        row = rows["product_match"]
        assert {"tritonserver", "product_match", "image_encoder"} <= set(row["cpu_ms_by_process"])
        assert sum(row["cpu_ms_by_process"].values()) == pytest.approx(
            row["cpu_ms_per_request"], abs=0.1
        )
    for clients in ("clients_2", "one_client"):
        kinds = found["kinds"][clients]
        assert list(kinds) == [
            *("photo", "photo_and_words", "text", "filtered"),
            *("like", "facets", "mixed", "four_objects"),
        ]
        assert kinds["text"]["cpu_ms_by_process"]["text_encoder"] > 0
        mixed = kinds.pop("mixed")
        cost = 1 / kinds.pop("four_objects")["ratio_to_photo"]
        assert found["four_objects"]["matches"][clients] == pytest.approx(cost, rel=0.01)
        for row in kinds.values():
            assert row["throughput"] > 0
        like, photo = (kinds[kind]["cpu_ms_by_process"] for kind in ("like", "photo"))
        assert like.get("image_encoder", 0) < photo["image_encoder"]
        in_mix = [row["in_mix"]["throughput"] for row in kinds.values() if "in_mix" in row]
        assert sum(in_mix) == pytest.approx(mixed["throughput"], abs=0.1)
    assert found["four_objects"]["found"] > 1
    for name in names[:3]:
        assert found[f"ratio_to_{name}"] == found["product_match"][f"ratio_to_{name}"] > 0


def test_baselines_need_to_know_the_database_of_a_server_that_runs(
    server: Serving, catalogue: Catalogue, capsys: pytest.CaptureFixture[str]
) -> None:
    url = server.url("http")
    assert bench.main(["--url", url, "--mongodb-uri", "", "--contestants", "usual"]) == 1
    assert "--mongodb-uri" in capsys.readouterr().err


@pytest.mark.nightly
def test_too_many_requests_are_answered_or_refused_and_nobody_takes_the_server_for_dead(
    tmp_path: Path,
) -> None:
    report = tmp_path / "overload.json"
    # Whether enough are answered in time is for the measurement to say.
    overload.main(
        [
            *("--seconds", "5", "--capacity-seconds", "2", "--factors", "3"),
            *("--deadline", "10", "--report", str(report)),
        ]
    )
    (row,) = json.loads(report.read_text())["loads"]
    assert row["in time"] > 0
    assert row["refused"] > 0
    assert row["failed"] == 0
    assert row["probes"]["live"] > 0
    assert row["probes"]["dead"] == 0


# --- locust -----------------------------------------------------------------------------------


def loadtest(*arguments: str, report: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "loadtest.traffic", "--report", str(report), *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_locust_users_send_every_kind_of_request_at_the_same_time(
    server: Serving, catalogue: Catalogue, protocol: str, tmp_path: Path
) -> None:
    begun = datetime.now(UTC)
    report = tmp_path / "loadtest.html"
    arguments = (
        *("--url", server.url(protocol), "--mix", "image=2,text=2,both=1,filtered=1"),
        *("--users", "6", "--rate", "6", "--think-ms", "0", "--photo-side", "0"),
    )

    def every_kind() -> bool:
        page = report.read_text(encoding="utf-8")
        return all(f'"name": "{kind}"' in page for kind in ("image", "text", "both", "filtered"))

    result = longer_until(every_kind, *arguments, report=report)
    assert result.returncode == 0, result.stderr
    # If one user stopped the others, no request would begin before the last one is answered.
    wait_for(lambda: overlaps(server, begun), "two requests were there at the same time")


def longer_until(
    enough: Callable[[], bool], *arguments: str, report: Path
) -> subprocess.CompletedProcess[str]:
    """A load test, run anew and longer while it was too short for a busy machine."""
    for seconds in (4, 8, 16, 32):
        result = loadtest(*arguments, "--time", f"{seconds}s", report=report)
        if enough():
            return result
    pytest.fail(f"too few requests in {seconds} s: {result.stderr}")


def overlaps(server: Serving, since: datetime) -> bool:
    """Whether requests that were logged since then were under way together."""
    margin = timedelta(milliseconds=2)  # of the log's clock
    spans = sorted(
        (entry["time"] - timedelta(milliseconds=entry["milliseconds"]["total"]), entry["time"])
        for entry in server.database["match_log"].find({"time": {"$gte": since}})
    )
    return any(later < end - margin for (_, end), (later, _) in itertools.pairwise(spans))


def test_a_failed_request_fails_the_load_test(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    result = loadtest(
        *("--url", url, "--users", "1", "--time", "1s"), report=tmp_path / "loadtest.html"
    )
    assert result.returncode == 1
    assert "requests failed" in result.stderr


def test_a_p99_over_its_budget_fails_the_load_test(
    server: Serving, catalogue: Catalogue, tmp_path: Path
) -> None:
    report = tmp_path / "loadtest.html"
    arguments = ("--url", server.url("http"), "--users", "1", "--p99-ms", "0.1")
    result = longer_until(
        lambda: any(f'"name": "{kind}"' in report.read_text("utf-8") for kind in DEFAULT_MIX),
        *arguments,
        report=report,
    )
    assert result.returncode == 1
    assert "more than the budget of 0.1 ms" in result.stderr


def test_a_mix_that_cannot_be_read_fails_the_load_test(server: Serving, tmp_path: Path) -> None:
    result = loadtest(
        *("--url", server.url("http"), "--mix", "photos=1"), report=tmp_path / "loadtest.html"
    )
    assert result.returncode == 1
    assert "kinds are image, text, both" in result.stderr


# --- perf_analyzer ----------------------------------------------------------------------------


@pytest.mark.nightly
def test_perf_analyzer_sweeps_both_ways_and_breaks_the_time_down(tmp_path: Path) -> None:
    # With a server of its own, which does not keep the vectors of photos.
    status = perf_command.main(
        [
            *("--reports", str(tmp_path)),
            *("--concurrency", "1", "3", "--rates", "10"),
            *("--window-seconds", "1", "--stability", "300"),
        ]
    )
    assert status == 0
    with (tmp_path / "perf.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    own = [row for row in rows if row["model"] == "product_match"]
    assert [(row["sweep"], float(row["load"])) for row in own] == [
        ("concurrency", 1.0),
        ("concurrency", 3.0),
        ("request_rate", 10.0),
    ]
    assert {row["model"] for row in rows} == {"product_match", "image_encoder"}
    for row in rows:
        assert float(row["infer_ms"]) > 0
    for row in own:
        # Of one unit: microseconds would be a thousand times as many.
        assert 0.02 < float(row["p50_ms"]) / float(row["rest_ms"]) < 50
        assert float(row["requests_per_s"]) > 0
    assert (tmp_path / "perf.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.nightly
def test_a_server_that_knows_all_photos_is_told_from_a_slow_one(
    server: Serving, catalogue: Catalogue, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--url", server.url("grpc"), "--reports", str(tmp_path)]
    levels = ["--concurrency", "1", "3", "4", "--window-seconds", "1", "--stability", "300"]
    assert perf_command.main([*arguments, *levels]) == 1
    assert "PRODUCT_MATCH_VECTOR_CACHE=1" in capsys.readouterr().err


@pytest.mark.nightly
def test_a_request_that_fails_under_perf_analyzer_is_an_error(
    server: Serving, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "1.jpg").write_bytes(b"no photo")
    status = perf_command.main(
        [
            *("--url", server.url("grpc"), "--reports", str(tmp_path)),
            *("--photos", str(photos), "--photo-side", "0", "--concurrency", "1"),
        ]
    )
    assert status == 1
    assert "neither an image nor base64" in capsys.readouterr().err
