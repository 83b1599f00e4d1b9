"""Every error the product raises on purpose: the client's faults apart from the server's."""

from __future__ import annotations

# Said of loading that no longer moves; the probe looks for it in a refusal's words.
STANDS_STILL = "has stood still"


class ProductMatchError(Exception):
    """Base of all errors raised on purpose."""


class RequestError(ProductMatchError):
    """The client sent something that cannot be answered (HTTP 400, gRPC INVALID_ARGUMENT).

    Args:
        tensor: the input at fault, with an index where there are several (``image[1]``).
        got: what was wrong with it.
        expected: what would be right.
        remedy: what the client can do, as a full sentence; may be empty.
    """

    def __init__(self, tensor: str, got: str, expected: str, remedy: str = "") -> None:
        self.tensor = tensor
        self.parts = (tensor, got, expected, remedy)
        message = f"{tensor}: {got}; expected {expected}."
        super().__init__(f"{message} {remedy}" if remedy else message)

    def __reduce__(self) -> tuple[type[RequestError], tuple[str, ...]]:
        # Else a copy would be made from the message alone.
        return type(self), self.parts


class ImageError(RequestError):
    """An image that cannot be read, is too large, or has an unusable crop."""


class FilterError(RequestError):
    """A filter outside the declared fields and operators."""


class ProductError(RequestError):
    """A product document that does not fit the schema."""


class NotFoundError(RequestError):
    """What the request names is not stored (HTTP 404, gRPC NOT_FOUND)."""


class ServiceError(ProductMatchError):
    """A part of the service cannot answer now (HTTP 503, gRPC UNAVAILABLE)."""


class RefusedError(ServiceError):
    """Not worked on: too many requests wait, this one has waited too long, or its client went."""


class EncoderError(ServiceError):
    """An engine failed or is not loaded."""


class CaptionerError(ServiceError):
    """The captioner or one of its engines failed, is busy, or is not loaded."""


class CaptionerBusyError(CaptionerError):
    """Too many pictures wait for a caption."""


class DetectorError(ServiceError):
    """The object detector failed or is not loaded, or the bundle has none."""


class IndexUnavailableError(ServiceError):
    """The vector index failed or is not loaded."""


class DatabaseError(ServiceError):
    """MongoDB did not answer in time or refused."""


class LogQueueError(ServiceError):
    """The queue of entries for the database takes no more."""


class MissingImageError(ServiceError):
    """A picture that a stored product names is not stored."""


class StoredImageError(ServiceError):
    """A stored picture cannot be decoded within the server's limits."""


class ConflictError(ServiceError):
    """Others changed the same thing at the same time, again and again."""


class SnapshotError(ProductMatchError):
    """A saved index is missing, damaged, or of other vectors than what it should fill."""


class BundleError(ProductMatchError):
    """The built models are missing, damaged, or of another bundle than what they meet."""


class SetupError(ProductMatchError):
    """A setting or the environment is wrong; the message says what to change."""
