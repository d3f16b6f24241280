"""What the query and the update language see in a BSON value: its type, its truth, the values at a dotted path.

Values are as `codec.BSON_OPTIONS` reads them; a DBRef is a document like others.

Source: MongoDB 6.0 manual, "BSON Types" and "Query an Array", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import bson
from bson import Code, DatetimeMS, DBRef, Decimal128, Int64, Timestamp
from bson.binary import Binary
from bson.codec_options import DEFAULT_CODEC_OPTIONS, CodecOptions

from docferry.core.bson_codec.options import BSON_OPTIONS, INT64_MAX, INT64_MIN
from docferry.core.bson_codec.order import ABSENT
from docferry.core.bson_codec.references import fields_of

Document = dict[str, Any]
Path = tuple[str, ...]


def as_bson(document: Mapping[str, Any], options: CodecOptions[Any] = DEFAULT_CODEC_OPTIONS) -> Document:
    """A copy of what an application passed, with the types that MongoDB would store. `options` are the application's."""
    return bson.decode(bson.encode(document, codec_options=options), BSON_OPTIONS)


def empty_timestamp(document: Mapping[str, Any]) -> str | None:
    """The first field, of the top level and not `_id`, whose empty timestamp MongoDB replaces by the time of an insert."""
    for name, value in document.items():
        if isinstance(value, Timestamp) and not value.time and not value.inc and name != "_id":
            return name
    return None


def whole_number(value: Any) -> int | None:
    """The 64-bit integer that a number of any type is; None if it is none."""
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        if not number.is_finite() or number.adjusted() > 18 or number != number.to_integral_value():
            return None
        whole = int(number)
    elif isinstance(value, int | float) and not isinstance(value, bool) and float(value).is_integer():
        whole = int(value)
    else:
        return None
    return whole if INT64_MIN <= whole <= INT64_MAX else None


def is_index(part: str) -> bool:
    """Whether a part of a path may name an element of an array by its place."""
    return part.isascii() and part.isdigit() and len(part) < 20


def is_true(value: Any) -> bool:
    """What MongoDB takes for true where it wants a boolean: all but false, null and zero."""
    if isinstance(value, Decimal128):
        number = value.to_decimal()
        return bool(number.is_nan() or number != 0)
    return value is not None and not (isinstance(value, bool | int | float) and value == 0)


def is_expression(value: Any) -> bool:
    """A document of operators, as opposed to one to be equal to."""
    return isinstance(value, dict) and next(iter(value), "")[:1] == "$"


def values_at(document: Mapping[str, Any], path: Path, leaf_arrays: bool) -> Iterator[Any]:
    """What a condition on a path is tried on: ABSENT for a missing field; of an array each element and then the array.

    On the way, an array stands for each of its documents, and for the element that a number in the path names.
    With `leaf_arrays` false, an array at the end of the path stands for itself alone.
    """
    return (value for _, value in places_at(document, path, leaf_arrays))


def any_at(document: Mapping[str, Any], path: Path, leaf_arrays: bool, holds: Callable[[Any], bool]) -> bool:
    """Whether any of `values_at` meets a condition."""
    _, value = _reach(document, path)
    if not isinstance(value, list):  # most are none, and cost no generator
        return holds(value)
    return any(holds(value) for _, value in places_at(document, path, leaf_arrays))


def places_at(document: Mapping[str, Any], path: Path, leaf_arrays: bool) -> Iterator[tuple[int | None, Any]]:
    """As `values_at`, each with its place in the outermost array that stood for its elements; None if there was none."""
    at, value = _reach(document, path)
    if not isinstance(value, list):
        yield None, value
    elif at + 1 < len(path):
        yield from _in_array(value, path[at + 1 :], leaf_arrays)
    else:
        if leaf_arrays:
            yield from enumerate(value)
        yield None, value


def _reach(document: Mapping[str, Any], path: Path) -> tuple[int, Any]:
    """(index of the last part used, what is there): the end of the path, or the first array on it."""
    value: Any = ABSENT
    for at, part in enumerate(path):
        value = document.get(part, ABSENT)
        fields = fields_of(value)
        if fields is None:
            blocked = at + 1 < len(path) and not isinstance(value, list)
            return at, ABSENT if blocked else value
        document = fields
    return len(path) - 1, value


def _in_array(array: list[Any], rest: Path, leaf_arrays: bool) -> Iterator[tuple[int | None, Any]]:
    for index, element in enumerate(array):
        fields = fields_of(element)
        if fields is not None:
            for _, value in places_at(fields, rest, leaf_arrays):
                yield index, value
        if str(index) != rest[0]:
            continue
        if len(rest) == 1:
            yield None, element
        elif fields is not None:
            yield from places_at(fields, rest[1:], leaf_arrays)
        elif isinstance(element, list):
            yield from _in_array(element, rest[1:], leaf_arrays)


_TYPES: Final[tuple[tuple[type, str], ...]] = (
    (bool, "bool"),
    (Int64, "int64"),
    (int, "int32"),
    (float, "double"),
    (Decimal128, "decimal"),
    (Code, "code"),
    (str, "string"),
    (DatetimeMS, "date"),
    (DBRef, "dbref"),
    (dict, "document"),
    (list, "array"),
)


def bson_type(value: Any) -> str:
    """The BSON type's name; it tells 1 from 1.0."""
    if value is None:
        return "null"
    if isinstance(value, Binary):
        return f"binary {value.subtype}"
    if isinstance(value, bytes):
        return "binary 0"
    if isinstance(value, int) and not isinstance(value, bool | Int64):
        return "int32" if -(2**31) <= value < 2**31 else "int64"
    return next((name for kind, name in _TYPES if isinstance(value, kind)), type(value).__name__.lower())


TYPE_CODES: Final[Mapping[str, int]] = {
    "double": 1, "string": 2, "object": 3, "array": 4, "binData": 5, "undefined": 6, "objectId": 7, "bool": 8, "date": 9,
    "null": 10, "regex": 11, "dbPointer": 12, "javascript": 13, "symbol": 14, "javascriptWithScope": 15, "int": 16,
    "timestamp": 17, "long": 18, "decimal": 19, "minKey": -1, "maxKey": 127,
}  # fmt: skip
_KINDS: Final[Mapping[str, int]] = {
    "double": 1, "string": 2, "document": 3, "dbref": 3, "array": 4, "objectid": 7, "bool": 8, "date": 9, "datetime": 9,
    "null": 10, "regex": 11, "int32": 16, "timestamp": 17, "int64": 18, "decimal": 19, "minkey": -1, "maxkey": 127,
}  # fmt: skip


_TYPE_NAMES: Final = {code: name for name, code in TYPE_CODES.items()} | {0: "missing"}


def type_code(value: Any) -> int | None:
    """BSON's number for the type of a value; None for ABSENT."""
    if value is ABSENT:
        return None
    if isinstance(value, Code):
        return 13 if value.scope is None else 15
    return _KINDS.get(bson_type(value), 5)


def type_name(value: Any) -> str:
    """MongoDB's name for the type of a value."""
    return _TYPE_NAMES[type_code(value) or 0]
