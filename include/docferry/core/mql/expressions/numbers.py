"""Operators of numbers: $add and its kin. Whole numbers grow from int32 into int64, and past that into doubles."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_FLOOR, ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final

from bson.datetime_ms import DatetimeMS
from bson.decimal128 import Decimal128, create_decimal128_context
from bson.int64 import Int64

from docferry.core.bson_codec.options import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions.compiling import is_nullish, operator, refuse, shown
from docferry.core.mql.values import whole_number
from docferry.errors import ExpressionRefused

CONTEXT: Final = create_decimal128_context()
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as pymongo reads dates


def is_long(value: Any) -> bool:
    return isinstance(value, Int64)


def integer(value: int, *, long: bool) -> int:
    """As BSON has it: int32 where it fits and nothing that went in was an int64."""
    return Int64(value) if long or not INT32_MIN <= value <= INT32_MAX else int(value)


def is_date(value: Any) -> bool:
    return isinstance(value, datetime | DatetimeMS)


def milliseconds(value: Any) -> int:
    """Of a date, since 1970."""
    if isinstance(value, DatetimeMS):
        return int(value)
    return int((value - _EPOCH) // timedelta(milliseconds=1))


def date_at(at: int) -> Any:
    try:
        return _EPOCH + timedelta(milliseconds=at)
    except OverflowError:
        return DatetimeMS(at)


def as_decimal(value: Any) -> Decimal:
    """A number as a Decimal128 of it has: of a double 15 digits."""
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if isinstance(value, float):
        if not math.isfinite(value):
            return Decimal(value)
        return CONTEXT.create_decimal(f"{value:.14e}") if value else Decimal(value)
    return Decimal(int(value))


def as_double(value: Any) -> float:
    try:
        return float(value.to_decimal()) if isinstance(value, Decimal128) else float(value)
    except OverflowError:
        return math.inf


def _typed(values: Sequence[Any], whole: int | None, double: float) -> Any:
    """The result of whole numbers alone, or of doubles among them. What does not fit 64 bits is a double."""
    if any(isinstance(one, float) for one in values) or whole is None or not INT64_MIN <= whole <= INT64_MAX:
        return double
    return integer(whole, long=any(map(is_long, values)))


def _numbers(code: int, name: str, values: Sequence[Any]) -> bool:
    """Whether all are numbers; False: one is null or missing. Raises: ExpressionRefused for anything else."""
    if all(map(is_number, values)):
        return True
    if any(map(is_nullish, values)):
        return False
    kinds = ", ".join(shown(one) for one in values if not is_number(one))
    raise ExpressionRefused(code, f"{name} only supports numeric types, not {kinds}")


@operator("$add", 0, any_number=True)
def _add(values: Iterable[Any]) -> Any:
    date: Any = None
    numbers: list[Any] = []
    for one in values:
        if is_nullish(one):
            return None
        if is_date(one):
            if date is not None:
                raise ExpressionRefused(16612, "only one date allowed in an $add expression")
            date = one
        elif is_number(one):
            numbers.append(one)
        else:
            raise ExpressionRefused(16554, f"$add only supports numeric or date types, not {shown(one)}")
    total = total_of(numbers)
    if date is None:
        return total
    return _moved(date, total)


def _moved(date: Any, number: Any) -> Any:
    at = milliseconds(date) + _whole_part(number)
    if not INT64_MIN <= at <= INT64_MAX:
        raise ExpressionRefused(15, "date overflow")
    return date_at(at)


def _whole_part(number: Any) -> int:
    """As milliseconds."""
    if isinstance(number, Decimal128):
        return int(number.to_decimal().to_integral_value(ROUND_HALF_EVEN))
    if isinstance(number, float):
        if not math.isfinite(number):
            raise ExpressionRefused(15, "date overflow")
        return int(number)
    return int(number)


def total_of(numbers: Sequence[Any]) -> Any:
    """The sum in MongoDB's type for it; 0 for none. Doubles are added without losing digits on the way."""
    if any(isinstance(one, Decimal128) for one in numbers):
        total = Decimal(0)
        exact = [one for one in numbers if isinstance(one, Decimal128)]
        plain = [CONTEXT.plus(Decimal(one)) for one in numbers if not isinstance(one, Decimal128)]
        for one in [*plain, *(one.to_decimal() for one in exact)]:
            total = _in_context(CONTEXT.add, total, one)
        return Decimal128(total)
    whole = None if any(isinstance(one, float) for one in numbers) else sum(map(int, numbers))
    return _typed(numbers, whole, _float_sum(numbers) if whole is None else float(whole))


