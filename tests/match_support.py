"""Match requests through the real pipeline, in this process."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from serving_support import WAIT_SECONDS

from bls_models.match.matcher import ProductMatcher
from bls_models.match.pipeline import MatchPipeline
from bls_models.match.record import MatchRequest
from bls_models.match.request import MatchQuery
from bls_models.settings import Settings


def unanswered(_: MatchRequest) -> None:
    """The reply of a request before it is sent."""
    raise AssertionError("this request was not sent")


def match_request(query: MatchQuery, request_id: str = "") -> MatchRequest:
    """A request to be sent with ``MatchSender``."""
    return MatchRequest(request_id, unanswered, query)


class MatchSender:
    """Sends requests and waits for their answers.

    Attributes:
        answered: requests in the order of their answers.
    """

    def __init__(self, matcher: ProductMatcher, settings: Settings) -> None:
        self._pipeline = MatchPipeline(matcher, settings)
        self._changed = threading.Condition()
        self.answered: list[MatchRequest] = []

    def start(self, requests: Sequence[MatchRequest]) -> None:
        """Send requests together."""
        for request in requests:
            request.reply = self._note
        for refused in self._pipeline.take(requests):
            self._note(refused)

    def wait(self, requests: Sequence[MatchRequest]) -> None:
        """Wait until these are answered."""
        with self._changed:
            done = self._changed.wait_for(
                lambda: all(item in self.answered for item in requests), WAIT_SECONDS
            )
        assert done, "an answer did not come"

    def run(self, requests: Sequence[MatchRequest]) -> None:
        """Send requests together, and wait for their answers."""
        self.start(requests)
        self.wait(requests)

    def close(self) -> None:
        """Close the pipeline."""
        self._pipeline.close()

    def _note(self, request: MatchRequest) -> None:
        with self._changed:
            assert request not in self.answered, "it was answered twice"
            self.answered.append(request)
            self._changed.notify_all()
