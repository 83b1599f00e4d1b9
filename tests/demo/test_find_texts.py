"""What the find tab makes of queries and answers, without a browser."""

from __future__ import annotations

import asyncio
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from serving_support import picture

from bls_models.errors import ImageError
from demo.alerts import alert
from demo.find.answer import answer_html, shown_first
from demo.find.query import Liked, Query, filter_of, liked_from_text, number_of
from demo.find.snippets import ONLY_HTTP, curl_text, python_text
from demo.find.timings import timings_html
from demo.page import ASSETS
from demo.pictures import Picture, Pictures
from demo.preview import LIMITS, preview
from product_match_client import AsyncProductMatchClient
from product_match_client.calls import match_call
from product_match_client.errors import BadRequestError, ClientError
from product_match_client.results import Match, MatchedObject, MatchResult

PHOTO = Path("photo.jpg")
URL = "https://gateway.example/base"
LIKED = Liked("mug-1", "Mug & <b>")
QUERIES = (
    Query(words='it\'s "red" \\ %s $HOME `id` \n \u2028 \U0001f600'),
    Query(photo=PHOTO, words="red", photo_weight=0.5, words_weight=-1, min_score=-1.0),
    Query(photo=PHOTO, liked=LIKED, words="blue", words_weight=2, objects="never"),
    Query(photo=PHOTO, filter=filter_of(["mug's", "vase"], 5.0, None), top_k=24),
)


def match(product_id: str, **product: Any) -> Match:
    return Match(product_id, 0.5, 0.5, None, product)


@pytest.mark.parametrize("query", QUERIES)
def test_the_program_asks_what_the_page_asks(query: Query) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    text = python_text(query, URL, with_key=True)
    assert 'os.environ["PRODUCT_MATCH_API_KEY"]' in text
    (line,) = (line for line in text.splitlines() if "ProductMatchClient(" in line)
    begin = text.index("client.match(") + len("client.match(")
    end = text.index("\n    )\n")
    eval(f"record({text[begin:end]})", {"record": lambda *a, **k: calls.append((a, k))})
    ((given, options),) = calls
    assert URL in line
    assert given == (("photo.jpg",) if query.sends_photo else ())
    assert options.pop("texts", "") == query.words
    assert options == query.options()
    # The client takes them as they are.
    match_call((b"photo" for _ in given), query.words or (), **options)


@pytest.mark.parametrize("query", QUERIES)
def test_the_command_is_one_that_bash_reads(query: Query, tmp_path: Path) -> None:
    text = curl_text(query, URL, with_key=True)
    assert "X-API-Key: $PRODUCT_MATCH_API_KEY" in text
    assert f"{URL}/v2/models/product_match/generate" in text
    (tmp_path / "photo.jpg").write_bytes(b"photo")
    # In place of curl: what would be sent.
    told = 'curl() { for last in "$@"; do [ "$last" = @- ] && cat; done; printf "%s\\n" "$@"; }\n'
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", told + text],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "PRODUCT_MATCH_API_KEY": "key-1"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "X-API-Key: key-1" in done.stdout
    assert ('{"image": "cGhvdG8=", ' in done.stdout) == query.sends_photo
    assert curl_text(query, "grpc://127.0.0.1:8001", with_key=False) == ONLY_HTTP


def test_fields_hold_numbers_or_nothing() -> None:
    assert [number_of("Price", text) for text in (None, " ", "5", " 0.5 ")] == [None, None, 5, 0.5]
    for text in "5 EUR", "nan", "-inf":
        with pytest.raises(BadRequestError, match=f"Price: got '{text}'; expected a number"):
            number_of("Price", text)
    assert filter_of([], None, None) == {}
    assert filter_of([], 1, 2) == {"price": {"$gte": 1, "$lte": 2}}


def test_a_liked_product_is_an_id_and_a_name() -> None:
    assert liked_from_text("") is None
    assert liked_from_text('["mug-1", "Mug & <b>"]') == LIKED
    for text in "mug-1", '["mug-1"]', '[1, "Mug"]', "[" * 9999:
        with pytest.raises(BadRequestError, match="like: got"):
            liked_from_text(text)


def test_whose_matches_are_shown_first() -> None:
    box = (0.0, 0.0, 0.5, 0.5)
    objects = (MatchedObject(1, box, 0.9, ()), MatchedObject(2, box, 0.8, (match("a"),)))

    def first(**details: Any) -> int:
        return shown_first(MatchResult((), details, "", objects))

    assert first() == 2
    assert first(likely=True) == 0
    assert first(likely=True, best_object=1) == 1
    assert shown_first(MatchResult((), {})) == 0


def test_what_comes_from_elsewhere_is_escaped_and_what_is_missing_is_named() -> None:
    hostile = "<img src=x onerror=alert(1)>\"'"
    found = match(
        hostile, name=hostile, category=hostile, currency=hostile, price=1, description=hostile
    )
    details = {
        "degraded": ["documents", hostile],
        "request_id": hostile,
        "bundle": {"name": hostile},
        "milliseconds": {hostile: 1.0, "total": 2.0},
        "min_score": 0.4,
    }
    box = (0.0, 0.0, 1.0, 1.0)
    result = MatchResult((found,), details, hostile, (MatchedObject(1, box, 0.9, (found,)),))
    query = Query(photo=PHOTO, words=hostile)
    liked = Query(liked=Liked(hostile, hostile), words=hostile)
    pictures: dict[str | None, Picture] = {None: Picture(reason=hostile)}
    for asked in query, liked:
        html = answer_html(asked, result, pictures, "data:,")
        assert "<img src=x" not in html
        assert "The database did not answer" in html
        assert "This part did not answer: &lt;img" in html
    assert alert(ClientError(hostile)) == (
        '<div class="pm-alert" role="alert">&lt;img src=x onerror=alert(1)&gt;&quot;&#x27;</div>'
    )


def test_stages_fill_the_bar_but_for_what_runs_beside_them() -> None:
    html = timings_html(
        {"milliseconds": {"caption": 30.0, "search": 10.0, "queue": 10.0, "total": 40.0}}
    )
    assert html.count("width:25.00%") == 2
    assert html.index("queue 10.0 ms") < html.index("search 10.0 ms")
    assert "caption, meanwhile 30.0 ms" in html
    assert "<strong>40 ms</strong>" in html


async def fetch_nothing() -> Picture:
    async with AsyncProductMatchClient("http://127.0.0.1:9") as client:
        found = await Pictures().fetch(client, ["0" * 64, None])
    assert found[None] == Picture()
    return found["0" * 64]


def test_a_picture_that_cannot_be_fetched_is_a_place_that_says_why() -> None:
    html = asyncio.run(fetch_nothing()).html('A "mug"')
    assert 'aria-label="A &quot;mug&quot;: cannot reach http://127.0.0.1:9' in html


def test_a_file_that_the_server_would_not_take_is_not_decoded() -> None:
    photo = picture(1)
    assert preview(photo, 64).startswith("data:image/webp;base64,")
    with pytest.raises(ImageError, match=f"at most {LIMITS.max_bytes} bytes"):
        preview(photo + bytes(LIMITS.max_bytes), 64)


def test_no_selector_is_cut_by_gradio() -> None:
    styles = re.sub(r"/\*.*?\*/", "", (ASSETS / "page.css").read_text("utf-8"), flags=re.DOTALL)
    selectors = re.findall(r"([^{};]+)\{", styles)
    assert len(selectors) > 100
    # It looks for commas, and gives each part a prefix of its own.
    assert [one for one in selectors if re.search(r":\w+\([^)]*,", one)] == []
