"""What a log record of the models looks like: a line of text, or a line of JSON."""

from __future__ import annotations

import json
import logging
import os
import select
import threading
from datetime import UTC, datetime
from types import TracebackType
from typing import Any

# All processes write to one pipe, and only lines up to this size are written in one piece.
MAX_LINE_BYTES = select.PIPE_BUF
STANDARD_ERROR = 2
_CUT = "..."

_logger = logging.getLogger(__name__)


class TextFormatter(logging.Formatter):
    """The message and the request's id; time and level are the log's own."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's name
        """The first line; an exception's traceback follows it."""
        line = super().formatMessage(record)
        request_id = getattr(record, "request_id", "")
        return f"{line} (request {request_id})" if request_id else line


class JsonFormatter(logging.Formatter):
    """One JSON object on one line of at most ``MAX_LINE_BYTES``, its newline among them.

    Its fields: ``time`` (UTC, ISO 8601), ``level``, ``model``, ``process``, ``logger``,
    ``message``; ``request_id`` where the record belongs to a request; where it has an exception,
    ``exception`` (``type``, ``message``, ``traceback``). Of what is too long the end is kept of a
    traceback, and the start of a message.

    Args:
        model: the model that writes.
    """

    def __init__(self, model: str) -> None:
        super().__init__()
        self._model = model

    def format(self, record: logging.LogRecord) -> str:
        """The line, without its newline."""
        time = datetime.fromtimestamp(record.created, UTC)
        fields: dict[str, Any] = {
            "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "model": self._model,
            "process": record.process,
            "logger": record.name,
            "message": record.getMessage(),
        }
        request_id = getattr(record, "request_id", "")
        if request_id:
            fields["request_id"] = request_id
        if record.exc_info and record.exc_info[1] is not None:
            fields["exception"] = {
                "type": type(record.exc_info[1]).__name__,
                "message": str(record.exc_info[1]),
                "traceback": self.formatException(record.exc_info),
            }
        return _line(fields)


def _line(fields: dict[str, Any]) -> str:
    """The fields as JSON, the longest text cut again and again until the line fits."""
    exception = fields.get("exception", {})
    while len(line := json.dumps(fields)) >= MAX_LINE_BYTES:
        places = ((fields, "message"), (exception, "message"), (exception, "traceback"))
        holder, name = max(places, key=lambda place: len(json.dumps(place[0].get(place[1], ""))))
        text = holder[name].strip(_CUT)
        kept = len(text) * 3 // 4
        holder[name] = _CUT + text[-kept:] if name == "traceback" else text[:kept] + _CUT
    return line


class JsonHandler(logging.Handler):
    """Writes lines of JSON to standard error, each in one piece."""

    def __init__(self, model: str) -> None:
        super().__init__()
        self.setFormatter(JsonFormatter(model))

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record."""
        try:
            os.write(STANDARD_ERROR, f"{self.format(record)}\n".encode())
        except Exception:
            self.handleError(record)


def log_uncaught() -> None:
    """Log what ends a thread, and Python's warnings, like everything else."""
    logging.captureWarnings(True)
    threading.excepthook = _log_thread_end


def _log_thread_end(arguments: threading.ExceptHookArgs) -> None:
    error = arguments.exc_value
    if error is None or isinstance(error, SystemExit):
        return
    name = "?" if arguments.thread is None else arguments.thread.name
    traceback: TracebackType | None = arguments.exc_traceback
    _logger.error("thread %s ended", name, exc_info=(type(error), error, traceback))
