"""Settings come from the environment, and an error names the variable at fault."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from pydantic import ValidationError
from pydantic.fields import FieldInfo

from bls_models.cpus import cpu_count
from bls_models.errors import SetupError
from bls_models.settings import Settings

FLAGS = ("PRODUCT_MATCH_DEFAULT_MIN_SCORES", "PRODUCT_MATCH_CAPTION_PAST_ON_GPU")
# Settings that not every text or number will do for.
OWN_FORMS = {
    "picture_url": "https://gateway.example/pictures",
    "picture_secret": "s" * 32,
    "picture_link_seconds": "3600",
}


def flags(text: str) -> set[bool]:
    """What a word makes of all settings that are yes or no."""
    settings = Settings.from_environment(dict.fromkeys(FLAGS, text))
    return {settings.default_min_scores, settings.caption_past_on_gpu}


def test_an_empty_environment_gives_the_defaults() -> None:
    assert Settings.from_environment({}) == Settings()


def test_without_an_argument_the_process_environment_is_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRODUCT_MATCH_DATABASE", "other")
    assert Settings.from_environment().database == "other"


def test_each_setting_has_a_variable_of_its_own_and_a_description() -> None:
    variables = Settings.variables()
    assert variables.keys() == Settings.model_fields.keys()
    assert len(set(variables.values())) == len(variables)
    assert all(item.description.endswith(".") for item in Settings.model_fields.values())


@pytest.mark.parametrize(
    ("name", "field"), [pytest.param(*item, id=item[0]) for item in Settings.model_fields.items()]
)
def test_every_setting_is_read_from_its_variable(name: str, field: FieldInfo) -> None:
    values: dict[type, tuple[str, Any]] = {
        int: ("7", 7),
        float: ("0.75", 0.75),
        str: ("seven", "seven"),
        bool: ("no", False) if field.default else ("yes", True),
    }
    # One that has a list of words takes one of those.
    words = get_args(field.annotation)
    text, value = (words[-1],) * 2 if words else values[type(field.default)]
    if name in OWN_FORMS:
        text = OWN_FORMS[name]
        value = type(field.default)(text)
    settings = Settings.from_environment({Settings.variables()[name]: text})
    assert getattr(settings, name) == value != field.default
    assert type(getattr(settings, name)) is type(field.default)


def test_settings_that_were_read_stay_as_they_are() -> None:
    settings = Settings()
    with pytest.raises(ValidationError, match="frozen"):
        settings.max_images = 3  # type: ignore[misc]
    assert settings.max_images == 8


def test_only_what_is_given_decides_and_not_the_process_environment(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PRODUCT_MATCH_MAX_IMAGES", "3")
    # A variable that is called as a field is, is somebody else's.
    monkeypatch.setenv("database", "other")
    assert Settings().max_images == Settings.from_environment({}).max_images == 8
    assert Settings.from_environment().max_images == 3
    assert Settings.from_environment().database == "product_match"


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
        ("PRODUCT_MATCH_INDEX_DEVICE", "cpu or gpu"),
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
    assert flags(text) == {True}


@pytest.mark.parametrize("text", ["0", "false", "No", " off ", "FALSE"])
def test_words_of_refusal_are_false(text: str) -> None:
    assert flags(text) == {False}


@pytest.mark.parametrize("text", ["-", "2", "maybe", "truee"])
def test_other_words_are_no_boolean(text: str) -> None:
    with pytest.raises(SetupError, match=rf"{FLAGS[0]}='{text}' is not a valid bool.*unset"):
        flags(text)


def test_every_setting_that_cannot_be_used_is_named_at_once() -> None:
    with pytest.raises(SetupError, match=r"MAX_IMAGES='many'.*\n.*MAX_TEXTS=0 "):
        Settings.from_environment(
            {"PRODUCT_MATCH_MAX_IMAGES": "many", "PRODUCT_MATCH_MAX_TEXTS": "0"}
        )


def test_the_address_of_the_database_may_hold_a_password_and_is_not_shown() -> None:
    assert "secret" not in repr(Settings(mongodb_uri="mongodb://shop:secret@host/"))
