"""The chart's pods for every file of values, run by podman with the chart's own commands.

The tests run in the order in which they stand here, on one database.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from container_engine import Engine
from container_images import service_images
from container_service import Service
from pod_engine import Podman, running_podman
from pods import Cluster, Manifest, Pod, pod_template, rendered
from serving_support import ROOT, SampleProduct, wait_for

pytestmark = pytest.mark.containers

# As many as the start-up probe of the chart's server may fail.
START_SECONDS = 300.0
KEYS, PAGE, DATABASE = "product-match-keys", "product-match-demo", "product-match-mongodb"
# Services lead nowhere here, so theirs are the ports of the pods.
PORTS: Manifest = {"service": {"httpPort": 8080, "grpcPort": 8081}}
NAME = "shop-product-match"
STAND_IN = "stand-in:database"
PASSWORD = "open-sesame"
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
LOG_IN = """
import sys, httpx
url, password = sys.argv[1:]
with httpx.Client(base_url=url, timeout=60) as visitor:
    assert visitor.get("/config").status_code == 401
    typed = {"username": "demo", "password": password}
    visitor.post("/login", data=typed).raise_for_status()
    assert visitor.get("/config").status_code == 200
"""


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
def releases() -> dict[str, list[Manifest]]:
    """What the chart renders, by file of values."""
    return {file: rendered(file, PORTS | changes) for file, changes in VALUES.items()}


@pytest.fixture(scope="module")
def podman(engine: Engine, built: Service, releases: dict[str, list[Manifest]]) -> Iterator[Podman]:
    """podman with the images of Docker's engine, under the names that the chart gives them."""
    stand_in = engine.docker("images", "--quiet", STAND_IN)
    sources = {name: f"product-match:{name}" for name in ("cpu", "gateway", "demo")}
    sources["mongo"] = STAND_IN if stand_in else service_images()["mongodb"]
    names = {
        item["image"]
        for manifests in releases.values()
        for manifest in manifests
        if (template := pod_template(manifest))
        for item in template["spec"]["containers"]
    }
    with running_podman() as podman:
        archive = podman.folder / "images.tar"
        engine.docker("save", "--output", str(archive), *sources.values())
        podman.podman("load", "--quiet", "--input", str(archive))
        archive.unlink()
        for name in names:
            repository, _, tag = name.partition(":")
            # No image for GPUs is built where there is none.
            kind = repository if repository == "mongo" else tag.rpartition("-")[2]
            podman.podman("tag", sources["cpu" if kind == "gpu" else kind], name)
        yield podman


@pytest.fixture(scope="module")
def cluster(podman: Podman, keys: dict[str, str], releases: dict[str, list[Manifest]]) -> Cluster:
    """A cluster with the Secrets, and with what belongs to the pods of ``values.yaml``."""
    lines = "".join(f"{line}\n" for line in keys.values())
    words = {client: line.split()[2] for client, line in keys.items()}
    cluster = Cluster(
        podman,
        {
            KEYS: {"api-keys": lines, "match": words["web"], "ingest": words["importer"]},
            PAGE: {"api-key": words["demo"], "password": PASSWORD},
            "product-match-milvus": {"token": "user:password", "ca.crt": "none"},
        },
    )
    cluster.add(releases["values.yaml"])
    stored = cluster.secrets[f"{NAME}-mongodb"]
    if podman.run("image", "exists", STAND_IN).returncode == 0:
        # The local database calls its replica set as it likes, and this leaves it be.
        stored["uri"] = stored["uri"].replace("replicaSet=rs0", "directConnection=true")
    cluster.secrets[DATABASE] = {"uri": stored["uri"]}
    return cluster


Play = Callable[..., Pod]


@pytest.fixture(scope="module")
def play(cluster: Cluster, releases: dict[str, list[Manifest]]) -> Play:
    """Start a pod by the end of its object's name, and the file of values."""

    def play(suffix: str, file: str = "values.yaml") -> Pod:
        (found,) = (
            item
            for item in releases[file]
            if pod_template(item) and item["metadata"]["name"] == NAME + suffix
        )
        return cluster.play(found)

    return play


def become_ready(pod: Pod, container: str) -> None:
    """Wait until the pod's probes say that it started, and that it is ready."""
    for name in "startup", "readiness":
        wait_for(
            lambda name=name: not pod.runs(container) or pod.succeeds(name),
            f"the {name} probe succeeds",
            START_SECONDS,
        )
        assert pod.runs(container), pod.logs(container)


