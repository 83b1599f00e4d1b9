"""Triton's Python backend: tensors, errors, logging and BLS calls, for every model alike.

``triton_python_backend_utils`` exists only inside the backend's stub, so this module is imported
by ``model_repository/*/1/model.py`` alone.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import triton_python_backend_utils as pb_utils

from bls_models.errors import (
    CaptionerError,
    DetectorError,
    EncoderError,
    IndexUnavailableError,
    NotFoundError,
    ProductMatchError,
    RefusedError,
    RequestError,
    ServiceError,
)
from bls_models.index.query import IndexAnswer, IndexQuery
from bls_models.index.wire import answers_from_tensors, tensors_from_queries
from bls_models.settings import JSON, Settings
from bls_models.specs import INFO, PRODUCT_INDEX, ModelSpec
from bls_models.telemetry.log_lines import JsonHandler, TextFormatter, log_uncaught
from bls_models.triton.timed_calls import TimedCalls
from bls_models.triton.traces import call_arguments
from bls_models.vectors import Arrays
from bls_models.watchdog import progress

logger = logging.getLogger(__name__)


class _TritonHandler(logging.Handler):
    """Python log records into Triton's own log."""

    def emit(self, record: logging.LogRecord) -> None:
        # A path in it may hold letters that this process has not read as text (see below).
        line = self.format(record).encode("utf-8", "backslashreplace").decode("utf-8")
        if record.levelno >= logging.ERROR:
            pb_utils.Logger.log_error(line)
        elif record.levelno >= logging.WARNING:
            pb_utils.Logger.log_warn(line)
        else:
            pb_utils.Logger.log_info(line)

    # Triton also takes the name of the file that logs. Its Python reads paths as ASCII, whatever
    # the locale, and a letter beyond it, as in a checkout's folder, would end the process here.
    emit.__code__ = emit.__code__.replace(co_filename=Path(__file__).name)


def set_up_logging(args: Mapping[str, str], settings: Settings) -> None:
    """Send this process's log records to Triton's log, or as lines of JSON beside it.

    Args:
        args: the arguments of ``initialize``.
        settings: which of the two.
    """
    handler: logging.Handler
    if settings.log_format == JSON:
        handler = JsonHandler(args["model_name"])
    else:
        handler = _TritonHandler()
        handler.setFormatter(TextFormatter())
    # Of other packages what is a warning or worse.
    logging.getLogger().addHandler(handler)
    logging.getLogger("bls_models").setLevel(logging.INFO)
    log_uncaught()


def parameters_of(request: Any) -> dict[str, Any]:
    """A request's parameters, forwarded headers among them; none where they are not UTF-8."""
    try:
        parameters: dict[str, Any] = json.loads(request.parameters() or "{}")
    except ValueError:
        # Not UTF-8: the Python backend hands over nothing of it, and others share the batch.
        return {}
    return parameters


def own_id_of(request: Any) -> str:
    """The ``id`` that a request has in Triton's protocols; empty for none, or one not in UTF-8."""
    try:
        own_id: str = request.request_id()
    except UnicodeDecodeError:
        return ""
    return own_id


def tensors_of(request: Any) -> dict[str, npt.NDArray[Any]]:
    """The inputs that a request carries, by name."""
    return {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}


def response(model: ModelSpec, outputs: Arrays) -> Any:
    """A response with those of a model's outputs that there are, in the dtypes of its spec."""
    return pb_utils.InferenceResponse(
        [
            pb_utils.Tensor(spec.name, np.ascontiguousarray(outputs[spec.name], spec.numpy_dtype))
            for spec in model.outputs
            if spec.name in outputs
        ]
    )


def error_response(error: Exception, request_id: str = "") -> Any:
    """An error for one request: the client's faults as 400 or 404, an absent part as 503, else 500.

    What is not the client's fault is logged.

    Args:
        error: what the request fails with.
        request_id: what it is called, for the log and, with a fault of the server, the answer.
    """
    about = {"request_id": request_id}
    message = str(error)
    if isinstance(error, NotFoundError):
        code = pb_utils.TritonError.NOT_FOUND
    elif isinstance(error, RequestError):
        code = pb_utils.TritonError.INVALID_ARG
    elif isinstance(error, ServiceError):
        code = pb_utils.TritonError.UNAVAILABLE
        # Of those there are most when there is least time for them; a metric counts them.
        level = logging.DEBUG if isinstance(error, RefusedError) else logging.WARNING
        logger.log(level, "%s: %s", type(error).__name__, message, extra=about)
    else:
        code = pb_utils.TritonError.INTERNAL
        logger.error("unexpected %s", type(error).__name__, exc_info=error, extra=about)
        if not isinstance(error, ProductMatchError):
            message = f"unexpected {type(error).__name__}; the server's log has the details"
            message += f" under request {request_id}" if request_id else ""
    # What a client sent may stand in it, and half of a surrogate pair cannot be sent back.
    text = message.encode(errors="replace").decode()
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(text, code))


