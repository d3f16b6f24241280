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

import base64
import binascii
import math
import struct
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from functools import lru_cache
from typing import Any, Final

import bson
from bson.binary import Binary
from bson.code import Code
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.datetime_ms import DatetimeMS
from bson.dbref import DBRef
from bson.decimal128 import Decimal128
from bson.errors import BSONError
from bson.int64 import Int64
from bson.max_key import MaxKey
from bson.min_key import MinKey
from bson.objectid import ObjectId
from bson.regex import Regex
from bson.timestamp import Timestamp

from docferry.core.limits import NESTING, NUMBER_MAX_ADJUSTED, NUMBER_MIN_ADJUSTED
from docferry.core.mapping.key_templates import iso_date
from docferry.errors import TooDeep, UnsupportedType

AttributeValue = dict[str, Any]
Hints = dict[str, str]

BSON_OPTIONS: CodecOptions[dict[str, Any]] = CodecOptions(datetime_conversion=DatetimeConversion.DATETIME_AUTO)
"""How documents are read everywhere: dates outside datetime's range come as DatetimeMS, int64 as Int64."""

INT32_MIN, INT32_MAX = -(2**31), 2**31 - 1
INT64_MIN, INT64_MAX = -(2**63), 2**63 - 1
_EXACT: Final = Context(prec=60, Emax=999_999, Emin=-999_999)
_DECIMAL128: Final = Context(prec=34, Emax=6144, Emin=-6143)
_double_bits = struct.Struct("<d").pack
_NAN_BITS: Final = _double_bits(math.nan)
_REGEX_FLAGS: Final = 0xFFFF
_TWO_WORDS = struct.Struct("<QQ").unpack
_USUAL_EXPONENTS: Final = {6176 + exponent << 49: exponent for exponent in range(-18, 1)}
"""The upper word of a positive Decimal128 whose coefficient has at most 64 bits, to its exponent."""
_ONLY_STRINGS: Final = frozenset((str,))
_NULL: Final[AttributeValue] = {"NULL": True}
_TRUE: Final[AttributeValue] = {"BOOL": True}
_FALSE: Final[AttributeValue] = {"BOOL": False}


# --- names and pointers ----------------------------------------------------------------------------------------------


def escape_name(name: str, reserved: frozenset[str] = frozenset()) -> str:
    """An attribute name for a field name: empty, reserved and `~...` names get a `~` in front. Reversible."""
    if not name or name[0] == "~" or name in reserved:
        return "~" + name
    return name


def unescape_name(name: str) -> str:
    """The inverse of `escape_name`."""
    return name[1:] if name[:1] == "~" else name


def pointer_step(name: str) -> str:
    """One step of a JSON Pointer (RFC 6901)."""
    return "/" + (name.replace("~", "~0").replace("/", "~1") if "~" in name or "/" in name else name)


# --- encoding --------------------------------------------------------------------------------------------------------


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
    return _TRUE if value else _FALSE


def _null(value: None, path: str, hints: Hints, depth: int) -> AttributeValue:
    return _NULL


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


def plain_number(number: Decimal) -> str:
    """A finite number as DynamoDB gives it back: no exponent, no trailing zeros, no -0."""
    if not number:
        return "0"
    return format(number.normalize(_EXACT), "f")


def _decimal_parts(bid: bytes) -> tuple[AttributeValue, str]:
    """(wire form, hint) of a Decimal128.

    The usual price is read from the bits of the format (IEEE 754-2008, binary integer decimal: sign, 14 bits of biased
    exponent, coefficient); pymongo's own conversion costs ten times as much and takes the rest.
    """
    low, high = _TWO_WORDS(bid)
    exponent = _USUAL_EXPONENTS.get(high)
    if exponent is None or not low:
        return _any_decimal(bid)
    digits = str(low)
    if not exponent:
        return {"N": digits}, "decimal"
    if len(digits) <= -exponent:
        digits = digits.rjust(1 - exponent, "0")
    if digits[-1] != "0":
        return {"N": f"{digits[:exponent]}.{digits[exponent:]}"}, "decimal"
    fraction = digits[exponent:].rstrip("0")
    plain = f"{digits[:exponent]}.{fraction}" if fraction else digits[:exponent]
    return {"N": plain}, f"decimal:{exponent}"