@pytest.fixture(scope="module")
def database(play: Play) -> Pod:
    pod = play("-mongodb")
    become_ready(pod, "mongodb")
    return pod


def started(pod: Pod) -> Pod:
    """The server's pod, once it is ready by the chart's own probes."""
    first = pod.probe("triton", "readiness")
    assert first.returncode == 1, "it cannot have started yet"
    become_ready(pod, "triton")
    return pod


@pytest.fixture(scope="module")
def server(play: Play, database: Pod) -> Pod:
    return started(play(""))


@pytest.fixture(scope="module")
def page(play: Play, server: Pod) -> Pod:
    pod = play("-demo")
    become_ready(pod, "demo")
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
    key = keys["web"].split()[2]
    done = asked(pod, key, "match", str(item.queries[0]), "--json", protocol=protocol)
    assert done.returncode == 0, done.stderr
    first: str = json.loads(done.stdout)["matches"][0]["product_id"]
    return first


def test_every_file_of_values_is_here() -> None:
    files = {path.name for path in (ROOT / "helm" / "product-match").glob("values*.yaml")}
    assert files == VALUES.keys()


@pytest.mark.parametrize("file", VALUES)
def test_the_pods_are_those_that_the_tests_know(
    releases: dict[str, list[Manifest]], file: str
) -> None:
    found = {item["metadata"]["name"] for item in releases[file] if pod_template(item)}
    assert found == {NAME + suffix for suffix in SUFFIXES.get(file, {"", "-test"})}


def test_the_database_of_the_chart_lives(database: Pod) -> None:
    assert database.succeeds("liveness"), database.logs("mongodb")


def test_the_server_lives(server: Pod) -> None:
    assert server.succeeds("liveness"), server.logs("triton")


def test_the_import_job_ends_well(play: Play, server: Pod) -> None:
    pod = play("-import")
    assert pod.status("import") == 0, pod.logs("import")
    assert "72 created" in pod.logs("import")
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


def test_the_pod_of_helm_test_ends_well(play: Play, server: Pod) -> None:
    pod = play("-test")
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
    url = f"http://{page.address}:7860"
    done = page.engine.reach([sys.executable, "-c", LOG_IN, url, PASSWORD])
    assert done.returncode == 0, done.stderr


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
            assert pod.memory_limit(name) > 0, name
            tried = "for f in / /opt /usr/bin /run /var/tmp; do touch $f/x 2>&1 || true; done"
            refused = pod.inside(name, "sh", "-c", tried)
            assert refused.count("Read-only") == 5, (name, refused)
            for mount in item["volumeMounts"]:
                tried = f"test -w {mount['mountPath']} && echo written || echo read"
                expected = "read" if mount.get("readOnly") else "written"
                assert pod.inside(name, "sh", "-c", tried).strip() == expected, (name, mount)


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
    play: Play, database: Pod, keys: dict[str, str], sample: list[SampleProduct]
) -> None:
    pod = started(play("", "values-cpu.yaml"))
    assert pod.succeeds("liveness"), pod.logs("triton")
    assert found(pod, keys, sample[2]) == sample[2].product_id
    test = play("-test", "values-cpu.yaml")
    assert test.status("match") == 0, test.logs("match")
    test.remove()
    assert pod.terminate() == {"triton": 0, "gateway": 0}
    pod.remove()


def test_the_database_ends_in_time(database: Pod) -> None:
    assert database.terminate()["mongodb"] != 137


def test_a_server_for_milvus_says_what_its_image_lacks(play: Play, database: Pod) -> None:
    pod = play("", "values-milvus.yaml")
    assert pod.status("triton") == 1
    assert "the engine milvus needs pymilvus" in pod.logs("triton")
    assert pod.runs("gateway")
    pod.remove()


def test_a_server_for_gpus_does_not_start_without_its_engines(
    play: Play, podman: Podman, database: Pod
) -> None:
    with pytest.raises(AssertionError, match=r"init container .* exited with code 1"):
        play("", "values-gpu.yaml")
    said = podman.run("logs", f"{NAME}-engines")
    assert "run the image product-match:gpu" in said.stdout + said.stderr
    for name in "triton", "gateway":
        form = "{{.State.Status}}"
        state = podman.podman("inspect", "--format", form, f"{NAME}-{name}")
        assert state.strip() == "created", name
    podman.podman("pod", "rm", "--force", "--time=0", NAME)
