"""Volumes and memory follow from what may be in them; a chart whose sizes do not fit is refused."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from chart_support import MINIMAL, ROOT, Manifest, Values, merged, render, the

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