def _any_decimal(bid: bytes) -> tuple[AttributeValue, str]:
    value = Decimal128.from_bid(bid)
    number = value.to_decimal()
    if Decimal128(number).bid != bid:
        return {"B": _base64(bson.encode({"": value}))}, "bson"
    if not number.is_finite():
        return {"S": str(number)}, "decimal"
    if number and not NUMBER_MIN_ADJUSTED <= number.adjusted() <= NUMBER_MAX_ADJUSTED:
        return {"S": str(number)}, "decimal"
    plain = plain_number(number)
    exponent = number.as_tuple().exponent
    hint = "decimal" if Decimal(plain).as_tuple().exponent == exponent else f"decimal:{exponent}"
    if not number and number.is_signed():
        hint = "-" + hint
    return {"N": plain}, hint


DecimalEncoder = Callable[[bytes], tuple[AttributeValue, str]]


@lru_cache(maxsize=64)
def decimal_encoder(declared: str | None) -> DecimalEncoder:
    """What encodes the Decimal128s of an attribute, given as their bits: (wire form, hint or '')."""

    def encode(bid: bytes) -> tuple[AttributeValue, str]:
        wire, hint = _decimal_parts(bid)
        as_declared = hint == "decimal" and digits and _exponent(wire) == f"-{digits}"
        return wire, "" if as_declared or hint == declared else hint

    digits = int(declared[9:]) if declared is not None and declared[:9] == "decimal:-" else 0
    if not digits:
        return encode
    usual = 6176 - digits << 49

    def encode_usual(bid: bytes) -> tuple[AttributeValue, str]:
        """With exactly the digits declared, which needs no hint."""
        low, high = _TWO_WORDS(bid)
        if high != usual or not low:
            return encode(bid)
        text = str(low)
        if len(text) <= digits:
            text = text.rjust(digits + 1, "0")
        if text[-1] != "0":
            return {"N": f"{text[:-digits]}.{text[-digits:]}"}, ""
        fraction = text[-digits:].rstrip("0")
        return {"N": f"{text[:-digits]}.{fraction}" if fraction else text[:-digits]}, ""

    return encode_usual


def _decimal128(value: Decimal128, path: str, hints: Hints, depth: int) -> AttributeValue:
    wire, hints[path] = _decimal_parts(value.bid)
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


def _base64(data: bytes) -> str:
    return binascii.b2a_base64(data, newline=False).decode()


def _bytes(value: bytes, path: str, hints: Hints, depth: int) -> AttributeValue:
    return {"B": _base64(value)}


def _binary(value: Binary, path: str, hints: Hints, depth: int) -> AttributeValue:
    if value.subtype != 0:
        hints[path] = f"binary:{value.subtype}"
    return {"B": _base64(value)}


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
    return {"B": _base64(bson.encode({"": value}))}


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


# --- declared types --------------------------------------------------------------------------------------------------

DECLARABLE: Final[dict[str, frozenset[str]]] = {
    "oid": frozenset("S"),
    "date": frozenset("S"),
    "code": frozenset("S"),
    "timestamp": frozenset("S"),
    "double": frozenset(("N", "S")),
    "long": frozenset("N"),
    "decimal": frozenset(("N", "S")),
}
"""Types that a file may declare for an attribute, and the wire tags that they claim. `decimal:2` has two digits."""

_NATURAL = {"S": "string", "B": "binary"}


def parse_declared(text: str) -> str:
    """The hint that a declared type stands for. Raises ValueError if it is none."""
    name, _, digits = text.partition(":")
    if name not in DECLARABLE or (digits and name != "decimal") or (digits and not digits.isdigit()):
        raise ValueError(
            f"'{text}' is no type to declare; there are {', '.join(sorted(DECLARABLE))} and decimal:<digits>"
        )
    return f"decimal:-{int(digits)}" if digits and int(digits) else name


