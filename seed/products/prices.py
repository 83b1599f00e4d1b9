"""Prices as people write them, by one rule that never guesses.

The rule for separators: of points and commas the last one is the decimal mark if both occur; one
that occurs several times groups thousands; one followed by exactly three digits may be either
(``1.299``), and is refused unless the layout or a person says what it is, or the digits before
it are 0 or more than three; any other is the decimal mark. Spaces and apostrophes group thousands.
"""

from __future__ import annotations

import math
import re
from typing import Any

from seed.records import BadRowError

# A sign that one currency alone has, and words that are not its code.
SIGNS = {
    "€": "EUR", "EURO": "EUR", "EUROS": "EUR", "£": "GBP", "₹": "INR", "₩": "KRW", "₽": "RUB",
    "₺": "TRY", "₴": "UAH", "₫": "VND", "₪": "ILS", "฿": "THB", "₱": "PHP", "₦": "NGN",
    "ZŁ": "PLN", "KČ": "CZK", "US$": "USD", "C$": "CAD", "CA$": "CAD", "A$": "AUD", "AU$": "AUD",
    "NZ$": "NZD", "HK$": "HKD", "S$": "SGD", "R$": "BRL",
}  # fmt: skip
# Those of several, with the currencies they may stand for.
SHARED_SIGNS = {
    "$": frozenset({"USD", "CAD", "AUD", "NZD", "HKD", "SGD", "MXN", "TWD", "ARS", "CLP", "COP"}),
    "¥": frozenset({"JPY", "CNY"}),
    "KR": frozenset({"SEK", "NOK", "DKK", "ISK"}),
}
# Three letters beside a number are a currency only if they are one: 5 per, 12 pcs.
_CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN "
    "BZD CAD CDF CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL "
    "GHS GIP GMD GNF GTQ GYD HKD HNL HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF "
    "KPW KRW KWD KYD KZT LAK LBP LKR LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN "
    "MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD "
    "SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB TJS TMT TND TOP TRY TTD TWD TZS UAH "
    "UGX USD UYU UZS VES VND VUV WST XAF XCD XCG XOF XPF YER ZAR ZMW ZWG"
)
CODES = frozenset(_CODES.split())
# A point right behind letters is theirs: Rs.500.
NUMBER = re.compile(r"[+-]?(\d[\d.,'\u2019 ]*|(?<!\w)[.,]\d+)")
# Thousands, or lakhs as in 1,00,000.
GROUPED = re.compile(r"\d{1,3}(?:[.,'\u2019 ]\d{3})+|\d{1,2}(?:,\d{2})+,\d{3}")
EXPECTED = "expected a number such as 59.90, with or without a currency"


def price_and_currency(price: Any, currency: Any, mark: str, default: str) -> tuple[Any, str]:
    """A row's price and the code of its currency.

    Args:
        price: a number, text, or None.
        currency: the row's own cell; None or text.
        mark: the decimal mark that is known, ``.`` or ``,``; empty: none is.
        default: the code for what has none, or a sign that several share; may be empty.

    Returns:
        The price, None without one, and the currency, empty without one.

    Raises:
        BadRowError: one of them cannot be read, means several things, or they differ.
    """
    written = currency.strip() if isinstance(currency, str) else currency
    code = _code(written, default) if written else ""
    amount: Any = None
    if isinstance(price, str):
        if not price.strip():
            return None, code
        amount, sign = number_and_sign(price, mark)
        if sign:
            from_sign = _code(sign, code or default)
            if code and from_sign != code:
                raise BadRowError(f"price is {price!r}, but currency is {written!r}; which is it?")
            code = from_sign
    elif isinstance(price, bool) or not isinstance(price, int | float | None):
        raise BadRowError(f"price is {price!r}; {EXPECTED}")
    else:
        amount = price
    if amount is not None and not math.isfinite(amount):
        raise BadRowError(f"price is {price!r}; {EXPECTED}")
    return amount, code or default


def number_and_sign(text: str, mark: str = "") -> tuple[float, str]:
    """The number in a price and what is written before or behind it.

    Raises:
        BadRowError: there is no number, several, or one that means two things.
    """
    plain = re.sub(r"\s", " ", text).strip()
    # Arabic writing has separators of its own.
    plain = plain.replace("\N{ARABIC DECIMAL SEPARATOR}", ".")
    plain = plain.replace("\N{ARABIC THOUSANDS SEPARATOR}", "'")
    plain = re.sub(r"[.,][-\u2013\u2014]+(?!\d)", "", plain)  # 12,-
    found = NUMBER.search(plain)
    if found is None:
        raise BadRowError(f"price is {text!r}; {EXPECTED}")
    number = found[0].rstrip(" '\N{RIGHT SINGLE QUOTATION MARK}")
    before, behind = plain[: found.start()].strip(), plain[found.start() + len(number) :].strip()
    minus = "-" in (before[:1], before[-1:], number[:1])
    sign = f"{before.strip('-')}{behind}".replace(" ", "")
    if any(letter.isdigit() or letter in "_/%+-" for letter in sign):
        raise BadRowError(f"price is {text!r}; {EXPECTED}")
    value = _number(number.lstrip("+-"), text, mark)
    return (-value if minus else value), sign


def _number(digits: str, text: str, mark: str) -> float:
    marks = [letter for letter in digits if letter in ".,"]
    groups, fraction = digits, ""
    if marks and _has_decimals(digits, marks, text, mark):
        groups, _, fraction = digits.rpartition(marks[-1])
    good = (
        (not fraction or fraction.isdecimal())
        and (not groups or groups.isdecimal() or GROUPED.fullmatch(groups))
        and (groups or fraction)
    )
    if not good:
        raise BadRowError(f"price is {text!r}; {EXPECTED}")
    whole = re.sub(r"\D", "", groups)
    return float(f"{whole or 0}.{fraction or 0}")


def _has_decimals(digits: str, marks: list[str], text: str, known: str) -> bool:
    """Whether the last point or comma is the decimal mark, by the rule above."""
    last = marks[-1]
    if len(marks) > 1:
        return marks.count(last) == 1
    if known:
        return last == known
    whole, _, rest = digits.partition(last)
    if len(rest) == 3 and len(whole) <= 3 and whole.strip("0"):
        raise BadRowError(
            f"price is {text!r}, which may be {whole}{rest} or {whole}.{rest}; say which mark "
            "begins the decimals with --decimal-mark . or --decimal-mark ,"
        )
    return True


def _code(written: Any, default: str) -> str:
    """The ISO 4217 code of a currency as it is written.

    Raises:
        BadRowError: it is none, or a sign of several and ``default`` is none of them.
    """
    if not isinstance(written, str):
        raise BadRowError(f"currency is {written!r}; expected a code such as EUR")
    upper = written.strip().upper().rstrip(".")
    if upper in SIGNS:
        return SIGNS[upper]
    if upper in SHARED_SIGNS:
        # What is said of the currency decides, if it fits.
        if default in SHARED_SIGNS[upper]:
            return default
        if default:
            raise BadRowError(f"price or currency has {written!r}, which is not {default}")
        raise BadRowError(
            f"{written!r} is the sign of several currencies; say which with --currency CODE, or "
            "in a column currency"
        )
    if upper in CODES:
        return upper
    raise BadRowError(f"currency is {written!r}; expected an ISO 4217 code such as EUR")
