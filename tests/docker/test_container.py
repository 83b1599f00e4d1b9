"""What a server's container runs: its options, its start, its probe and its end."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import uuid
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
import tritonclient.grpc as triton_grpc
from collector_support import running_collector
from image_files import assemble, install, stages
from serving_support import REPOSITORY, ROOT, SAMPLE, wait_for

from bls_models.bundle import Bundle
from bls_models.errors import SetupError
from builders.engines.repository import engines_key, link_repository, repository_with_engines
from builders.engines.tensorrt_api import compiler_for_target
from local_server import probe
from local_server.container import (
    ADMIN_HEADER,
    ADMIN_SECRET,
    ContainerOptions,
    main,
    plain_path,
    values_from_files,
)
from local_server.model_processes import model_processes
from local_server.processes import LOOPBACK, ManagedProcess, free_port
from local_server.triton import SHARED_MEMORY, remove_shared_memory
from product_match_client import ClientError, ProductMatchClient

SECRET = "an-admin-secret-0123456789"
START_SECONDS = 120.0


# --- options --------------------------------------------------------------------------------------


def test_settings_may_come_from_files(tmp_path: Path) -> None:
    path = tmp_path / "uri"
    path.write_text("mongodb://a:b@c/\n", encoding="utf-8")
    assert values_from_files({"MONGODB_URI_FILE": str(path), "PATH": "x"}) == {
        "MONGODB_URI": "mongodb://a:b@c/"
    }
    with pytest.raises(SetupError, match="both set"):
        values_from_files({"MONGODB_URI_FILE": str(path), "MONGODB_URI": "x"})
    with pytest.raises(SetupError, match=r"MONGODB_URI_FILE.*No such file"):
        values_from_files({"MONGODB_URI_FILE": str(tmp_path / "none")})
    path.write_bytes(b"\xff")
    with pytest.raises(SetupError, match=r"MONGODB_URI_FILE.*it is not UTF-8"):
        values_from_files({"MONGODB_URI_FILE": str(path)})


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("PRODUCT_MATCH_ADMIN_SECRET", "short", "at least 16"),
        ("PRODUCT_MATCH_ADMIN_SECRET", "with,comma=0123456789", "letters, digits"),
        ("HTTP_PORT", "http", "not a valid int"),
        ("HTTP_PORT", "0", "expected a number from 1 to 65535"),
        ("GRPC_PORT", "80000", "expected a number from 1 to 65535"),
        ("TRACE_URL", "collector:4318", "http://collector:4318"),
    ],
)
def test_an_unusable_setting_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(SetupError, match=rf"{variable}.*{message}") as failure:
        ContainerOptions.from_environment({variable: value})
    assert (value in str(failure.value)) is (variable != ADMIN_SECRET)


def test_the_admin_secret_is_not_shown() -> None:
    assert SECRET not in repr(ContainerOptions(admin_secret=SECRET))


def test_a_folder_with_a_space_is_served_through_a_link(tmp_path: Path) -> None:
    spaced = tmp_path / "my models"
    spaced.mkdir()
    link = plain_path(spaced)
    assert " " not in str(link)
    assert link.resolve() == spaced
    plain = tmp_path / "models"
    assert plain_path(plain) == plain


def test_a_repository_without_models_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MODEL_REPOSITORY", str(tmp_path))
    assert main(["--prepare-only"]) == 1
    assert "bundle.json" in capsys.readouterr().err


def test_the_gpu_profile_needs_a_gpu(tmp_path: Path, bundle: Bundle) -> None:
    environment = os.environ | {
        "PRODUCT_MATCH_PROFILE": "gpu",
        "STATE": str(tmp_path),
        # Also where there is one.
        "CUDA_VISIBLE_DEVICES": "-1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "local_server.container", "--prepare-only"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "NVIDIA" in done.stderr


# --- the repository of the GPU profile ------------------------------------------------------------


def test_engines_lie_beside_links_to_the_built_models(tmp_path: Path, bundle: Bundle) -> None:
    linked = tmp_path / "model_repository"
    link_repository(REPOSITORY, linked)
    assert Bundle.read(linked).fingerprint == bundle.fingerprint
    Bundle.read(linked).check_files(linked)
    engine = linked / "image_encoder" / "1" / "model.plan"
    engine.write_bytes(b"an engine")
    # What the builder writes takes the place of a link, and what is no longer there goes.
    (linked / "image_encoder" / "configs" / "gpu.pbtxt").unlink()
    (linked / "image_encoder" / "configs" / "gpu.pbtxt").write_text("of another bundle")
    (linked / "gone").mkdir()
    (linked / "gone" / "config.pbtxt").symlink_to(tmp_path / "nowhere")
    link_repository(REPOSITORY, linked)
    assert engine.read_bytes() == b"an engine"
    source = REPOSITORY / "image_encoder" / "configs" / "gpu.pbtxt"
    config = linked / "image_encoder" / "configs" / "gpu.pbtxt"
    assert config.read_text(encoding="utf-8") == source.read_text(encoding="utf-8")
    assert not (linked / "gone").exists()


def test_a_server_serves_from_a_folder_of_its_own(tmp_path: Path, bundle: Bundle) -> None:
    def build(repository: Path) -> None:
        (repository / "image_encoder" / "1" / "model.plan").write_bytes(b"an engine")
        config = repository / "image_encoder" / "configs" / "gpu.pbtxt"
        config.unlink()
        config.write_text('name: "image_encoder"', encoding="utf-8")

    shared = tmp_path / "engines"
    first = repository_with_engines(REPOSITORY, shared, build)
    second = repository_with_engines(REPOSITORY, shared, build)
    assert first != second
    # What others do to the shared folder later does not show.
    shutil.rmtree(shared / "model_repository" / "text_encoder")
    (shared / "model_repository" / "image_encoder" / "configs" / "gpu.pbtxt").unlink()
    for served in first, second:
        Bundle.read(served).check_files(served)
        assert (served / "image_encoder" / "1" / "model.plan").read_bytes() == b"an engine"
        config = served / "image_encoder" / "configs" / "gpu.pbtxt"
        assert config.read_text(encoding="utf-8") == 'name: "image_encoder"'
        shutil.rmtree(served.parent)


SERVER = """
import sys, time
from pathlib import Path
from builders.engines.repository import repository_with_engines

