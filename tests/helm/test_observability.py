"""Dashboard and alerts: every expression parses, and asks for what the servers really export."""

from __future__ import annotations

import json
import re
import urllib.request
from typing import Any

import promql_parser
import pytest
import yaml
from chart_support import CHART, ROOT, merged, render, the
from metric_names import (
    LABEL_VALUES,
    SCRAPE_LABELS,
    grouping_labels,
    known_metrics,
    series_of,
)
from serving_support import SampleProduct, Serving, picture, wait_for

RULES = yaml.safe_load((CHART / "rules" / "product-match.yaml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
DASHBOARD = json.loads((CHART / "dashboards" / "product-match.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
RUNBOOK = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SCENARIOS = yaml.safe_load(
    (ROOT / "tests" / "helm" / "alert_scenarios.yaml").read_text(encoding="utf-8")
)

# Triton has these where it sees a GPU.
GPU_METRICS = {
    "nv_gpu_utilization",
    "nv_gpu_memory_used_bytes",
    "nv_gpu_memory_total_bytes",
}
TRITON_LABELS = {"model", "version", "reason", "gpu_uuid"}


def expressions() -> dict[str, str]:
    """Every expression by where it stands, Grafana's variables filled in."""
    found = {f"alert {name}": rule["expr"] for name, rule in ALERTS.items()}
    for panel in PANELS:
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m")
            found[f"panel {panel['title']} {target['refId']}"] = re.sub(r"\$\w+", ".*", expression)
    (rule,) = adapter_rules()
    query = rule["metricsQuery"].replace("<<.LabelMatchers>>", 'pod=~"a|b"')
    found["autoscaling"] = query.replace("<<.GroupBy>>", "pod")
    found["autoscaling's series"] = rule["seriesQuery"]
    return found


def adapter_rules() -> list[dict[str, Any]]:
    values = merged(
        {"gateway": {"apiKeys": {"existingSecret": "keys"}}},
        {"mongodb": {"existingSecret": "database"}, "autoscaling": {"enabled": True}},
    )
    config = the(render(values), "ConfigMap", "-adapter-rules")
    rules: list[dict[str, Any]] = yaml.safe_load(config["data"]["rules.yaml"])["rules"]
    return rules


EXPRESSIONS = expressions()


@pytest.mark.parametrize("where", EXPRESSIONS)
def test_an_expression_reads_metrics_and_labels_that_there_are(where: str) -> None:
    known = known_metrics()
    series = series_of(EXPRESSIONS[where])
    assert series, "it reads nothing"
    labels = set(SCRAPE_LABELS)
    for item in series:
        if item.name.startswith("nv_"):
            allowed = TRITON_LABELS
        else:
            assert item.name in known, f"no server exports {item.name}"
            allowed = known[item.name]
        labels |= allowed
        for matcher in item.matchers.matchers:
            assert matcher.name in allowed | SCRAPE_LABELS, f"{item.name} has no {matcher.name}"
            if matcher.name in LABEL_VALUES:
                values = set(matcher.value.split("|"))
                assert values <= LABEL_VALUES[matcher.name], matcher.value
    assert grouping_labels(EXPRESSIONS[where]) <= labels


def test_a_wrong_expression_is_noticed() -> None:
    with pytest.raises(ValueError, match="unclosed left parenthesis"):
        promql_parser.parse("sum by (le (rate(x[5m]))")


def test_counters_are_read_as_rates_and_histograms_by_their_buckets() -> None:
    for where, expression in EXPRESSIONS.items():
        if where == "autoscaling's series":
            continue
        for item in series_of(expression):
            bare = re.search(rf"(?<!rate\(){re.escape(item.name)}\b", expression)
            counter = item.name.endswith(("_total", "_bucket", "_sum", "_count", "_us"))
            counter |= item.name in ("nv_inference_request_success", "nv_inference_request_failure")
            counter &= item.name != "nv_inference_pending_request_count"
            assert not (counter and bare), f"{where}: {item.name}"
        assert ("histogram_quantile" in expression) == ("_bucket" in expression), where


@pytest.mark.server
def test_a_running_triton_exports_what_is_read_of_it(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    with server.client("grpc") as client:
        # The second time the picture and the document are known.
        for _ in range(2):
            client.match(picture(1), "a red mug", caption="always")
        client.match(picture(1), caption="never", objects="always")
        client.picture(catalogue[0].product_id)
    read = {item.name for expression in EXPRESSIONS.values() for item in series_of(expression)}
    wanted = {name for name in read if name.startswith(("nv_", "product_match_"))} - GPU_METRICS
    # A healthy server has degraded nothing, and this one has its index in memory.
    wanted -= {
        "product_match_degraded_total",
        "product_match_index_leader",
        "product_match_milvus_up",
    }

    def missing() -> set[str]:
        with urllib.request.urlopen(server.triton.metrics_url, timeout=60) as answer:
            text = answer.read().decode()
        return wanted - set(re.findall(r"^(\w+)[{ ]", text, re.MULTILINE))

    wait_for(lambda: not missing(), "everything that is read is exported")


# --- the dashboard ----------------------------------------------------------------------------


def test_the_dashboard_answers_the_four_questions_in_order() -> None:
    rows = [panel["title"] for panel in DASHBOARD["panels"] if panel["type"] == "row"]
    assert rows == ["Is it healthy?", "Is it fast?", "Where is the time?", "Is it right?"]


def test_every_metric_of_the_models_is_on_the_dashboard() -> None:
    shown = {
        item.name
        for where, expression in EXPRESSIONS.items()
        if where.startswith("panel ")
        for item in series_of(expression)
    }
    assert known_metrics().keys() <= shown


def test_panels_are_described_and_do_not_overlap() -> None:
    identifiers = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(identifiers) == len(set(identifiers))
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not taken & cells, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    for panel in PANELS:
        assert panel["description"].endswith("."), panel["title"]
        assert panel["fieldConfig"]["defaults"]["unit"]


def test_every_panel_follows_the_choice_of_data_source_and_servers() -> None:
    variables = {item["name"] for item in DASHBOARD["templating"]["list"]}
    for panel in PANELS:
        for target in panel["targets"]:
            assert target["datasource"]["uid"] == "${datasource}"
            used = set(re.findall(r"\$(\w+)", target["expr"])) - {"__rate_interval"}
            assert {"namespace", "service"} <= used <= variables, panel["title"]
            # Everything that the legend names is a label that is left.
            legend = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert legend <= grouping_labels(target["expr"].replace("$__rate_interval", "5m"))


# --- the alerts -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_says_how_bad_it_is_and_where_its_runbook_is(name: str) -> None:
    rule = ALERTS[name]
    assert re.fullmatch(r"ProductMatch[A-Z]\w+", name)
    assert rule["labels"] in ({"severity": "critical"}, {"severity": "warning"})
    assert promql_parser.parse_duration(rule["for"]).total_seconds() >= 60
    annotations = rule["annotations"]
    assert annotations.keys() == {"summary", "description", "runbook"}
    assert annotations["runbook"] == f"docs/operations.md#{name.lower()}"
    # What a message names must be a label that the expression leaves.
    named = set(re.findall(r"\$labels\.(\w+)", " ".join(annotations.values())))
    whole = grouping_labels(rule["expr"]) or SCRAPE_LABELS
    assert named <= whole


def test_the_runbook_has_a_section_for_each_alert_in_order() -> None:
    sections = re.findall(r"^### (ProductMatch\w+)$", RUNBOOK, re.MULTILINE)
    assert sections == list(ALERTS)
    texts = re.split(r"^### ProductMatch\w+$", RUNBOOK, flags=re.MULTILINE)[1:]
    for name, text in zip(sections, texts, strict=True):
        assert "**Means:**" in text, name
        assert "**Do:**" in text, name


def test_every_alert_has_a_scenario_in_which_it_fires_and_one_in_which_it_does_not() -> None:
    fires, quiet = set(), set()
    for test in SCENARIOS["tests"]:
        for check in test["alert_rule_test"]:
            (fires if check.get("exp_alerts") else quiet).add(check["alertname"])
    assert fires == quiet == set(ALERTS)
