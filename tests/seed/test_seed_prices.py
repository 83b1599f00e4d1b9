"""Prices and currencies as people write them: one rule, and no guess."""

from __future__ import annotations

from typing import Any

import pytest

from seed.products.prices import price_and_currency
from seed.records import BadRowError

NBSP = "\N{NO-BREAK SPACE}"


def read(price: Any, currency: Any = None, mark: str = "", default: str = "") -> tuple[Any, str]:
    return price_and_currency(price, currency, mark, default)


@pytest.mark.parametrize(
    ("text", "price"),
    [
        ("5", 5),
        (" 12.5 ", 12.5),
        ("12,99", 12.99),
        ("12.99", 12.99),
        ("1.299,00", 1299),
        ("1,299.00", 1299),
        ("1.234.567", 1234567),
        ("1,234,567.8", 1234567.8),
        ("1,00,000.50", 100000.5),
        ("1 299", 1299),
        (f"1{NBSP}299,50", 1299.5),
        ("1'299.50", 1299.5),
        ("0.125", 0.125),
        ("0,125", 0.125),
        ("1299.125", 1299.125),
        ("1.2990", 1.299),
        ("12.", 12),
        (".5", 0.5),
        ("+5", 5),
        ("-5", -5),
        ("12,-", 12),
        (
            "\N{ARABIC-INDIC DIGIT THREE}\N{ARABIC DECIMAL SEPARATOR}\N{ARABIC-INDIC DIGIT FIVE}",
            3.5,
        ),
    ],
)
def test_a_price_is_read_by_the_rule(text: str, price: float) -> None:
    assert read(text) == (price, "")


@pytest.mark.parametrize("text", ["1.299", "1,299", "12.500", "€ 1.299"])
def test_one_mark_before_three_digits_is_not_guessed(text: str) -> None:
    with pytest.raises(BadRowError, match=r"which may be 1.*--decimal-mark \. or --decimal-mark ,"):
        read(text)


def test_a_known_mark_decides() -> None:
    assert [read("1.299", mark=mark)[0] for mark in ".,"] == [1.299, 1299]
    assert [read("1,299", mark=mark)[0] for mark in ".,"] == [1299, 1.299]
    with pytest.raises(BadRowError, match="expected a number"):
        read("12,99", mark=".")


@pytest.mark.parametrize(
    "text",
    ["free", "NaN", "inf", "1e3", "1_000", "0x10", "10-20", "1.2.3", "1,2.3,4", "12 13", "9" * 400,
     "2/3", "50%", "5 pcs", "from 5"],
)  # fmt: skip
def test_what_is_no_price_is_refused(text: str) -> None:
    with pytest.raises(BadRowError, match="expected"):
        read(text)


@pytest.mark.parametrize("value", [True, [5], {"amount": 5}, float("nan"), float("inf")])
def test_a_value_of_another_kind_is_refused(value: Any) -> None:
    with pytest.raises(BadRowError, match="expected a number"):
        read(value)


@pytest.mark.parametrize(
    ("price", "currency", "default", "result"),
    [
        ("15.00 USD", None, "", (15, "USD")),
        ("USD15.00", None, "", (15, "USD")),
        ("€ 5", "EUR", "", (5, "EUR")),
        ("5 €", None, "", (5, "EUR")),
        ("-£5", None, "", (-5, "GBP")),
        ("US $5", None, "", (5, "USD")),
        ("$5", "cad", "", (5, "CAD")),
        ("$5", None, "USD", (5, "USD")),
        ("5", "Euro", "", (5, "EUR")),
        (5, " eur ", "", (5, "EUR")),
        (5, None, "EUR", (5, "EUR")),
        (5, "", "", (5, "")),
        (None, None, "EUR", (None, "EUR")),
        ("", "EUR", "", (None, "EUR")),
    ],
)
def test_a_currency_may_stand_with_the_price_or_alone(
    price: Any, currency: Any, default: str, result: tuple[Any, str]
) -> None:
    assert read(price, currency, default=default) == result


@pytest.mark.parametrize(
    ("price", "currency", "message"),
    [
        ("$5", None, "sign of several currencies; say which with --currency CODE"),
        ("5", "$", "sign of several currencies"),
        ("$5", "EUR", "which is not EUR"),
        ("5 USD", "EUR", "price is '5 USD', but currency is 'EUR'; which is it"),
        ("5", "978", "currency is '978'; expected an ISO 4217 code"),
        ("5", "XYZ", "currency is 'XYZ'; expected an ISO 4217 code"),
        ("5", 978, "currency is 978; expected a code"),
        ("Rs.500", None, "currency is 'RS.'|currency is 'Rs.'"),
    ],
)
def test_a_currency_is_not_guessed(price: Any, currency: Any, message: str) -> None:
    with pytest.raises(BadRowError, match=message):
        read(price, currency)
