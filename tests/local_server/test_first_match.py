"""``make run`` says that it serves once a match has succeeded, and not before."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from bls_models.errors import SetupError
from local_server import __main__ as local_server
from local_server import first_match
from local_server.options import Options
from product_match_client import (
    BadRequestError,
    ClientError,
    MatchResult,
    ServerError,
    ServiceUnavailableError,
)

DETAILS: dict[str, Any] = {"milliseconds": {"total": 1.0}, "request_id": "r", "degraded": []}
CATALOGUE = "product_id,name,category,images\np1,Mug,mug,{}\n"


class Answers:
    """Stands in for the client: gives its answers in turn, and keeps what was asked."""

    def __init__(self, *answers: MatchResult | ClientError) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[Any, Any]] = []

    def __call__(self, url: str) -> Answers:
        return self

    def __enter__(self) -> Answers:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def match(self, images: Any, texts: Any, **options: Any) -> MatchResult:
        self.asked.append((images, texts))
        answer = self._answers.pop(0)
        if isinstance(answer, ClientError):
            raise answer
        return answer


@pytest.fixture
def catalogue(tmp_path: Path) -> Path:
    (tmp_path / "p1.jpg").write_bytes(b"sent as it is")
    (tmp_path / "products.csv").write_text(CATALOGUE.format("p1.jpg"), encoding="utf-8")
    return tmp_path


@pytest.fixture
def run(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Any:
    """Runs ``make run`` over a client that answers as told; gives the client and the output."""

    def run_with(*answers: MatchResult | ClientError) -> tuple[Answers, str]:
        client = Answers(*answers)
        monkeypatch.setattr(first_match, "ProductMatchClient", client)
        monkeypatch.setattr(first_match, "RETRY_SECONDS", 0.0)
        options = Options(catalog=str(catalogue), state=str(catalogue))
        console = Console(file=io.StringIO())
        local_server.run(options, console, print)
        return client, capsys.readouterr().out

    @contextlib.contextmanager
    def stack(*arguments: Any) -> Iterator[Any]:
        running = SimpleNamespace(
            http_url="http://here", grpc_url="", metrics_url="", database_address=""
        )
        yield SimpleNamespace(running=running, triton=SimpleNamespace(log=Path("logs/triton.log")))

    watcher = SimpleNamespace(watch=lambda stop: None)
    monkeypatch.setattr(local_server, "running_stack", stack)
    monkeypatch.setattr(local_server, "Supervisor", lambda *arguments: watcher)
    return run_with


def test_a_match_of_a_photo_comes_first(run: Any, catalogue: Path) -> None:
    client, out = run(ServiceUnavailableError("the index loads"), MatchResult((), DETAILS))
    assert client.asked == [(catalogue / "p1.jpg", ())] * 2
    assert "Serving: HTTP http://here" in out


def test_where_no_photo_can_be_sent_a_word_is_matched(run: Any, catalogue: Path) -> None:
    client, out = run(BadRequestError("image[0]: no picture"), MatchResult((), DETAILS))
    assert client.asked[1:] == [((), "anything")]
    assert "no match of a photo to show: image[0]: no picture" in out
    (catalogue / "p1.jpg").unlink()
    (catalogue / "products.csv").write_text(CATALOGUE.format(""), encoding="utf-8")
    client, out = run(MatchResult((), DETAILS))
    assert client.asked == [((), "anything")]
    assert "has a picture" in out
    assert "Serving: HTTP http://here" in out


@pytest.mark.parametrize(
    "answers",
    [
        (ServerError("Stub process 'product_match_0_0' is not healthy."),),
        (BadRequestError("no picture"), ServerError("Stub process is not healthy.")),
    ],
)
def test_a_server_that_answers_no_match_is_not_said_to_serve(
    run: Any, capsys: pytest.CaptureFixture[str], answers: tuple[ClientError, ...]
) -> None:
    with pytest.raises(SetupError, match=r"answers no match: Stub process(.|\n)*logs/triton\.log"):
        run(*answers)
    assert "Serving" not in capsys.readouterr().out
