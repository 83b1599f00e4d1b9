"""Options of the local start: a flag beats the environment, which beats the default."""

from __future__ import annotations

import argparse
from dataclasses import astuple
from pathlib import Path

import pytest

from bls_models.errors import SetupError
from local_server.options import Options, add_flags, read_options
from local_server.triton import Ports


def options(arguments: list[str], environ: dict[str, str]) -> Options:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    return read_options(parser.parse_args(arguments), environ)


def test_without_flags_and_environment_all_options_have_their_defaults() -> None:
    assert options([], {}) == Options()


@pytest.mark.parametrize("name", Options.model_fields)
def test_the_flag_beats_the_environment_which_beats_the_default(name: str) -> None:
    default = Options.model_fields[name].default
    is_number = isinstance(default, int)
    start = "http://collector" if name.endswith("_url") else ""
    from_environment, from_flag = ("7", "9") if is_number else (f"{start}/seven", f"{start}/nine")
    variable = Options.variables()[name]
    flag = [f"--{name.replace('_', '-')}", from_flag]

    def value(text: str) -> object:
        return int(text) if is_number else text

    assert default not in (value(from_environment), value(from_flag))
    assert getattr(options([], {variable: from_environment}), name) == value(from_environment)
    assert getattr(options(flag, {variable: from_environment}), name) == value(from_flag)
    assert getattr(options(flag, {}), name) == value(from_flag)


def test_the_process_environment_is_read_where_none_is_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HTTP_PORT", "7")
    assert read_options(argparse.Namespace()).http_port == 7


def test_a_port_of_zero_by_flag_is_not_mistaken_for_no_flag() -> None:
    assert options(["--http-port", "0"], {"HTTP_PORT": "7"}).http_port == 0


def test_an_empty_variable_counts_as_unset() -> None:
    assert options([], {"HTTP_PORT": ""}) == Options()


def test_a_port_that_is_no_number_is_refused_with_the_variable() -> None:
    with pytest.raises(SetupError, match=r"HTTP_PORT='http' is not a valid int"):
        options([], {"HTTP_PORT": "http"})


def test_a_port_may_stand_in_for_any_free_one_and_not_for_another_part() -> None:
    with pytest.raises(SetupError, match=r"8000 \(http\), 8000 \(grpc\) .*three different ones"):
        Ports(8000, 8000, 0).resolved()
    assert 0 not in astuple(Ports(0, 0, 0).resolved())


def test_a_trace_address_that_cannot_be_used_may_come_from_either() -> None:
    message = "flag or environment variable TRACE_URL='collector' cannot be used; set an address"
    for arguments, environ in (
        (["--trace-url", "collector"], {}),
        ([], {"TRACE_URL": "collector"}),
    ):
        with pytest.raises(SetupError, match=message):
            options(arguments, environ)


def test_a_flag_that_is_no_number_ends_the_program(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        options(["--http-port", "http"], {})
    assert "--http-port" in capsys.readouterr().err


def test_each_flag_says_its_variable_and_default() -> None:
    parser = argparse.ArgumentParser()
    add_flags(parser)
    words = " ".join(parser.format_help().split())
    for name, variable in Options.variables().items():
        default = Options.model_fields[name].default
        assert f"[{variable}; {default or 'unset'}]" in words.replace("- ", "-")


def test_folders_are_resolved_to_absolute_paths() -> None:
    read = options(["--state", "a/../b", "--repository", "r", "--catalog", "c"], {})
    assert read.state_folder == Path.cwd() / "b"
    assert read.repository_folder == Path.cwd() / "r"
    assert read.catalog_path == Path.cwd() / "c"