def build(repository):
    # Nobody else may be here meanwhile.
    busy = repository.parent / "busy"
    busy.touch(exist_ok=False)
    plan = repository / "image_encoder" / "1" / "model.plan"
    if not plan.exists():
        time.sleep(0.2)
        plan.write_bytes(b"an engine")
        (repository.parent / "builds").open("a").write("one\\n")
    busy.unlink()

for _ in range(10):
    served = repository_with_engines(Path(sys.argv[1]), Path(sys.argv[2]), build)
    files = [path for path in served.rglob("*") if not path.is_dir()]
    assert len(files) == int(sys.argv[3]), len(files)
    # As a server that loads its models while others start beside it.
    for _ in range(20):
        for path in files:
            path.open("rb").close()
"""


def test_servers_that_share_a_volume_never_take_files_from_each_other(
    tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    link_repository(REPOSITORY, tmp_path / "expected")
    count = sum(not path.is_dir() for path in (tmp_path / "expected").rglob("*")) + 1
    shared = tmp_path / "engines"
    command = [sys.executable, "-c", SERVER, str(REPOSITORY), str(shared), str(count)]
    servers = [
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=tmp_path) for _ in range(4)
    ]
    errors = [server.communicate()[1] for server in servers]
    assert [server.returncode for server in servers] == [0] * 4, errors
    assert (shared / "builds").read_text(encoding="utf-8") == "one\n", "one compiles for all"


def test_engines_are_kept_by_graphs_tensorrt_and_gpu(bundle: Bundle) -> None:
    compiler = compiler_for_target("rtx", ("8.9",))
    key = engines_key(bundle, compiler)
    assert key.startswith(f"{bundle.fingerprint}-int8-")
    assert "-tensorrt-rtx-1." in key
    served = {**bundle.precisions, "image_encoder": ["fp32"]}
    graph = "image_encoder/1/model.int8.onnx"
    others = {
        "another GPU": engines_key(bundle, compiler_for_target("rtx", ("12.0",))),
        "another precision": engines_key(replace(bundle, precisions=served), compiler),
        "another graph of that precision": engines_key(
            replace(bundle, files={**bundle.files, graph: "0" * 64}), compiler
        ),
        "longer texts": engines_key(replace(bundle, max_tokens=64), compiler),
    }
    assert len({key, *others.values()}) == 1 + len(others), others
    assert engines_key(replace(bundle, min_scores={}), compiler) == key


# --- a running container --------------------------------------------------------------------------


def container(state: Path, uri: str, python: Path, folder: Path, **settings: str) -> ManagedProcess:
    """What the image's entry point runs, on free ports."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    secret = state / "secret"
    secret.write_text(SECRET, encoding="utf-8")
    environment |= {
        "LISTEN_ADDRESS": LOOPBACK,
        "MONGODB_URI": uri,
        "PRODUCT_MATCH_DATABASE": f"container_{uuid.uuid4().hex}",
        "PRODUCT_MATCH_ADMIN_SECRET_FILE": str(secret),
        "STATE": str(state),
        **settings,
    }
    return ManagedProcess(
        "the container",
        ["env", "-C", str(folder), str(python), "-m", "local_server.container"],
        state / "container.log",
        environment,
        stop_seconds=60.0,
    )


