"""An encoder that hangs, with its process alive: matches fail in a set time, and come back.

One that hangs for long ends its own process, and the supervisor brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_support import HangingModels, Serving, picture, serving, stubs_of, wait_for

from bls_models.bundle import Bundle
from local_server import probe
from local_server.model_processes import dead_model_processes
from local_server.supervisor import Supervisor
from local_server.tuning import instance_count
from product_match_client import ProductMatchClient, ServiceUnavailableError

pytestmark = [pytest.mark.server, pytest.mark.slow]

TIMEOUT_S = 4
MATCHES = 6


@pytest.fixture
def hanging(bundle: Bundle, tmp_path: Path) -> HangingModels:
    return HangingModels(tmp_path, "image_encoder")


@pytest.fixture
def hang_seconds(request: pytest.FixtureRequest) -> int:
    """After which a process ends itself."""
    return int(getattr(request, "param", 1000))


@pytest.fixture
def own_server(
    hanging: HangingModels, hang_seconds: int, database_uri: str, tmp_path: Path
) -> Iterator[Serving]:
    name = f"hang_{tmp_path.name}"[:60]
    settings = {
        "PRODUCT_MATCH_CALL_TIMEOUT_MS": str(TIMEOUT_S * 1000),
        "PRODUCT_MATCH_HANG_SECONDS": str(hang_seconds),
    }
    state = tmp_path / "triton"
    with serving(state, database_uri, name, hanging.repository, **settings) as running:
        yield running


@pytest.mark.parametrize("hang_seconds", [10], indirect=True)
def test_an_encoder_that_hangs_for_long_ends_itself_and_is_brought_back(
    own_server: Serving, hanging: HangingModels
) -> None:
    (process,) = stubs_of(own_server, "image_encoder")
    supervisor = Supervisor(own_server.triton, lambda line: None)
    supervisor.check()
    with own_server.client("grpc") as client:
        with hanging.held("image_encoder"):
            failure(client, 0)
            wait_for(lambda: process not in stubs_of(own_server, "image_encoder"), "it ends itself")
            # What ends a container.
            assert dead_model_processes(own_server.triton.process.pid)
        triton = own_server.triton.process.pid
        supervisor.check()
        client.upsert({"product_id": "p1", "name": "Pattern", "category": "c"}, picture(1))
        wait_for(lambda: answers(client), "photos are matched again")
        assert own_server.triton.process.pid == triton, "only the model was loaded again"
    # Where it stood.
    assert "_hang" in own_server.triton.log.read_text(encoding="utf-8")


def test_matches_of_photos_fail_in_the_set_time_then_at_once_and_come_back_by_themselves(
    own_server: Serving, hanging: HangingModels
) -> None:
    instances = instance_count(hanging.repository, "product_match")
    with own_server.client("grpc") as client:
        client.upsert({"product_id": "p1", "name": "Pattern", "category": "c"}, picture(1))
        wait_for(lambda: client.match(picture(1)).matches, "the product is found")
        with hanging.held("image_encoder"):
            messages = [failure(client, number) for number in range(MATCHES)]
            waited = [f"did not answer within {TIMEOUT_S} s" in text for text in messages]
            at_once = ["has not answered for" in text for text in messages]
            # Each of the instances waits once.
            assert 1 <= sum(waited) <= instances
            assert sum(at_once) == MATCHES - sum(waited) > 0
            assert client.match(texts="pattern").matches[0].product_id == "p1"
            # It may as well have much to do.
            assert probe.main(["--url", own_server.triton.http_url, "--level", "live"]) == 0
            assert probe.main(["--url", own_server.triton.http_url, "--level", "ready"]) == 1
            with pytest.raises(ServiceUnavailableError, match="image_encoder"):
                client.upsert({"product_id": "p2", "name": "Pattern", "category": "c"}, picture(2))
        wait_for(lambda: answers(client), "photos are matched again")


def failure(client: ProductMatchClient, number: int) -> str:
    with pytest.raises(ServiceUnavailableError) as caught:
        client.match(picture(100 + number), caption="never")
    return str(caught.value)


def answers(client: ProductMatchClient) -> bool:
    try:
        return bool(client.match(picture(99), caption="never").matches)
    except ServiceUnavailableError:
        return False
