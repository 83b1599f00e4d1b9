"""``make up`` for real: what it builds and runs, and what becomes of it when parts of it end.

The tests run in the order in which they stand here, on one service.
"""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from typing import Any

import httpx
import pytest
import yaml
from container_images import BuildSettings
from container_service import Service
from serving_support import SampleProduct, wait_for

from bls_models.settings import PROFILE
from product_match_client import ClientError, ProductMatchClient, ServiceUnavailableError

pytestmark = pytest.mark.containers

# A container that was killed reads its models and its catalogue again.
RESTART_SECONDS = 600.0
# Megabytes that they may take, with stand-ins for their bases (docs/deployment.md has the sizes).
IMAGES = {"cpu": 1050, "gateway": 140, "demo": 680}
# Ours; the others are as their makers wrote them.
OWN = ("triton", "gateway", "demo")
USER = "10001"
LEAST_SHARE = 0.9


def found_first(service: Service, protocol: str, sample: list[SampleProduct]) -> float:
    """Of how many held-out photos of the sample the first match is their product."""
    photos = [(photo, item.product_id) for item in sample for photo in item.queries]
    with service.client(protocol) as client:
        found = [client.match(images=photo, top_k=1).matches[0].product_id for photo, _ in photos]
    return sum(map(str.__eq__, found, [product for _, product in photos])) / len(photos)


def finds(service: Service, item: SampleProduct) -> bool:
    """Whether a match is answered, and rightly."""
    try:
        with service.client() as client:
            matches = client.match(images=item.queries[0]).matches
    except ClientError:
        return False
    return bool(matches and matches[0].product_id == item.product_id)


def asked(url: str) -> Any:
    """The data of an answer of Prometheus."""
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)["data"]


def test_images_hold_what_they_need_and_no_more(service: Service) -> None:
    sizes = {
        name: int(
            service.engine.docker("inspect", f"product-match:{name}", "--format", "{{.Size}}")
        )
        for name in IMAGES
    }
    print({name: f"{size / 1e6:.0f} MB" for name, size in sizes.items()})
    assert all(sizes[name] <= most * 1e6 for name, most in IMAGES.items()), sizes
    program = "import importlib.util as u; print(u.find_spec('torch'), u.find_spec('pip'))"
    assert service.inside("triton", "python", "-c", program).split() == ["None", "None"]


