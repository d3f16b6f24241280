"""MongoDB's order and equality of BSON values, in Python.

Values compare by type first, numbers of all types together, arrays element by element, documents field by field in their
order (type, then name, then value). Two values are equal where neither is first: 1, 1.0 and Decimal128("1.00") are.

Source: MongoDB manual, "Comparison/Sort Order", read 2026-11-24, and held against a real mongod by contract and property
tests.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import MAX_EMAX, MIN_EMIN, Context
from enum import Enum
from typing import Any, Final

from bson import Binary, Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import OLD_BINARY_SUBTYPE
from bson.datetime_ms import DatetimeMS
from bson.int64 import Int64


class Absent(Enum):
    """What stands for a field that is not there. It comes before null."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
OrderKey = tuple[Any, ...]
KeyOf = Callable[[Any], OrderKey]
"""What stands for a value in comparisons, `order_key` or `equality_key`."""

RANK_OF_ABSENT, RANK_OF_NULL, RANK_OF_MIN_KEY, RANK_OF_MAX_KEY = 0, 5, -1, 127
NAN_KEY: Final[OrderKey] = (10, 0, 0)
"""The key of every NaN; it comes before all other numbers, and equals itself."""

_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as pymongo reads dates
_INTEGRAL_BELOW: Final = 2.0**53
_DIGITS: Final = Context(prec=34, Emax=MAX_EMAX, Emin=MIN_EMIN)


def order_key(value: Any) -> OrderKey:
    """A key that compares, and hashes, as MongoDB compares the value. Its first entry is the rank of the type.

    Raises: TypeError for what is not a BSON value.
    """
    found = _BY_TYPE.get(type(value)) or _by_kind(value)
    if found is _CODE and value.scope is not None:
        found = _SCOPED_CODE
    return (found[0], *found[1](value))


def same(one: Any, other: Any) -> bool:
    """Equal as MongoDB means it: numbers of all types by value, documents with their fields in one order."""
    return order_key(one) == order_key(other)


def equality_key(value: Any) -> OrderKey:
    """As `order_key`, for the equality of values that came from DynamoDB: its maps do not keep the order of fields."""
    return order_key(_by_name(value)) if isinstance(value, dict | list | DBRef) else order_key(value)


def _by_name(value: Any) -> Any:
    if isinstance(value, list):
        return [_by_name(inner) for inner in value]
    fields = value.as_doc() if isinstance(value, DBRef) else value
    return {name: _by_name(fields[name]) for name in sorted(fields)} if isinstance(fields, dict) else value


def _by_kind(value: Any) -> tuple[int, Callable[[Any], OrderKey]]:
    for kind, found in _BY_TYPE.items():
        if kind is not type(None) and isinstance(value, kind):
            return found
    raise TypeError(f"{type(value).__name__} is not BSON")


def _integer(value: int) -> OrderKey:
    return (1, int(value))


def _double(value: float) -> OrderKey:
    if value != value:
        return (0, 0)
    if -_INTEGRAL_BELOW < value < _INTEGRAL_BELOW and value.is_integer():
        return (1, int(value))
    # MongoDB compares a double with a Decimal128 by its first 34 digits; they tell any two doubles apart.
    return (1, value if math.isinf(value) else _DIGITS.create_decimal_from_float(value))


def _decimal(value: Decimal128) -> OrderKey:
    number = value.to_decimal()
    return (0, 0) if number.is_nan() else (1, number)


def _document(value: Any) -> OrderKey:
    fields = value.as_doc() if isinstance(value, DBRef) else value
    return (tuple((key[0], name.encode(), key[1:]) for name, key in ((n, order_key(v)) for n, v in fields.items())),)


def _array(value: list[Any]) -> OrderKey:
    return (tuple(order_key(inner) for inner in value),)


def _binary(value: bytes) -> OrderKey:
    subtype = value.subtype if isinstance(value, Binary) else 0
    stored = struct.pack("<i", len(value)) + value if subtype == OLD_BINARY_SUBTYPE else bytes(value)
    return (len(stored), subtype, stored)


def _date(value: datetime) -> OrderKey:
    naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    return ((naive - _EPOCH) // timedelta(milliseconds=1),)


def _code(value: Code) -> OrderKey:
    return (str(value).encode(),)


def _scoped_code(value: Code) -> OrderKey:
    return (*_code(value), *_document(value.scope))


def _regex(value: Regex[Any]) -> OrderKey:
    pattern = value.pattern if isinstance(value.pattern, bytes) else value.pattern.encode()
    letters = zip((2, 4, 8, 16, 32, 64), "ilmsux", strict=True)
    return (pattern, "".join(letter for bit, letter in letters if value.flags & bit))


def _nothing(value: Any) -> OrderKey:
    return ()


_CODE, _SCOPED_CODE = (60, _code), (65, _scoped_code)
_BY_TYPE: Final[dict[type, tuple[int, Callable[[Any], OrderKey]]]] = {
    MinKey: (RANK_OF_MIN_KEY, _nothing),
    Absent: (RANK_OF_ABSENT, _nothing),
    type(None): (RANK_OF_NULL, _nothing),
    bool: (40, lambda value: (value,)),  # before int: a bool is an int in Python
    Int64: (10, _integer),
    int: (10, _integer),
    float: (10, _double),
    Decimal128: (10, _decimal),
    Code: _CODE,  # before str: a Code is a str in Python
    str: (15, lambda value: (value.encode(),)),
    dict: (20, _document),
    DBRef: (20, _document),
    list: (25, _array),
    bytes: (30, _binary),
    ObjectId: (35, lambda value: (value.binary,)),
    datetime: (45, _date),
    DatetimeMS: (45, lambda value: (int(value),)),
    Timestamp: (47, lambda value: (value.time, value.inc)),
    Regex: (50, _regex),
    MaxKey: (RANK_OF_MAX_KEY, _nothing),
}
