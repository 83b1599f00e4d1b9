"""``make docs``: what of the chart is written from the code, and its table of values.

The schema's lists of environment variables follow ``bls_models.settings`` and ``gateway.options``,
so that Helm refuses a variable that nothing reads.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bls_models.settings import EnvironmentSettings, Settings
from gateway.options import GatewayOptions
from local_server.options import PROJECT

CHART = PROJECT / "helm" / "product-match"
SCHEMA = CHART / "values.schema.json"
DOCUMENT = PROJECT / "docs" / "kubernetes.md"
# What the chart's templates set themselves.
CHART_VARIABLES = frozenset(
    {
        "MILVUS_CERTIFICATE",
        "MILVUS_CONSISTENCY",
        "MILVUS_TOKEN",
        "MILVUS_URI",
        "MONGODB_URI",
        "PRODUCT_MATCH_DATABASE",
        "PRODUCT_MATCH_INDEX_ENGINE",
        "PRODUCT_MATCH_LOG_FORMAT",
        "PRODUCT_MATCH_PICTURE_SECRET",
        "PRODUCT_MATCH_PROFILE",
        "GATEWAY_FOLDER",
        "GATEWAY_GRPC_PORT",
        "GATEWAY_HTTP_PORT",
        "GATEWAY_KEYS_FILE",
        "GATEWAY_LOG_FORMAT",
        "GATEWAY_TLS_CERT",
        "GATEWAY_TLS_KEY",
        "GATEWAY_UPSTREAM_GRPC",
        "GATEWAY_UPSTREAM_HTTP",
    }
)
START, END = "<!-- values -->\n", "<!-- end of values -->"


def chart_reference(chart: Path = CHART) -> str:
    """A Markdown table with every value, its default and its meaning."""
    # Helm's own reading of the chart; one of the test tools.
    import helm_python

    with helm_python.Chart.load(chart) as loaded:
        schema, defaults = loaded.schema, loaded.values
    if schema is None:
        raise FileNotFoundError(f"{chart / 'values.schema.json'} is missing")
    rows = ["| value | default | meaning |", "| --- | --- | --- |"]
    for path, description in _values(schema, ""):
        rows.append(f"| `{path}` | {_shown(defaults, path)} | {description} |")
    return "\n".join(rows) + "\n"


def _values(schema: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, str]]:
    for key, item in schema["properties"].items():
        path = f"{prefix}{key}"
        # Its names are those of environment variables, which have a reference of their own.
        if "properties" in item and key != "settings":
            yield from _values(item, f"{path}.")
        elif path != "global":
            yield path, item["description"]


def _shown(defaults: Mapping[str, Any], path: str) -> str:
    value: Any = defaults
    for key in path.split("."):
        value = value[key]
    return "empty" if value in ("", [], {}) else f"`{json.dumps(value).strip(chr(34))}`"


def schema_text(written: str) -> str:
    """``values.schema.json`` with the variables that the code reads today.

    Args:
        written: the file as it is.
    """
    schema = json.loads(written)
    kinds: tuple[tuple[Any, type[EnvironmentSettings]], ...] = (
        (schema["properties"], Settings),
        (schema["properties"]["gateway"]["properties"], GatewayOptions),
    )
    for properties, options in kinds:
        properties["settings"]["properties"] = {
            name: {"type": ["string", "number", "boolean"]}
            for name in options.variables().values()
            if name not in CHART_VARIABLES
        }
    return json.dumps(schema, indent=2) + "\n"


def with_table(text: str, table: str) -> str:
    """A document with the table between its two marks.

    Raises:
        ValueError: a mark is missing.
    """
    start = text.index(START) + len(START)
    return text[:start] + table + text[text.index(END, start) :]


if __name__ == "__main__":
    SCHEMA.write_text(schema_text(SCHEMA.read_text(encoding="utf-8")), encoding="utf-8")
    written = DOCUMENT.read_text(encoding="utf-8")
    DOCUMENT.write_text(with_table(written, chart_reference()), encoding="utf-8")
