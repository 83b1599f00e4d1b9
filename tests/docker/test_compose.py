"""docker/compose.yaml, read by Docker Compose itself, which needs no engine for that."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from image_files import DOCKER, IMAGES, stages
from serving_support import ROOT

from bls_models.settings import (
    FILE_SUFFIX,
    MILVUS,
    PICTURE_SECRET,
    EnvironmentSettings,
    Settings,
)
from bls_models.settings import values_from_files as values_of_names
from demo.__main__ import SECRETS
from demo.options import DemoOptions
from gateway.options import GatewayOptions
from local_server.container import ContainerOptions, values_from_files

# Beside compose.yaml, by profile.
PROFILES: dict[str, list[Path]] = {"cpu": [], "gpu": [DOCKER / "gpu.yaml"]}
SERVER = "triton"
# What the page takes besides uploads (docs/deployment.md).
PAGE_MEBIBYTES = 1024


def compose(*files: Path) -> subprocess.CompletedProcess[str]:
    """``docker compose config``: checks against the specification, and prints all as JSON."""
    program = Path(sys.executable).with_name("docker-compose")
    chosen = [word for file in files for word in ("--file", str(file))]
    profiles = [word for name in ("import", "demo") for word in ("--profile", name)]
    return subprocess.run(
        [str(program), *chosen, *profiles, "config", "--format", "json"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )


def configuration(profile: str) -> dict[str, Any]:
    """The whole configuration for a profile."""
    done = compose(DOCKER / "compose.yaml", *PROFILES[profile])
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    read: dict[str, Any] = json.loads(done.stdout)
    return read


@pytest.fixture(params=PROFILES, scope="module")
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def services(profile: str) -> dict[str, Any]:
    read: dict[str, Any] = configuration(profile)["services"]
    return read


def test_every_compose_file_fits_the_specification(tmp_path: Path) -> None:
    for file in DOCKER.glob("*compose.yaml"):
        done = compose(file)
        assert done.returncode == 0, done.stderr
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("services: {a: {image: x, healthcheck: {tests: x}}}", encoding="utf-8")
    assert "not allowed" in compose(wrong).stderr


def test_a_profile_has_its_server_and_the_rest(profile: str, services: dict[str, Any]) -> None:
    others = {"mongodb", "gateway", "import", "prometheus", "grafana", "demo"}
    assert services.keys() == {SERVER, *others}
    assert services[SERVER]["image"] == f"product-match:{profile}"
    assert services["import"]["image"] == f"product-match:{profile}"
    for service in services.values():
        name, _, tag = service["image"].rpartition(":")
        assert tag in IMAGES if name == "product-match" else any(map(str.isdigit, tag))


def test_only_the_gateway_is_open_to_other_machines(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for port in service.get("ports", []):
            assert name == "gateway" or port["host_ip"] == "127.0.0.1", (name, port)
        assert bool(service["networks"].keys() & {"public", "page"}) is ("ports" in service), name
    networks = configuration("cpu")["networks"]
    assert networks["backend"]["internal"]


def test_services_have_no_rights_that_they_do_not_need(services: dict[str, Any]) -> None:
    for name, service in services.items():
        assert "no-new-privileges:true" in service["security_opt"], name
        assert int(service["mem_limit"]) > 0, name
        assert service["pids_limit"] > 0, name
        for scratch in service.get("tmpfs", []):
            assert "size=" in scratch, name
        # MongoDB's image starts as root and gives that up.
        if name != "mongodb":
            assert service["read_only"], name
            assert service["cap_drop"] == ["ALL"], name


def test_secrets_are_files_that_the_script_makes(tmp_path: Path, profile: str) -> None:
    whole = configuration(profile)
    subprocess.run([str(DOCKER / "make-secrets.sh"), str(tmp_path / "secrets")], check=True)
    made = {path.name for path in (tmp_path / "secrets").iterdir()}
    assert whole["secrets"].keys() == made
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    assert "docker/secrets/" in ignored
    for secret in whole["secrets"].values():
        assert Path(secret["file"]).parent == DOCKER / "secrets"
    for service in whole["services"].values():
        text = json.dumps(service)
        assert "password=" not in text.lower()
        assert "mongodb://" not in text


def test_the_settings_are_ones_that_the_programs_know(
    tmp_path: Path, profile: str, services: dict[str, Any]
) -> None:
    def known(*kinds: type[EnvironmentSettings]) -> set[str]:
        names = {name for kind in kinds for name in kind.variables().values()}
        return names | {f"{name}_FILE" for name in names}

    server = services[SERVER]["environment"]
    assert server.keys() <= known(Settings, ContainerOptions)
    assert services["gateway"]["environment"].keys() <= known(GatewayOptions)
    assert services["demo"]["environment"].keys() <= known(DemoOptions)
    secrets = tmp_path / "secrets"
    subprocess.run([str(DOCKER / "make-secrets.sh"), str(secrets)], check=True)
    here = {
        name: str(value).replace("/run/secrets", str(secrets)) for name, value in server.items()
    }
    values = values_from_files(here)
    assert values["MONGODB_URI"].startswith("mongodb://product_match:")
    assert ContainerOptions.from_environment(here | values).admin_secret
    # What the server signs, the gateway knows.
    gateway = services["gateway"]["environment"]
    name = PICTURE_SECRET + FILE_SUFFIX
    assert gateway[name] == server[name]
    assert len(Settings.from_environment(here | values).picture_secret) == 64


def test_a_file_of_settings_reaches_server_and_gateway_and_stays_out_of_git(
    tmp_path: Path,
) -> None:
    shutil.copy(DOCKER / "compose.yaml", tmp_path)
    services = json.loads(compose(tmp_path / "compose.yaml").stdout)["services"]
    (tmp_path / "secrets").mkdir()
    variants = '{"words-first": {"share": 0.1, "text_weight": 2}}'
    (tmp_path / "secrets" / "settings.env").write_text(
        f"TRACE_URL=http://collector:4318/v1/traces\nPRODUCT_MATCH_VARIANTS='{variants}'\n"
        "GATEWAY_MATCH_RATE=7\nGATEWAY_LOG_FORMAT=text\nPRODUCT_MATCH_LOG_FORMAT=text\n",
        encoding="utf-8",
    )
    told = json.loads(compose(tmp_path / "compose.yaml").stdout)["services"]
    server = told[SERVER]["environment"]
    settings = Settings.from_environment(server)
    assert (settings.variants, settings.log_format) == (variants, "text")
    assert ContainerOptions.from_environment(server).trace_url == server["TRACE_URL"]
    gateway = GatewayOptions.from_environment(told["gateway"]["environment"])
    assert (gateway.match_rate, gateway.log_format) == (7, "text")
    # What the parts rely on stays, and nobody else is told.
    for name, service in told.items():
        added = {"TRACE_URL"} if name in (SERVER, "gateway") else set()
        had, has = services[name].get("environment") or {}, service.get("environment") or {}
        assert had.items() <= has.items(), name
        assert ({"TRACE_URL"} & has.keys()) == added, name
    ignored = ["git", "check-ignore", "--quiet", "docker/secrets/settings.env"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


def test_tls_is_a_second_file() -> None:
    done = compose(DOCKER / "compose.yaml", DOCKER / "tls.yaml")
    assert done.returncode == 0, done.stderr
    whole = json.loads(done.stdout)
    gateway = whole["services"]["gateway"]
    options = GatewayOptions.from_environment(gateway["environment"])
    mounted = {f"/run/secrets/{secret['source']}" for secret in gateway["secrets"]}
    pictures = gateway["environment"][PICTURE_SECRET + FILE_SUFFIX]
    read = {options.tls_certificate, options.tls_key, options.keys_file, pictures}
    assert read == mounted
    for name in "tls.crt", "tls.key":
        assert Path(whole["secrets"][name]["file"]) == DOCKER / "secrets" / name


def test_milvus_is_a_second_file() -> None:
    done = compose(DOCKER / "compose.yaml", DOCKER / "milvus.yaml")
    assert done.returncode == 0, done.stderr
    whole, plain = json.loads(done.stdout), configuration("cpu")
    server, before = (each["services"][SERVER] for each in (whole, plain))
    assert Settings.from_environment(server["environment"]).index_engine == MILVUS
    token = server["environment"]["MILVUS_TOKEN_FILE"].removeprefix("/run/secrets/")
    assert token in {secret["source"] for secret in server["secrets"]}
    assert Path(whole["secrets"][token]["file"]) == DOCKER / "secrets" / token
    # A way to Milvus, beside those that it had.
    (way_out,) = server["networks"].keys() - before["networks"].keys()
    assert not whole["networks"][way_out].get("internal")
    assert server["networks"]["backend"] == before["networks"]["backend"]
    ignored = ["git", "check-ignore", "--quiet", f"docker/secrets/{token}"]
    assert subprocess.run(ignored, cwd=ROOT, check=False).returncode == 0


def test_mongodb_is_the_same_everywhere() -> None:
    files = [DOCKER / "compose.yaml", DOCKER / "mongodb.compose.yaml"]
    images = {
        yaml.safe_load(file.read_text(encoding="utf-8"))["services"]["mongodb"]["image"]
        for file in files
    }
    values = (ROOT / "helm" / "product-match" / "values.yaml").read_text(encoding="utf-8")
    chart = yaml.safe_load(values)["mongodb"]["embedded"]["image"]
    assert images == {f"{chart['repository']}:{chart['tag']}"}


def test_nothing_starts_before_what_it_needs_is_well(services: dict[str, Any]) -> None:
    needed = {
        (name, other)
        for name, service in services.items()
        for other, how in service.get("depends_on", {}).items()
        if how["required"] and how["condition"] == "service_healthy"
    }
    assert needed >= {(SERVER, "mongodb"), ("gateway", SERVER), ("demo", "gateway")}


def test_the_databases_check_takes_no_shell_of_its_own(services: dict[str, Any]) -> None:
    assert "mongosh" not in str(services["mongodb"]["healthcheck"])


def test_the_gpu_server_gets_a_gpu_and_time_to_stop() -> None:
    service = configuration("gpu")["services"][SERVER]
    (device,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
    assert service["stop_grace_period"] == "45s"
    assert ContainerOptions().exit_timeout_s < 45


def test_monitoring_reads_files_that_are_there(services: dict[str, Any]) -> None:
    for service in services.values():
        for volume in service.get("volumes", []):
            if volume["type"] == "bind":
                assert Path(volume["source"]).exists(), volume
    prometheus = yaml.safe_load((DOCKER / "prometheus.yaml").read_text(encoding="utf-8"))
    (job,) = prometheus["scrape_configs"]
    rules = {volume["target"] for volume in services["prometheus"]["volumes"]}
    assert str(Path(prometheus["rule_files"][0]).parent) in rules
    for file in (ROOT / "helm" / "product-match" / "rules").glob("*.yaml"):
        assert f'job="{job["job_name"]}"' in file.read_text(encoding="utf-8")
    provider = yaml.safe_load((DOCKER / "grafana" / "dashboards.yaml").read_text(encoding="utf-8"))
    dashboards = {volume["target"] for volume in services["grafana"]["volumes"]}
    assert provider["providers"][0]["options"]["path"] in dashboards


# --- the page -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "runs"), [((), False), (("DEMO=yes",), True)])
def test_the_page_runs_only_where_it_is_asked_for(words: tuple[str, ...], runs: bool) -> None:
    command = ["make", "--dry-run", "--no-print-directory", "up", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    (line,) = (line for line in done.stdout.splitlines() if " up " in line)
    listed = line.partition("docker compose")[2].partition(" up ")[0].split()
    built = [word for word in done.stdout.split() if word.startswith("product-match:")]
    assert ("product-match:demo" in built) is runs
    program = Path(sys.executable).with_name("docker-compose")
    services = subprocess.run(
        [str(program), *listed, "config", "--services"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert "gateway" in services
    assert ("demo" in services) is runs


def page_options(service: dict[str, Any], secrets: Path) -> DemoOptions:
    """What the page of a configuration is told, by its image and by Compose."""
    here = {
        name: str(value).replace("/run/secrets", str(secrets))
        for name, value in (stages()["demo"].environment() | service["environment"]).items()
    }
    return DemoOptions.from_environment(here | values_of_names(here, SECRETS))


def test_the_page_is_a_client_of_the_gateway_and_asks_for_a_password(
    tmp_path: Path, services: dict[str, Any]
) -> None:
    subprocess.run([str(DOCKER / "make-secrets.sh"), str(tmp_path)], check=True)
    page = services["demo"]
    options = page_options(page, tmp_path)
    port = GatewayOptions().http_port
    assert (options.url, options.shown_url) == (
        f"http://gateway:{port}",
        f"http://localhost:{port}",
    )
    assert page["networks"].keys() == {"page"}
    assert {name for name, one in services.items() if "page" in one["networks"]} == {
        "demo",
        "gateway",
    }
    assert f"demo match {options.api_key}\n" in (tmp_path / "gateway-keys").read_text("utf-8")
    assert len(options.password) == 24
    (listening,) = page["ports"]
    assert (listening["host_ip"], listening["target"]) == ("127.0.0.1", options.port)
    # Whoever empties the file opens the page.
    (tmp_path / "demo-password").unlink()
    (tmp_path / "demo-password").touch()
    assert page_options(page, tmp_path).password == ""


def test_the_pages_uploads_fit_into_its_memory(services: dict[str, Any]) -> None:
    page = services["demo"]
    (scratch,) = page["tmpfs"]
    size = int(scratch.rpartition("size=")[2].removesuffix("m"))
    assert int(page["environment"]["DEMO_UPLOADS_MB"]) == size // 2
    assert int(page["mem_limit"]) >= (size + PAGE_MEBIBYTES) * 2**20
    assert page["pids_limit"] > 0


def test_the_pages_settings_are_a_file_of_its_own(tmp_path: Path) -> None:
    shutil.copy(DOCKER / "compose.yaml", tmp_path)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets" / "demo.env").write_text(
        "DEMO_URL=https://gateway.example\nDEMO_RATE=3\nFORWARDED_ALLOW_IPS=172.16.0.0/12\n",
        encoding="utf-8",
    )
    (tmp_path / "secrets" / "settings.env").write_text(
        f"{PICTURE_SECRET}={'s' * 32}\n", encoding="utf-8"
    )
    told = json.loads(compose(tmp_path / "compose.yaml").stdout)["services"]
    page = told["demo"]["environment"]
    options = DemoOptions.from_environment(page)
    assert (options.url, options.rate) == ("https://gateway.example", 3)
    assert page["FORWARDED_ALLOW_IPS"] == "172.16.0.0/12"
    # What faces visitors is told nothing that is the others', nor they what is its.
    assert PICTURE_SECRET not in page
    assert [name for name, one in told.items() if "DEMO_RATE" in str(one)] == ["demo"]
