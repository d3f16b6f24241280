"""Operators of types: $type, $isNumber, $toInt and its kin, $convert."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from bson import Code, Decimal128, ObjectId, Timestamp
from bson.int64 import Int64

from docferry.core.bson_codec.options import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions.compiling import (
    Evaluate,
    Scope,
    arguments,
    compile_expression,
    is_nullish,
    operator,
    refuse,
    shown,
    special,
)
from docferry.core.mql.expressions.dates import in_utc
from docferry.core.mql.expressions.numbers import as_decimal, as_double, date_at, is_date, milliseconds
from docferry.core.mql.expressions.written import written
from docferry.core.mql.values import TYPE_CODES, is_true, type_name, whole_number
from docferry.errors import ExpressionRefused

FAILED: Final = 241
"""MongoDB's ConversionFailure."""
_INTEGER: Final = re.compile(r"[+-]?[0-9]+")
_DOUBLE: Final = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?")
_DATE: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,3})?Z?)?")


def _failed(value: Any, to: str) -> ExpressionRefused:
    return ExpressionRefused(FAILED, f"Unsupported conversion from {type_name(value)} to {to} in $convert")


@operator("$type", 1)
def _type(value: Any) -> str:
    return type_name(value)


@operator("$isNumber", 1)
def _is_number(value: Any) -> bool:
    return is_number(value)


def _bool(value: Any) -> bool:
    if isinstance(value, bool) or is_number(value):
        return is_true(value)
    if isinstance(value, str | ObjectId | list | dict | bytes | Timestamp) or is_date(value):
        return True
    return True


def _truncated(value: Any, low: int, high: int, to: str) -> int:
    if isinstance(value, float | Decimal128):
        number = value.to_decimal() if isinstance(value, Decimal128) else value
        if not (number.is_finite() if isinstance(number, Decimal) else math.isfinite(number)):
            raise ExpressionRefused(FAILED, f"Attempt to convert a number that is not finite to {to} in $convert")
        whole = math.trunc(number)
    else:
        whole = int(value)
    if not low <= whole <= high:
        raise ExpressionRefused(FAILED, f"Conversion would overflow target type {to} in $convert")
    return whole


def _int(value: Any) -> int:
    if isinstance(value, bool) or is_number(value):
        return _truncated(value, INT32_MIN, INT32_MAX, "int")
    return _parsed_int(value, INT32_MIN, INT32_MAX, "int")


def _long(value: Any) -> Int64:
    if is_date(value):
        return Int64(milliseconds(value))
    if isinstance(value, bool) or is_number(value):
        return Int64(_truncated(value, INT64_MIN, INT64_MAX, "long"))
    return Int64(_parsed_int(value, INT64_MIN, INT64_MAX, "long"))


def _parsed_int(value: Any, low: int, high: int, to: str) -> int:
    text = _text(value, to)
    if not _INTEGER.fullmatch(text) or not low <= int(text) <= high:
        raise ExpressionRefused(FAILED, f"Failed to parse number in $convert to {to}")
    return int(text)


def _text(value: Any, to: str) -> str:
    if not isinstance(value, str) or isinstance(value, Code):
        raise _failed(value, to)
    return value


def _double(value: Any) -> float:
    if is_date(value):
        return float(milliseconds(value))
    if isinstance(value, bool) or is_number(value):
        found = as_double(value)
        if isinstance(value, Decimal128) and value.to_decimal().is_finite() and math.isinf(found):
            raise ExpressionRefused(FAILED, "Conversion would overflow target type double in $convert")
        return found
    text = _text(value, "double")
    if not _DOUBLE.fullmatch(text):
        raise _unparsed(text, "double")
    return float(text)


def _unparsed(text: str, to: str) -> Exception:
    """Words and hexadecimal digits, which MongoDB reads in some forms, are not read here."""
    if re.search(r"[a-df-zA-DF-Z_]", text):
        return refuse(f"a conversion of such a text to {to}")
    return ExpressionRefused(FAILED, f"Failed to parse number in $convert to {to}")


def _decimal(value: Any) -> Decimal128:
    if is_date(value):
        return Decimal128(Decimal(milliseconds(value)))
    if isinstance(value, bool):
        return Decimal128(Decimal(int(value)))
    if is_number(value):
        return value if isinstance(value, Decimal128) else Decimal128(as_decimal(value))
    text = _text(value, "decimal")
    if not _DOUBLE.fullmatch(text) or len(text) > 34:
        raise _unparsed(text, "decimal")
    return Decimal128(text)


def _object_id(value: Any) -> ObjectId:
    if isinstance(value, ObjectId):
        return value
    text = _text(value, "objectId")
    if not re.fullmatch("[0-9a-fA-F]{24}", text):
        raise ExpressionRefused(FAILED, "Failed to parse objectId in $convert")
    return ObjectId(text)


def _date(value: Any) -> Any:
    if is_date(value):
        return value
    if isinstance(value, ObjectId | Timestamp):
        return in_utc("$toDate", value)
    if isinstance(value, float | Int64 | Decimal128):
        return date_at(_truncated(value, INT64_MIN, INT64_MAX, "date"))
    text = _text(value, "date")
    if not _DATE.fullmatch(text):
        raise refuse("a conversion of such a text to a date")
    try:
        return datetime.fromisoformat(text.rstrip("Z"))
    except ValueError:
        raise ExpressionRefused(FAILED, "Error parsing date string in $convert") from None


def _string(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str) and not isinstance(value, Code):
        return value
    if isinstance(value, ObjectId):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if is_number(value) or is_date(value):
        return written("$toString", value)
    raise _failed(value, "string")


_TO: Final[dict[str, tuple[str, Callable[[Any], Any]]]] = {
    "double": ("$toDouble", _double),
    "string": ("$toString", _string),
    "objectId": ("$toObjectId", _object_id),
    "bool": ("$toBool", _bool),
    "date": ("$toDate", _date),
    "int": ("$toInt", _int),
    "long": ("$toLong", _long),
    "decimal": ("$toDecimal", _decimal),
}
_NAMED: Final = {TYPE_CODES[name]: name for name in _TO}


def _register(name: str, convert: Callable[[Any], Any]) -> None:
    operator(name, 1)(lambda value: None if is_nullish(value) else convert(value))


for _name, _convert in _TO.values():
    _register(_name, _convert)


@special("$convert")
def _convert_to(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("input", "to"), ("onError", "onNull"))
    parts = {key: compile_expression(one) for key, one in given.items()}

    def evaluate(scope: Scope) -> Any:
        value, to = parts["input"](scope), parts["to"](scope)
        if is_nullish(value):
            return parts["onNull"](scope) if "onNull" in parts else None
        if is_nullish(to):
            return None
        kind = to if isinstance(to, str) else _NAMED.get(whole_number(to) or 0)
        if kind not in _TO:
            raise refuse(f"$convert to {shown(to)} of that name")
        try:
            return _TO[kind][1](value)
        except ExpressionRefused:
            if "onError" not in parts:
                raise
            return parts["onError"](scope)

    return evaluate