def encode_declared(value: Any, path: str, hints: Hints, declared: str) -> AttributeValue:
    """Encode a value whose attribute has a declared type: only what deviates from it leaves a hint."""
    wire = encode_value(value, path, hints)
    hint = hints.get(path)
    if hint == declared or (hint == "decimal" and declared[:8] == "decimal:" and _exponent(wire) == declared[8:]):
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


def _exponent(wire: AttributeValue) -> str:
    """The exponent that a plain number has by itself: minus its digits after the point."""
    if "N" not in wire:
        return ""
    _, _, fraction = wire["N"].partition(".")
    return f"-{len(fraction)}" if fraction else "0"


# --- decoding --------------------------------------------------------------------------------------------------------


class HintTree:
    """`_t` as a tree of steps, made once an item. `misfits` counts hints that no longer fit the value."""

    __slots__ = ("misfits", "root")

    def __init__(self, hints: Mapping[str, str]) -> None:
        self.root: dict[str, Any] = {}
        self.misfits = 0
        for pointer, hint in hints.items():
            node = self.root
            first, *steps = pointer.split("/")
            if first or not steps or "" in steps:  # not ours: names are never empty once escaped
                self.misfits += 1
                continue
            for step in steps:
                node = node.setdefault(step.replace("~1", "/").replace("~0", "~"), {})
            node[""] = hint
        # An empty step cannot occur, so "" is free for the hint itself.


def decode_value(
    wire: AttributeValue, node: Mapping[str, Any] | None, tree: HintTree, declared: str | None = None
) -> Any:
    """Decode one attribute value in wire form. `node` is its place in the hint tree, None where there is no hint.

    A hint that does not fit the value (somebody else wrote it) is ignored and counted in `tree.misfits`.
    """
    ((tag, content),) = wire.items()
    if node is not None and "" in node:
        try:
            return _decode_hinted(tag, content, node[""], node, tree)
        except _Nearly as found:
            tree.misfits += 1
            return found.value
        except _DOES_NOT_FIT:
            tree.misfits += 1
    elif declared is not None:
        try:
            return _decode_hinted(tag, content, declared, {}, tree)
        except _Nearly as found:
            return found.value
        except _DOES_NOT_FIT:
            pass  # not a loss: the natural reading below is what an undeclared attribute has
    return _decode_natural(tag, content, node, tree)


class _Misfit(Exception):
    """The hint says nothing about this value."""


class _Nearly(Exception):
    """The type of the hint still fits, its detail (an exponent, a sign) no longer does: `value` is what it is now."""

    def __init__(self, value: Any) -> None:
        self.value = value


_DOES_NOT_FIT = (_Misfit, ValueError, TypeError, ArithmeticError, BSONError)
"""What a hint meets in a value of somebody else: binascii.Error is a ValueError, decimal's signals are ArithmeticErrors."""


def _decode_natural(tag: str, content: Any, node: Mapping[str, Any] | None, tree: HintTree) -> Any:
    if tag == "S":
        return content
    if tag == "N":
        return _decode_number(content, tree)
    if tag == "M":
        if node is None:
            return {unescape_name(name): decode_value(inner, None, tree) for name, inner in content.items()}
        return {unescape_name(name): decode_value(inner, node.get(name), tree) for name, inner in content.items()}
    if tag == "L":
        if node is None:
            return [decode_value(inner, None, tree) for inner in content]
        every = node.get("-")
        return [decode_value(inner, every or node.get(str(index)), tree) for index, inner in enumerate(content)]
    return _decode_plain(tag, content)


