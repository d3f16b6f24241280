"""The total codec: every BSON value has one DynamoDB encoding and comes back as itself.

The wire form is DynamoDB JSON as Python values: {"S": "x"}, {"N": "1.5"}, {"B": "<base64>"}, {"M": {...}}, {"L": [...]}.
Attributes stay natural for the application. Where the natural form does not say which BSON type it was, a hint is put
into `hints` under the value's JSON Pointer; the item carries them in `_t`. One entry with `-` for the index serves an
array whose elements all have the same hints.

| BSON | wire | hint |
| --- | --- | --- |
| string, bool, null, document, array, binary (subtype 0) | S, BOOL, NULL, M, L, B | - |
| int32; int64 outside int32's range; double with a fraction | N | - |
| int64 inside int32's range; double without a fraction | N | long; double |
| double that N cannot hold (NaN, infinities, 1e300) | S | double |
| -0.0 | N "0" | -double |
| Decimal128 | N | decimal, or decimal:<exponent> where N drops it (12.50 is decimal:-2), -decimal for -0 |
| Decimal128 that N cannot hold | S | decimal |
| ObjectId, date | S (hex, ISO-8601 with milliseconds) | oid, date |
| date outside the years 1 to 9999 | N (milliseconds) | datems |
| Binary subtype n; Timestamp; Code | B; S; S | binary:n; timestamp; code |
| Regex; DBRef; MinKey; MaxKey | S; M; S; S | regex:<flags>; dbref; minkey; maxkey |
| a document used as `_id`, Code with scope, whatever the above cannot give back bit for bit | B (BSON) | bson |

Field order inside a document need not survive, except in an `_id`.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

import bson
from bson.binary import Binary
from bson.code import Code
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from docferry.core.bson_codec.decimals import decimal_parts
from docferry.core.bson_codec.hints import DECLARABLE, Hints, own_exponent
from docferry.core.bson_codec.names import pointer_step
from docferry.core.bson_codec.options import INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from docferry.core.bson_codec.plain import FALSE, NULL, TRUE, AttributeValue, base64_text, iso_date, plain_number
from docferry.core.limits import NESTING, NUMBER_MAX_ADJUSTED, NUMBER_MIN_ADJUSTED
from docferry.errors import TooDeep, UnsupportedType

_double_bits = struct.Struct("<d").pack
_NAN_BITS: Final = _double_bits(math.nan)
_ONLY_STRINGS: Final = frozenset((str,))


def encode_value(value: Any, path: str, hints: Hints, depth: int = 1) -> AttributeValue:
    """Encode one BSON value as a DynamoDB attribute value in wire form; hints are added under `path`.

    Shape:  Decimal128("12.5") -> {"N": "12.5"}, hint decimal;  [True] -> {"L": [{"BOOL": True}]}
    Holds:  decode_value(encode_value(v)) == v for every BSON value.
    Raises: UnsupportedType or TooDeep, with the JSON Pointer as `path`.
    """
    encoder = _ENCODERS.get(type(value))
    if encoder is None:
        encoder = _encoder_of_subclass(value, path)
    return encoder(value, path, hints, depth)


def _encoder_of_subclass(value: Any, path: str) -> Callable[[Any, str, Hints, int], AttributeValue]:
    for kind, encoder in _ENCODERS.items():
        if kind is not type(None) and isinstance(value, kind):
            return encoder
    raise UnsupportedType(f"{type(value).__name__} is not a BSON type", path=path)


def encoder_of(kind: type) -> Callable[[Any, str, Hints, int], AttributeValue]:
    """What encodes values of a type; for a type that is not BSON's own, `encode_value`, which looks closer."""
    return _ENCODERS.get(kind, encode_value)


def _string(value: str, path: str, hints: Hints, depth: int) -> AttributeValue:
    return {"S": value}


def _bool(value: bool, path: str, hints: Hints, depth: int) -> AttributeValue:
    return TRUE if value else FALSE


def _null(value: None, path: str, hints: Hints, depth: int) -> AttributeValue:
    return NULL