def _float_sum(numbers: Sequence[Any]) -> float:
    try:
        return math.fsum(numbers)
    except (OverflowError, ValueError):  # past a double, or infinities of both signs
        return sum(map(float, numbers))


@operator("$subtract", 2)
def _subtract(one: Any, other: Any) -> Any:
    if is_nullish(one) or is_nullish(other):
        return None
    if is_date(one):
        if is_date(other):
            return Int64(milliseconds(one) - milliseconds(other))
        if is_number(other):
            return _moved(one, -_whole_part(other))
    elif is_number(one) and is_number(other):
        return _combined((one, other), CONTEXT.subtract, lambda first, second: first - second)
    raise ExpressionRefused(14, f"can't $subtract {shown(other)} from {shown(one)}")


@operator("$multiply", 0, any_number=True)
def _multiply(values: Iterable[Any]) -> Any:
    found: Any = None
    for one in values:
        if is_nullish(one):
            return None
        if not is_number(one):
            raise ExpressionRefused(14, f"$multiply only supports numeric types, not {shown(one)}")
        both = (found, one)
        found = one if found is None else _combined(both, CONTEXT.multiply, lambda first, second: first * second)
    return 1 if found is None else found


def _combined(pair: tuple[Any, Any], decimal: Callable[..., Decimal], plain: Callable[[Any, Any], Any]) -> Any:
    one, other = pair
    if isinstance(one, Decimal128) or isinstance(other, Decimal128):
        return Decimal128(_in_context(decimal, as_decimal(one), as_decimal(other)))
    if isinstance(one, float) or isinstance(other, float):
        return plain(float(one), float(other))
    whole = plain(int(one), int(other))
    return _typed(pair, whole, as_double(whole))


def _in_context(operation: Callable[..., Decimal], *values: Decimal) -> Decimal:
    try:
        return operation(*values)
    except InvalidOperation:
        return Decimal("NaN")


@operator("$divide", 2)
def _divide(one: Any, other: Any) -> Any:
    if not _numbers(14, "$divide", (one, other)):
        return None
    if as_double(other) == 0:
        raise ExpressionRefused(2, "can't $divide by zero")
    if isinstance(one, Decimal128) or isinstance(other, Decimal128):
        return Decimal128(_in_context(CONTEXT.divide, as_decimal(one), as_decimal(other)))
    try:
        return float(one) / float(other)
    except OverflowError:
        return math.inf


@operator("$mod", 2)
def _mod(one: Any, other: Any) -> Any:
    if not _numbers(16611, "$mod", (one, other)):
        return None
    if as_double(other) == 0:
        raise ExpressionRefused(16610, "can't $mod by zero")
    if isinstance(one, Decimal128) or isinstance(other, Decimal128):
        return Decimal128(_in_context(CONTEXT.remainder, as_decimal(one), as_decimal(other)))
    small = isinstance(other, float) and other.is_integer() and INT32_MIN <= other <= INT32_MAX
    if isinstance(one, float) or (isinstance(other, float) and not small):
        return math.fmod(one, other) if math.isfinite(one) else math.nan
    rest = abs(int(one)) % abs(int(other))
    return integer(rest if one >= 0 else -rest, long=is_long(one) or is_long(other))


