"""A product's attributes as a table that can be edited, each value with its kind."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape

from demo.catalogue.faults import FormError
from product_match_client.documents import INTEGER, number_from_text

Value = str | float | bool

KINDS = {"text": "text", "number": "number", "boolean": "yes or no"}
PARTS = ("name", "kind", "value")
TABLE_ID = "catalogue-attributes"

# Rows are added, removed and given another kind in the browser; the table is read when it is saved.
EDITS = """
const valueOf = (kind) => {
  const field = document.createElement(kind === "boolean" ? "select" : "input");
  if (kind === "boolean") {
    field.append(new Option("yes", "true"), new Option("no", "false"));
  } else {
    field.type = kind;
    if (kind === "number") field.step = "any";
  }
  field.dataset.part = "value";
  field.ariaLabel = "Value";
  return field;
};
element.addEventListener("change", (event) => {
  if (event.target.dataset.part !== "kind") return;
  const old = event.target.closest("tr").querySelector("[data-part=value]");
  const field = valueOf(event.target.value);
  field.value = old.value;
  if (field.tagName === "SELECT" && field.selectedIndex < 0) field.selectedIndex = 0;
  old.replaceWith(field);
});
element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const rows = element.querySelector("tbody");
  if (button.dataset.does === "remove") {
    button.closest("tr").remove();
    element.querySelector("[data-does=add]").focus();
  } else {
    rows.append(element.querySelector("template").content.cloneNode(true));
    rows.lastElementChild.querySelector("[data-part=name]").focus();
  }
});
"""


def reading(place: int) -> str:
    """JavaScript that puts the table's rows, as JSON, at a place among an event's inputs."""
    return f"""(...inputs) => {{
      const rows = [...document.querySelectorAll("#{TABLE_ID} tbody tr")];
      inputs[{place}] = JSON.stringify(rows.map((row) => {json.dumps(PARTS)}.map(
        (part) => row.querySelector(`[data-part=${{part}}]`).value)));
      return inputs;
    }}"""


def attribute_table(attributes: Mapping[str, Value]) -> str:
    """The table of a product's attributes, as HTML."""
    rows = "".join(_row(name, value) for name, value in sorted(attributes.items()))
    return (
        '<div class="catalogue-label">Attributes</div><table class="catalogue-attributes">'
        "<thead><tr><th>Name</th><th>Kind</th><th>Value</th><th></th></tr></thead>"
        f"<tbody>{rows}</tbody></table><template>{_row('', '')}</template>"
        '<button type="button" class="pm-button" data-does="add">Add an attribute</button>'
    )


def attributes_from_rows(text: str) -> dict[str, Value]:
    """The attributes that the table's rows say.

    Args:
        text: as `reading` puts it: JSON, a list of name, kind and value each. Rows without a name
            and a value do not count.

    Raises:
        FormError: it is no such list, a name is missing or there twice, or a value is not of its
            kind.
    """
    attributes: dict[str, Value] = {}
    for name, kind, value in _rows(text):
        name = name.strip()
        if not name and (kind == "boolean" or not value.strip()):
            continue
        if not name:
            raise FormError(f"an attribute with the value {value!r} has no name; give it one")
        if name in attributes:
            raise FormError(f"the attribute {name!r} is there twice; expected each once")
        attributes[name] = _value(name, kind, value)
    return attributes


def _rows(text: str) -> list[list[str]]:
    try:
        rows = json.loads(text or "[]")
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list) or not all(map(_is_row, rows)):
        raise FormError("the attributes cannot be read; reload the page, and give them again")
    return rows


def _is_row(row: object) -> bool:
    return (
        isinstance(row, list)
        and len(row) == len(PARTS)
        and all(isinstance(part, str) for part in row)
        and row[PARTS.index("kind")] in KINDS
    )


def kind_of(value: Value) -> str:
    """The kind of an attribute's value, one of `KINDS`."""
    if isinstance(value, bool):
        return "boolean"
    return "text" if isinstance(value, str) else "number"


def _value(name: str, kind: str, text: str) -> Value:
    if kind == "boolean":
        return text == "true"
    if kind == "text":
        return text
    if INTEGER.fullmatch(text.strip()):
        return int(text)
    try:
        return number_from_text(text, f"the attribute {name!r}", "1.5")
    except ValueError as error:
        raise FormError(str(error)) from None


def _row(name: str, value: Value) -> str:
    kind = kind_of(value)
    kinds = "".join(
        f'<option value="{key}"{" selected" * (key == kind)}>{said}</option>'
        for key, said in KINDS.items()
    )
    return (
        f'<tr><td><input type="text" data-part="name" aria-label="Name" value="{escape(name)}">'
        f'</td><td><select data-part="kind" aria-label="Kind">{kinds}</select></td>'
        f"<td>{_field(kind, value)}</td>"
        '<td><button type="button" class="pm-button" data-does="remove" '
        f'aria-label="Remove {escape(name) or "this attribute"}">Remove</button></td></tr>'
    )


def _field(kind: str, value: Value) -> str:
    common = 'data-part="value" aria-label="Value"'
    if kind == "boolean":
        options = (("true", "yes", value), ("false", "no", not value))
        chosen = "".join(
            f'<option value="{key}"{" selected" * bool(is_it)}>{said}</option>'
            for key, said, is_it in options
        )
        return f"<select {common}>{chosen}</select>"
    step = ' step="any"' if kind == "number" else ""
    return f'<input type="{kind}"{step} {common} value="{escape(str(value))}">'
