"""What brings nginx, promtool and Chromium: it uses what is there, and names what cannot be had."""

from __future__ import annotations

import os
from pathlib import Path

import fetch_tools
import pytest
from fetch_tools import ALL, MARKER, NGINX, Apt, add_to_path, main, new_packages, wrap
from serving_support import ROOT

from bls_models.errors import SetupError

SIMULATION = """\
Inst libc6 [2.36-9] (2.36-10 Debian:12/stable [amd64])
Inst nginx-common (1.22.1-9 Debian:12/stable [all])
Inst nginx (1.22.1-9 Debian:12/stable [amd64]) []
Conf nginx-common (1.22.1-9 Debian:12/stable [all])
"""


def program(path: Path, text: str = "#!/bin/sh\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of programs, none yet, which is all that can be found."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr("gateway.config.MODULE_FOLDERS", ())
    monkeypatch.setattr("gateway.config.SYSTEM_FOLDERS", "/none")
    return tmp_path / "bin"


def test_what_is_there_is_used_and_nothing_fetched(
    tmp_path: Path, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    program(bare / "nginx")
    program(bare / "promtool")
    program(bare / "chromium")
    program(tmp_path / "lib/nginx/modules/ngx_http_js_module.so")
    program(bare / "apt-get", f"#!/bin/sh\n: > {tmp_path / 'called'}\n")
    assert main(tmp_path / "tools") == 0
    assert not (tmp_path / "called").exists()
    assert [path.name for path in (tmp_path / "tools").iterdir()] == [MARKER]
    assert capsys.readouterr().out == ""


def test_what_an_earlier_run_brought_is_there(tmp_path: Path, bare: Path) -> None:
    for tool in ALL:
        program(tmp_path / tool.name / tool.folder / tool.name)
    program(tmp_path / "nginx/usr/lib/nginx/modules/ngx_http_js_module.so")
    assert not any(tool.is_there() for tool in ALL)
    add_to_path(tmp_path)
    assert all(tool.is_there() for tool in ALL)


def test_what_cannot_be_had_is_named_with_the_command_that_installs_it(
    tmp_path: Path, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(tmp_path / "tools") == 0
    first, nginx, promtool, chromium = capsys.readouterr().out.splitlines()
    assert first == "Fetching nginx, promtool, chromium, which the tests run"
    for line, tool in (nginx, "nginx"), (promtool, "promtool"), (chromium, "chromium"):
        assert line.startswith(f"{tool} is missing")
        assert "apt-get: No such file or directory" in line
    assert nginx.endswith("install it: apt-get install nginx-light libnginx-mod-http-js")
    assert promtool.endswith("install it: apt-get install prometheus")
    assert chromium.endswith("install it: apt-get install chromium fonts-dejavu-core")
    # No marker, so the next run tries again; and nothing half done.
    assert list((tmp_path / "tools").iterdir()) == []


def test_the_reason_is_what_failed_first(
    tmp_path: Path, bare: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    says = "echo 'W: old lists' >&2; echo 'E: no network' >&2; echo 'E: ignored' >&2; exit 100"
    other = "echo 'E: no such package' >&2; exit 100"
    script = f'#!/bin/sh\ncase "$*" in *update*) {says};; *) {other};; esac\n'
    program(bare / "apt-get", script)
    assert main(tmp_path / "tools") == 0
    assert "(apt-get: no network)" in capsys.readouterr().out


def test_a_source_that_fails_is_no_matter_if_the_packages_come(
    tmp_path: Path, bare: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(
        bare / "apt-get",
        '#!/bin/sh\ncase "$*" in *update*) exit 100;; esac\n'
        "printf 'Inst nginx-common (1 Debian)\\n'\n",
    )
    assert Apt(tmp_path / "apt").lacking(NGINX.packages) == {"nginx-common"}


def test_packages_that_are_installed_already_stay() -> None:
    assert new_packages(SIMULATION) == {"nginx-common", "nginx"}


def test_a_command_that_fails_in_silence_is_named_with_its_status() -> None:
    with pytest.raises(SetupError, match="false: status 1"):
        fetch_tools.run("false")


def test_a_command_that_does_not_end_is_named() -> None:
    with pytest.raises(SetupError, match="sleep: no end after"):
        fetch_tools.run("sleep", "600", seconds=0.1)


def test_a_wrapped_program_finds_what_was_unpacked_and_what_is_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "with space, é"
    program(folder / "usr/lib/tool/tool", '#!/bin/sh\necho "$LD_LIBRARY_PATH|$DATA_PATH|$1"\n')
    program(folder / "usr/lib/libtool.so.1")
    program(folder / "usr/bin/tool")
    wrap(folder, folder / "usr/bin/tool", "usr/lib/tool/tool", DATA_PATH="etc/data")
    monkeypatch.setenv("LD_LIBRARY_PATH", "/theirs")
    monkeypatch.delenv("DATA_PATH", raising=False)
    said = fetch_tools.run(str(folder / "usr/bin/tool"), "a b")
    assert said == f"{folder}/usr/lib:/theirs|{folder}/etc/data|a b\n"


def test_nginx_is_of_the_packages_that_the_image_installs() -> None:
    script = (ROOT / "docker" / "install-gateway.sh").read_text(encoding="utf-8")
    (line,) = (line for line in script.splitlines() if " install " in line)
    # The tests have a Python already.
    assert {*NGINX.packages, "python3"} == set(line.partition("recommends")[2].split())


def test_tests_find_what_was_brought() -> None:
    folders = os.environ["PATH"].split(os.pathsep)
    assert str(ROOT / "build" / "tools" / "nginx" / "usr" / "sbin") in folders