def _int(value: int, path: str, hints: Hints, depth: int) -> AttributeValue:
    if not INT64_MIN <= value <= INT64_MAX:
        raise UnsupportedType("an integer outside 64 bits is not a BSON value", path=path)
    return {"N": str(int(value))}


def _int64(value: Int64, path: str, hints: Hints, depth: int) -> AttributeValue:
    if INT32_MIN <= value <= INT32_MAX:
        hints[path] = "long"
    return _int(value, path, hints, depth)


def _double(value: float, path: str, hints: Hints, depth: int) -> AttributeValue:
    text = repr(value)
    if text.endswith(".0"):
        hints[path] = "double"
        if value == 0.0:
            if text[0] == "-":
                hints[path] = "-double"
            return {"N": "0"}
        return {"N": text[:-2]}
    if "e" not in text and "n" not in text:
        return {"N": text}
    return _rare_double(value, text, path, hints)


def _rare_double(value: float, text: str, path: str, hints: Hints) -> AttributeValue:
    if math.isfinite(value):
        number = Decimal(text)
        if NUMBER_MIN_ADJUSTED <= number.adjusted() <= NUMBER_MAX_ADJUSTED:
            plain = plain_number(number)
            if "." not in plain:
                hints[path] = "double"
            return {"N": plain}
    elif text == "nan" and _double_bits(value) != _NAN_BITS:
        return _as_bson(value, path, hints)  # 0/0 has its sign bit set on x86
    hints[path] = "double"
    return {"S": text}


def _decimal128(value: Decimal128, path: str, hints: Hints, depth: int) -> AttributeValue:
    wire, hints[path] = decimal_parts(value.bid)
    return wire


