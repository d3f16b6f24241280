"""MongoDB's order of ids, in Python: what a find over the `_id` index gives first.

Source: MongoDB manual, "Comparison/Sort Order" (from memory), and held against a real mongod by a contract test.
"""

from __future__ import annotations

import struct
from datetime import datetime, timedelta
from typing import Any

from bson import Binary, Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.binary import OLD_BINARY_SUBTYPE
from bson.datetime_ms import DatetimeMS

_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - naive UTC, as pymongo reads dates


def order_key(value: Any) -> tuple[Any, ...]:
    """Compares as MongoDB compares: by type first, numbers of all types together, documents field by field."""
    for kinds, rank, key in _RANKS:
        if isinstance(value, kinds):
            return (rank, *key(value))
    raise TypeError(f"{type(value).__name__} is not BSON")


def _number(value: Any) -> tuple[Any, ...]:
    number = value.to_decimal() if isinstance(value, Decimal128) else value
    if isinstance(value, Decimal128) and number.is_nan():
        return (0, 0)
    return (0, 0) if number != number else (1, number)


def _document(value: Any) -> tuple[Any, ...]:
    fields = value.as_doc() if isinstance(value, DBRef) else value
    return (tuple((order_key(inner)[0], name.encode(), order_key(inner)[1:]) for name, inner in fields.items()),)


def _binary(value: bytes) -> tuple[Any, ...]:
    subtype = value.subtype if isinstance(value, Binary) else 0
    stored = struct.pack("<i", len(value)) + value if subtype == OLD_BINARY_SUBTYPE else bytes(value)
    return (len(stored), subtype, stored)


def _date(value: datetime | DatetimeMS) -> tuple[Any, ...]:
    return (int(value) if isinstance(value, DatetimeMS) else (value - _EPOCH) // timedelta(milliseconds=1),)


def _code(value: Code) -> tuple[Any, ...]:
    text = str(value).encode()
    return (0, text) if value.scope is None else (1, text, _document(value.scope))


def _nothing(value: Any) -> tuple[Any, ...]:
    return ()


_RANKS: tuple[tuple[Any, int, Any], ...] = (
    (MinKey, 0, _nothing),
    (type(None), 5, _nothing),
    (bool, 40, lambda value: (value,)),  # before numbers: a bool is an int in Python
    ((int, float, Decimal128), 10, _number),
    (Code, 60, _code),  # before strings: a Code is a str in Python
    (str, 15, lambda value: (value.encode(),)),
    ((dict, DBRef), 20, _document),
    (list, 25, lambda value: (tuple(order_key(inner) for inner in value),)),
    (bytes, 30, _binary),
    (ObjectId, 35, lambda value: (value.binary,)),
    ((datetime, DatetimeMS), 45, _date),
    (Timestamp, 47, lambda value: (value.time, value.inc)),
    (Regex, 50, lambda value: (str(value.pattern), value.flags)),
    (MaxKey, 127, _nothing),
)
