"""Numbers and dates in keys whose order is that of their values. Pure.

A text that sorts, of any BSON number: its sign, the exponent of its first digit plus 6,176 in five digits, and its digits. Of a
negative number exponent and digits are complemented to nine, and a `:` ends it. `0` is zero, `!` NaN.

    9.6  -> 10617696        10.0 -> 1061771       -9.6 -> -9382303:

A double counts as the decimal that it is written as. Where that is not its exact value, as with most fractions, a mark follows
(`.`, of a negative number `;` instead of `:`): Decimal128 9.6 is another number than the double 9.6, in MongoDB, too, and has
another key. Equal numbers have one key, whatever their types, as they are one key in MongoDB's unique indexes.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from math import inf, nextafter
from typing import Any, Final, Literal

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128
from bson.int64 import Int64

from docferry.core.bson_codec.plain import EXACT, plain_number
from docferry.core.limits import NUMBER_DIGITS, NUMBER_MAX_ADJUSTED, NUMBER_MIN_ADJUSTED

Order = Literal["", "number", "-number", "date", "-date"]
_LEAST_EXPONENT: Final = 6176
"""Of Decimal128: 1E-6176."""
_ENDLESS: Final = "99999"
_COMPLEMENT: Final = str.maketrans("0123456789", "9876543210")
NAN, NAN_LAST, ZERO = "!", "2", "0"


def written(value: Any) -> tuple[Decimal, bool] | None:
    """(the decimal that a number is written as, whether that is not its exact value); None: it is no number."""
    kind = type(value)
    if kind is int or kind is Int64:
        return Decimal(int(value)), False
    if kind is float:
        number = Decimal(repr(value))
        return number, number.is_finite() and Decimal(value) != number
    if kind is Decimal128:
        return value.to_decimal(), False
    return None


def milliseconds(value: Any) -> int | None:
    """A date as milliseconds since 1970; None: it is none."""
    if isinstance(value, datetime):
        return int(DatetimeMS(value))
    return int(value) if isinstance(value, DatetimeMS) else None


def _of(value: Any, order: Order) -> tuple[Decimal, bool] | None:
    """The number that stands for a value in a key of this order; None: the value is of another kind."""
    if order.endswith("date"):
        found = milliseconds(value)
        number = (Decimal(found), False) if found is not None else None
    else:
        number = written(value)
    if number is None or order[:1] != "-":
        return number
    return number[0].copy_negate(), number[1]


def sortable_text(value: Any, order: Order) -> str | None:
    """A value in a key that is a text; None: it is not of the kind that the order is of."""
    found = _of(value, order)
    if found is None:
        return None
    number, rounded = found
    if number.is_nan():
        return NAN_LAST if order[:1] == "-" else NAN
    if not number:
        return ZERO
    if number.is_infinite():
        body = _ENDLESS
    else:
        plain = number.copy_abs().normalize(EXACT)
        digits = "".join(map(str, plain.as_tuple().digits))
        body = f"{plain.adjusted() + _LEAST_EXPONENT:05d}{digits}"
    if number < 0:
        return f"-{body.translate(_COMPLEMENT)}{';' if rounded else ':'}"
    return f"1{body}{'.' if rounded else ''}"


def read_sortable(text: str) -> Decimal:
    """The number that such a text stands for (of a descending key its negative, and NaN is NaN). Raises ValueError."""
    if text in (NAN, NAN_LAST):
        return Decimal("NaN")
    if text == ZERO:
        return Decimal(0)
    body = text[1:].rstrip(".") if text[:1] == "1" else text[1:-1].translate(_COMPLEMENT)
    if text[:1] not in ("1", "-") or not body.isdigit() or len(body) < len(_ENDLESS):
        raise ValueError(f"{text!r} is no sortable number")
    if body == _ENDLESS:
        number = Decimal("Infinity")
    else:
        exponent, digits = int(body[:5]) - _LEAST_EXPONENT, body[5:]
        number = Decimal((0, tuple(map(int, digits)), exponent - len(digits) + 1))
    return number if text[0] == "1" else number.copy_negate()


def number_text(value: Any, order: Order) -> str | None:
    """A value in a key that is a number, as DynamoDB writes it; None: it is of another kind, or no number that DynamoDB holds."""
    found = _of(value, order)
    if found is None or not found[0].is_finite():
        return None
    number = found[0].normalize(EXACT)
    if number and not NUMBER_MIN_ADJUSTED <= number.adjusted() <= NUMBER_MAX_ADJUSTED:
        return None
    return plain_number(number) if len(number.as_tuple().digits) <= NUMBER_DIGITS else None


def bounds_around(value: Any) -> tuple[Any, Any]:
    """Two numbers whose keys hold between them those of all numbers equal to `value`, and beyond them none that lies on its other
    side; (None, None): it is no number, or NaN.

    Keys go by what numbers are written as: beside a double that is not written exactly, a Decimal128 may stand on the wrong side.
    """
    found = written(value)
    if found is None or found[0].is_nan():
        return None, None
    number, rounded = found
    if not number.is_finite() or (not rounded and Decimal(float(number)) == number):
        return value, value
    double = float(number)
    return nextafter(double, -inf), nextafter(double, inf)


def is_ambiguous(value: Any, *, decimals: bool) -> bool:
    """Whether a number of another type, not equal to this one, would be written alike: as double and Decimal128 9.6 are.

    `decimals`: it is Decimal128 that such a number may be, else double.
    """
    if type(value) is float:
        found = written(value)
        return decimals and found is not None and found[1]
    if type(value) is not Decimal128 or decimals:
        return False
    number = value.to_decimal()
    double = float(number) if number.is_finite() else 0.0
    same = written(double)
    return same is not None and same[1] and same[0] == number