def _object_id(value: ObjectId, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "oid"
    return {"S": value.binary.hex()}


def _date(value: datetime, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "date"
    return {"S": iso_date(value)}


def _date_ms(value: DatetimeMS, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "datems"
    return {"N": str(int(value))}


def _bytes(value: bytes, path: str, hints: Hints, depth: int) -> AttributeValue:
    return {"B": base64_text(value)}


def _binary(value: Binary, path: str, hints: Hints, depth: int) -> AttributeValue:
    if value.subtype != 0:
        hints[path] = f"binary:{value.subtype}"
    return {"B": base64_text(value)}


def _timestamp(value: Timestamp, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "timestamp"
    return {"S": f"{value.time}:{value.inc}"}


def _regex(value: Regex[Any], path: str, hints: Hints, depth: int) -> AttributeValue:
    if not isinstance(value.pattern, str):
        return _as_bson(value, path, hints)
    hints[path] = f"regex:{int(value.flags)}"  # of Regex("x", "i") it is an enum, which writes its name
    return {"S": value.pattern}


def _code(value: Code, path: str, hints: Hints, depth: int) -> AttributeValue:
    if value.scope is not None:
        return _as_bson(value, path, hints)
    hints[path] = "code"
    return {"S": str(value)}


def _as_bson(value: Any, path: str, hints: Hints) -> AttributeValue:
    hints[path] = "bson"
    return {"B": base64_text(bson.encode({"": value}))}


def _dbref(value: DBRef, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "dbref"
    return _document(value.as_doc(), path, hints, depth)


def _min_key(value: MinKey, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "minkey"
    return {"S": "MinKey"}


def _max_key(value: MaxKey, path: str, hints: Hints, depth: int) -> AttributeValue:
    hints[path] = "maxkey"
    return {"S": "MaxKey"}


def _document(value: Mapping[str, Any], path: str, hints: Hints, depth: int) -> AttributeValue:
    if depth > NESTING:
        raise TooDeep(f"nested deeper than the {NESTING} levels that DynamoDB stores", path=path)
    wire: dict[str, AttributeValue] = {}
    for name, inner in value.items():
        kind = type(inner)
        if name and name[0] != "~":  # what never leaves a hint, first
            if kind is str:
                wire[name] = {"S": inner}
                continue
            if kind is int and INT64_MIN <= inner <= INT64_MAX:
                wire[name] = {"N": str(inner)}
                continue
            if kind is float and (text := repr(inner))[-2:] != ".0" and "e" not in text and "n" not in text:
                wire[name] = {"N": text}
                continue
        if type(name) is not str:
            raise UnsupportedType(f"a field name of type {type(name).__name__} is not BSON", path=path)
        key = name if name and name[0] != "~" else "~" + name
        place = path + pointer_step(key)
        encoder = _ENCODERS.get(kind) or _encoder_of_subclass(inner, place)
        wire[key] = encoder(inner, place, hints, depth + 1)
    return {"M": wire}


def _array(value: list[Any], path: str, hints: Hints, depth: int) -> AttributeValue:
    if depth > NESTING:
        raise TooDeep(f"nested deeper than the {NESTING} levels that DynamoDB stores", path=path)
    if _ONLY_STRINGS.issuperset(map(type, value)):
        return {"L": [{"S": inner} for inner in value]}
    wire: list[AttributeValue] = []
    each: list[Hints] = []
    for index, inner in enumerate(value):
        found: Hints = {}
        wire.append(_element(inner, found, path, index, depth + 1))
        each.append(found)
    if any(each):
        _merge_hints(each, path, hints)
    return {"L": wire}


def _element(inner: Any, found: Hints, path: str, index: int, depth: int) -> AttributeValue:
    try:
        return encode_value(inner, "", found, depth)
    except (TooDeep, UnsupportedType) as error:
        error.path = f"{path}/{index}{error.path}"
        raise


def _merge_hints(each: list[Hints], path: str, hints: Hints) -> None:
    first = each[0]
    if all(found == first for found in each):
        for inner, hint in first.items():
            hints[f"{path}/-{inner}"] = hint
        return
    for index, found in enumerate(each):
        for inner, hint in found.items():
            hints[f"{path}/{index}{inner}"] = hint


_ENCODERS: dict[type, Callable[[Any, str, Hints, int], AttributeValue]] = {
    str: _string,
    bool: _bool,
    type(None): _null,
    Int64: _int64,
    int: _int,
    float: _double,
    ObjectId: _object_id,
    datetime: _date,
    Decimal128: _decimal128,
    dict: _document,
    list: _array,
    Binary: _binary,
    bytes: _bytes,
    DatetimeMS: _date_ms,
    Timestamp: _timestamp,
    Regex: _regex,
    Code: _code,
    DBRef: _dbref,
    MinKey: _min_key,
    MaxKey: _max_key,
}
# A Code is a str and a Binary a bytes, so subclasses are looked for in this order.
_ENCODERS = {kind: _ENCODERS[kind] for kind in (Code, Binary, Int64, bool, *_ENCODERS) if kind in _ENCODERS}
BSON_TYPES: Final = tuple(_ENCODERS)
"""The Python types that pymongo reads BSON as."""


def encode_id(value: Any, hints: Hints) -> AttributeValue:
    """Encode a document's `_id`. Without a hint it is an ObjectId; a document keeps its field order (as BSON)."""
    if type(value) is ObjectId:
        return {"S": value.binary.hex()}
    if isinstance(value, dict | DBRef):
        return _as_bson(value, "/_id", hints)
    return encode_declared(value, "/_id", hints, "oid")


_NATURAL = {"S": "string", "B": "binary"}


def encode_declared(value: Any, path: str, hints: Hints, declared: str) -> AttributeValue:
    """Encode a value whose attribute has a declared type: only what deviates from it leaves a hint."""
    wire = encode_value(value, path, hints)
    hint = hints.get(path)
    if hint == declared or (hint == "decimal" and declared[:8] == "decimal:" and own_exponent(wire) == declared[8:]):
        del hints[path]
    elif hint is None:
        tag = next(iter(wire))
        if tag in DECLARABLE[declared.partition(":")[0]]:
            natural = _NATURAL.get(tag) or (
                "double" if isinstance(value, float) else "int" if _is_int32(value) else "long"
            )
            if natural != declared:
                hints[path] = natural
    return wire


def _is_int32(value: int) -> bool:
    return INT32_MIN <= value <= INT32_MAX
