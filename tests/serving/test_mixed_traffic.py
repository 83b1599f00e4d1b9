"""Many different requests at once, over both protocols: each gets its own right answer."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from serving_support import SampleProduct, Serving

from product_match_client import MatchResult, ProductMatchClient

pytestmark = pytest.mark.server

Ask = Callable[[ProductMatchClient], MatchResult]


def asked(catalogue: list[SampleProduct], number: int) -> Ask:
    """A request of one of four kinds, about a product of its own."""
    product = catalogue[number % len(catalogue)]
    image, text = product.images[number % 3], product.product["name"]
    other = catalogue[(number + 5) % len(catalogue)]
    kinds: list[Ask] = [
        lambda client: client.match(images=image, top_k=1 + number % 7),
        lambda client: client.match(texts=text, offset=number % 3),
        lambda client: client.match(
            images=[image, other.images[0]], texts=text, image_weights=[1, -0.5]
        ),
        lambda client: client.match(
            images=image, crops=[(0.1, 0, 0.9, 1)], filter={"price": {"$gt": 1 + number % 5}}
        ),
    ]
    return kinds[number % 4]


def test_32_different_requests_at_once_are_answered_as_one_by_one(
    server: Serving, catalogue: list[SampleProduct]
) -> None:
    requests = [asked(catalogue, number) for number in range(32)]
    with server.client() as client:
        expected = [ask(client) for ask in requests]
    answers: dict[int, MatchResult] = {}
    start = threading.Barrier(len(requests))

    def ask_one(number: int) -> None:
        with server.client("grpc" if number % 8 < 4 else "http") as client:
            client.is_ready()
            start.wait()
            answers[number] = requests[number](client)

    threads = [threading.Thread(target=ask_one, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == len(requests)
    for number, one_by_one in enumerate(expected):
        together = answers[number]
        assert [match.product_id for match in together.matches] == [
            match.product_id for match in one_by_one.matches
        ]
        assert [match.score for match in together.matches] == pytest.approx(
            [match.score for match in one_by_one.matches], abs=1e-3
        )
    assert len({item.details["request_id"] for item in answers.values()}) == 32
