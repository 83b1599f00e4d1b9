"""Sets to evaluate: what each layout gives, and what is said of one that cannot be read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from bls_models.errors import SetupError
from evaluation.__main__ import main, stranger_queries
from evaluation.sets import evaluation_set

CATALOGUE = "product_id,name,category\nm1,Red mug,mug\nm2,Blue mug,mug\nv1,Vase,vase\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Pictures and a catalogue of three products."""
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    (tmp_path / "products.csv").write_text(CATALOGUE)
    return tmp_path


def write_queries(folder: Path, text: str) -> Path:
    path = folder / "asked" / "queries.csv"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return path


def write_grocery(folder: Path) -> None:
    (folder / "train.txt").write_text("a.png, 0, 0\nb.png, 1, 0\n")
    (folder / "val.txt").write_text("c.png, 1, 0\n")
    (folder / "apple.txt").write_text("A sweet apple.")
    (folder / "classes.csv").write_text(
        "Class Name (str),Class ID (int),Coarse Class Name (str),Coarse Class ID (int),"
        "Iconic Image Path (str),Product Description Path (str)\n"
        "Royal-Gala,0,Apple,0,/a.png,/apple.txt\nPink-Lady,1,Apple,0,/b.png,/apple.txt\n"
    )


def test_without_a_folder_the_sample_catalogue_is_taken() -> None:
    content = evaluation_set(None)
    assert len(content.rows) == len(content.queries) == 72
    first = content.queries[0]
    assert first.product_ids == {"mug-classic-red"}
    assert "red" in first.text
    assert first.text.endswith("mug")


def test_the_grocery_layout_gives_train_pictures_as_views_and_val_pictures_as_queries(
    folder: Path,
) -> None:
    write_grocery(folder)
    content = evaluation_set(folder)
    assert [row.images for row in content.rows] == [(folder / "a.png",), (folder / "b.png",)]
    assert content.rows[1].product["description"] == "A sweet apple."
    (query,) = content.queries
    assert (query.image, query.text) == (folder / "c.png", "Apple")
    assert query.product_ids == {"Pink-Lady"}


def test_of_the_grocery_layout_the_studio_pictures_can_be_the_only_views(folder: Path) -> None:
    write_grocery(folder)
    (folder / "train.txt").write_text("c.png, 0, 0\nc.png, 1, 0\n")
    content = evaluation_set(folder, iconic=True)
    assert [row.images for row in content.rows] == [(folder / "a.png",), (folder / "b.png",)]
    assert content.name.endswith("studio pictures")


def test_a_csv_names_photos_words_and_right_products(folder: Path) -> None:
    path = write_queries(folder, "image,text,product_id\n../a.png,,m1\n,a mug,m1 m2\n")
    content = evaluation_set(path, folder / "products.csv")
    assert [query.product_ids for query in content.queries] == [{"m1"}, {"m1", "m2"}]
    assert [query.text for query in content.queries] == ["", "a mug"]
    assert content.queries[0].image == folder / "asked" / ".." / "a.png"
    assert content.queries[1].category == "mug"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("photo,product_id\na.png,m1\n", "has the columns photo, product_id; expected product_id"),
        ("image,product_id\n../a.png,m9\n", "line 2: product 'm9' is not in the catalogue"),
        ("image,product_id\nnone.png,m1\n", "line 2: the picture .*none.png does not exist"),
        ("image,text,product_id\n,,m1\n", "line 2: neither an image nor a text"),
        ("text,product_id\n", "0 queries on 3 products"),
    ],
)
def test_a_csv_that_cannot_be_used_is_refused_with_the_place(
    folder: Path, text: str, message: str
) -> None:
    with pytest.raises(SetupError, match=message):
        evaluation_set(write_queries(folder, text), folder / "products.csv")


def test_a_csv_needs_a_catalogue(folder: Path) -> None:
    with pytest.raises(SetupError, match="name their products' catalogue"):
        evaluation_set(write_queries(folder, "text,product_id\na,m1\n"))


def test_what_is_no_layout_is_refused_with_the_known_ones(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--dataset", str(folder / "none")]) == 1
    assert "none cannot be evaluated; expected a folder in the layout" in capsys.readouterr().err
    assert main(["--iconic"]) == 1
    assert "has no studio pictures" in capsys.readouterr().err


def test_a_catalogue_without_held_out_photos_is_refused(folder: Path) -> None:
    product = {"product_id": "m", "name": "Mug", "category": "mug", "images": [], "queries": []}
    (folder / "products.jsonl").write_text(json.dumps(product))
    with pytest.raises(SetupError, match="no product has a held-out photo"):
        evaluation_set(folder)


def test_strangers_are_the_photos_of_a_folder_or_the_queries_of_a_set(folder: Path) -> None:
    assert [query.name for query in stranger_queries(folder)] == ["a.png", "b.png", "c.png"]
    write_grocery(folder)
    assert [query.text for query in stranger_queries(folder)] == ["Apple"]