def _decode_plain(tag: str, content: Any) -> Any:
    if tag == "BOOL":
        return bool(content)
    if tag == "NULL":
        return None
    if tag == "B":
        return base64.b64decode(content)
    if tag in ("SS", "NS", "BS"):  # sets: only somebody else writes them; BSON has arrays
        return [_decode_natural(tag[0], inner, None, HintTree({})) for inner in content]
    raise UnsupportedType(f"{tag} is not a DynamoDB type")


def _decode_number(text: str, tree: HintTree) -> int | float | Decimal128:
    """Without a hint: int32 or int64 by range, a fraction is a double, anything else (too wide) a Decimal128.

    More than 34 digits fit no BSON type (only somebody else writes them): the nearest Decimal128, counted as a misfit.
    """
    try:
        value = int(text)
    except ValueError:
        number = Decimal(text)
        if number != number.to_integral_value():
            return float(number)
        value = int(number)
    if INT32_MIN <= value <= INT32_MAX:
        return value
    if INT64_MIN <= value <= INT64_MAX:
        return Int64(value)
    if float(value) == value:
        return float(value)
    rounded = _DECIMAL128.create_decimal(value)
    tree.misfits += rounded != value
    return Decimal128(rounded)


def _decode_hinted(tag: str, content: Any, hint: str, node: Mapping[str, Any], tree: HintTree) -> Any:
    name, _, suffix = hint.partition(":")
    decoder = _DECODERS.get((name, tag))
    if decoder is None:
        raise _Misfit
    if name == "dbref":
        document = _decode_natural(tag, content, {step: inner for step, inner in node.items() if step}, tree)
        return _to_dbref(document)
    return decoder(content, suffix)


def _to_dbref(document: dict[str, Any]) -> DBRef:
    if "$ref" not in document or "$id" not in document:
        raise _Misfit
    extra = {name: value for name, value in document.items() if name not in ("$ref", "$id", "$db")}
    return DBRef(document["$ref"], document["$id"], document.get("$db"), extra)


def _to_double(text: str, suffix: str) -> float:
    return float(text)


