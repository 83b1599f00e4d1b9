"""Which pictures are a product's: by path, by name, by id, in folders of any name and case."""

from __future__ import annotations

import base64
import errno
import os
import zipfile
from pathlib import Path
from typing import Any

import pytest
from catalogue_support import errors, ids, pictures_of, read, touch, write

from seed.options import ReadOptions
from seed.pictures.references import picture_references
from seed.records import BadRowError, CatalogRow


def catalogue(folder: Path, *rows: str) -> Path:
    return write(folder / "list.csv", "id,title,category,images", *rows)


def only_pictures(path: Path, options: ReadOptions | None = None) -> list[str]:
    (row,) = read(path, options or ReadOptions())
    return pictures_of(row, path.parent)


class TestById:
    @pytest.mark.parametrize(
        "name",
        ["Images/cup.jpg", "cup.Jpg", "images/cup.jfif", "PHOTOS/cup.GIF", "bilder/cup.heic",
         "images/blue/cups/CUP.png", "images/cup_1.jpg", "images/cup-2.jpeg", "images/cup (3).webp",
         "images/cup/front.jpg", "media/x/Cup/1.JPG"],
    )  # fmt: skip
    def test_a_picture_is_found(self, tmp_path: Path, name: str) -> None:
        touch(tmp_path, name, "images/other.jpg", "images/cup.txt")
        assert only_pictures(catalogue(tmp_path, "cup,Cup,c,")) == [name]

    def test_several_are_in_the_order_of_their_numbers(self, tmp_path: Path) -> None:
        names = ["images/7.jpg", "images/7_1.jpg", "images/7_2.jpg", "images/7_10.jpg"]
        touch(tmp_path, *reversed(names), "images/71.jpg", "images/7_100.jpg")
        assert only_pictures(catalogue(tmp_path, "7,Cup,c,")) == names

    def test_a_spreadsheets_number_is_the_same_id(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/1163.jpg")
        assert only_pictures(catalogue(tmp_path, "1163.0,Cup,c,")) == ["images/1163.jpg"]

    def test_letters_may_be_composed_otherwise(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/tu\u0308r.jpg")
        assert only_pictures(catalogue(tmp_path, "t\u00fcr,Door,c,")) == ["images/tu\u0308r.jpg"]

    def test_other_folders_are_not_searched_unless_named(self, tmp_path: Path) -> None:
        touch(tmp_path, "holiday/1.jpg", ".cache/images/1.jpg", "queries/1.jpg")
        path = catalogue(tmp_path, "1,Cup,c,")
        assert only_pictures(path) == []
        assert only_pictures(path, ReadOptions(pictures=tmp_path / "holiday")) == ["holiday/1.jpg"]

    def test_links_between_folders_are_followed_once(self, tmp_path: Path) -> None:
        touch(tmp_path, "store/1.jpg", "list/none.txt")
        (tmp_path / "list" / "images").symlink_to(tmp_path / "store")
        (tmp_path / "store" / "again").symlink_to(tmp_path / "store")
        assert only_pictures(catalogue(tmp_path / "list", "1,Cup,c,")) == ["images/1.jpg"]


class TestByName:
    @pytest.mark.parametrize(
        ("cell", "names"),
        [
            ("images/a.jpg", ["images/a.jpg"]),
            ("./images/a.jpg", ["images/a.jpg"]),
            ("images\\a.jpg", ["images/a.jpg"]),
            ("A.JPG", ["images/a.jpg"]),
            ("a.jpg|b.png", ["images/a.jpg", "images/sub/b.png"]),
            ('"a.jpg, b.png"', ["images/a.jpg", "images/sub/b.png"]),
            ("a.jpg;b.png", ["images/a.jpg", "images/sub/b.png"]),
            ('"a.jpg\nb.png"', ["images/a.jpg", "images/sub/b.png"]),
            ('"red, blue.jpg"', ["images/red, blue.jpg"]),
            ('"[""a.jpg"", ""b.png""]"', ["images/a.jpg", "images/sub/b.png"]),
        ],
    )
    def test_a_cell_names_one_or_several(self, tmp_path: Path, cell: str, names: list[str]) -> None:
        touch(tmp_path, "images/a.jpg", "images/sub/b.png", "images/red, blue.jpg")
        assert only_pictures(catalogue(tmp_path, f"1,Cup,c,{cell}")) == names

    def test_further_columns_hold_further_ones(self, tmp_path: Path) -> None:
        touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
        header = "id,title,category,Image 1,Image 2,additional_image_link,image"
        path = write(tmp_path / "list.csv", header, "1,Cup,c,b.jpg,c.jpg,,a.jpg")
        assert sorted(only_pictures(path)) == ["a.jpg", "b.jpg", "c.jpg"]

    @pytest.mark.parametrize(
        ("cell", "message"),
        [
            ("no.jpg", "the picture 'no.jpg' is not in"),
            ("x" * 5000, "the picture 'x.*cannot be read: File name too long"),
            (
                '"' + ",".join(f"{n:0100}.jpg" for n in range(12)) + '"',
                "the picture '0+.jpg' is not",
            ),
            ("a\0b.jpg", "cannot be read: embedded null byte"),
            ("same.jpg", r"may be images/1/same.jpg or images/2/same.jpg; expected its path"),
            ('"data:image/png;utf8,x"', "data URL .* expected base64"),
            ('"data:image/png;base64,%%%"', "data URL that is not base64"),
        ],
    )
    def test_what_is_not_there_fails_its_row_alone(
        self, tmp_path: Path, cell: str, message: str
    ) -> None:
        touch(tmp_path, "images/1/same.jpg", "images/2/same.jpg", "images/3.jpg")
        rows = read(catalogue(tmp_path, f"1,Cup,c,{cell}", "3,Dish,c,"))
        assert ids(rows) == ["3"]
        ((line, told),) = errors(rows)
        assert line == 2
        with pytest.raises(BadRowError, match=message):
            raise BadRowError(told)

    def test_a_folder_that_may_not_be_read_fails_rows(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        touch(tmp_path, "images/m0.jpg")

        # Tests may run as a user who may read everything.
        def refused(path: Any, *_: Any, **__: Any) -> Any:
            if "images" in str(path):
                raise PermissionError(errno.EACCES, "Permission denied", str(path))
            return original(path)

        for name in ("scandir", "stat"):
            original = getattr(os, name)
            if name == "scandir":
                monkeypatch.setattr(os, name, refused)
                by_id = read(catalogue(tmp_path, "m0,Cup,c,"))
                monkeypatch.undo()
            else:
                monkeypatch.setattr(os, name, refused)
                by_name = read(catalogue(tmp_path, "m0,Cup,c,images/m0.jpg", "m1,Cup,c,list.csv"))
                monkeypatch.undo()
        assert "the folder of pictures" in errors(by_id)[0][1]
        assert "cannot be read: Permission denied" in errors(by_id)[0][1]
        assert "'images/m0.jpg' cannot be read: Permission denied" in errors(by_name)[0][1]
        assert ids(by_name) == ["m1"]


def references(value: Any) -> list[str | bytes]:
    return picture_references(value, lambda name: False)


class TestReferences:
    def test_links_are_separated_where_the_next_begins(self) -> None:
        links = ["https://a.example/w_1,h_2/a.jpg", "HTTP://b.example/b;c.jpg?x=1|2"]
        for separator in (", ", ",", "|", ";", " ", "\n"):
            assert references(separator.join(links)) == links

    def test_pictures_may_be_in_the_row_itself(self) -> None:
        url = "data:image/png;base64," + base64.b64encode(b"picture").decode()
        assert references(url) == [b"picture"]
        assert references(["a.jpg", url, b"bytes", {"bytes": b"inner", "path": "x"}]) == [
            "a.jpg",
            b"picture",
            b"bytes",
            b"inner",
        ]
        assert references({"bytes": None, "path": "a.jpg"}) == ["a.jpg"]
        assert references({"src": "https://a.example/a.jpg"}) == ["https://a.example/a.jpg"]

    @pytest.mark.parametrize("value", [None, "", "  ", [], {"bytes": None, "path": None}])
    def test_nothing_is_no_picture(self, value: Any) -> None:
        assert references(value) == []

    @pytest.mark.parametrize("value", [5, True, [None], [5], [""], "[", "[" * 100_000])
    def test_other_values_are_refused(self, value: Any) -> None:
        with pytest.raises(BadRowError, match="images"):
            references(value)


def test_a_data_url_is_one_rows_picture(tmp_path: Path) -> None:
    url = "data:image/jpeg;base64," + base64.b64encode(b"x" * 50_000).decode()
    (row,) = read(catalogue(tmp_path, f'1,Cup,c,"{url}"'))
    assert isinstance(row, CatalogRow)
    assert row.embedded == (b"x" * 50_000,)


class TestNoFolders:
    """A stranger's catalogue, of which no file of this machine may be read."""

    OPTIONS = ReadOptions(no_folders=True)

    def test_paths_are_refused_by_name_and_links_are_not(self, tmp_path: Path) -> None:
        touch(tmp_path, "list/mine.jpg", "beside.jpg")
        secret = tmp_path / "list" / "mine.jpg"
        names = [str(secret), "mine.jpg", "../beside.jpg", "/etc/passwd", "file:///etc/passwd"]
        rows = read(
            catalogue(
                tmp_path / "list",
                *(f"p{number},Cup,c,{name}" for number, name in enumerate(names)),
                "linked,Cup,c,https://a.example/a.jpg",
            ),
            self.OPTIONS,
        )
        assert [message for _, message in errors(rows)] == [
            f"the picture {name!r} is a path, and no files are read here; expected a link "
            "(https://...)"
            for name in names
        ]
        (linked,) = (row for row in rows if isinstance(row, CatalogRow))
        assert linked.links == ("https://a.example/a.jpg",)

    def test_none_is_found_by_the_products_id(self, tmp_path: Path) -> None:
        touch(tmp_path, "images/mine.jpg", "mine.jpg")
        path = catalogue(tmp_path, "mine,Cup,c,")
        assert only_pictures(path) != []
        assert only_pictures(path, self.OPTIONS) == []

    def test_an_archives_own_pictures_are_read(self, tmp_path: Path) -> None:
        touch(tmp_path, "beside.jpg", "images/packed.jpg")
        packed = tmp_path / "list.zip"
        with zipfile.ZipFile(packed, "w") as archive:
            header = "id,title,category,images"
            archive.writestr("list.csv", f"{header}\npacked,Cup,c,\nother,Cup,c,../beside.jpg\n")
            archive.writestr("images/packed.jpg", b"within")
        first, second = read(packed, self.OPTIONS)
        assert isinstance(first, CatalogRow)
        assert (first.images, first.embedded) == ((), (b"within",))
        assert "is not in" in errors([second])[0][1]
