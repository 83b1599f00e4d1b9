"""Log records as lines of text and of JSON."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from datetime import datetime
from typing import Any

import pytest

from bls_models.errors import SetupError
from bls_models.settings import Settings
from bls_models.telemetry.log_lines import (
    MAX_LINE_BYTES,
    JsonFormatter,
    TextFormatter,
    log_uncaught,
)


def record(message: str, *arguments: object, **extra: Any) -> logging.LogRecord:
    return logging.getLogger("bls_models.test").makeRecord(
        "bls_models.test",
        extra.pop("level", logging.WARNING),
        __file__,
        1,
        message,
        arguments,
        extra.pop("exc_info", None),
        extra=extra,
    )


def failure(message: str) -> Any:
    try:
        raise ValueError(message)
    except ValueError:
        return sys.exc_info()


def line_of(item: logging.LogRecord) -> dict[str, Any]:
    text = JsonFormatter("product_match").format(item)
    assert "\n" not in text
    assert len(text.encode()) < MAX_LINE_BYTES
    fields: dict[str, Any] = json.loads(text)
    return fields


def test_a_record_is_one_object_on_one_line() -> None:
    fields = line_of(record("%d of\n%s", 3, "ünï", request_id="order-7"))
    time = datetime.fromisoformat(fields.pop("time"))
    assert time.utcoffset() is not None
    assert fields == {
        "level": "warning",
        "model": "product_match",
        "process": os.getpid(),
        "logger": "bls_models.test",
        "message": "3 of\nünï",
        "request_id": "order-7",
    }
    assert "request_id" not in line_of(record("of nobody"))


def test_an_exception_has_fields_of_its_own() -> None:
    fields = line_of(record("it broke", exc_info=failure("why"), level=logging.ERROR))
    assert fields["level"] == "error"
    assert fields["message"] == "it broke"
    assert (fields["exception"]["type"], fields["exception"]["message"]) == ("ValueError", "why")
    assert fields["exception"]["traceback"].startswith("Traceback (most recent call last):")
    assert fields["exception"]["traceback"].endswith("ValueError: why")


@pytest.mark.parametrize("letter", ["x", "ü", "\0", "\U0001f600"])
def test_a_long_record_is_cut_to_what_a_pipe_takes_in_one_piece(letter: str) -> None:
    fields = line_of(record("start " + letter * 10_000, request_id="r"))
    assert fields["message"].startswith("start " + letter)
    assert fields["request_id"] == "r"

    fields = line_of(record("short", exc_info=failure(letter * 10_000 + "the end")))
    assert fields["message"] == "short"
    assert fields["exception"]["traceback"].endswith("the end")


def test_a_line_of_text_names_the_request() -> None:
    assert TextFormatter().format(record("refused", request_id="r1")) == "refused (request r1)"
    assert TextFormatter().format(record("of nobody")) == "of nobody"
    lines = TextFormatter().format(record("x", request_id="r1", exc_info=failure("why")))
    assert lines.splitlines()[0] == "x (request r1)"
    assert lines.splitlines()[-1] == "ValueError: why"


def test_lines_of_many_processes_stay_whole() -> None:
    program = """
import logging, sys
from bls_models.telemetry.log_lines import JsonHandler
logger = logging.getLogger()
logger.addHandler(JsonHandler("m"))
for number in range(300):
    logger.error("x" * 3800 + f"-{sys.argv[1]}-{number}")
"""
    reader, writer = os.pipe()
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(number)], stderr=writer)
        for number in range(3)
    ]
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        messages = [json.loads(line)["message"].strip("x") for line in stream]
    assert [process.wait() for process in processes] == [0, 0, 0]
    assert sorted(messages) == sorted(
        f"-{process}-{number}" for process in range(3) for number in range(300)
    )


def test_what_ends_a_thread_is_logged(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Pytest has a hook of its own there, which comes back.
    monkeypatch.setattr(threading, "excepthook", threading.excepthook)
    try:
        log_uncaught()

        def end() -> None:
            raise ValueError("in a thread")

        thread = threading.Thread(target=end, name="worker")
        thread.start()
        thread.join()
    finally:
        logging.captureWarnings(False)
    (found,) = caplog.records
    assert found.getMessage() == "thread worker ended"
    assert found.exc_info is not None
    assert str(found.exc_info[1]) == "in a thread"


def test_the_format_is_one_of_two() -> None:
    assert Settings.from_environment({}).log_format == "text"
    assert Settings.from_environment({"PRODUCT_MATCH_LOG_FORMAT": "json"}).log_format == "json"
    with pytest.raises(SetupError, match=r"PRODUCT_MATCH_LOG_FORMAT='xml'.*text or json"):
        Settings.from_environment({"PRODUCT_MATCH_LOG_FORMAT": "xml"})
