"""Photos of several products: what is read, counted by hand, drawn and asked of a server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from bls_models.errors import SetupError
from bls_models.metric.fitting import Fit
from evaluation.__main__ import main
from evaluation.contact_sheet import GREEN, GREY, RED
from evaluation.scenes.figures import (
    SceneOutcome,
    figures_by_count,
    figures_from_scenes,
    overlap,
    scene_confusions,
)
from evaluation.scenes.report import scenes_report, show_scenes
from evaluation.scenes.sets import Box, Scene, SceneProduct, scenes_of_folder
from evaluation.scenes.sheet import AMBER, GAP, SIDE, scenes_sheet
from evaluation.sets import evaluation_set
from product_match_client import Match, MatchedObject
from seed.records import CatalogRow

LEFT: Box = (0.1, 0.2, 0.4, 0.8)
RIGHT: Box = (0.6, 0.2, 0.9, 0.8)
NO_METRIC = Fit(None, "too few products", (), 2, 4)
ROWS = [
    CatalogRow(number, {"product_id": name, "name": name, "category": category}, ())
    for number, (name, category) in enumerate([("m1", "Mug"), ("m2", "Mug"), ("v1", "Vase")])
]


def product(name: str, box: Box = LEFT) -> SceneProduct:
    return SceneProduct(name, box, frozenset({name}))


def found(number: int, box: Box, *names: str) -> MatchedObject:
    """An object with matches."""
    matches = tuple(Match(name, 0.9, 0.9, None, {"name": name}) for name in names)
    return MatchedObject(number, box, 0.5, matches)


def outcome(
    products: list[SceneProduct],
    objects: list[MatchedObject],
    own: list[str | None] | None = None,
    image: Path = Path("photo.png"),
) -> SceneOutcome:
    """A photo with what was found in it; what its own boxes show is right unless it is given."""
    names = [item.name for item in products] if own is None else own
    return SceneOutcome(Scene(image, tuple(products)), tuple(objects), tuple(names), 2.0)


def write_scenes(folder: Path, *lines: object) -> Path:
    Image.new("RGB", (200, 100), "white").save(folder / "1.png")
    text = "".join(f"{json.dumps(line)}\n" for line in lines)
    (folder / "scenes.jsonl").write_text(text, encoding="utf-8")
    return folder


def test_a_scene_names_products_or_categories(tmp_path: Path) -> None:
    objects = [{"product_id": "m2", "box": LEFT}, {"label": "mug", "box": RIGHT}]
    folder = write_scenes(
        tmp_path, {"file": "1.png", "objects": objects}, {"file": "1.png", "objects": []}
    )
    first, empty = scenes_of_folder(folder, ROWS)
    assert first.image == tmp_path / "1.png"
    assert [item.name for item in first.products] == ["m2", "mug"]
    assert [item.product_ids for item in first.products] == [{"m2"}, {"m1", "m2"}]
    assert first.products[1].box == RIGHT
    assert empty.products == ()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"file": "1.png", "objects": [{"product_id": "m9", "box": LEFT}]}, "or category 'm9'"),
        ({"file": "1.png", "objects": [{"label": "pear", "box": LEFT}]}, "or category 'pear'"),
        ({"file": "1.png", "objects": [{"label": "mug", "box": [0, 0, 2, 1]}]}, "line 1: the box"),
        ({"file": "1.png", "objects": [{"label": "mug", "box": [1, 2]}]}, "line 1: ValueError"),
        ({"file": "2.png", "objects": []}, "2.png does not exist"),
        ({"objects": []}, "line 1: KeyError.*expected a folder with scenes.jsonl"),
        ({"file": "1.png", "objects": []}, "names no products"),
    ],
)
def test_scenes_that_cannot_be_used_are_refused_with_the_place(
    tmp_path: Path, line: object, message: str
) -> None:
    with pytest.raises(SetupError, match=message):
        scenes_of_folder(write_scenes(tmp_path, line), ROWS)


def test_a_folder_without_scenes_is_told_the_layout(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--scenes", str(tmp_path)]) == 1
    assert "expected a folder with scenes.jsonl" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--scenes", str(tmp_path), "--direct"])
    assert "by the server alone" in capsys.readouterr().err


def test_overlap_is_that_of_areas() -> None:
    assert overlap(LEFT, LEFT) == pytest.approx(1)
    assert overlap(LEFT, RIGHT) == 0
    assert overlap((0, 0, 1, 1), (0.5, 0, 1.5, 1)) == pytest.approx(1 / 3)
    assert overlap((0, 0, 0, 0), (0, 0, 0, 0)) == 0


def test_products_are_found_by_boxes_that_share_half_and_right_by_their_first_match() -> None:
    figures = figures_from_scenes(
        [
            outcome(
                [product("a", LEFT), product("b", RIGHT)],
                [found(1, RIGHT, "c", "b"), found(2, LEFT, "a"), found(3, (0, 0, 0.2, 0.1), "a")],
                ["a", "a"],
            ),
            outcome([product("a"), product("b", RIGHT)], [found(1, (0.1, 0.2, 0.25, 0.4), "a")]),
        ]
    )
    assert (figures.scenes, figures.shown, figures.boxes) == (2, 4, 4)
    assert (figures.found, figures.right, figures.right_of_found) == (0.5, 0.25, 0.5)
    assert figures.right_in_true_boxes == 0.75
    assert (figures.boxes_on_nothing, figures.boxes_twice) == (2, 0)
    assert figures.found_interval[0] < 0.5 < figures.found_interval[1]


def test_two_boxes_on_one_product_count_once_the_better_one() -> None:
    near: Box = (0.12, 0.2, 0.4, 0.8)
    item = outcome([product("a")], [found(1, near, "b"), found(2, LEFT, "a")])
    assert item.found == (item.objects[1],)
    figures = figures_from_scenes([item])
    assert (figures.right, figures.boxes_twice, figures.boxes_on_nothing) == (1, 1, 0)


def test_two_products_do_not_share_one_box() -> None:
    near: Box = (0.12, 0.2, 0.4, 0.8)
    item = outcome([product("a", near), product("b", LEFT)], [found(1, LEFT, "b")])
    assert [other is not None for other in item.found] == [False, True]


def test_an_object_without_matches_is_found_and_wrong() -> None:
    item = outcome([product("a")], [found(1, LEFT)], [None])
    figures = figures_from_scenes([item])
    assert (figures.found, figures.right, figures.right_in_true_boxes) == (1, 0, 0)
    assert scene_confusions([item]) == []


def test_a_photo_of_nothing_counts_its_boxes() -> None:
    figures = figures_from_scenes([outcome([], [found(1, LEFT, "a")]), outcome([], [])])
    assert (figures.shown, figures.found, figures.boxes_on_nothing) == (0, 0, 1)


def test_photos_are_counted_apart_by_their_products_and_confusions_together() -> None:
    outcomes = [
        outcome([product("a")], [found(1, LEFT, "b")]),
        outcome([product("a"), product("b", RIGHT)], [found(1, LEFT, "b"), found(2, RIGHT, "b")]),
    ]
    assert {count: item.right for count, item in figures_by_count(outcomes).items()} == {
        1: 0,
        2: 0.5,
    }
    assert scene_confusions(outcomes) == [("a", "b", 2)]


def test_the_reports_top_level_is_what_is_served(capsys: pytest.CaptureFixture[str]) -> None:
    raw = [outcome([product("a")], [found(1, LEFT, "b")])]
    better = [outcome([product("a")], [found(1, LEFT, "a")])]
    facts = {"products": 3}
    report = json.loads(json.dumps(scenes_report(facts, raw, [], NO_METRIC)))
    assert (report["right"], report["raw"], report["products"]) == (0, None, 3)
    assert report["confusions"] == [{"right": "a", "found": "b", "objects": 1}]
    assert report["reason_for_no_metric"] == "too few products"
    report = json.loads(json.dumps(scenes_report(facts, raw, better, NO_METRIC)))
    assert (report["right"], report["raw"]["right"]) == (1, 0)
    assert report["by_products_in_photo"]["1"]["right"] == 1
    show_scenes(Console(width=120), raw, better, NO_METRIC)
    show_scenes(Console(width=120), raw, [], NO_METRIC)
    shown = capsys.readouterr().out
    assert "with the metric" in shown
    assert "no metric: too few products" in shown
    assert "most often taken for another" in shown


def test_the_sheet_draws_right_wrong_further_and_missed_boxes(tmp_path: Path) -> None:
    image = write_scenes(tmp_path) / "1.png"
    far: Box = (0.45, 0.1, 0.55, 0.9)
    middle: Box = (0.3, 0.1, 0.4, 0.9)
    item = outcome(
        [product("a", (0.1, 0.1, 0.2, 0.9)), product("b", (0.8, 0.1, 0.9, 0.9)), product("c", far)],
        [
            found(1, (0.1, 0.1, 0.2, 0.9), "a"),
            found(2, (0.8, 0.1, 0.9, 0.9), "a"),
            found(3, middle, "a"),
        ],
        image=image,
    )
    sheet = scenes_sheet([item])
    assert sheet.size == (SIDE + 2 * GAP, SIDE + 2 * GAP)
    low = GAP + round(0.9 * SIDE / 2)
    for x, colour in ((0.1, GREEN), (0.8, RED), (0.3, AMBER), (0.45, GREY)):
        assert sheet.getpixel((GAP + round(x * SIDE) + 3, low - 1)) == colour, x
    assert scenes_sheet([item] * 5).width > 4 * SIDE


def test_the_sample_scenes_show_products_of_the_sample_catalogue() -> None:
    content = evaluation_set(None)
    scenes = scenes_of_folder(Path(__file__).parents[2] / "seed/sample/scenes", content.rows)
    assert len(scenes) >= 20
    shown = {item.name for scene in scenes for item in scene.products}
    assert len(shown) >= 60
    assert any(len(scene.products) >= 5 for scene in scenes)
    for scene in scenes:
        assert scene.image.stat().st_size < 25_000
        with Image.open(scene.image) as picture:
            assert max(picture.size) == 512
