"""An encoder that hangs, with its process alive: matches fail in a set time, and come back."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving_support import REPOSITORY, Serving, picture, serving, wait_for

from bls_models.bundle import Bundle
from local_server import probe
from product_match_client import ProductMatchClient, ServiceUnavailableError

pytestmark = [pytest.mark.server, pytest.mark.slow]

TIMEOUT_MS = 1500
HANG = """

import time
from pathlib import Path

_execute = TritonPythonModel.execute

def _hang(self, requests):
    while Path({flag!r}).exists():
        time.sleep(0.05)
    return _execute(self, requests)

TritonPythonModel.execute = _hang
"""


@pytest.fixture
def flag(tmp_path: Path) -> Path:
    """While this file is there the image encoder hangs."""
    return tmp_path / "hang"


@pytest.fixture
def own_server(bundle: Bundle, database_uri: str, tmp_path: Path, flag: Path) -> Iterator[Serving]:
    repository = tmp_path / "repository"
    shutil.copytree(REPOSITORY, repository, ignore=shutil.ignore_patterns("__pycache__"))
    model = repository / "image_encoder" / "1" / "model.py"
    model.write_text(model.read_text(encoding="utf-8") + HANG.format(flag=str(flag)))
    name = f"hang_{tmp_path.name}"[:60]
    timeout = {"PRODUCT_MATCH_CALL_TIMEOUT_MS": str(TIMEOUT_MS)}
    with serving(tmp_path / "triton", database_uri, name, repository, **timeout) as running:
        yield running


def test_matches_of_photos_fail_in_the_set_time_then_at_once_and_come_back_by_themselves(
    own_server: Serving, flag: Path
) -> None:
    with own_server.client("grpc") as client:
        client.upsert({"product_id": "p1", "name": "Pattern", "category": "c"}, picture(1))
        wait_for(lambda: client.match(picture(1)).matches, "the product is found")
        flag.touch()
        start = time.monotonic()
        messages = [failure(client, number) for number in range(6)]
        # Each of the two instances waits once.
        assert time.monotonic() - start < 2 * TIMEOUT_MS / 1e3 + 2
        assert any("did not answer within 1.5 s" in text for text in messages)
        assert any("has not answered for" in text for text in messages)
        assert client.match(texts="pattern").matches[0].product_id == "p1"
        assert probe.main(["--url", own_server.triton.http_url, "--level", "live"]) == 1
        with pytest.raises(ServiceUnavailableError, match="image_encoder"):
            client.upsert({"product_id": "p2", "name": "Pattern", "category": "c"}, picture(2))
        flag.unlink()
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
