"""Which column is which field: the names that shops use, and what a person says."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from bls_models.errors import SetupError
from bls_models.product import ATTRIBUTE_KEY
from seed.options import ROW, ReadOptions

# By `plain_name`. Of several in one file the first counts, and the others are attributes.
FIELD_NAMES = {
    "product_id": (
        "product_id", "id", "sku", "item_id", "product_code", "item_number", "article_number",
        "artikelnummer", "artikel_nr", "artikelnr", "art_nr", "produkt_id", "produktnummer",
        "referencia", "reference", "codigo", "asin", "uid",
    ),
    "name": (
        "name", "title", "product_name", "product_title", "productdisplayname", "item_name",
        "bezeichnung", "artikelbezeichnung", "artikelname", "produktname", "titel", "nom", "titre",
        "nombre", "titulo", "nome", "titolo",
    ),
    "description": (
        "description", "body_html", "product_description", "long_description", "descr", "body",
        "short_description", "beschreibung", "produktbeschreibung", "descripcion", "descrizione",
        "descricao",
    ),
    "category": (
        "category", "categories", "product_category", "category_name", "product_type",
        "google_product_category", "article_type", "articletype", "kategorie", "kategorien",
        "warengruppe", "produktkategorie", "categorie", "categoria", "department", "type", "label",
    ),
    "price": (
        "price", "regular_price", "variant_price", "unit_price", "list_price", "preis",
        "verkaufspreis", "prix", "precio", "prezzo", "preco",
    ),
    "currency": (
        "currency", "currency_code", "price_currency", "wahrung", "devise", "moneda", "valuta",
        "moeda",
    ),
    "images": (
        "images", "image", "image_link", "image_url", "image_urls", "image_src", "image_path",
        "image_file", "file_name", "img", "picture", "pictures", "picture_url", "photo", "photos",
        "bild", "bilder", "bild_url", "foto", "fotos", "imagen", "imagenes", "immagine",
        "main_image", "featured_image", "thumbnail",
    ),
}  # fmt: skip
# Further pictures: image_2, Image URL 3, additional_image_link.
MORE_PICTURES = re.compile(
    r"(additional_image(_link)?s?|(image|img|picture|photo|bild|foto)(_?(url|link|src|path|file))?)"
    r"(_?\d+)?"
)
REQUIRED = ("product_id", "name", "category")
# Read as they are, and no attributes.
OTHER_FIELDS = frozenset({"attributes", "queries"})
FIELDS = frozenset({*FIELD_NAMES, *OTHER_FIELDS})


def plain_name(name: str) -> str:
    """A name by which columns are compared: ``Product ID`` as ``product_id``.

    ``Größe (EU)`` is ``grosse_eu``: keys of attributes have neither marks nor spaces.
    """
    folded = unicodedata.normalize("NFKD", name.casefold())
    letters = "".join(letter for letter in folded if not unicodedata.combining(letter))
    return re.sub(r"\W+", "_", letters).strip("_")


def targets_of_columns(
    columns: Sequence[str], options: ReadOptions, *, keep_names: bool = False
) -> dict[str, str]:
    """What each column becomes.

    Args:
        columns: in their order.
        options: what a person says comes first.
        keep_names: keep the names of attributes as they are where they can be keys (JSON).

    Returns:
        A product field, the key of an attribute, or empty text for a column that is left out, by
        column.
    """
    said = {column: field for field, column in options.columns.items()}
    targets = {column: "" for column in columns if column in options.left_out}
    targets |= {column: said[column] for column in columns if column in said}
    taken = {*targets.values(), *options.columns}
    plain = {column: plain_name(column) for column in columns if column not in targets}
    for field, names in FIELD_NAMES.items():
        if field in taken:
            continue
        found = {name: column for column, name in reversed(plain.items())}
        best = next((name for name in names if name in found), None)
        if best is not None:
            targets[found[best]] = field
            del plain[found[best]]
    has_pictures = "images" in targets.values()
    for place, (column, name) in enumerate(plain.items(), start=1):
        if name in OTHER_FIELDS:
            targets[column] = name
        elif MORE_PICTURES.fullmatch(name) and (has_pictures or name.startswith("additional")):
            targets[column] = "images"
        elif keep_names and ATTRIBUTE_KEY.fullmatch(column):
            targets[column] = column
        else:
            targets[column] = attribute_key(name, place)
    return {column: targets[column] for column in columns}


def attribute_key(name: str, place: int) -> str:
    """A name as the key of an attribute; letters that keys may not have are left out.

    Args:
        name: by `plain_name`.
        place: stands for a name that has no other letters.
    """
    key = re.sub(r"[^A-Za-z0-9_]+", "", name).strip("_")[:64]
    return key or f"column_{place}"


def check_said_columns(path: object, columns: Sequence[str], options: ReadOptions) -> None:
    """Check that a file has the columns that a person names.

    Raises:
        SetupError: it lacks one.
    """
    for column in (*options.columns.values(), *sorted(options.left_out)):
        if column not in columns and column != ROW:
            raise SetupError(f"{path} has no column {column!r}; it has: {', '.join(columns)}.")


def check_columns(
    path: object, columns: Sequence[str], targets: dict[str, str], options: ReadOptions
) -> None:
    """Check before anything is sent that a file has what every product needs.

    Raises:
        SetupError: it lacks a column.
    """
    present = {*targets.values(), *options.columns}
    if options.category:
        present.add("category")
    missing = [field for field in REQUIRED if field not in present]
    if missing:
        wanted = "; ".join(
            f"{field} ({', '.join(FIELD_NAMES[field][1:5])}, ... or --map {field}=COLUMN)"
            for field in missing
        )
        remedy = " --category gives all products one." if "category" in missing else ""
        raise SetupError(
            f"{path} has the columns {', '.join(columns)}; it also needs: {wanted}.{remedy}"
        )
    fields = [field for field in targets.values() if field and field != "images"]
    twice = sorted({field for field in fields if fields.count(field) > 1})
    if twice:
        raise SetupError(
            f"{path} has more than one column for {', '.join(twice)}; leave one out with "
            "--leave-out COLUMN."
        )