def ports() -> dict[str, str]:
    """Three free ports as settings."""
    return {name: str(free_port()) for name in ("HTTP_PORT", "GRPC_PORT", "METRICS_PORT")}


def is_ready(url: str) -> bool:
    with contextlib.redirect_stderr(None):
        return probe.main(["--url", url]) == 0


def server_in(process: ManagedProcess) -> psutil.Process:
    """The container's tritonserver."""
    children = psutil.Process(process.pid).children()
    return next(child for child in children if child.name() == "tritonserver")


def stub_of(process: ManagedProcess, model: str) -> psutil.Process:
    """A process of the Python backend, by its model."""
    found = model_processes(server_in(process).pid)
    return psutil.Process(next(pid for pid, name in found.items() if name == model))


@pytest.mark.server
def test_a_container_serves_is_probed_and_stops(
    bundle: Bundle, database_uri: str, tmp_path: Path
) -> None:
    chosen = ports()
    orphan = SHARED_MEMORY / f"product_match_{chosen['HTTP_PORT']}_orphan"
    orphan.touch()
    process = container(tmp_path, database_uri, Path(sys.executable), ROOT, **chosen)
    url = f"http://{LOOPBACK}:{chosen['HTTP_PORT']}"
    try:
        process.wait_until(lambda: is_ready(url), START_SECONDS)
        assert not orphan.exists(), "what a crash left of the shared memory is removed"
        wait_for(
            lambda: list(tmp_path.glob("snapshots/snapshot-*")), "there is a snapshot of the index"
        )
        assert SECRET not in str(stub_of(process, "product_match").environ())

        def status(
            path: str, headers: dict[str, str] | None = None, body: bytes | None = None
        ) -> int:
            request = urllib.request.Request(f"{url}{path}", body, headers or {})
            try:
                with urllib.request.urlopen(request) as answer:
                    return int(answer.status)
            except urllib.error.HTTPError as error:
                return error.code

        admin = {ADMIN_HEADER: SECRET}
        for path, body in (
            ("/v2/repository/index", b"{}"),
            ("/v2/models/product_match/config", None),
            ("/v2/models/product_match/stats", None),
            ("/v2/systemsharedmemory/status", None),
            ("/v2/trace/setting", None),
            ("/v2/logging", None),
        ):
            assert status(path, None, body) == 403, path
            assert status(path, {ADMIN_HEADER: "guess"}, body) == 403, path
            assert status(path, admin, body) == 200, path
        address = f"{LOOPBACK}:{chosen['GRPC_PORT']}"
        with triton_grpc.InferenceServerClient(address) as client:
            with pytest.raises(triton_grpc.InferenceServerException, match="restricted"):
                client.get_model_repository_index()
            allowed = {f"triton-grpc-protocol-{ADMIN_HEADER}": SECRET}
            names = {item.name for item in client.get_model_repository_index(allowed).models}
        assert "product_match" in names

        # No match needs this one, but it is gone until the server starts again.
        stub_of(process, "product_ingest").kill()
        wait_for(lambda: not process.alive, "the container has ended")
        assert "a model's process has ended" in process.log.read_text(encoding="utf-8")
    finally:
        process.stop()
        # A server whose process was killed leaves some.
        remove_shared_memory(f"product_match_{chosen['HTTP_PORT']}_")


@pytest.mark.server
def test_nobody_waits_for_a_process_that_died(
    bundle: Bundle, database_uri: str, tmp_path: Path
) -> None:
    chosen = ports()
    process = container(tmp_path, database_uri, Path(sys.executable), ROOT, **chosen)
    url = f"http://{LOOPBACK}:{chosen['HTTP_PORT']}"
    try:
        process.wait_until(lambda: is_ready(url), START_SECONDS)
        # So that a match is under way for as long as it takes.
        stub_of(process, "text_encoder").suspend()
        with ProductMatchClient(url, timeout_s=600) as client, ThreadPoolExecutor(1) as threads:
            match = threads.submit(client.match, texts="mug")
            with contextlib.suppress(TimeoutError):
                match.result(1)
            stub_of(process, "product_match").kill()
            with pytest.raises(ClientError):
                match.result()
        wait_for(lambda: not process.alive, "the container has ended")
    finally:
        process.stop()
        remove_shared_memory(f"product_match_{chosen['HTTP_PORT']}_")


