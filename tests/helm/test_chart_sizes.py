"""Volumes and memory follow from what may be in them; a chart whose sizes do not fit is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from chart_support import (
    CHART,
    MINIMAL,
    ROOT,
    Manifest,
    Values,
    container,
    environment,
    merged,
    render,
    the,
)

from bls_models.settings import Settings
from gateway.options import GatewayOptions

MIB = 2**20


def volume(values: Values, name: str) -> dict[str, Any]:
    """What a volume of the servers' pods is."""
    pod: Manifest = the(render(merged(MINIMAL, values)), "Deployment")["spec"]["template"]["spec"]
    (found,) = (item for item in pod["volumes"] if item["name"] == name)
    return dict(found)


@pytest.mark.parametrize(
    ("settings", "size"),
    [
        ({}, "4160Mi"),
        ({"GATEWAY_REQUESTS": 10}, "384Mi"),
        ({"GATEWAY_REQUESTS": "10", "GATEWAY_MAX_BODY_MB": 8}, "144Mi"),
    ],
)
def test_the_gateways_folder_has_room_for_all_bodies(settings: Values, size: str) -> None:
    found = volume({"gateway": {"settings": settings}}, "gateway-scratch")
    assert found["emptyDir"] == {"sizeLimit": size}
    options = GatewayOptions.from_environment({key: str(item) for key, item in settings.items()})
    assert size == f"{64 + options.requests * options.max_body_mb}Mi"


def test_composes_gateway_has_room_for_all_bodies_too() -> None:
    services = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())["services"]
    options = GatewayOptions()
    size = 64 + options.requests * options.max_body_mb
    assert services["gateway"]["tmpfs"] == [f"/tmp:mode=1777,size={size}m"]


@pytest.mark.parametrize("limit", ["191Mi", "200M", 200_000_000, "195000Ki"])
def test_a_gateway_with_too_little_memory_for_its_requests_is_refused(limit: str | int) -> None:
    resources = {"limits": {"memory": limit}}
    with pytest.raises(Exception, match=r"128 requests at once take up to 192Mi"):
        volume({"gateway": {"resources": resources}}, "gateway-scratch")
    fewer = {"resources": resources, "settings": {"GATEWAY_REQUESTS": 100}}
    volume({"gateway": fewer}, "gateway-scratch")


@pytest.mark.parametrize("limit", ["192Mi", "0.1875Gi", "202M", 201_326_592])
def test_enough_memory_is_enough_in_every_unit(limit: str | int) -> None:
    values = {"gateway": {"resources": {"limits": {"memory": limit}}}}
    volume(values, "gateway-scratch")


def test_a_page_with_too_little_memory_for_its_files_is_refused() -> None:
    page: Values = {"enabled": True, "secret": {"existingSecret": "page"}}
    values = merged(MINIMAL, {"demo": page | {"scratch": "1Gi"}})
    with pytest.raises(Exception, match=r"the page and its files take up to 2048Mi"):
        render(values)
    enough = merged(values, {"demo": {"resources": {"limits": {"memory": "2Gi"}}}})
    pod = the(render(enough), "Deployment", "-demo")["spec"]["template"]["spec"]
    assert {
        "name": "scratch",
        "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"},
    } in pod["volumes"]


# --- the catalogue --------------------------------------------------------------------------------

MILLION = {
    "catalogue": {"pictures": 1_000_000},
    "resources": {"limits": {"memory": "17Gi"}},
}


@pytest.mark.parametrize(
    ("values", "mebibytes"),
    [
        ({}, 256 + 1397),
        (MILLION, 256 + 13966),
        (merged(MILLION, {"snapshots": "20Gi"}), 20 * 1024),
        ({"catalogue": {"bytesPerPicture": 4 * (768 + 768)}}, 256 + 1290),
    ],
)
def test_the_snapshots_volume_holds_two_and_the_server_knows_its_size(
    values: Values, mebibytes: int
) -> None:
    assert volume(values, "snapshots")["emptyDir"] == {"sizeLimit": f"{mebibytes}Mi"}
    told = environment(container(render(merged(MINIMAL, values)), "triton"))
    assert told["PRODUCT_MATCH_SNAPSHOT_BYTES"] == str(mebibytes * MIB)
    own = merged(values, {"settings": {"PRODUCT_MATCH_SNAPSHOT_BYTES": 5}})
    told = environment(container(render(merged(MINIMAL, own)), "triton"))
    assert told["PRODUCT_MATCH_SNAPSHOT_BYTES"] == "5"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (merged(MILLION, {"snapshots": "10Gi"}), r"snapshots is 10Gi.*take 14222Mi"),
        ({"catalogue": {"pictures": 1_000_000}}, r"resources.limits.memory is 5Gi.*16536Mi"),
        ({"settings": {"PRODUCT_MATCH_DECODE_BYTES": "1e9"}}, r"take up to 7320Mi"),
        ({"settings": {"PRODUCT_MATCH_LOG_QUEUE_BYTES": 2**30}}, r"scratch is 2Gi.*4352Mi"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(values: Values, message: str) -> None:
    with pytest.raises(Exception, match=message):
        render(merged(MINIMAL, values))


def test_with_milvus_memory_does_not_grow_with_the_catalogue() -> None:
    milvus = {"index": {"engine": "milvus"}, "milvus": {"uri": "http://milvus:19530"}}
    many = merged(MINIMAL, milvus, {"catalogue": {"pictures": 100_000_000}})
    pod = the(render(many), "Deployment")["spec"]["template"]["spec"]
    assert "snapshots" not in {item["name"] for item in pod["volumes"]}
    cache = merged(many, {"settings": {"PRODUCT_MATCH_MILVUS_CACHE_BYTES": 2**30}})
    with pytest.raises(Exception, match=r"caches of vectors and decoding take up to 5888Mi"):
        render(cache)
    render(merged(cache, {"resources": {"limits": {"memory": "5888Mi"}}}))


def test_the_chart_counts_with_the_defaults_of_the_code() -> None:
    settings = Settings()
    helpers = (CHART / "templates" / "_helpers.tpl").read_text(encoding="utf-8")
    assert f"DECODE_BYTES | default {settings.decode_bytes} " in helpers
    assert f"MILVUS_CACHE_BYTES | default {settings.milvus_cache_bytes} " in helpers
    assert f"LOG_QUEUE_BYTES | default {settings.log_queue_bytes} " in helpers
