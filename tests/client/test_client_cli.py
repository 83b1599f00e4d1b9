"""The product-match command."""

from __future__ import annotations

import io
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from serving_support import picture

from product_match_client import (
    BadRequestError,
    IngestResult,
    Match,
    MatchedObject,
    MatchResult,
    NotFoundError,
    ProductPicture,
    ServerError,
    cli,
)
from product_match_client.documents import attribute_from_text, price_from_text

DETAILS = {
    "bundle": {"name": "mini", "fingerprint": "f00"},
    "milliseconds": {"total": 38.2},
    "request_id": "r1",
    "degraded": [],
}
MATCHES = (
    Match("A-1", 0.91, 0.95, None, {"name": "Mug [blue]", "price": 1249.5, "currency": "EUR"}),
    Match("A-2", 0.5, 0.25, 0.75, {"name": "Plate"}),
)


class FakeClient:
    """Stands in for ProductMatchClient: answers what it is told and keeps what it is asked."""

    answer: Any = None
    asked: list[Any]
    opened: tuple[Any, ...]
    headers: dict[str, str]
    private: bool

    def __init__(
        self, url: str, timeout_s: float, headers: dict[str, str], *, allow_private_links: bool
    ) -> None:
        type(self).opened = (url, timeout_s)
        type(self).private = allow_private_links
        type(self).headers = headers

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def _reply(self, *asked: Any) -> Any:
        self.asked.append(asked)
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer

    def match(self, images: Any, texts: Any, **options: Any) -> Any:
        return self._reply(images, texts, options)

    def upsert(self, product: Any, images: Any, *, caption: Any) -> Any:
        return self._reply(product, images, caption)

    def delete(self, product_id: str) -> Any:
        return self._reply(product_id)

    def get(self, product_id: str) -> Any:
        return self._reply(product_id)

    def picture(self, product_id: Any, number: Any, **options: Any) -> Any:
        return self._reply(product_id, number, options)

    def report(self, report: str, **options: Any) -> Any:
        return self._reply(report, options)


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> type[FakeClient]:
    kind = type("FakeClientOfOneTest", (FakeClient,), {"asked": []})
    monkeypatch.setattr(cli, "ProductMatchClient", kind)
    monkeypatch.delenv("PRODUCT_MATCH_URL", raising=False)
    monkeypatch.setenv("COLUMNS", "100")
    return kind


def test_match_hands_over_its_arguments(fake: type[FakeClient]) -> None:
    fake.answer = MatchResult((), {})
    argv = ["match", "a.jpg", "b.jpg", "--text", "red mug", "--text", "chipped"]
    argv += ["--text-weight", "1", "--text-weight", "-0.5", "--image-weight", "2"]
    argv += ["--like", "p1", "--like", "p=2", "--like-weight", "1", "--like-weight", "-0.5"]
    argv += ["--crop", "0,0.1,0.5,1", "--filter", '{"price": {"$lt": 50}}']
    argv += ["--facet", "attributes.colour=5", "--facet", "price=10, 20.5", "--facet", "name=3,"]
    argv += ["--sort=-price", "--top-k", "3", "--offset", "6", "--min-score", "0.2"]
    argv += ["--caption", "always", "--objects", "auto", "--max-objects", "4"]
    assert cli.main(argv) == 0
    ((images, texts, options),) = fake.asked
    assert images == ["a.jpg", "b.jpg"]
    assert texts == ["red mug", "chipped"]
    assert options == {
        "image_weights": [2.0],
        "text_weights": [1.0, -0.5],
        "like": ["p1", "p=2"],
        "like_weights": [1.0, -0.5],
        "crops": [(0.0, 0.1, 0.5, 1.0)],
        "top_k": 3,
        "offset": 6,
        "filter": {"price": {"$lt": 50}},
        "facets": {"attributes.colour": 5, "price": [10.0, 20.5], "name": [3.0]},
        "sort": "-price",
        "min_score": 0.2,
        "caption": "always",
        "objects": "auto",
        "max_objects": 4,
    }


