"""The Dockerfile and the scripts that it and CI run; ``make test-containers`` builds the images."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from image_files import DOCKER, DOCKERFILE, IMAGES, Stage, assemble, install, stages
from pymongo.uri_parser import parse_uri
from serving_support import ROOT

from gateway.keys import read_keys
from local_server.triton import LARGE_BYTES

SCRIPTS = sorted(DOCKER.glob("**/*.sh"))


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run(
        [str(program), str(DOCKERFILE)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_well_formed_and_stop_at_errors(script: Path) -> None:
    shell = "bash" if "bash" in script.read_text(encoding="utf-8").splitlines()[0] else "sh"
    subprocess.run([shell, "-n", str(script)], check=True)
    assert re.search(r"^set -eu", script.read_text(encoding="utf-8"), re.MULTILINE)
    assert script.stat().st_mode & 0o111


ENGINE = """#!/bin/sh
case "$*" in
  "version"*) {engine} ;;
  "buildx version") {buildx} ;;
  "compose version --short") {compose} ;;
  *) exit 9 ;;
esac
"""


@pytest.mark.parametrize(
    ("engine", "buildx", "compose", "said"),
    [
        ("echo 28.2.2", "echo v0.30", "echo v5.6.1", ""),
        ("echo 20.10.24", "exit 1", "echo 2.24.0", ""),
        ("echo 19.03.15", "exit 1", "echo 2.24.0", "docker is 19.03.15"),
        ("echo 28.2.2", "exit 1", "echo 5.6.1", "docker 28.2.2 has no buildx"),
        ("echo 28.2.2", "echo v0.30", "exit 1", "has no Compose"),
        ("echo 28.2.2", "echo v0.30", "echo 1.29.2", "Compose is 1.29.2"),
        ("echo 'no such socket' >&2; exit 1", "echo", "echo", "asked (no such socket)"),
        (None, None, None, "docker is missing"),
    ],
)
def test_what_an_engine_lacks_is_said_before_anything_is_built(
    tmp_path: Path, engine: str | None, buildx: str, compose: str, said: str
) -> None:
    if engine:
        client = tmp_path / "docker"
        client.write_text(ENGINE.format(engine=engine, buildx=buildx, compose=compose), "utf-8")
        client.chmod(0o755)
    for name in "sh", "sort", "head", "tail":
        (tmp_path / name).symlink_to(str(shutil.which(name)))
    done = subprocess.run(
        [str(DOCKER / "check-engine.sh")],
        env={"PATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, said in done.stderr) == (1 if said else 0, True), done.stderr
    lines = (ROOT / "Makefile").read_text(encoding="utf-8").partition("\nimages:")[2].splitlines()
    assert lines[1].strip() == "@docker/check-engine.sh"


@pytest.mark.parametrize("name", IMAGES)
def test_images_run_as_nobody_special_and_say_how_they_are(name: str) -> None:
    stage = stages()[name]
    assert stage.values("USER") == ["10001:10001"]
    (health,) = stage.values("HEALTHCHECK")
    # While a catalogue is read a server is not ready, but well.
    probe = '"local_server.probe", "--level", "live"'
    assert {"gateway": '"gateway", "check"', "demo": "/healthz"}.get(name, probe) in health
    assert stage.values("ENTRYPOINT")


def test_what_the_page_decodes_leaves_no_memory_behind() -> None:
    variables = stages()["demo"].environment()
    assert variables["MALLOC_MMAP_THRESHOLD_"] == str(LARGE_BYTES)
    assert variables["MALLOC_TRIM_THRESHOLD_"] == str(2 * LARGE_BYTES)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    set_by_make = re.search("^RETURN_MEMORY = (.*)$", makefile, re.MULTILINE)
    assert set_by_make
    assert set_by_make[1].split() == [
        f"{name}={value}" for name, value in variables.items() if name.startswith("MALLOC_")
    ]


def test_base_images_are_named_once_with_their_version() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    bases = re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.MULTILINE)
    names = ["PYTHON_IMAGE", "DEBIAN_IMAGE", "TRITON_IMAGE"]
    assert [name for name, _ in bases] == names
    for _, image in bases:
        assert re.search(r":\d+\.\d+", image), f"{image} has no version"
    used = {base for stage in stages().values() for base in [stage.base] if "$" in base}
    assert used == {f"${{{name}}}" for name in names}


def test_a_build_asks_no_registry_for_what_reads_the_dockerfile() -> None:
    assert not re.search("^# *syntax *=", DOCKERFILE.read_text(encoding="utf-8"), re.MULTILINE)


@pytest.mark.parametrize("stage", stages().values(), ids=lambda stage: stage.name)
def test_what_downloads_knows_the_builds_secrets(stage: Stage) -> None:
    for command in stage.values("RUN"):
        if "install-environment.sh" in command:
            assert "--mount=type=secret,id=pip.conf --mount=type=secret,id=ca.crt " in command
        if "builders build" in command:
            assert "--mount=type=secret,id=ca.crt " in command
            assert ". docker/read-build-secrets.sh && " in command
        if "install-gateway.sh" in command:
            # apt reads it as another user.
            assert "--mount=type=secret,id=ca.crt,mode=0444 " in command
    for script in SCRIPTS:
        text = script.read_text(encoding="utf-8")
        assert ("-m pip " in text) is ('/read-build-secrets.sh"' in text), script
    # Of the system's packages only the gateway needs some.
    assert "apt-get" not in str(stage.instructions)


@pytest.mark.parametrize("name", ["cpu", "gpu"])
def test_a_server_may_start_slowly(name: str) -> None:
    (health,) = stages()[name].values("HEALTHCHECK")
    (seconds,) = re.findall(r"--start-period=(\d+)s", health)
    assert int(seconds) >= 600


@pytest.mark.parametrize("stage", stages().values(), ids=lambda stage: stage.name)
def test_what_is_copied_is_in_git(stage: Stage) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.splitlines()
    for sources, _ in stage.copied():
        for source in sources:
            assert any(path == source or path.startswith(f"{source}/") for path in tracked), source


def test_requirements_are_pinned_and_of_the_extras_asked_for() -> None:
    def printed(*extras: str) -> list[str]:
        command = [sys.executable, str(DOCKER / "requirements.py"), *extras]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == (1 if "none" in extras else 0), done.stderr
        return done.stdout.split()

    cpu, ngc = printed("cpu", "triton"), printed("ngc")
    for line in (*cpu, *ngc):
        assert "==" in line
    names = {line.partition("==")[0] for line in cpu}
    assert {"nvidia-pytriton", "openvino", "faiss-cpu", "pymongo"} <= names
    assert "SecantusDB" not in names, "the local database is no part of the images"
    assert "nvidia-pytriton" not in {line.partition("==")[0] for line in ngc}
    # The images have it where they are built with EXTRAS=milvus.
    assert "pymilvus" not in names
    assert {"pymilvus"} <= {line.partition("==")[0] for line in printed("cpu", "triton", "milvus")}
    assert printed("none") == []
    (settings,) = printed("--only", "pydantic-settings")
    assert settings in cpu
    assert printed("--only", "none") == []


def test_secrets_are_made_once_and_fit_what_reads_them(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    command = ["sh", str(DOCKER / "make-secrets.sh"), str(folder)]
    subprocess.run(command, check=True)
    made = {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    subprocess.run(command, check=True)
    assert made == {path.name: path.read_text(encoding="utf-8") for path in folder.iterdir()}
    assert folder.stat().st_mode & 0o077 == 0
    assert len(set(made.values())) == len(made)

    keys = read_keys(folder / "gateway-keys")
    assert [(key.client, key.key_class) for key in keys] == [
        ("shop", "match"),
        ("loader", "ingest"),
        ("demo", "match"),
    ]
    assert keys[-1].key == made["demo-key"].strip()
    uri = parse_uri(made["mongodb-uri"].strip())
    assert (uri["username"], uri["password"]) == ("product_match", made["mongodb-password"].strip())
    assert uri["options"]["replicaSet"] == "rs0"
    # MongoDB takes 6 to 1024 characters of base64.
    assert re.fullmatch(r"[A-Za-z0-9+/=]{6,1024}", made["mongodb-keyfile"].strip())


def test_the_pages_key_is_added_to_keys_that_were_there_before(tmp_path: Path) -> None:
    own = tmp_path / "gateway-keys"
    own.write_text(f"web match {'a' * 32}", encoding="utf-8")
    for _ in range(2):
        subprocess.run(["sh", str(DOCKER / "make-secrets.sh"), str(tmp_path)], check=True)
        assert [key.client for key in read_keys(own)] == ["web", "demo"]


@pytest.mark.slow
def test_what_the_gateways_image_holds_is_all_that_it_needs(tmp_path: Path) -> None:
    stage, folder, environment = stages()["gateway"], tmp_path / "opt", tmp_path / "venv"
    packages = "/opt/venv/lib/python3.11/site-packages /opt/packages"
    assert f"--from=gateway-environment {packages}" in stage.values("COPY")
    assert stage.environment()["PYTHONPATH"] == "/opt/packages"
    install(stages()["gateway-environment"], environment)
    assemble(stage, folder)
    for arguments, variables, status, said in (
        (["new-key", "shop", "match"], {}, 0, "shop match "),
        (["show"], {"GATEWAY_HTTP_PORT": "web"}, 1, "GATEWAY_HTTP_PORT='web' is not a valid int"),
    ):
        done = subprocess.run(
            [str(environment / "bin" / "python"), "-m", "gateway", *arguments],
            cwd=folder,
            env=variables,
            capture_output=True,
            text=True,
            check=False,
        )
        assert (done.returncode, said in done.stdout + done.stderr) == (status, True), done


@pytest.mark.slow
def test_what_the_cpus_image_leaves_out_milvus_does_not_need(tmp_path: Path) -> None:
    install(stages()["cpu-environment"], tmp_path / "venv", EXTRAS="milvus")
    program = "import cv2, faiss, openvino, pandas, pymilvus, tokenizers, tritonclient.grpc"
    subprocess.run([str(tmp_path / "venv" / "bin" / "python"), "-c", program], check=True)


@pytest.mark.slow
def test_tensorrt_bindings_are_those_of_the_library(tmp_path: Path) -> None:
    libraries = tmp_path / "lib"
    libraries.mkdir()
    (libraries / "libnvinfer.so.11.4.0").touch()
    (libraries / "libnvinfer_plugin.so.11.3.0").touch()
    environment = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True)
    script = str(DOCKER / "install-tensorrt.sh")
    done = subprocess.run(
        [script, str(environment), str(libraries)],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "CUDA_VERSION": "13.4.1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (packages,) = environment.glob("lib/python3.*/site-packages")
    assert list(packages.glob("tensorrt_cu13_bindings-11.4.0.*.dist-info"))
    # Without the library the bindings cannot be loaded, under either name.
    tried = subprocess.run(
        [str(environment / "bin" / "python"), "-c", "import tensorrt"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "libnv" in tried.stderr
    shutil.rmtree(libraries)
    libraries.mkdir()
    failed = subprocess.run(
        [script, str(environment), str(libraries)], capture_output=True, text=True, check=False
    )
    assert failed.returncode == 1
    assert "no libnvinfer.so" in failed.stderr
