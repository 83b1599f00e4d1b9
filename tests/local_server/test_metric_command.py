"""``make metric`` and what the first start fits, on a real database without a server."""

from __future__ import annotations

import io
import subprocess
import sys
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from metric_support import noisy_products, store_products
from rich.console import Console
from serving_support import ROOT, SMALL_BUNDLE

from bls_models.database.connection import connect
from bls_models.database.store import Store
from bls_models.errors import ConflictError, ServiceError
from bls_models.metric.catalogue import METRICS, NONE, CatalogueMetrics
from bls_models.settings import Settings
from local_server import metric_tables, served_metric, sync_check
from local_server.metric_tables import show_metric
from local_server.options import Options
from local_server.running import Running
from local_server.served_metric import fit_first, wait_until_served
from local_server.stack import database_name

pytestmark = pytest.mark.server

BUNDLE = replace(SMALL_BUNDLE, image_dim=60)
PRODUCTS = noisy_products(50, 5, 60)


class Shop:
    """A database with products of which views differ, and the options that name it."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.options = Options(
            mongodb_uri=uri,
            state=str(folder / "state"),
            repository=str(folder),
            # By which the database has its name.
            catalog=str(folder / uuid.uuid4().hex),
        )
        BUNDLE.write(folder)
        name = database_name(self.options)
        self.database = connect(Settings(mongodb_uri=uri, database=name, mongodb_timeout_ms=20_000))
        self.store = Store(self.database, 30)
        self.store.ensure_indexes()
        store_products(self.store, PRODUCTS, BUNDLE)
        self.metrics = CatalogueMetrics(self.store, BUNDLE)
        self.running = Running("http://nobody", "", "", uri, name)
        self.lines: list[str] = []

    def show(self, **asked: Any) -> str:
        """What the command prints."""
        console = Console(file=io.StringIO(), width=80)
        assert show_metric(self.options, console, self.lines.append, **asked) == 0
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue()

    @property
    def version(self) -> str:
        return self.metrics.current().version


@pytest.fixture
def shop(database_uri: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A shop with a database of its own."""
    monkeypatch.delenv("PRODUCT_MATCH_METRIC", raising=False)
    shop = Shop(database_uri, tmp_path)
    yield shop
    shop.database.client.drop_database(shop.database.name)
    shop.database.client.close()


def test_a_fit_is_shown_with_intervals_and_serves_from_then_on(shop: Shop) -> None:
    shown = shop.show()
    lines = shown.splitlines()
    assert lines[1].split() == ["metric", "seen", "interval", "unseen", "interval", "both"]
    rows = [line for line in lines if line.startswith(("raw ", "shrinkage "))]
    assert len(rows) == 11
    assert rows[0].startswith("raw ")
    chosen = [row for row in rows if row.endswith("chosen")]
    assert len(chosen) == 1
    assert chosen[0].count("% - ") == 2
    assert "250 views of 50 products." in lines
    assert f"Metric {shop.version}:" in shown
    assert f"No server runs here; metric {shop.version} serves from the next start on." in lines
    assert shop.lines[-1] == "50 of 50 products are read"


def test_a_dry_run_shows_the_same_and_changes_nothing(shop: Shop) -> None:
    shown = shop.show(dry_run=True)
    assert "chosen" in shown
    assert "Nothing was changed; metric none serves as before." in shown
    assert shop.database[METRICS].count_documents({}) == 0


def test_versions_are_listed_and_served_again(shop: Shop) -> None:
    assert "No metric was fitted yet." in shop.show(listing=True)
    shop.show()
    first = shop.version
    shop.show()
    second = shop.version

    def marked() -> dict[str, bool]:
        lines = shop.show(listing=True).splitlines()
        return {line.split()[0]: "served" in line for line in lines if "250" in line}

    assert marked() == {second: True, first: False}
    assert list(marked()) == [second, first]
    assert f"metric {first} serves" in shop.show(version=first)
    assert marked() == {second: False, first: True}
    shop.show(version=NONE)
    assert marked() == {second: False, first: False}
    assert "Raw vectors are served" in shop.show(listing=True)


def test_where_there_is_too_little_it_says_so(shop: Shop) -> None:
    shop.store.products.delete_many({"_id": {"$gt": "p005"}})
    shown = shop.show()
    assert "No metric: 6 products with several views" in shown
    assert "chosen" not in shown
    assert shop.version == NONE