@pytest.mark.server
def test_a_container_lets_its_server_stop_in_order(
    bundle: Bundle, database_uri: str, tmp_path: Path
) -> None:
    # The chart opens the metrics alone, and relies on the later of two flags to count.
    chosen = ports() | {"TRITON_FLAGS": "--metrics-address=127.0.0.2 --log-format=default"}
    process = container(tmp_path, database_uri, Path(sys.executable), ROOT, **chosen)
    url = f"http://{LOOPBACK}:{chosen['HTTP_PORT']}"
    try:
        process.wait_until(lambda: is_ready(url), START_SECONDS)
        metrics = f"http://127.0.0.2:{chosen['METRICS_PORT']}/metrics"
        with urllib.request.urlopen(metrics) as answer:
            assert b"nv_inference_request_success" in answer.read()
        os.kill(process.pid, signal.SIGTERM)
        wait_for(lambda: not process.alive, "the server has stopped")
        assert "All models are stopped" in process.log.read_text(encoding="utf-8")
        assert not list(SHARED_MEMORY.glob(f"product_match_{chosen['HTTP_PORT']}_*"))
    finally:
        process.stop()


@pytest.mark.server
def test_a_container_sends_traces_and_logs_json(
    bundle: Bundle, database_uri: str, tmp_path: Path
) -> None:
    with running_collector() as collector:
        chosen = ports() | {
            "TRACE_URL": collector.url,
            "TRACE_RATE": "1",
            "PRODUCT_MATCH_LOG_FORMAT": "json",
        }
        process = container(tmp_path, database_uri, Path(sys.executable), ROOT, **chosen)
        url = f"http://{LOOPBACK}:{chosen['HTTP_PORT']}"
        try:
            process.wait_until(lambda: is_ready(url), START_SECONDS)
            # The probe was a match like any other.
            wanted = {"product_match", "image_encoder", "text_encoder"}
            wait_for(
                lambda: wanted <= {span["name"] for span in collector.spans},
                "the spans are with the collector",
            )
        finally:
            process.stop()
    lines = process.log.read_text(encoding="utf-8").splitlines()
    records = [json.loads(line) for line in lines if line.startswith("{")]
    assert "product_match" in {record["model"] for record in records}


@pytest.mark.slow
@pytest.mark.server
def test_what_the_cpu_image_holds_serves(bundle: Bundle, database_uri: str, tmp_path: Path) -> None:
    """The image without Docker: its environment by its script, its files, its settings."""
    stage, folder, environment = stages()["cpu"], tmp_path / "opt", tmp_path / "venv"
    install(stages()["cpu-environment"], environment)
    assemble(stage, folder)
    (folder / "model_repository").symlink_to(REPOSITORY)
    settings = {
        name: value.replace("/opt/product-match", str(folder))
        for name, value in stage.environment().items()
        if name not in ("PATH", "STATE")
    }
    chosen = ports()
    state = tmp_path / "state"
    state.mkdir()
    python = environment / "bin" / "python"
    process = container(state, database_uri, python, folder, **settings, **chosen)
    url = f"http://{LOOPBACK}:{chosen['HTTP_PORT']}"
    run = {"cwd": folder, "env": os.environ | settings, "check": True}
    try:
        # The image's own probe, and the import of docker/compose.yaml.
        process.wait_until(lambda: is_ready(url), START_SECONDS)
        subprocess.run([str(python), "-m", "local_server.probe", "--url", url], **run)
        imported = [str(python), "-m", "seed", "import", "seed/sample", f"--url={url}"]
        subprocess.run([*imported, f"--errors={tmp_path / 'errors.jsonl'}"], **run)
        with ProductMatchClient(url) as client:
            wait_for(
                lambda: client.match(texts="mug").details["index"]["products"] == 72,
                "the sample catalogue is in the index",
            )
            photo = SAMPLE / "queries" / "mug-classic-red" / "1.webp"
            assert client.match(photo).matches[0].product_id == "mug-classic-red"
    finally:
        process.stop()