def _to_rare_double(text: str, suffix: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise _Misfit  # "5" is a string that somebody else wrote
    return value


def _to_rare_decimal(text: str, suffix: str) -> Decimal128:
    number = Decimal(text)
    if str(number) != text:
        raise _Misfit
    return Decimal128(number)


def _to_regex(text: str, suffix: str) -> Regex[str]:
    flags = int(suffix or 0)
    if "\0" in text or not 0 <= flags <= _REGEX_FLAGS:
        raise _Misfit
    return Regex(text, flags)


def _to_negative_zero(text: str, suffix: str) -> float:
    if Decimal(text):
        raise _Nearly(float(text))
    return -0.0


def _whole(text: str, low: int, high: int) -> int:
    number = Decimal(text)
    if number != number.to_integral_value() or not low <= number <= high:
        raise _Misfit
    return int(number)


def _to_int(text: str, suffix: str) -> int:
    return _whole(text, INT32_MIN, INT32_MAX)


def _to_long(text: str, suffix: str) -> Int64:
    return Int64(_whole(text, INT64_MIN, INT64_MAX))


def _to_decimal(text: str, suffix: str) -> Decimal128:
    number = Decimal(text)
    if not suffix:
        return Decimal128(number)
    if not number:
        return Decimal128(Decimal((0, (0,), int(suffix))))
    try:
        padded = number.quantize(Decimal((0, (1,), int(suffix))), context=_EXACT)
        if padded == number:
            return Decimal128(padded)
    except ArithmeticError:
        pass  # the number has grown past what this exponent can show
    raise _Nearly(Decimal128(number))


def _to_negative_decimal(text: str, suffix: str) -> Decimal128:
    if Decimal(text):
        raise _Nearly(_to_decimal(text, suffix))
    return Decimal128(Decimal((1, (0,), int(suffix or 0))))


def _to_date(text: str, suffix: str) -> datetime:
    if len(text) == 24 and text[-1] == "Z":
        return datetime.fromisoformat(text[:-1])
    value = datetime.fromisoformat(text)
    if value.tzinfo is not None:
        value = value.astimezone(UTC).replace(tzinfo=None)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _to_oid(text: str, suffix: str) -> ObjectId:
    if len(text) != 24:
        raise _Misfit
    try:
        return ObjectId(text)
    except BSONError as error:
        raise _Misfit from error


def _to_timestamp(text: str, suffix: str) -> Timestamp:
    time, _, inc = text.partition(":")
    return Timestamp(int(time), int(inc))


def _to_binary(text: str, suffix: str) -> bytes:
    data = base64.b64decode(text)
    return Binary(data, int(suffix)) if suffix else data


def _to_min_key(text: str, suffix: str) -> MinKey:
    if text != "MinKey":
        raise _Misfit
    return MinKey()


def _to_max_key(text: str, suffix: str) -> MaxKey:
    if text != "MaxKey":
        raise _Misfit
    return MaxKey()


def _to_bson(text: str, suffix: str) -> Any:
    document = bson.decode(base64.b64decode(text), BSON_OPTIONS)
    if "" not in document:
        raise _Misfit
    return document[""]


_DECODERS: dict[tuple[str, str], Callable[[Any, str], Any]] = {
    ("string", "S"): lambda text, suffix: text,
    ("int", "N"): _to_int,
    ("long", "N"): _to_long,
    ("double", "N"): _to_double,
    ("double", "S"): _to_rare_double,
    ("-double", "N"): _to_negative_zero,
    ("decimal", "N"): _to_decimal,
    ("decimal", "S"): _to_rare_decimal,
    ("-decimal", "N"): _to_negative_decimal,
    ("oid", "S"): _to_oid,
    ("date", "S"): _to_date,
    ("datems", "N"): lambda text, suffix: DatetimeMS(int(text)),
    ("binary", "B"): _to_binary,
    ("timestamp", "S"): _to_timestamp,
    ("regex", "S"): _to_regex,
    ("code", "S"): lambda text, suffix: Code(text),
    ("minkey", "S"): _to_min_key,
    ("maxkey", "S"): _to_max_key,
    ("bson", "B"): _to_bson,
    ("dbref", "M"): lambda content, suffix: content,
}


# --- wire form <-> plain values -------------------------------------------------------------------------------------


def to_plain(wire: AttributeValue) -> Any:
    """Wire form to the plain values that boto3's resource gives: str, Decimal, bytes, bool, None, list, dict, set."""
    ((tag, content),) = wire.items()
    if tag == "M":
        return {name: to_plain(inner) for name, inner in content.items()}
    if tag == "L":
        return [to_plain(inner) for inner in content]
    if tag == "N":
        # 1E+100 is written out with 101 digits; boto3's serialiser takes 38, and means the significant ones.
        return Decimal(content) if len(content) <= 38 else Decimal(content).normalize(_EXACT)
    if tag in ("SS", "NS", "BS"):
        return {to_plain({tag[0]: inner}) for inner in content}
    return content if tag == "S" else _decode_plain(tag, content)


def from_plain(value: Any) -> AttributeValue:
    """The inverse of `to_plain`. Integers are taken as numbers, boto3's Binary as bytes; floats are refused."""
    if isinstance(value, str):
        return {"S": value}
    if isinstance(value, bool):
        return _TRUE if value else _FALSE
    if value is None:
        return _NULL
    if isinstance(value, int | Decimal):
        return {"N": plain_number(Decimal(value))}
    if isinstance(value, Mapping):
        return {"M": {name: from_plain(inner) for name, inner in value.items()}}
    if isinstance(value, list | tuple):
        return {"L": [from_plain(inner) for inner in value]}
    if isinstance(value, set | frozenset):
        inner = [next(iter(from_plain(element).items())) for element in value]
        return {inner[0][0] + "S": sorted(content for _, content in inner)}
    data = getattr(value, "value", value)
    if isinstance(data, bytes | bytearray):
        return {"B": _base64(bytes(data))}
    raise UnsupportedType(f"{type(value).__name__} is not an attribute value")