@operator("$abs", 1)
def _abs(value: Any) -> Any:
    if not _numbers(28765, "$abs", (value,)):
        return None
    if isinstance(value, Decimal128):
        return Decimal128(value.to_decimal().copy_abs())
    if isinstance(value, float):
        return abs(value)
    if int(value) == INT64_MIN:
        raise ExpressionRefused(28680, "can't take $abs of long long min")
    return integer(abs(int(value)), long=is_long(value))


@operator("$ceil", 1)
def _ceil(value: Any) -> Any:
    return _whole("$ceil", value, math.ceil, ROUND_CEILING)


@operator("$floor", 1)
def _floor(value: Any) -> Any:
    return _whole("$floor", value, math.floor, ROUND_FLOOR)


def _whole(name: str, value: Any, of_double: Callable[[float], int], rounding: str) -> Any:
    if not _numbers(28765, name, (value,)):
        return None
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        return Decimal128(number.to_integral_value(rounding, CONTEXT) if number.is_finite() else number)
    if isinstance(value, float):
        return math.copysign(float(of_double(value)), value) if math.isfinite(value) else value
    return value


@operator("$round", 1, 2, in_turn=True)
def _round(values: Iterator[Any]) -> Any:
    return _to_place("$round", values, ROUND_HALF_EVEN)


@operator("$trunc", 1, 2, in_turn=True)
def _trunc(values: Iterator[Any]) -> Any:
    return _to_place("$trunc", values, ROUND_DOWN)


def _to_place(name: str, values: Iterator[Any], rounding: str) -> Any:
    value = next(values)
    if not _numbers(51081, name, (value,)) or is_nullish(place := next(values, 0)):
        return None
    at = whole_number(place)
    if at is None or not -20 <= at <= 100:
        raise ExpressionRefused(
            51082 if at is None else 51083, f"{name} to a place that is no whole number between -20 and 100"
        )
    if isinstance(value, Decimal128):
        return Decimal128(_quantized(value.to_decimal(), at, rounding))
    if isinstance(value, float):
        if not math.isfinite(value):
            return value
        return math.copysign(float(_quantized(Decimal(value), at, rounding)), value)
    whole = int(_quantized(Decimal(int(value)), min(at, 0), rounding))
    if not INT64_MIN <= whole <= INT64_MAX:
        raise ExpressionRefused(51080, f"invalid conversion from {name}'s result to long")
    return integer(whole, long=is_long(value))


def _quantized(number: Decimal, place: int, rounding: str) -> Decimal:
    exponent = number.as_tuple().exponent
    if not number.is_finite() or not isinstance(exponent, int) or (exponent >= -place and number.adjusted() >= 33):
        return number
    try:
        return number.quantize(Decimal((0, (1,), -place)), rounding, CONTEXT)
    except InvalidOperation:
        return number


@operator("$sqrt", 1)
def _sqrt(value: Any) -> Any:
    if not _numbers(28765, "$sqrt", (value,)):
        return None
    if as_double(value) < 0:
        raise ExpressionRefused(28714, "$sqrt's argument must be greater than or equal to 0")
    if isinstance(value, Decimal128):
        return Decimal128(_in_context(CONTEXT.sqrt, value.to_decimal()))
    return math.sqrt(value)


@operator("$pow", 2)
def _pow(base: Any, exponent: Any) -> Any:
    if not _numbers(28762, "$pow", (base, exponent)):
        return None
    if isinstance(base, Decimal128) or isinstance(exponent, Decimal128):
        raise refuse("$pow of a Decimal128")
    if base == 0 and exponent < 0:
        raise ExpressionRefused(28764, "$pow cannot take a base of 0 and a negative exponent")
    pair = (base, exponent)
    if not any(isinstance(one, float) for one in pair) and exponent >= 0 and (abs(base) < 2 or exponent < 64):
        whole = int(base) ** int(exponent)
        return _typed(pair, whole, as_double(whole))
    try:
        found = math.pow(base, exponent)
    except ValueError:
        return math.nan
    except OverflowError:
        return -math.inf if base < 0 and int(exponent) % 2 else math.inf
    if any(isinstance(one, float) for one in pair) or not found.is_integer():
        return found
    return _typed(pair, int(found), found)