def test_match_prints_a_table(fake: type[FakeClient], capsys: pytest.CaptureFixture[str]) -> None:
    fake.answer = MatchResult(MATCHES, {**DETAILS, "degraded": ["documents"]})
    assert cli.main(["match", "--text", "x", "--offset", "10"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["#", "id", "name", "price", "score", "image", "text"]
    first = ["11", "A-1", "Mug", "[blue]", "1,249.50", "EUR", "0.910", "0.950", "-"]
    assert lines[1].split() == first
    assert lines[2].split() == ["12", "A-2", "Plate", "-", "0.500", "0.250", "0.750"]
    assert lines[3].strip() == "2 matches, 38 ms, bundle mini, request r1"
    assert lines[4].strip() == "The service is degraded: documents"


def test_match_prints_json(fake: type[FakeClient], capsys: pytest.CaptureFixture[str]) -> None:
    fake.answer = MatchResult(MATCHES, DETAILS)
    assert cli.main(["match", "--text", "x", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["matches"][0]["product_id"] == "A-1"
    assert answer["matches"][0]["text_score"] is None
    assert answer["details"] == DETAILS


OBJECTS = (
    MatchedObject(1, (0.31, 0.2, 0.54, 0.804), 0.873, MATCHES),
    MatchedObject(2, (0.6, 0.0, 1.0, 0.5), 0.5, ()),
)


def test_match_prints_a_table_for_each_object(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = MatchResult(MATCHES[:1], {**DETAILS, "best_object": 1}, "", OBJECTS)
    assert cli.main(["match", "a.jpg", "--objects", "always"]) == 0
    out = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert out[0] == "whole photo"
    assert out[2].split()[:2] == ["1", "A-1"]
    place = "31-54% from the left, 20-80% from the top"
    assert out[4] == f"object 1: {place} (score 0.87), fits the text best"
    assert [line.split()[1] for line in out[6:8]] == ["A-1", "A-2"]
    assert out[9:11] == [
        "object 2: 60-100% from the left, 0-50% from the top (score 0.50)",
        "no product matches",
    ]
    assert out[12] == "3 matches, 2 objects, 38 ms, bundle mini, request r1"


def test_match_prints_objects_as_json(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = MatchResult((), {**DETAILS, "best_object": None}, "", OBJECTS)
    assert cli.main(["match", "a.jpg", "--objects", "auto", "--json"]) == 0
    first, second = json.loads(capsys.readouterr().out)["objects"]
    assert first["box"] == [0.31, 0.2, 0.54, 0.804]
    assert [match["product_id"] for match in first["matches"]] == ["A-1", "A-2"]
    assert (second["number"], second["score"], second["matches"]) == (2, 0.5, [])


@pytest.mark.parametrize(
    ("found", "line"),
    [
        ({"status": "none", "found": 0}, "objects: 0 found; the whole photo was matched alone"),
        ({"status": "ok", "found": 1}, "objects: 1 found; the whole photo was matched alone"),
        ({"status": "no_image", "found": 0}, "objects: there is no photo to look for them in"),
        (
            {"status": "unavailable", "found": 0, "reason": "no detector"},
            "objects: could not be looked for: no detector",
        ),
        ({"status": "not_asked", "found": 0}, None),
    ],
)
def test_match_says_why_there_are_no_objects(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    found: dict[str, Any],
    line: str | None,
) -> None:
    fake.answer = MatchResult(MATCHES, {**DETAILS, "objects": found})
    assert cli.main(["match", "a.jpg"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[0] == "#"
    assert [item for item in lines if item.startswith("objects:")] == ([line] if line else [])


FACETS = {
    "category": {
        "values": [{"value": "mug [blue]", "count": 12}, {"value": True, "count": 3}],
        "others": 2,
        "missing": 0,
    },
    "price": {
        "ranges": [
            {"from": None, "to": 10.0, "count": 0},
            {"from": 10.0, "to": 1249.5, "count": 16},
            {"from": 1249.5, "to": None, "count": 1},
        ],
        "least": 12,
        "most": 1250.25,
        "missing": 4,
    },
}


def test_match_prints_facets_below_the_matches(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = MatchResult(MATCHES[:1], {**DETAILS, "facets": FACETS})
    assert cli.main(["match", "--like", "A-2", "--facet", "category=2"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[2:15] == [
        "",
        "category      products",
        "mug [blue]          12",
        "yes                  3",
        "other values         2",
        "",
        "price (12 to 1250.25)  products",
        "below 10                      0",
        "10 to below 1249.5           16",
        "1249.5 and above              1",
        "no value                      4",
        "",
        "1 match, 38 ms, bundle mini, request r1",
    ]


def test_match_prints_facets_of_nothing_and_those_of_the_whole_photo(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    none = {"ranges": [], "least": None, "most": None, "missing": 0}
    fake.answer = MatchResult((), {**DETAILS, "facets": {"price": none}}, "", OBJECTS)
    assert cli.main(["match", "a.jpg", "--facet", "price=10,"]) == 0
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert lines[-5:-1] == ["no product matches", "", "price  products", ""]


def test_match_prints_facets_as_json(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = MatchResult((Match("a", 1, 1, None, {}, view=2),), {"facets": FACETS})
    assert cli.main(["match", "--like", "A-2", "--facet", "category=2", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["details"]["facets"] == FACETS
    assert answer["matches"][0]["view"] == 2


def test_a_field_is_counted_in_one_way(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["match", "--like", "a", "--facet", "price=3", "--facet", "price=1,2"]) == 2
    assert "each field in one --facet" in capsys.readouterr().err
    assert fake.asked == []


@pytest.mark.parametrize(
    ("flags", "mode"), [([], "always"), (["--objects", "auto"], "auto"), (["--json"], "always")]
)
@pytest.mark.parametrize("suffix", [".png", ".JPG", ".webp"])
def test_a_picture_is_drawn_on_the_photo_that_was_sent(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    flags: list[str],
    mode: str,
    suffix: str,
) -> None:
    photo, drawn = tmp_path / "a.png", tmp_path / f"out{suffix}"
    photo.write_bytes(picture(1))
    fake.answer = MatchResult((), DETAILS, "", OBJECTS)
    assert cli.main(["match", str(photo), "--picture", str(drawn), *flags]) == 0
    ((images, _, options),) = fake.asked
    assert images == [photo.read_bytes()]
    assert options["objects"] == mode
    with Image.open(drawn) as image:
        assert image.format == {".png": "PNG", ".JPG": "JPEG", ".webp": "WEBP"}[suffix]
    out = capsys.readouterr().out
    assert ("drawn: " in out) == ("--json" not in flags)
    if "--json" in flags:
        json.loads(out)


@pytest.mark.parametrize("photos", [[], ["a.jpg", "b.jpg"]])
def test_a_picture_is_drawn_on_one_photo_alone(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str], photos: list[str]
) -> None:
    assert cli.main(["match", *photos, "--text", "x", "--picture", "out.png"]) == 2
    expected = f"product-match: --picture draws on one photo; got {len(photos)}\n"
    assert capsys.readouterr().err == expected
    assert fake.asked == []


def test_a_picture_that_cannot_be_written_or_drawn_on_is_exit_status_2(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    photo = tmp_path / "a.png"
    photo.write_bytes(picture(1))
    fake.answer = MatchResult((), DETAILS)
    missing = tmp_path / "no" / "such.png"
    assert cli.main(["match", str(photo), "--picture", str(missing)]) == 2
    assert f"cannot write {missing}: No such file" in capsys.readouterr().err
    photo.write_bytes(b"no picture")
    assert cli.main(["match", str(photo), "--picture", str(tmp_path / "out.png")]) == 2
    assert "cannot draw on the photo: " in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "least", "hint"),
    [
        ([], None, "adding products"),
        ([], 0.4, "a lower --min-score"),
        (["--min-score", "0.9"], 0.9, "a lower --min-score"),
        (
            ["--filter", "{}", "--offset", "5"],
            None,
            "fewer conditions in --filter; a smaller --offset",
        ),
    ],
)
def test_no_match_is_said_with_what_could_be_tried(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    least: float | None,
    hint: str,
) -> None:
    fake.answer = MatchResult((), {**DETAILS, "min_score": least})
    assert cli.main(["match", "--text", "x", *flags]) == 0
    out = capsys.readouterr().out
    assert out.startswith("no product matches")
    assert hint in out


@pytest.mark.parametrize(
    ("error", "status"), [(BadRequestError("why"), 2), (ServerError("why"), 1)]
)
def test_errors_are_one_sentence_on_stderr(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str], error: Exception, status: int
) -> None:
    fake.answer = error
    assert cli.main(["match", "--text", "x"]) == status
    captured = capsys.readouterr()
    assert captured.err == "product-match: why\n"
    assert captured.out == ""


def test_a_closed_port_is_exit_status_1(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert cli.main(["--url", url, "match", "--text", "x"]) == 1
    assert f"cannot reach {url}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--url", "http://shop:80000"], "Port out of range"),
        (["--url", "http://"], "there is no host"),
        (["--timeout", "0"], "expected seconds above 0"),
        (["--timeout", "nan"], "expected seconds above 0"),
    ],
)
def test_a_connection_that_cannot_be_is_one_line(
    capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    assert cli.main([*flags, "get", "a"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("product-match: ")
    assert message in line


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["match", "--crop", "0,0,1"],
        ["match", "--crop", "a,b,c,d"],
        ["match", "--filter", "{"],
        ["match", "--filter", "[]"],
        ["match", "a.jpg", "--objects", "some"],
        ["match", "a.jpg", "--facet", "price"],
        ["match", "a.jpg", "--facet", "price=few"],
        ["match", "a.jpg", "--facet", "price=1,two"],
        ["match", "a.jpg", "--sort", "colour"],
        ["match", "a.jpg", "--picture", "out"],
        ["match", "a.jpg", "--picture", "out.heic"],
        ["add", "--attribute", "colour"],
        ["add", "--price", "cheap"],
        ["add", "--price", "nan"],
        ["remove"],
    ],
)
def test_bad_arguments_are_exit_status_2(argv: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        cli.main(argv)
    assert caught.value.code == 2


def test_the_url_is_a_flag_before_or_after_the_command_or_the_environment(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer = {}
    cli.main(["get", "a"])
    assert fake.opened == ("http://127.0.0.1:8000", 30.0)
    monkeypatch.setenv("PRODUCT_MATCH_URL", "grpc://shop:8001")
    cli.main(["get", "a"])
    assert fake.opened == ("grpc://shop:8001", 30.0)
    cli.main(["--url", "http://before", "--timeout", "2", "get", "a"])
    assert fake.opened == ("http://before", 2.0)
    cli.main(["get", "a", "--url", "http://after", "--timeout", "3"])
    assert fake.opened == ("http://after", 3.0)


def test_private_links_are_allowed_by_a_flag_before_or_after_the_command(
    fake: type[FakeClient],
) -> None:
    fake.answer = {}
    for argv, allowed in (
        (["get", "a"], False),
        (["--allow-private-links", "get", "a"], True),
        (["get", "a", "--allow-private-links"], True),
    ):
        cli.main(argv)
        assert fake.private is allowed


def test_the_api_key_comes_from_the_environment_only(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer = {}
    monkeypatch.delenv("PRODUCT_MATCH_API_KEY", raising=False)
    cli.main(["get", "a"])
    assert fake.headers == {}
    monkeypatch.setenv("PRODUCT_MATCH_API_KEY", "secret\n")
    cli.main(["get", "a"])
    assert fake.headers == {"x-api-key": "secret"}


def test_add_takes_a_product_by_flags(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = IngestResult("A-1", "created", 1, {})
    argv = ["add", "--id", "A-1", "--name", "Mug", "--price", "9.90", "--currency", "EUR"]
    argv += ["--attribute", "colour=blue", "--attribute", "litres=0.5", "--image", "a.jpg"]
    assert cli.main(argv) == 0
    ((product, images, caption),) = fake.asked
    assert caption is None
    assert product == {
        "product_id": "A-1",
        "name": "Mug",
        "price": 9.9,
        "currency": "EUR",
        "attributes": {"colour": "blue", "litres": 0.5},
    }
    assert images == ["a.jpg"]
    assert capsys.readouterr().out == "A-1: created (revision 1)\n"


def test_add_takes_a_product_from_a_file_or_stdin(
    fake: type[FakeClient], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answer = IngestResult("A-1", "created", 1, {})
    document = b'\xef\xbb\xbf{"product_id": "A-1", "name": "Mug"}'
    file = tmp_path / "product.json"
    file.write_bytes(document)
    assert cli.main(["add", str(file)]) == 0
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(document)))
    assert cli.main(["add", "-"]) == 0
    assert fake.asked == [({"product_id": "A-1", "name": "Mug"}, None, None)] * 2


@pytest.mark.parametrize(
    ("listed", "sent"),
    [
        (["front.jpg", "more/back.jpg"], ["front.jpg", "more/back.jpg"]),
        (["https://shop.example/a.jpg"], ["https://shop.example/a.jpg"]),
        ("front.jpg", ["front.jpg"]),
        ([], None),
        # As `get --json` prints them: these are stored, and stay.
        ([{"sha256": "f00", "width": 4, "height": 4}], None),
    ],
)
def test_add_sends_the_images_that_a_file_names_beside_it(
    fake: type[FakeClient], tmp_path: Path, listed: Any, sent: list[str] | None
) -> None:
    fake.answer = IngestResult("A-1", "created", 1, {})
    file = tmp_path / "product.json"
    file.write_text(json.dumps({"product_id": "A-1", "images": listed}), encoding="utf-8")
    assert cli.main(["add", str(file)]) == 0
    paths = sent and [name if "://" in name else str(tmp_path / name) for name in sent]
    assert fake.asked == [({"product_id": "A-1"}, paths, None)]


@pytest.mark.parametrize(
    ("listed", "flags", "message"),
    [
        (["a.jpg"], ["--image", "b.jpg"], "in the file or by --image, not both"),
        ([7], [], "expected a list of names"),
        ({"front": "a.jpg"}, [], "expected a list of names"),
        ([""], [], "expected a list of names"),
    ],
)
def test_add_refuses_images_that_it_would_not_send(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    listed: Any,
    flags: list[str],
    message: str,
) -> None:
    file = tmp_path / "product.json"
    file.write_text(json.dumps({"product_id": "A-1", "images": listed}), encoding="utf-8")
    assert cli.main(["add", str(file), *flags]) == 2
    assert message in capsys.readouterr().err
    assert fake.asked == []


@pytest.mark.parametrize(
    ("caption", "line"),
    [
        ({"status": "ok", "used": True, "text": "a [red] mug"}, "description: a [red] mug (gen"),
        ({"status": "low_confidence", "used": False}, "no description was generated: low confid"),
        (
            {"status": "unavailable", "used": False, "reason": "no captioner"},
            "no description was generated: no captioner",
        ),
        ({"status": "not_asked", "used": False}, ""),
    ],
)
def test_add_tells_what_became_of_the_description_it_asked_for(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    caption: dict[str, Any],
    line: str,
) -> None:
    fake.answer = IngestResult("A-1", "created", 1, {"caption": caption, "degraded": []})
    assert cli.main(["add", "--id", "A-1", "--name", "Mug", "--caption", "missing"]) == 0
    assert fake.asked == [({"product_id": "A-1", "name": "Mug"}, None, "missing")]
    created, _, rest = capsys.readouterr().out.partition("\n")
    assert created == "A-1: created (revision 1)"
    assert rest.startswith(line)
    assert bool(rest) is bool(line)


@pytest.mark.parametrize(
    ("caption", "line"),
    [
        ({"confidence": 0.82, "used": True}, "caption: a [red] mug (confidence 0.82, searched"),
        ({"confidence": 0.82, "used": False}, "caption: a [red] mug (confidence 0.82)\n"),
    ],
)
def test_match_prints_the_caption(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    caption: dict[str, Any],
    line: str,
) -> None:
    fake.answer = MatchResult(MATCHES, {**DETAILS, "caption": caption}, "a [red] mug")
    assert cli.main(["match", "a.jpg"]) == 0
    assert line in capsys.readouterr().out
    fake.answer = MatchResult(MATCHES, {**DETAILS, "caption": {"status": "not_asked"}})
    assert cli.main(["match", "a.jpg"]) == 0
    assert "caption" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["add"], "as a file, as - for stdin, or by --id and --name"),
        (["add", "--id", "A-1"], "by --id and --name"),
        (["add", "product.json", "--name", "Mug"], "not both (--name)"),
        (["add", "no/such.json"], "cannot read no/such.json: No such file"),
        (["add", __file__], "is not JSON"),
    ],
)
def test_add_says_what_is_wrong_with_its_product(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str], argv: list[str], message: str
) -> None:
    assert cli.main(argv) == 2
    assert message in capsys.readouterr().err
    assert fake.asked == []


@pytest.mark.parametrize(
    ("status", "exit_status", "text"), [("deleted", 0, "deleted"), ("not_found", 2, "not found")]
)
def test_remove_says_what_became_of_each(
    fake: type[FakeClient],
    capsys: pytest.CaptureFixture[str],
    status: str,
    exit_status: int,
    text: str,
) -> None:
    fake.answer = IngestResult("x", status, 1, {})
    assert cli.main(["remove", "a", "b"]) == exit_status
    assert capsys.readouterr().out == f"a: {text}\nb: {text}\n"
    assert fake.asked == [("a",), ("b",)]


def test_get_shows_the_document(fake: type[FakeClient], capsys: pytest.CaptureFixture[str]) -> None:
    fake.answer = {"product_id": "A-1", "name": "[b]Mug[/b]", "attributes": {"colour": "blue"}}
    assert cli.main(["get", "A-1"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["product_id", "A-1"],
        ["name", "[b]Mug[/b]"],
        ["attributes"],
        ["colour", "blue"],
    ]
    assert cli.main(["get", "A-1", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fake.answer


def test_get_of_an_unknown_product_is_exit_status_2(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = None
    assert cli.main(["get", "A-1"]) == 2
    assert capsys.readouterr().err == "product-match: there is no product 'A-1'\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("-0.5", -0.5),
        ("0", 0),
        ("True", True),
        ("false", False),
        (" blue ", "blue"),
        ("007", "007"),
        ("1e5", "1e5"),
        ("1.", "1."),
        ("nan", "nan"),
        ("12345678901234567890", "12345678901234567890"),
        ("", ""),
    ],
)
def test_attributes_are_numbers_where_they_look_like_nothing_else(text: str, value: Any) -> None:
    parsed = attribute_from_text(text)
    assert parsed == value
    assert type(parsed) is type(value)


def test_prices_are_finite_numbers() -> None:
    assert price_from_text("59.90") == 59.9
    for text in ("", "12,50", "inf", "nan"):
        with pytest.raises(ValueError, match="expected a number"):
            price_from_text(text)


# Colours, a window's title, the same in one character, and text that is turned around.
STEERING = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202egpj.exe"
SHOWN = r"\x1b[31mred\x1b[0m \x1b]0;title\x07 \x9b2J \u202egpj.exe"


def test_stored_text_does_not_steer_the_terminal(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    product = {"name": STEERING, "currency": "\x1b[1m", "price": 1, STEERING: {"a\x1b": STEERING}}
    outputs = []
    for argv, fake.answer in (
        (["get", "a"], product),
        (["match", "--text", "x"], MatchResult((Match("a", 1, 1, 1, product),), DETAILS, STEERING)),
        (
            ["match", "--text", "x"],
            MatchResult((), {**DETAILS, "objects": {"status": "unavailable", "reason": STEERING}}),
        ),
        (
            ["match", "--text", "x"],
            MatchResult((), {"facets": {STEERING: {"values": [{"value": STEERING, "count": 1}]}}}),
        ),
        (["add", "--id", "a", "--name", "b"], IngestResult(STEERING, "created", 1, {})),
        (["remove", STEERING], IngestResult("a", "deleted", 1, {})),
        (["get", "a"], ServerError(STEERING)),
    ):
        cli.main(["--timeout", "9", *argv])
        outputs.append("".join(capsys.readouterr()))
        assert outputs[-1].replace("\n", "").isprintable(), ascii(outputs[-1])
    assert SHOWN in outputs[0]
    fake.answer = product
    assert cli.main(["get", "a", "--json"]) == 0
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == product


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8", "utf-16"])
def test_output_goes_to_a_terminal_of_any_encoding(
    fake: type[FakeClient], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    fake.answer = {"product_id": "日本-7", "name": "Tässchen \U0001f375 \udcff"}

    def output(*flags: str) -> str:
        stdout = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
        monkeypatch.setattr("sys.stdout", stdout)
        assert cli.main(["get", "日本-7", *flags]) == 0
        stdout.flush()
        return stdout.buffer.getvalue().decode(encoding)  # type: ignore[attr-defined]

    assert json.loads(output("--json")) == fake.answer
    shown = "日本-7" if encoding.startswith("utf") else r"\u65e5\u672c-7"
    assert shown in output()


# --- pictures -----------------------------------------------------------------------------------

PICTURE = ProductPicture(b"a picture", "image/webp", 320, 200, "ab" * 32)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.webp", "webp"), ("a.JPG", "jpeg"), ("a.jpeg", "jpeg")]
)
def test_a_picture_goes_to_a_file_in_the_format_of_its_name(
    fake: type[FakeClient],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    kind: str,
) -> None:
    fake.answer = PICTURE
    out = tmp_path / name
    argv = ["picture", "mug", "--number", "2", "--size", "320", "--out", str(out)]
    assert cli.main(argv) == 0
    assert fake.asked == [("mug", 2, {"sha256": None, "size": 320, "format": kind})]
    assert out.read_bytes() == b"a picture"
    assert "320 x 200 pixels" in capsys.readouterr().out


def test_a_picture_by_its_hash_goes_to_stdout(
    fake: type[FakeClient], capsysbinary: pytest.CaptureFixture[bytes]
) -> None:
    fake.answer = PICTURE
    assert cli.main(["picture", "ab" * 32]) == 0
    assert fake.asked == [(None, None, {"sha256": "ab" * 32, "size": None, "format": None})]
    assert capsysbinary.readouterr().out == b"a picture"


def test_a_terminal_gets_no_picture(
    fake: type[FakeClient],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    assert cli.main(["picture", "mug"]) == 2
    assert "--out" in capsys.readouterr().err
    assert not fake.asked


def test_a_picture_that_is_not_there_or_cannot_be_written_is_the_callers_fault(
    fake: type[FakeClient], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = PICTURE
    assert cli.main(["picture", "mug", "--out", str(tmp_path / "none" / "a.webp")]) == 2
    assert "cannot write" in capsys.readouterr().err
    fake.answer = NotFoundError("product_id: 'mug' is not stored")
    assert cli.main(["picture", "mug", "--out", str(tmp_path / "a.webp")]) == 2
    with pytest.raises(SystemExit) as refusal:
        cli.main(["picture", "mug", "--out", "a.png"])
    assert refusal.value.code == 2


# --- reports ------------------------------------------------------------------------------------


def test_a_report_is_printed_as_json(
    fake: type[FakeClient], capsys: pytest.CaptureFixture[str]
) -> None:
    fake.answer = {"report": "history", "buckets": [], "cut": False}
    assert cli.main(["report", "history", "--hours", "0.5", "--limit", "6"]) == 0
    assert cli.main(["report", "server"]) == 0
    assert fake.asked == [
        ("history", {"limit": 6, "hours": 0.5}),
        ("server", {"limit": None, "hours": None}),
    ]
    assert json.JSONDecoder().raw_decode(capsys.readouterr().out)[0] == fake.answer
    with pytest.raises(SystemExit) as refusal:
        cli.main(["report", "sales"])
    assert refusal.value.code == 2
