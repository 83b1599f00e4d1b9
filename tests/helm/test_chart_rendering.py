"""The chart is sound: it lints, and what it renders is what Kubernetes takes."""

from __future__ import annotations

import tomllib

import helm_python
import kubernetes_validate
import pytest
from chart_support import (
    CHART,
    MINIMAL,
    NAMESPACE,
    ROOT,
    Manifest,
    Values,
    containers,
    kinds,
    merged,
    pod_specs,
    render,
    render_texts,
    value_file,
)

# The oldest that Chart.yaml allows, and the newest that there are schemas of.
KUBERNETES = ("1.27", "1.37")
OPERATOR = {"ServiceMonitor", "PrometheusRule"}

CASES: dict[str, Values] = {
    "minimal": MINIMAL,
    "cpu": value_file("values-cpu.yaml"),
    "gpu": value_file("values-gpu.yaml"),
    "milvus": value_file("values-milvus.yaml"),
    "trial": {
        "gateway": {"apiKeys": {"existingSecret": "keys"}},
        "mongodb": {"embedded": {"enabled": True}},
        "import": {"enabled": True},
    },
    "everything": merged(
        value_file("values-gpu.yaml"),
        {
            "autoscaling": {"enabled": True},
            "mongodb": {"embedded": {"enabled": True, "storage": {"className": "fast"}}},
            "import": {
                "enabled": True,
                "volume": {"persistentVolumeClaim": {"claimName": "catalogue"}},
            },
            "gateway": {"tls": {"existingSecret": "certificate"}},
            "demo": {
                "enabled": True,
                "secret": {"existingSecret": "page"},
                "trustedProxies": ["10.0.0.0/8"],
            },
            "networkPolicy": {
                "clients": [{"namespaceSelector": {}}],
                "monitoring": [{"namespaceSelector": {}}],
            },
            "image": {"pullSecrets": ["registry"]},
        },
    ),
    "bare": {
        "gateway": {"enabled": False},
        "mongodb": {"existingSecret": "database"},
        "serviceAccount": {"create": False, "name": "default"},
        "networkPolicy": {"enabled": False},
        "podDisruptionBudget": {"enabled": False},
        "tests": {"enabled": False},
        "topologySpread": [],
    },
}


@pytest.fixture(params=list(CASES))
def values(request: pytest.FixtureRequest) -> Values:
    return CASES[str(request.param)]


@pytest.fixture
def manifests(values: Values) -> list[Manifest]:
    return render(values)


def test_helm_finds_nothing_to_complain_of(values: Values) -> None:
    report = helm_python.lint(CHART, values, strict=True)
    serious = [message for message in report["messages"] if message["severity"] > 1]
    assert serious == []
    assert report["errors"] == []


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_object_is_what_kubernetes_takes(manifests: list[Manifest], version: str) -> None:
    for item in manifests:
        if item["kind"] in OPERATOR:
            assert item["apiVersion"] == "monitoring.coreos.com/v1"
            continue
        kubernetes_validate.validate(item, version, strict=True)


def test_kubernetes_schemas_refuse_what_is_wrong() -> None:
    (deployment,) = (item for item in render(MINIMAL) if item["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["livenesProbe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(deployment, KUBERNETES[0], strict=True)


def test_objects_of_the_operator_have_its_shape(manifests: list[Manifest]) -> None:
    for item in manifests:
        if item["kind"] == "ServiceMonitor":
            spec = item["spec"]
            assert set(spec) == {"jobLabel", "selector", "namespaceSelector", "endpoints"}
            assert spec["namespaceSelector"] == {"matchNames": [NAMESPACE]}
            (endpoint,) = spec["endpoints"]
            chosen = [
                service
                for service in manifests
                if service["kind"] == "Service"
                and spec["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
            ]
            (service,) = chosen
            assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
            # What the alerts and the dashboard call the job.
            assert service["metadata"]["labels"][spec["jobLabel"]] == "product-match"
        if item["kind"] == "PrometheusRule":
            for group in item["spec"]["groups"]:
                assert set(group) == {"name", "rules"}
                for rule in group["rules"]:
                    assert set(rule) == {"alert", "expr", "for", "labels", "annotations"}
                    assert all(isinstance(text, str) for text in rule["annotations"].values())


def test_no_two_objects_share_a_kind_and_a_name(manifests: list[Manifest]) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in manifests]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("a" * 53, {}),
        ("shop", {"fullnameOverride": "f" * 40}),
        ("shop", {"nameOverride": "n" * 40}),
    ],
)
def test_names_and_labels_stay_within_kubernetes_limits(name: str, overrides: Values) -> None:
    helm_python.validate_release_name(name)
    for item in render(merged(CASES["everything"], overrides), name):
        # A StatefulSet's pods carry its name and a hash in a label.
        longest = {"StatefulSet": 52, "Job": 52}.get(item["kind"], 63)
        assert len(item["metadata"]["name"]) <= longest, item["metadata"]["name"]
        for text in item["metadata"]["labels"].values():
            assert len(text) <= 63


