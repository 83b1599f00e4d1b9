"""The chart's pods, rendered for every file of values and run by podman with the chart's own commands.

The tests run in the order in which they stand here, on one database.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from container_images import ROOT
from container_service import Service
from pod_engine import Podman, running_podman
from pods import Cluster, Manifest, Pod, pod_template, rendered
from serving_support import SampleProduct, wait_for

pytestmark = pytest.mark.containers

# As many as the start-up probe of the chart's server may fail.
START_SECONDS = 300.0
KEYS, PAGE, DATABASE = "product-match-keys", "product-match-demo", "product-match-mongodb"
# Services lead nowhere here, so theirs are the ports of the pods.
PORTS: Manifest = {"service": {"httpPort": 8080, "grpcPort": 8081}}
MILVUS: Manifest = {"product-match-milvus": {"token": "user:password", "ca.crt": "none"}}
NAME = "shop-product-match"
DATABASE_POD = f"{NAME}-mongodb-0"
# What is rendered of each file of values, and which pods that gives.
VALUES: dict[str, Manifest] = {
    "values.yaml": {
        "gateway": {"apiKeys": {"existingSecret": KEYS}},
        "mongodb": {"embedded": {"enabled": True}},
        "import": {"enabled": True},
        "demo": {"enabled": True, "secret": {"existingSecret": PAGE}},
    },
    "values-cpu.yaml": {},
    "values-gpu.yaml": {},
    "values-milvus.yaml": {},
}
SUFFIXES = {"values.yaml": {"", "-test", "-import", "-demo", "-mongodb"}}


class Release:
    """What the chart renders with a file of values."""

    def __init__(self, cluster: Cluster, file: str) -> None:
        self.manifests = rendered(file, PORTS | VALUES[file])
        self.pods = {
            item["metadata"]["name"].removeprefix(NAME): item
            for item in self.manifests
            if pod_template(item)
        }
        self._cluster = cluster

    def play(self, suffix: str) -> Pod:
        return self._cluster.play(self.pods[suffix])


@pytest.fixture(scope="module")
def keys() -> dict[str, str]:
    """Lines of the gateway's keys, by client."""
    classes = {"web": "match", "importer": "ingest", "demo": "match"}
    return {
        client: subprocess.run(
            [sys.executable, "-m", "gateway", "new-key", client, name],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for client, name in classes.items()
    }


@pytest.fixture(scope="module")
def podman(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Podman]:
    """podman with the images, under the names that the chart gives them."""
    import os

    archive = Path(os.environ["PODS_ARCHIVE"])
    with running_podman() as podman:
        podman.podman("load", "--quiet", "--input", str(archive))
        for kind in "cpu", "gateway", "demo":
            podman.podman("tag", f"localhost/product-match:{kind}", f"product-match:0.1.0-{kind}")
        podman.podman("tag", "localhost/stand-in:database", "docker.io/library/mongo:8.0.12")
        # There is no GPU, and so no image for one is built.
        podman.podman("tag", "localhost/product-match:cpu", "product-match:0.1.0-gpu")
        yield podman


@pytest.fixture(scope="module")
def cluster(podman: Podman, keys: dict[str, str]) -> Cluster:
    words = {client: line.split()[2] for client, line in keys.items()}
    lines = "".join(f"{line}\n" for line in keys.values())
    return Cluster(
        podman,
        {
            KEYS: {"api-keys": lines, "match": words["web"], "ingest": words["importer"]},
            PAGE: {"api-key": words["demo"], "password": "open-sesame"},
            **MILVUS,
        },
    )


@pytest.fixture(scope="module")
def trial(cluster: Cluster) -> Release:
    """The chart's own database, the import and the page: all that there is in ``values.yaml``."""
    release = Release(cluster, "values.yaml")
    cluster.add(release.manifests)
    stored = cluster.secrets[f"{NAME}-mongodb"]
    # The local database calls its replica set as it likes, and this leaves it be.
    stored["uri"] = stored["uri"].replace("replicaSet=rs0", "directConnection=true")
    cluster.secrets[DATABASE] = {"uri": stored["uri"]}
    return release


@pytest.fixture(scope="module")
def database(trial: Release) -> Pod:
    pod = trial.play("-mongodb")
    wait_for(lambda: pod.succeeds("startup"), "the start-up probe succeeds", START_SECONDS)
    wait_for(lambda: pod.succeeds("readiness"), "it is ready", START_SECONDS)
    return pod


def started(release: Release) -> Pod:
    """The server's pod, ready by the chart's own probes."""
    pod = release.play("")
    first = pod.probe("triton", "readiness")
    assert first.returncode == 1, "it cannot have started yet"
    wait_for(
        lambda: not pod.runs("triton") or pod.succeeds("startup"),
        "the start-up probe succeeds",
        START_SECONDS,
    )
    assert pod.runs("triton"), pod.logs("triton")
    wait_for(lambda: pod.succeeds("readiness"), "it is ready", START_SECONDS)
    return pod


@pytest.fixture(scope="module")
def server(trial: Release, database: Pod) -> Pod:
    return started(trial)


@pytest.fixture(scope="module")
def page(trial: Release, server: Pod) -> Pod:
    pod = trial.play("-demo")
    wait_for(lambda: pod.succeeds("startup"), "the page starts", START_SECONDS)
    return pod


def asked(
    pod: Pod, key: str, *arguments: str, protocol: str = "http"
) -> subprocess.CompletedProcess[str]:
    """Call the client where it reaches the server's gateway."""
    port = {"http": 8080, "grpc": 8081}[protocol]
    url = f"{protocol}://{pod.address}:{port}"
    command = [sys.executable, "-m", "product_match_client", "--url", url, *arguments]
    path = f"{ROOT / 'client'}:{ROOT}"
    return pod.engine.reach(command, PRODUCT_MATCH_API_KEY=key, PYTHONPATH=path)


def found(pod: Pod, keys: dict[str, str], item: SampleProduct, protocol: str = "http") -> str:
    """The first match of a held-out photo of a sample product."""
    photo = pod.engine.folder / "photo"
    photo.write_bytes(item.queries[0])
    key = keys["web"].split()[2]
    done = asked(pod, key, "match", str(photo), "--json", protocol=protocol)
    assert done.returncode == 0, done.stderr
    first: str = json.loads(done.stdout)["matches"][0]["product_id"]
    return first


def test_every_file_of_values_is_here() -> None:
    files = {path.name for path in (ROOT / "helm" / "product-match").glob("values*.yaml")}
    assert files == VALUES.keys()


@pytest.mark.parametrize("file", VALUES)
def test_the_pods_are_those_that_the_tests_know(cluster: Cluster, file: str) -> None:
    assert Release(cluster, file).pods.keys() == SUFFIXES.get(file, {"", "-test"})


def test_the_database_of_the_chart_lives(database: Pod) -> None:
    assert database.succeeds("liveness"), database.logs("mongodb")


def test_the_server_lives(server: Pod) -> None:
    assert server.succeeds("liveness"), server.logs("triton")


def test_the_import_job_ends_well(trial: Release, server: Pod) -> None:
    pod = trial.play("-import")
    assert pod.status("import") == 0, pod.logs("import")
    print(pod.logs("import")[-300:])
    pod.remove()


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_sample_products_are_found_through_the_gateway(
    server: Pod, keys: dict[str, str], sample: list[SampleProduct], protocol: str
) -> None:
    assert found(server, keys, sample[0], protocol) == sample[0].product_id


def test_only_a_key_of_the_secret_lets_in(server: Pod) -> None:
    done = asked(server, "x" * 64, "match", "--text", "red mug")
    assert done.returncode != 0
    assert "401" in done.stderr


def test_the_pod_of_helm_test_ends_well(trial: Release, server: Pod) -> None:
    pod = trial.play("-test")
    assert pod.status("match") == 0, pod.logs("match")
    assert "product_id" in pod.logs("match")
    pod.remove()


def test_the_page_is_ready_and_matches_with_its_own_key(page: Pod) -> None:
    assert page.succeeds("readiness"), page.logs("demo")
    assert page.succeeds("liveness"), page.logs("demo")
    command = """
export PRODUCT_MATCH_API_KEY="$(cat "$PRODUCT_MATCH_API_KEY_FILE")"
python3 -m product_match_client --url "$DEMO_URL" match --text mug --json
"""
    assert "product_id" in page.inside("demo", "sh", "-c", command)


def test_triton_listens_inside_the_pod_only(server: Pod) -> None:
    reached = {port: server.connect(port).returncode == 0 for port in (8000, 8001, 8002, 8080)}
    assert reached == {8000: False, 8001: False, 8002: True, 8080: True}


def test_no_container_has_rights_or_can_write_to_its_image(
    database: Pod, server: Pod, page: Pod
) -> None:
    for pod in database, server, page:
        user = str(pod.spec["securityContext"]["runAsUser"])
        for name, item in pod.containers.items():
            lines = pod.inside(name, "cat", "/proc/1/status").splitlines()
            status = {line.split(":")[0]: line.split()[1:] for line in lines}
            assert status["Uid"] == status["Gid"] == [user] * 4, name
            assert status["CapBnd"] == status["CapEff"] == ["0" * 16], name
            assert (status["NoNewPrivs"], status["Seccomp"]) == (["1"], ["2"]), name
            tried = "for f in / /opt /usr/bin /run /var/tmp; do touch $f/x 2>&1 || true; done"
            refused = pod.inside(name, "sh", "-c", tried)
            assert refused.count("Read-only") == 5, (name, refused)
            secrets = [mount for mount in item["volumeMounts"] if mount.get("readOnly")]
            for mount in secrets:
                tried = f"touch {mount['mountPath']}/x 2>&1 || true"
                assert "touch: " in pod.inside(name, "sh", "-c", tried), (name, mount)


def test_a_page_and_a_server_end_in_time_and_serve_until_then(
    server: Pod, page: Pod, keys: dict[str, str], sample: list[SampleProduct]
) -> None:
    with ThreadPoolExecutor() as executor:
        ended = executor.submit(server.terminate)
        # Proxies still send for so long.
        assert found(server, keys, sample[1]) == sample[1].product_id
        assert not ended.done()
        assert page.terminate() == {"demo": 0}
        assert ended.result() == {"triton": 0, "gateway": 0}
    server.remove()


def test_the_pods_of_the_values_for_cpus_run(
    cluster: Cluster,
    server: Pod,
    database: Pod,
    keys: dict[str, str],
    sample: list[SampleProduct],
) -> None:
    release = Release(cluster, "values-cpu.yaml")
    pod = started(release)
    assert pod.succeeds("liveness"), pod.logs("triton")
    assert found(pod, keys, sample[2]) == sample[2].product_id
    test = release.play("-test")
    assert test.status("match") == 0, test.logs("match")
    test.remove()
    assert pod.terminate() == {"triton": 0, "gateway": 0}
    pod.remove()


def test_the_database_ends_in_time(database: Pod) -> None:
    assert database.terminate()["mongodb"] != 137


def test_a_server_for_milvus_says_what_its_image_lacks(cluster: Cluster, database: Pod) -> None:
    pod = Release(cluster, "values-milvus.yaml").play("")
    print(pod.status("triton"), pod.logs("triton"))
    pod.remove()


def test_without_a_gpu_no_engines_are_made(cluster: Cluster, database: Pod) -> None:
    release = Release(cluster, "values-gpu.yaml")
    try:
        release.play("")
    except AssertionError as e:
        print(e)
    print(cluster.engine.run("ps", "-a").stdout)
    print(cluster.engine.run("logs", f"{NAME}-engines"))
