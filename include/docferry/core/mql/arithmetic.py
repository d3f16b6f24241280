"""What $inc and $mul make of two BSON numbers: int32 grows into int64, a double makes a double, a Decimal128 a Decimal128.

Source: MongoDB 6.0 manual, "$inc" and "$mul", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from decimal import Decimal
from enum import Enum
from typing import Any, Final

from bson.decimal128 import Decimal128, create_decimal128_context
from bson.int64 import Int64

from docferry.core.bson_codec.options import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN

_CONTEXT: Final = create_decimal128_context()
_DOUBLE_DIGITS: Final = 15
"""MongoDB makes a Decimal128 of a double with this many digits, trailing zeros and all."""


class ArithmeticOperation(Enum):
    """The two operations."""

    ADD = "add"
    MULTIPLY = "multiply"


_PLAIN: Final[dict[ArithmeticOperation, Callable[[Any, Any], Any]]] = {
    ArithmeticOperation.ADD: operator.add,
    ArithmeticOperation.MULTIPLY: operator.mul,
}
_DECIMAL: Final[dict[ArithmeticOperation, Callable[[Decimal, Decimal], Decimal]]] = {
    ArithmeticOperation.ADD: _CONTEXT.add,
    ArithmeticOperation.MULTIPLY: _CONTEXT.multiply,
}


def is_number(value: Any) -> bool:
    """A BSON number. A bool is none."""
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def is_nan(value: Any) -> bool:
    return value.to_decimal().is_nan() if isinstance(value, Decimal128) else bool(value != value)


def combine(operation: ArithmeticOperation, one: Any, other: Any) -> Any:
    """The sum or product of two BSON numbers, in MongoDB's type for it.

    Raises: OverflowError for integers that do not fit into 64 bits.
    """
    if isinstance(one, Decimal128) or isinstance(other, Decimal128):
        return Decimal128(_DECIMAL[operation](_as_decimal(one), _as_decimal(other)))
    if isinstance(one, float) or isinstance(other, float):
        return _PLAIN[operation](float(one), float(other))
    result = _PLAIN[operation](int(one), int(other))
    if not INT64_MIN <= result <= INT64_MAX:
        raise OverflowError
    either_long = isinstance(one, Int64) or isinstance(other, Int64)
    return Int64(result) if either_long or not INT32_MIN <= result <= INT32_MAX else result


def whole_part(value: Any) -> int | None:
    """A number cut off to a 64-bit integer; None for what is no number, not finite, or does not fit."""
    if not is_number(value):
        return None
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    if isinstance(number, float | Decimal) and not math.isfinite(number):
        return None
    whole = int(number)
    return whole if INT64_MIN <= whole <= INT64_MAX else None


def remainder(value: Any, divisor: int) -> int | None:
    """What is left of a number's whole part, with the sign of the number as in C; None for what has none."""
    whole = whole_part(value)
    return None if whole is None else int(math.copysign(1, whole)) * (abs(whole) % abs(divisor))


def _as_decimal(value: Any) -> Decimal:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    number = Decimal(value)
    if not isinstance(value, float) or not number.is_finite() or not number:
        return number
    return _to_digits(_CONTEXT.plus(number))


def _to_digits(number: Decimal) -> Decimal:
    exponent = number.adjusted() - _DOUBLE_DIGITS + 1
    rounded = number.quantize(Decimal((0, (1,), exponent)), context=_CONTEXT)
    if len(rounded.as_tuple().digits) > _DOUBLE_DIGITS:
        rounded = number.quantize(Decimal((0, (1,), exponent + 1)), context=_CONTEXT)
    return rounded
