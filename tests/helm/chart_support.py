"""The chart, rendered by Helm's own library as a list of Kubernetes objects."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import helm_python
import yaml
from serving_support import ROOT

CHART = ROOT / "helm" / "product-match"
RELEASE, NAMESPACE = "shop", "shops"
Values = dict[str, Any]
Manifest = dict[str, Any]

# The least that has to be said.
MINIMAL: Values = {
    "gateway": {"apiKeys": {"existingSecret": "keys"}},
    "mongodb": {"existingSecret": "database"},
}


def value_file(name: str) -> Values:
    values: Values = helm_python.values_from_yaml((CHART / name).read_text(encoding="utf-8"))
    return values


def values_of(path: str, value: Any) -> Values:
    """``{"a": {"b": value}}`` of ``a.b``."""
    for key in reversed(path.split(".")):
        value = {key: value}
    return dict(value)


def merged(base: Values, *changes: Values) -> Values:
    """Values with others on top, as ``helm --values`` merges them."""
    result = copy.deepcopy(base)
    for change in changes:
        for key, value in change.items():
            both = isinstance(value, dict) and isinstance(result.get(key), dict)
            result[key] = merged(result[key], value) if both else copy.deepcopy(value)
    return result


def render_texts(values: Values, name: str = RELEASE) -> dict[str, str]:
    """What each template gives, by its path in the chart."""
    with helm_python.Chart.load(CHART) as chart:
        return chart.render(values, name=name, namespace=NAMESPACE)


def render(values: Values, name: str = RELEASE) -> list[Manifest]:
    """Every object of a release."""
    texts = render_texts(values, name)
    return [
        document
        for path, text in sorted(texts.items())
        if not path.endswith("NOTES.txt")
        for document in yaml.safe_load_all(text)
        if document
    ]


def the(manifests: list[Manifest], kind: str, suffix: str = "") -> Manifest:
    """The one object of a kind whose name ends in a suffix."""
    name = f"{RELEASE}-product-match{suffix}"
    (found,) = (
        item for item in manifests if item["kind"] == kind and item["metadata"]["name"] == name
    )
    return found


def kinds(manifests: list[Manifest]) -> set[str]:
    return {item["kind"] for item in manifests}


def pod_specs(manifests: list[Manifest]) -> Iterator[tuple[str, Manifest]]:
    """Name and pod specification of everything that runs pods."""
    for item in manifests:
        if item["kind"] == "Pod":
            yield item["metadata"]["name"], item["spec"]
        elif "template" in item.get("spec", {}):
            yield item["metadata"]["name"], item["spec"]["template"]["spec"]


def containers(spec: Manifest) -> list[Manifest]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def container(manifests: list[Manifest], name: str) -> Manifest:
    """A container of the server's pods."""
    spec = the(manifests, "Deployment")["spec"]["template"]["spec"]
    (found,) = (item for item in containers(spec) if item["name"] == name)
    return found


def environment(item: Manifest) -> dict[str, Any]:
    """A container's variables: the value, or where it comes from."""
    return {
        entry["name"]: entry.get("value", entry.get("valueFrom")) for entry in item.get("env", [])
    }


def leaves(schema: Manifest, prefix: str = "") -> Iterator[tuple[str, Manifest]]:
    """Dotted path and schema of each value that has no values below it."""
    for key, item in schema["properties"].items():
        path = f"{prefix}{key}"
        # The variables of `settings` are documented where they are defined.
        if "properties" in item and not path.endswith("settings"):
            yield from leaves(item, f"{path}.")
        else:
            yield path, item
