"""Settings come from the environment, and an error names the variable at fault."""

from __future__ import annotations

from dataclasses import fields

import pytest

from bls_models.errors import SetupError
from bls_models.settings import CHOICES, Settings, cpu_count, parse_value


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_without_an_argument_the_process_environment_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRODUCT_MATCH_DATABASE", "other")
    assert Settings.from_environment().database == "other"


def test_each_setting_has_a_variable_of_its_own_and_a_description() -> None:
    variables = [item.metadata["env"] for item in fields(Settings)]
    assert len(set(variables)) == len(variables)
    assert all(item.metadata["doc"].endswith(".") for item in fields(Settings))


@pytest.mark.parametrize("item", fields(Settings), ids=lambda item: item.name)
def test_every_setting_is_read_from_its_variable(item: object) -> None:
    name, default = item.name, item.default  # type: ignore[attr-defined]
    values = {int: ("7", 7), float: ("0.75", 0.75), str: ("seven", "seven"), bool: ("yes", True)}
    # One that has a list of words takes one of those.
    text, value = (CHOICES[name][-1],) * 2 if name in CHOICES else values[type(default)]
    settings = Settings.from_environment({item.metadata["env"]: text})  # type: ignore[attr-defined]
    assert getattr(settings, name) == value
    assert type(getattr(settings, name)) is type(default)


def test_an_empty_variable_counts_as_unset() -> None:
    assert Settings.from_environment({"PRODUCT_MATCH_MAX_IMAGES": ""}) == Settings()


@pytest.mark.parametrize("text", ["many", "1.5", "0x10", "1e3", "-"])
def test_a_number_that_is_none_is_refused_with_the_variable_and_the_remedy(text: str) -> None:
    with pytest.raises(SetupError, match=r"PRODUCT_MATCH_MAX_IMAGES=.* not a valid int.*unset"):
        Settings.from_environment({"PRODUCT_MATCH_MAX_IMAGES": text})


@pytest.mark.parametrize("text", ["0", "-1"])
def test_a_limit_below_one_is_refused_with_the_least(text: str) -> None:
    with pytest.raises(SetupError, match=rf"PRODUCT_MATCH_MAX_TEXTS={text} .*the least is 1"):
        Settings.from_environment({"PRODUCT_MATCH_MAX_TEXTS": text})


@pytest.mark.parametrize("text", ["-0.1", "1.1", "nan", "inf"])
def test_a_share_outside_0_to_1_is_refused(text: str) -> None:
    with pytest.raises(SetupError, match=rf"CROSS_MODAL_WEIGHT={text} .*from 0 to 1"):
        Settings.from_environment({"PRODUCT_MATCH_CROSS_MODAL_WEIGHT": text})


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ("PRODUCT_MATCH_PROFILE", "cpu or gpu"),
        ("PRODUCT_MATCH_CPU_PRECISION", "auto or int8 or fp32"),
        ("PRODUCT_MATCH_LOG_FORMAT", "text or json"),
    ],
)
def test_an_unknown_word_is_refused_with_the_known_ones(variable: str, words: str) -> None:
    with pytest.raises(SetupError, match=f"{variable}='tpu' is unknown; set {words}"):
        Settings.from_environment({variable: "tpu"})


def test_zero_threads_means_one_a_cpu_and_fewer_are_refused() -> None:
    assert Settings.from_environment({"PRODUCT_MATCH_DECODE_THREADS": "0"}).decode_threads == 0
    with pytest.raises(SetupError, match=r"PRODUCT_MATCH_ENGINE_THREADS=-1 .*the least is 0"):
        Settings.from_environment({"PRODUCT_MATCH_ENGINE_THREADS": "-1"})
    assert cpu_count() >= 1


@pytest.mark.parametrize("text", ["1", "true", "Yes", " on ", "TRUE"])
def test_words_of_consent_are_true(text: str) -> None:
    assert parse_value("FLAG", text, bool) is True


@pytest.mark.parametrize("text", ["0", "false", "No", " off ", "FALSE"])
def test_words_of_refusal_are_false(text: str) -> None:
    assert parse_value("FLAG", text, bool) is False


@pytest.mark.parametrize("text", ["", "2", "maybe", "truee"])
def test_other_words_are_no_boolean(text: str) -> None:
    with pytest.raises(SetupError, match=r"FLAG=.* not a valid bool"):
        parse_value("FLAG", text, bool)
