"""The errors of the client, and how the errors of the transports become them."""

from __future__ import annotations

from tritonclient.utils import InferenceServerException

BAD_REQUEST_STATUSES = frozenset({"400", "413", "StatusCode.INVALID_ARGUMENT"})
NOT_FOUND_STATUSES = frozenset({"404", "StatusCode.NOT_FOUND"})
# How product_picture begins to say so; a server or gateway without that model says it otherwise.
NOT_FOUND_INPUTS = ("product_id: ", "number: ", "sha256: ")
UNAVAILABLE_STATUSES = frozenset(
    {
        "429",  # what a gateway answers to more than its rate; over gRPC that is UNAVAILABLE
        "502",  # what a proxy answers while the server behind it is away
        "503",
        "504",
        "StatusCode.UNAVAILABLE",
        "StatusCode.DEADLINE_EXCEEDED",
    }
)


class ClientError(Exception):
    """Base of the errors of the client.

    Attributes:
        url: the server that was asked; empty where none was.
        model: the model that was asked; empty where none was.
        status: the HTTP status (``"400"``) or gRPC code (``"StatusCode.INVALID_ARGUMENT"``);
            None where no answer came.
    """

    def __init__(
        self, message: str, *, url: str = "", model: str = "", status: str | None = None
    ) -> None:
        super().__init__(message)
        self.url = url
        self.model = model
        self.status = status


class BadRequestError(ClientError):
    """What was asked cannot be answered: the caller has to change it."""


class NotFoundError(BadRequestError):
    """The product or picture that was asked for is not stored."""


class ServiceUnavailableError(ClientError):
    """The service is away, starting, too slow, or asked too fast: the request may work later."""


class ServerError(ClientError):
    """The server failed, or answered something that is not its contract."""


def error_from_triton(error: InferenceServerException, url: str, model: str) -> ClientError:
    """The client's error for one that tritonclient raised.

    Args:
        error: its ``status()`` is an HTTP status, a gRPC code, or None if tritonclient itself
            refused the call.
        url: the server that was asked.
        model: the model that was asked.
    """
    status: str | None = error.status()
    message = error.message() or "the server gave no reason"
    if status in BAD_REQUEST_STATUSES:
        return BadRequestError(message, url=url, model=model, status=status)
    if status in NOT_FOUND_STATUSES and message.startswith(NOT_FOUND_INPUTS):
        return NotFoundError(message, url=url, model=model, status=status)
    if status == "StatusCode.DEADLINE_EXCEEDED":
        message = f"no answer from {model} at {url} in time: {message}"
        return ServiceUnavailableError(message, url=url, model=model, status=status)
    if status in UNAVAILABLE_STATUSES:
        message = f"{model} at {url} cannot answer now: {message}"
        return ServiceUnavailableError(message, url=url, model=model, status=status)
    if status is None:
        return ClientError(message, url=url, model=model)
    message = f"{model} at {url} failed ({status}): {message}"
    return ServerError(message, url=url, model=model, status=status)


def error_from_connection(
    error: Exception, url: str, model: str, timeout_s: float
) -> ServiceUnavailableError:
    """The client's error where no answer came: refused, reset, unresolved, or timed out.

    Args:
        error: what the HTTP library raised.
        url: the server that was asked.
        model: the model that was asked.
        timeout_s: the limit the call had, in seconds, for the message.
    """
    if isinstance(error, TimeoutError):
        message = f"no answer from {model} at {url} within {timeout_s:g} s"
    else:
        # Some HTTP libraries raise errors whose text is empty.
        message = f"cannot reach {url}: {str(error) or type(error).__name__}"
    return ServiceUnavailableError(message, url=url, model=model)