def test_settings_of_a_build_are_in_no_image(service: Service, settings: BuildSettings) -> None:
    images = " ".join(f"product-match:{name}" for name in IMAGES)
    # Layers are not compressed.
    command = f"docker save {images} | grep --text --only-matching -e {settings.mark} -e {PROFILE}"
    done = subprocess.run(
        command,
        shell=True,
        env=service.engine.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {PROFILE}


def test_a_python_without_its_library_is_named_at_the_start(service: Service) -> None:
    program = "find /usr -name 'libpython3.11.so*' -delete; exec python -m local_server.container"
    options = ["--rm", "--network=none", "--user=0", "--entrypoint=sh"]
    done = subprocess.run(
        ["docker", "run", *options, "product-match:cpu", "-c", program],
        env=service.engine.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout
    assert "libpython3.11.so.1.0: cannot open shared object file" in done.stderr
    assert "apt-get install libpython3.11" in done.stderr


def test_every_container_is_healthy(service: Service) -> None:
    states = {name: item["State"] for name, item in service.containers().items()}
    assert states.keys() >= {"mongodb", "triton", "gateway", "demo", "prometheus"}
    assert {state["Health"]["Status"] for state in states.values()} == {"healthy"}
    assert {item["RestartCount"] for item in service.containers().values()} == {0}


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_sample_products_are_found_through_the_gateway(
    service: Service, sample: list[SampleProduct], protocol: str
) -> None:
    assert found_first(service, protocol, sample) >= LEAST_SHARE


@pytest.mark.parametrize(("protocol", "refusal"), [("http", "401"), ("grpc", "UNAUTHENTICATED")])
def test_nobody_gets_in_without_a_key(service: Service, protocol: str, refusal: str) -> None:
    for key in "", "x" * 64:
        with service.client(protocol, key) as client, pytest.raises(ClientError) as refused:
            client.match(texts="red mug")
        assert refusal in str(refused.value.status)


def test_the_page_lets_in_who_knows_the_password(service: Service) -> None:
    with httpx.Client(base_url=service.url("DEMO_PORT"), timeout=60) as visitor:
        assert visitor.get("/config").status_code == 401
        typed = {"username": "demo", "password": service.secret("demo-password")}
        visitor.post("/login", data=typed).raise_for_status()
        assert visitor.get("/config").status_code == 200


def test_prometheus_scrapes_and_has_the_rules(service: Service) -> None:
    url = service.url("PROMETHEUS_PORT") + "/api/v1"

    def value() -> float:
        result = asked(f"{url}/query?query=sum(product_match_requests_total)")["result"]
        return float(result[0]["value"][1]) if result else 0.0

    wait_for(lambda: value() > 0, "matches are counted")
    (target,) = asked(f"{url}/targets")["activeTargets"]
    assert target["health"] == "up", target
    rules = [rule for group in asked(f"{url}/rules")["groups"] for rule in group["rules"]]
    folder = service.checkout / "helm" / "product-match" / "rules"
    written = [
        rule
        for file in folder.glob("*.yaml")
        for group in yaml.safe_load(file.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) == len(written)
    assert {rule["health"] for rule in rules} <= {"ok", "unknown"}


def test_containers_have_no_rights_and_limits(service: Service) -> None:
    for name, item in service.containers().items():
        host = item["HostConfig"]
        assert host["Memory"] > 0, name
        assert host["PidsLimit"] > 0, name
    for name in OWN:
        status = service.inside(name, "cat", "/proc/1/status", "/proc/self/status")
        words = [line.split() for line in status.splitlines()]
        for field, expected in (
            ("Uid:", [USER] * 4),
            ("CapEff:", ["0" * 16]),
            ("CapBnd:", ["0" * 16]),
            ("NoNewPrivs:", ["1"]),
        ):
            found = [line[1:] for line in words if line[0] == field]
            assert found == [expected] * 2, (name, field)
        for folder in "/", "/opt/product-match", "/usr/bin":
            tried = f"touch {folder}/x 2>&1 || true"
            assert "Read-only" in service.inside(name, "sh", "-c", tried), (name, folder)
        mounts = service.inside(name, "cat", "/proc/mounts")
        (scratch,) = (line for line in mounts.splitlines() if " /tmp " in line)
        assert "size=" in scratch, name


def test_a_killed_server_comes_back_with_its_catalogue(
    service: Service, sample: list[SampleProduct]
) -> None:
    program = """
import os, pathlib, signal
for folder in pathlib.Path("/proc").glob("[0-9]*"):
    if (folder / "comm").read_text().strip() == "tritonserver":
        os.kill(int(folder.name), signal.SIGKILL)
"""
    started = service.state("triton")["StartedAt"]
    service.inside("triton", "python", "-c", program)
    wait_for(lambda: service.state("triton")["StartedAt"] != started, "it starts again")
    wait_for(lambda: service.is_healthy("triton"), "it is healthy", RESTART_SECONDS)
    wait_for(lambda: finds(service, sample[0]), "the catalogue is there", RESTART_SECONDS)
    assert found_first(service, "http", sample) >= LEAST_SHARE


def stores(client: ProductMatchClient, item: SampleProduct) -> bool:
    """Whether a product can be written."""
    try:
        client.upsert(item.product, item.images)
    except ServiceUnavailableError:
        return False
    return True


def test_matches_go_on_without_the_database_and_writes_come_back_with_it(
    service: Service, sample: list[SampleProduct]
) -> None:
    service.compose("stop", "mongodb")
    assert finds(service, sample[0]), "by the index and the documents that are known"
    with service.client(key=service.key("loader")) as client:
        with pytest.raises(ServiceUnavailableError):
            client.upsert(sample[0].product, sample[0].images)
        service.compose("start", "mongodb")
        wait_for(lambda: service.is_healthy("mongodb"), "it is healthy", RESTART_SECONDS)
        wait_for(lambda: stores(client, sample[0]), "products are stored again", RESTART_SECONDS)
    assert finds(service, sample[0])
    assert service.containers()["triton"]["RestartCount"] == 1, "only the one that was killed"


def test_servers_end_by_themselves_within_their_grace(service: Service) -> None:
    service.compose("stop", "triton", "gateway", "demo")
    codes = {name: service.state(name)["ExitCode"] for name in OWN}
    # Docker would have killed one that took longer than its grace, which shows as 137.
    assert codes == dict.fromkeys(OWN, 0)


def test_data_outlive_the_containers(service: Service, sample: list[SampleProduct]) -> None:
    service.make("down")
    assert not service.compose("ps", "--all", "--quiet")
    service.make("up", "DEMO=yes", "SAMPLE=no")
    assert found_first(service, "grpc", sample) >= LEAST_SHARE


def test_a_page_that_runs_is_left_alone_and_tls_is_a_second_file(service: Service) -> None:
    started = service.state("demo")["StartedAt"]
    certificate, key = service.secrets / "tls.crt", service.secrets / "tls.key"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    files = ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run([*command.split(), *names, *files], check=True, capture_output=True)
    certificate.chmod(0o444)
    key.chmod(0o444)
    service.keep(*service.files, "docker/tls.yaml")
    service.make("up", "SAMPLE=no")
    url = f"https://localhost:{service.ports['GATEWAY_HTTP_PORT']}"
    answer = httpx.post(
        f"{url}/v2/models/product_match/generate",
        json={"text": "red coffee mug"},
        headers={"X-API-Key": service.key("shop")},
        verify=ssl.create_default_context(cafile=str(certificate)),
        timeout=60,
    )
    assert answer.status_code == 200, answer.text
    assert service.is_healthy("gateway")
    assert service.state("demo")["StartedAt"] == started
