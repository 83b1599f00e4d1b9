"""Keys, options, CORS and TLS of the gateway."""

from __future__ import annotations

import ssl
import subprocess
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc as triton_grpc
from gateway_support import JSON, KEYS, MATCH, SHOP_KEY, Recorder, need_nginx, running_gateway
from serving_support import Serving

from bls_models.cpus import cpu_count
from bls_models.errors import SetupError
from gateway.__main__ import main
from gateway.config import (
    SCRIPT_MODULE,
    configuration_text,
    nginx_command,
    script_module,
    write_configuration,
)
from gateway.keys import ApiKey, new_key_line, read_keys
from gateway.options import GatewayOptions

ORIGIN = "https://shop.example"


def write_keys(folder: Path, text: str) -> Path:
    path = folder / "keys"
    path.write_text(text, encoding="utf-8")
    return path


def test_keys_are_read_with_their_owner_and_class(tmp_path: Path) -> None:
    first, second = read_keys(write_keys(tmp_path, KEYS))
    assert first == ApiKey("shop", "match", SHOP_KEY)
    assert (second.client, second.key_class) == ("loader", "ingest")
    assert SHOP_KEY not in repr(first)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no API key"),
        ("# only words\n", "no API key"),
        ("shop match", "line 1: 2 words"),
        (f"\nshop admin {SHOP_KEY}", "line 2: the class is one of match, ingest"),
        (f"Shop match {SHOP_KEY}", "client's name"),
        ("shop match short", "32 to 128"),
        (f"shop match {SHOP_KEY.upper()}", "a-z"),
        (f'shop match {SHOP_KEY}";}}', "a-z"),
        (f"shop match {SHOP_KEY}\nother match {SHOP_KEY}", "line 2: this key stands there twice"),
    ],
)
def test_a_bad_line_is_named_without_its_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(SetupError, match=message) as failure:
        read_keys(write_keys(tmp_path, text))
    assert SHOP_KEY not in str(failure.value)


def test_a_missing_file_of_keys_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="cannot be read"):
        read_keys(tmp_path / "none")


def test_a_new_key_can_be_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new-key", "web", "match"]) == 0
    line = capsys.readouterr().out
    (key,) = read_keys(write_keys(tmp_path, line))
    assert (key.client, key.key_class, len(key.key)) == ("web", "match", 64)
    assert line != new_key_line("web", "match")


@pytest.mark.parametrize(
    ("variable", "value", "message"),
    [
        ("GATEWAY_HTTP_PORT", "0", "1 to 65535"),
        ("GATEWAY_HTTP_PORT", "web", "not a valid int"),
        ("GATEWAY_MATCH_RATE", "0", "from 1"),
        ("GATEWAY_UPSTREAM_HTTP", "triton", "host:port"),
        ("GATEWAY_UPSTREAM_HTTP", "triton:8000; evil", "host:port"),
        ("GATEWAY_FOLDER", "here", "absolute path"),
        ("GATEWAY_KEYS_FILE", '/x";', "absolute path"),
        ("GATEWAY_TLS_CERT", "/tls/cert.pem", "GATEWAY_TLS_KEY"),
        ("GATEWAY_CORS_ORIGINS", "shop.example", "https://shop.example"),
        ("GATEWAY_CORS_ORIGINS", 'https://a"b', "https://shop.example"),
        ("GATEWAY_LOG_FORMAT", "xml", "json"),
        ("PRODUCT_MATCH_PICTURE_SECRET", "short", "at least 32"),
        ("PRODUCT_MATCH_PICTURE_SECRET", "s" * 32 + '";', "at least 32"),
        ("GATEWAY_TRUSTED_PROXIES", "10.0.0.1/8", "networks"),
    ],
)
def test_an_unusable_option_is_named(variable: str, value: str, message: str) -> None:
    with pytest.raises(SetupError, match=message) as failure:
        GatewayOptions.from_environment({variable: value})
    assert variable.rsplit("_", 1)[0] in str(failure.value)