def test_a_running_server_is_waited_for_unless_it_compares_raw_vectors(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    waited: list[tuple[str, str]] = []
    monkeypatch.setattr(metric_tables, "wait_until_served", lambda *of: waited.append(of))
    for mode in ("auto", "manual", "none"):
        running = replace(shop.running, metric=mode)
        monkeypatch.setattr(metric_tables, "find_running", lambda _, running=running: running)
        shown = shop.show(version=NONE)
        assert ("Another one is fitted when" in shown) == (mode == "auto")
        assert ("compares raw vectors all the same" in shown) == (mode == "none")
    assert waited == [("http://nobody", NONE)] * 2

    monkeypatch.setattr(metric_tables, "find_running", lambda _: None)
    assert "http://other serves metric none." in shop.show(version=NONE, url="http://other")
    monkeypatch.setenv("PRODUCT_MATCH_METRIC", "none")
    assert "all the same" in shop.show(version=NONE, url="http://other")
    assert waited[2:] == [("http://other", NONE)]


def test_waiting_ends_when_the_server_names_the_version_and_not_later_than_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names = iter(["", "old", "new"])
    monkeypatch.setattr(served_metric, "served_metric", lambda _: next(names))
    monkeypatch.setattr(served_metric, "RETRY_SECONDS", 0.0)
    wait_until_served("http://nobody", "new")
    for name, said in (("old", "compares by metric old"), ("", "answers no match")):
        monkeypatch.setattr(served_metric, "served_metric", lambda _, name=name: name)
        with pytest.raises(ServiceError, match=f"{said} after 0 s and not by new"):
            wait_until_served("http://nobody", "new", seconds=0.0)


def test_nobody_answers_where_nobody_listens() -> None:
    assert served_metric.served_metric("http://127.0.0.1:1/") == ""


def test_what_goes_wrong_is_one_line_and_status_1(shop: Shop) -> None:
    def run(*flags: str) -> str:
        options = shop.options
        done = subprocess.run(
            [
                *(sys.executable, "-m", "local_server", "metric", "--state", options.state),
                *("--mongodb-uri", options.mongodb_uri, "--catalog", options.catalog),
                *("--repository", options.repository, *flags),
            ],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        (line,) = done.stderr.splitlines()
        return line

    assert run("--version", "nowhere").startswith("error: there is no metric 'nowhere'")
    with shop.metrics._lease():
        assert run().startswith("error: a metric is being fitted")
    (shop.options.repository_folder / "bundle.json").unlink()
    assert "no bundle is built" in run("--list")


# --- the first start --------------------------------------------------------------------------


@pytest.fixture
def waited(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The versions that the start waits for; no server is there."""
    versions: list[str] = []
    monkeypatch.setattr(served_metric, "wait_until_served", lambda _, v: versions.append(v))
    return versions


def test_the_first_start_fits_a_metric_and_the_second_none(shop: Shop, waited: list[str]) -> None:
    lines: list[str] = []
    fit_first(shop.running, BUNDLE, True, lines.append)
    assert "of 100 left-out views find their product first" in lines[-1]
    assert waited == [shop.version]
    assert shop.version != NONE
    fit_first(shop.running, BUNDLE, False, lines.append)
    # The same catalogue again: nothing of it has changed.
    fit_first(shop.running, BUNDLE, True, lines.append)
    assert len(shop.metrics.versions()) == len(waited) == 1
    assert len(lines) == 2


def test_a_catalogue_of_which_a_fifth_is_new_is_fitted_again_when_it_is_imported(
    shop: Shop, waited: list[str]
) -> None:
    lines: list[str] = []
    fit_first(shop.running, BUNDLE, True, lines.append)
    store_products(shop.store, noisy_products(15, 5, 60, seed=1), BUNDLE, start=50)
    fit_first(shop.running, BUNDLE, False, lines.append)
    assert len(waited) == 1
    fit_first(shop.running, BUNDLE, True, lines.append)
    assert len(set(waited)) == 2


def test_the_first_start_says_why_there_is_no_metric_and_tries_once(
    shop: Shop, waited: list[str]
) -> None:
    shop.store.products.delete_many({"_id": {"$gt": "p005"}})
    lines: list[str] = []
    fit_first(shop.running, BUNDLE, True, lines.append)
    fit_first(shop.running, BUNDLE, False, lines.append)
    told = [line for line in lines if line.startswith("metric: none")]
    assert len(told) == 1
    assert "6 products with several views" in told[0]
    assert waited == [NONE]


def test_of_a_bundle_that_gets_no_metric_only_the_first_start_speaks(
    shop: Shop, waited: list[str]
) -> None:
    shared, lines = replace(BUNDLE, shared_space=True), list[str]()
    fit_first(shop.running, shared, True, lines.append)
    assert "texts are compared with pictures" in lines[-1]
    told = len(lines)
    fit_first(shop.running, shared, False, lines.append)
    assert len(lines) == told
    assert waited == [NONE]


def test_a_fit_of_the_servers_own_is_waited_for_but_not_for_ever(
    shop: Shop, waited: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served_metric, "RETRY_SECONDS", 0.0)
    lines: list[str] = []
    with shop.metrics._lease():
        monkeypatch.setattr(served_metric, "OTHER_FIT_SECONDS", 0.0)
        fit_first(shop.running, BUNDLE, True, lines.append)
    assert "a metric is being fitted" in lines[-1]
    assert waited == []

    monkeypatch.setattr(served_metric, "OTHER_FIT_SECONDS", 60.0)
    refused = iter([ConflictError("busy"), ConflictError("busy")])
    fit = CatalogueMetrics.fit

    def at_last(self: CatalogueMetrics, *of: Any) -> Any:
        for error in refused:
            raise error
        return fit(self, *of)

    monkeypatch.setattr(CatalogueMetrics, "fit", at_last)
    fit_first(shop.running, BUNDLE, True, lines.append)
    assert waited == [shop.version]


def test_a_server_that_does_not_take_the_metric_up_is_no_reason_to_stop(
    shop: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    def late(*_: str) -> None:
        raise ServiceError("it is late")

    monkeypatch.setattr(served_metric, "wait_until_served", late)
    lines: list[str] = []
    fit_first(shop.running, BUNDLE, True, lines.append)
    assert lines[-1] == "metric: it is late"


# --- the sync check ---------------------------------------------------------------------------


@pytest.mark.parametrize(("named", "status"), [("new", 1), ("old", 0)])
def test_an_index_of_another_metric_than_the_database_names_differs(
    named: str, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    report = {
        "products": [],
        "differences": {},
        "products_in_database": 3,
        "products_in_index": 3,
        "seconds": 0.1,
        "repaired": 0,
        "metric": named,
        "index_metric": "old",
    }
    monkeypatch.setattr(sync_check, "ask_for_check", lambda *_: report)
    console = Console(file=io.StringIO(), width=200)
    assert sync_check.show_check("http://nobody", False, console) == status
    assert isinstance(console.file, io.StringIO)
    told = "The index is made for metric old, the database names new" in console.file.getvalue()
    assert told == bool(status)