def test_selectors_choose_the_pods_they_are_meant_for(manifests: list[Manifest]) -> None:
    labels = {
        item["metadata"]["name"]: item["spec"]["template"]["metadata"]["labels"]
        for item in manifests
        if item["kind"] in ("Deployment", "StatefulSet")
    }
    for item in manifests:
        selector = item.get("spec", {}).get("selector", {})
        wanted = selector.get("matchLabels", selector)
        if item["kind"] in ("Deployment", "StatefulSet", "Service", "PodDisruptionBudget"):
            fitting = [name for name, has in labels.items() if wanted.items() <= has.items()]
            assert fitting == [item["metadata"]["name"].removesuffix("-metrics")]


def test_every_container_runs_confined(manifests: list[Manifest]) -> None:
    for name, spec in pod_specs(manifests):
        assert spec["automountServiceAccountToken"] is False, name
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True
        assert security["runAsUser"] > 0
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}
        for item in containers(spec):
            assert item["securityContext"] == {
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
            }
            assert item["resources"]["requests"].keys() >= {"cpu", "memory"}
            assert "memory" in item["resources"]["limits"]
            # With a read-only root there must be a place for temporary files.
            mounts = {mount["mountPath"] for mount in item["volumeMounts"]}
            assert "/tmp" in mounts, f"{name}/{item['name']}"


def test_every_mount_has_its_volume_and_every_volume_is_used(manifests: list[Manifest]) -> None:
    for item in manifests:
        spec = dict(pod_specs([item])).get(item["metadata"]["name"])
        if spec is None:
            continue
        mounted = {m["name"] for part in containers(spec) for m in part["volumeMounts"]}
        claims = {
            claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])
        }
        assert mounted == {volume["name"] for volume in spec.get("volumes", [])} | claims


def test_no_secret_stands_in_a_plain_variable_or_a_command(manifests: list[Manifest]) -> None:
    # The schema takes no address of Milvus with a password in it.
    secret_words = ("PASSWORD", "SECRET", "KEY", "TOKEN", "MONGODB_URI")
    files = ("_FILE", "TLS_KEY", "TLS_CERT")  # paths of mounted Secrets
    for _, spec in pod_specs(manifests):
        for item in containers(spec):
            for entry in item.get("env", []):
                value = entry.get("value", "")
                assert "@" not in value, entry
                if any(word in entry["name"] for word in secret_words):
                    if entry["name"].endswith(files):
                        assert value.startswith("/run/secrets/"), entry
                    else:
                        assert entry["valueFrom"].keys() == {"secretKeyRef"}, entry
            assert not any("://" in word and "@" in word for word in item.get("command", []))
    configuration = [item for item in manifests if item["kind"] == "ConfigMap"]
    secrets = [item for item in manifests if item["kind"] == "Secret"]
    for secret in secrets:
        for value in secret["stringData"].values():
            assert all(value not in str(item["data"]) for item in configuration)


def test_the_chart_has_the_version_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    with helm_python.Chart.load(CHART) as chart:
        assert chart.version == project["version"]
        assert chart.metadata["appVersion"] == project["version"]


def test_kinds_of_the_value_files() -> None:
    for name in ("cpu", "gpu"):
        assert kinds(render(CASES[name])) >= {
            "Deployment",
            "Service",
            "ServiceAccount",
            "PodDisruptionBudget",
            "NetworkPolicy",
            "ServiceMonitor",
            "PrometheusRule",
        }


def test_the_notes_name_the_commands_and_the_risks() -> None:
    def notes(values: Values) -> str:
        (text,) = (
            text for path, text in render_texts(values).items() if path.endswith("NOTES.txt")
        )
        return text

    assert "WARNING" not in notes(CASES["cpu"])
    assert "helm -n shops test shop" in notes(CASES["cpu"])
    assert "shop-product-match-adapter-rules" in notes(CASES["cpu"])
    assert "WARNING: gateway.enabled=false" in notes(CASES["bare"])
    assert "WARNING: networkPolicy.enabled=false" in notes(CASES["bare"])
    assert "WARNING: mongodb.embedded.enabled=true" in notes(CASES["trial"])