class LateReply:
    """Sends a request's one response after ``execute`` has returned None for it.

    To be made within ``execute``; its methods may be called in any thread.
    """

    def __init__(self, request: Any) -> None:
        self._sender = request.get_response_sender()

    def __call__(self, answer: Any) -> None:
        """Send the response; once."""
        self._sender.send(answer, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def cancelled(self) -> bool:
        """Whether the client waits no more, as far as Triton knows; asks the server's process."""
        gone: bool = self._sender.is_cancelled()
        return gone


def run_model(
    model: ModelSpec, tensors: Sequence[Any], failure: type[ServiceError], memory: Any
) -> list[Any]:
    """Run another model of this server on one batch of Triton tensors.

    Args:
        model: the model.
        tensors: its inputs.
        failure: the error to raise.
        memory: where the outputs should lie, one of ``pb_utils.TRITONSERVER_MEMORY_*``; without
            a wish, those of a TensorRT engine would stay on the GPU, where numpy cannot go.

    Raises:
        ServiceError: of type ``failure``; the model failed or is not loaded.
    """
    request = pb_utils.InferenceRequest(
        model_name=model.name,
        requested_output_names=model.output_names,
        inputs=list(tensors),
        preferred_memory=pb_utils.PreferredMemory(memory, 0),
        **call_arguments(),
    )
    answer = request.exec()
    progress()
    if answer.has_error():
        raise failure(
            f"{model.name} failed: {answer.error().message()}; "
            "check that the model is loaded and see the server's log"
        )
    outputs: list[Any] = answer.output_tensors()
    return outputs


def call_model(
    model: ModelSpec, inputs: Arrays, failure: type[ServiceError]
) -> dict[str, npt.NDArray[Any]]:
    """Run another model of this server on one batch.

    Raises:
        ServiceError: of type ``failure``; the model failed or is not loaded.
    """
    tensors = [pb_utils.Tensor(name, array) for name, array in inputs.items()]
    outputs = run_model(model, tensors, failure, pb_utils.TRITONSERVER_MEMORY_CPU)
    return {tensor.name(): tensor.as_numpy() for tensor in outputs}


def call_captioner(model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
    """The outputs of ``image_captioner`` or one of its engines; its callers limit the wait."""
    return call_model(model, inputs, CaptionerError)


class ModelCalls:
    """Calls of the engines and the index, each waited for no longer than ``seconds``."""

    def __init__(self, seconds: float) -> None:
        self._calls = TimedCalls(seconds)

    def engine(self, model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """An engine model's outputs; see ``bls_models.engines.encoders.Caller``."""
        return self._call(model, inputs, EncoderError)

    def detector(self, model: ModelSpec, inputs: Arrays) -> dict[str, npt.NDArray[Any]]:
        """The object detector's outputs; see ``bls_models.engines.encoders.Caller``."""
        return self._call(model, inputs, DetectorError)

    def search(self, queries: Sequence[IndexQuery]) -> tuple[list[IndexAnswer], dict[str, Any]]:
        """``product_index``'s answer; see ``bls_models.index.query.Search``."""
        outputs = self._call(PRODUCT_INDEX, tensors_from_queries(queries), IndexUnavailableError)
        return answers_from_tensors(outputs), json.loads(outputs["index_info"][0])

    def index_info(self) -> dict[str, Any]:
        """What ``product_index`` tells of itself."""
        asked = {"operation": np.array([INFO.encode()], np.object_)}
        outputs = self._call(PRODUCT_INDEX, asked, IndexUnavailableError)
        about: dict[str, Any] = json.loads(outputs["index_info"][0])
        return about

    def _call(
        self, model: ModelSpec, inputs: Arrays, failure: type[ServiceError]
    ) -> dict[str, npt.NDArray[Any]]:
        return self._calls.run(model.name, lambda: call_model(model, inputs, failure), failure)
