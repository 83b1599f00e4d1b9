"""Values: typing errors are refused, what is missing is named, and the documents know them all."""

from __future__ import annotations

import re
from typing import Any

import helm_python
import pytest
from chart_support import CHART, MINIMAL, Manifest, Values, leaves, merged, render, values_of

from local_server.chart_reference import (
    CHART_VARIABLES,
    DOCUMENT,
    SCHEMA,
    chart_reference,
    schema_text,
    with_table,
)


@pytest.fixture(scope="module")
def schema() -> Manifest:
    with helm_python.Chart.load(CHART) as chart:
        assert chart.schema is not None
        return chart.schema


@pytest.fixture(scope="module")
def defaults() -> Values:
    with helm_python.Chart.load(CHART) as chart:
        return chart.values


def objects(schema: Manifest, prefix: str = "") -> list[str]:
    found = [prefix] if "properties" in schema else []
    for key, item in schema.get("properties", {}).items():
        found += objects(item, f"{prefix}.{key}" if prefix else key)
    return found


def test_a_name_that_is_misspelt_is_refused_wherever_it_stands(schema: Manifest) -> None:
    paths = objects(schema)
    assert len(paths) > 30
    with helm_python.Chart.load(CHART) as chart:
        for path in paths:
            wrong = values_of(f"{path}.mispelt" if path else "mispelt", 1)
            with pytest.raises(helm_python.HelmValuesError, match="mispelt"):
                chart.validate_schema(merged(MINIMAL, wrong))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("profile", "tpu"),
        ("replicas", -1),
        ("replicas", "three"),
        ("sharedMemory", "1 GB"),
        ("settings", {"PRODUCT_MATCH_MAX_IMAGE": 4}),
        ("gateway.settings", {"GATEWAY_RATE": 4}),
        ("gateway.image.digest", "sha256:abc"),
        ("service.type", "Loadbalancer"),
        ("service.httpPort", 70000),
        ("mongodb.existingSecret", "Not_A_Name"),
        ("mongodb.database", "shop/products"),
        ("index.engine", "lucene"),
        ("milvus.uri", "http://milvus"),
        ("milvus.uri", "http://user:password@milvus:19530"),
        ("milvus.uri", "http://user@milvus:19530"),
        ("engines.cache.type", "pvc"),
        ("engines.cache.hostPath", "engines"),
        ("probe.command", []),
        ("probe.liveness.timeoutSeconds", 1),
        ("tritonFlags", ["--metrics-address=0.0.0.0 --http-address=0.0.0.0"]),
        ("logFormat", "xml"),
        ("tracing.url", "collector:4318"),
        ("tracing.rate", -1),
        ("podDisruptionBudget.maxUnavailable", "half"),
        ("metrics.serviceMonitor.interval", "often"),
        ("fullnameOverride", "f" * 41),
        ("demo.rate", 0),
        ("demo.trustedProxies", ["everyone, please"]),
    ],
)
def test_a_value_that_cannot_be_is_refused(path: str, value: Any) -> None:
    with (
        helm_python.Chart.load(CHART) as chart,
        pytest.raises(helm_python.HelmValuesError, match=re.escape(path.replace(".", "/"))),
    ):
        chart.validate_schema(merged(MINIMAL, values_of(path, value)))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mongodb": {"existingSecret": ""}}, "mongodb.existingSecret: name the Secret"),
        (
            {"gateway": {"apiKeys": {"existingSecret": ""}}},
            "gateway.apiKeys.existingSecret: name the Secret",
        ),
        (
            {"profile": "gpu", "engines": {"cache": {"type": "persistentVolumeClaim"}}},
            "engines.cache.claimName: name the PersistentVolumeClaim",
        ),
        (
            {"profile": "gpu", "engines": {"cache": {"type": "hostPath"}}},
            "engines.cache.hostPath: name the node's folder",
        ),
        ({"index": {"engine": "milvus"}}, "milvus.uri: say where Milvus is"),
        ({"serviceAccount": {"create": False}}, "serviceAccount.name: name an existing"),
        ({"demo": {"enabled": True}}, "demo.secret.existingSecret: name the Secret"),
        (
            {"demo": {"enabled": True}, "gateway": {"enabled": False}},
            "demo.enabled needs the gateway",
        ),
        (
            {"autoscaling": {"enabled": True, "minReplicas": 3, "maxReplicas": 2}},
            "autoscaling.maxReplicas=2 is less than autoscaling.minReplicas=3",
        ),
    ],
)
def test_what_is_missing_is_named_with_the_remedy(values: Values, message: str) -> None:
    with pytest.raises(helm_python.HelmRenderError, match=re.escape(message)):
        render(merged(MINIMAL, values))


def test_settings_are_those_of_the_code(schema: Manifest) -> None:
    written = SCHEMA.read_text(encoding="utf-8")
    assert written == schema_text(written), "run `make docs`"
    models = schema["properties"]["settings"]["properties"]
    assert "PRODUCT_MATCH_MAX_IMAGES" in models
    assert not models.keys() & CHART_VARIABLES
    gateway = schema["properties"]["gateway"]["properties"]["settings"]["properties"]
    assert "GATEWAY_MATCH_RATE" in gateway
    assert not gateway.keys() & CHART_VARIABLES


def test_every_value_has_a_default_and_a_description(schema: Manifest, defaults: Values) -> None:
    for path, item in leaves(schema):
        assert item["description"].endswith("."), path
        value: Any = defaults
        for key in path.split("."):
            if path == "global":
                break
            assert key in value, path
            value = value[key]


def test_defaults_have_no_value_that_the_schema_does_not_know(defaults: Values) -> None:
    with helm_python.Chart.load(CHART) as chart:
        chart.validate_schema(defaults)


def test_the_table_of_the_document_is_what_the_chart_says() -> None:
    written = DOCUMENT.read_text(encoding="utf-8")
    assert written == with_table(written, chart_reference()), "run `make docs`"