@pytest.mark.parametrize(("told", "workers"), [(0, cpu_count()), (7, 7)])
def test_nginx_has_a_worker_for_each_cpu_that_it_may_use(told: int, workers: int) -> None:
    text = configuration_text(GatewayOptions(workers=told), Path("/module.so"))
    assert f"worker_processes {workers};" in text


def test_a_missing_certificate_is_an_error(tmp_path: Path) -> None:
    keys = write_keys(tmp_path, KEYS)
    options = GatewayOptions(
        keys_file=str(keys), folder=str(tmp_path), tls_certificate="/none.pem", tls_key="/none.key"
    )
    with pytest.raises(SetupError, match=r"none\.pem is missing"):
        write_configuration(options)


@pytest.mark.server
def test_the_configuration_holds_no_key_and_passes_nginx(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GATEWAY_KEYS_FILE", str(write_keys(tmp_path, KEYS)))
    monkeypatch.setenv("GATEWAY_FOLDER", str(tmp_path / "nginx"))
    secret = "picture-secret-" + "0123456789abcdef" * 2
    monkeypatch.setenv("PRODUCT_MATCH_PICTURE_SECRET", secret)
    monkeypatch.setenv("GATEWAY_UPSTREAM_HTTP", "127.0.0.1:8000")
    monkeypatch.setenv("GATEWAY_UPSTREAM_GRPC", "127.0.0.1:8001")
    assert main(["show"]) == 0
    text = capsys.readouterr().out
    assert SHOP_KEY not in text
    assert secret not in text
    assert secret in (tmp_path / "nginx" / "keys.conf").read_text(encoding="utf-8")
    assert "@" not in "".join(
        line.partition("#")[0] for line in text.replace("@grpc", "").splitlines()
    )
    assert (tmp_path / "nginx" / "keys.conf").stat().st_mode & 0o077 == 0
    done = subprocess.run(
        [*nginx_command(tmp_path / "nginx" / "nginx.conf"), "-t"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "warn" not in done.stderr


@pytest.mark.server
def test_browsers_of_named_origins_may_call(recorder: Recorder, tmp_path: Path) -> None:
    with running_gateway(tmp_path / "cors", recorder.port, 9, cors_origins=ORIGIN) as gateway:
        preflight = {
            "Origin": ORIGIN,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "x-api-key,content-type",
        }
        answer = gateway.ask(MATCH, headers=preflight, method="OPTIONS", key="")
        assert answer.status == 204
        assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
        assert "POST" in answer.headers["Access-Control-Allow-Methods"]
        assert "X-API-Key" in answer.headers["Access-Control-Allow-Headers"]
        for sent, status in (b"{}", 200), (b"", 401):
            answer = gateway.ask(
                MATCH, sent, JSON | {"Origin": ORIGIN}, key=SHOP_KEY if sent else ""
            )
            assert answer.status == status
            assert answer.headers["Access-Control-Allow-Origin"] == ORIGIN
            assert answer.headers["Vary"] == "Origin"
        for headers in ({"Origin": "https://other.example"}, {"Origin": "null"}, {}):
            answer = gateway.ask(MATCH, b"{}", JSON | headers)
            assert answer.status == 200
            assert "Access-Control-Allow-Origin" not in answer.headers
            assert gateway.ask(MATCH, headers=headers, method="OPTIONS").status == 405


@pytest.mark.server
def test_without_the_option_no_origin_may_call(recorded: Any) -> None:
    answer = recorded.ask(MATCH, b"{}", JSON | {"Origin": ORIGIN})
    assert "Access-Control-Allow-Origin" not in answer.headers
    assert "Vary" not in answer.headers


@pytest.mark.server
def test_both_ports_speak_tls(server: Serving, tmp_path: Path) -> None:
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1"
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run(
        [*command.split(), *named, "-keyout", str(key), "-out", str(certificate)],
        check=True,
        capture_output=True,
    )
    ports = server.triton.ports
    with running_gateway(
        tmp_path / "tls", ports.http, ports.grpc, tls_certificate=str(certificate), tls_key=str(key)
    ) as gateway:
        context = ssl.create_default_context(cafile=str(certificate))
        request = urllib.request.Request(
            f"https://localhost:{gateway.http_port}{MATCH}",
            b'{"text": "mug"}',
            JSON | {"X-API-Key": SHOP_KEY},
        )
        with urllib.request.urlopen(request, context=context) as answer:
            assert answer.status == 200
        assert gateway.ask("/healthz").status == 400, "plain HTTP to the TLS port"
        tensor = triton_grpc.InferInput("text", [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[b"mug"]], np.object_))
        with triton_grpc.InferenceServerClient(
            f"localhost:{gateway.grpc_port}", ssl=True, root_certificates=str(certificate)
        ) as client:
            client.infer("product_match", [tensor], headers={"x-api-key": SHOP_KEY})


@pytest.mark.server
def test_behind_a_proxy_the_clients_own_address_counts(recorder: Recorder, tmp_path: Path) -> None:
    forwarded = JSON | {"X-Forwarded-For": "203.0.113.7"}
    for networks, address in ("127.0.0.0/8", "203.0.113.7"), ("10.0.0.0/8", "127.0.0.1"):
        folder = tmp_path / address
        with running_gateway(folder, recorder.port, 9, trusted_proxies=networks) as gateway:
            answer = gateway.ask(MATCH, b"{}", forwarded)
            assert gateway.logged(answer)["address"] == address


# --- nginx --------------------------------------------------------------------------------------


def make_file(path: Path, mode: int = 0o644) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode)
    return path


def test_the_module_beside_the_program_comes_before_the_systems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = make_file(tmp_path / "unpacked/usr/sbin/nginx", 0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    system = make_file(tmp_path / "system" / SCRIPT_MODULE)
    monkeypatch.setattr("gateway.config.MODULE_FOLDERS", (system.parent,))
    assert script_module() == system
    own = make_file(tmp_path / "unpacked/usr/lib/nginx/modules" / SCRIPT_MODULE)
    assert script_module() == own

    link = tmp_path / "bin" / "nginx"
    link.parent.mkdir()
    link.symlink_to(program)
    monkeypatch.setenv("PATH", str(link.parent))
    assert script_module() == own


def test_a_module_that_is_nowhere_is_an_error_with_the_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(make_file(tmp_path / "sbin/nginx", 0o755).parent))
    monkeypatch.setattr("gateway.config.MODULE_FOLDERS", (Path("/none"),))
    own = tmp_path / "lib/nginx/modules"
    with pytest.raises(SetupError, match=rf"{own}, /none; .*apt-get install libnginx"):
        script_module()


def test_without_nginx_its_tests_are_skipped_with_what_installs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("gateway.config.SYSTEM_FOLDERS", str(tmp_path))
    with pytest.raises(pytest.skip.Exception, match="apt-get install nginx-light libnginx-mod"):
        need_nginx()


def test_the_secret_for_pictures_may_be_in_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s" * 40 + "\n", encoding="utf-8")
    monkeypatch.setenv("PRODUCT_MATCH_PICTURE_SECRET_FILE", str(secret))
    monkeypatch.setenv("GATEWAY_KEYS_FILE", str(write_keys(tmp_path, KEYS)))
    monkeypatch.setenv("GATEWAY_FOLDER", str(tmp_path / "nginx"))
    need_nginx()
    assert main(["show"]) == 0
    assert "s" * 40 in (tmp_path / "nginx" / "keys.conf").read_text(encoding="utf-8")
    monkeypatch.setenv("PRODUCT_MATCH_PICTURE_SECRET", "s" * 40)
    assert main(["show"]) == 1
    assert "are both set" in capsys.readouterr().err
