"""Attribute values in wire form back to BSON's values, by their hints."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Context, Decimal
from typing import Any, Final

import bson
from bson.binary import Binary
from bson.code import Code
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

from docferry.core.bson_codec.hints import HintTree
from docferry.core.bson_codec.names import unescape_name
from docferry.core.bson_codec.options import BSON_OPTIONS, INT32_MAX, INT32_MIN, INT64_MAX, INT64_MIN
from docferry.core.bson_codec.plain import EXACT, AttributeValue, single_value
from docferry.core.bson_codec.references import reference_of

_DECIMAL128: Final = Context(prec=34, Emax=6144, Emin=-6143)
_REGEX_FLAGS: Final = 0xFFFF


# An empty step cannot occur, so "" is free for the hint itself.
def decode_value(
    wire: AttributeValue, node: Mapping[str, Any] | None, tree: HintTree, declared: str | None = None
) -> Any:
    """Decode one attribute value in wire form. `node` is its place in the hint tree, None where there is no hint.

    A hint that does not fit the value (another program wrote it) is ignored and counted in `tree.misfits`.
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
"""What a hint meets in another program's value: binascii.Error is a ValueError, decimal's signals are ArithmeticErrors."""


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
    if tag in ("SS", "NS", "BS"):  # sets: another writer made them; BSON has arrays
        return [_decode_natural(tag[0], inner, None, HintTree({})) for inner in content]
    return single_value(tag, content)


def _decode_number(text: str, tree: HintTree) -> int | float | Decimal128:
    """Without a hint: int32 or int64 by range, a fraction is a double, anything else (too wide) a Decimal128.

    More than 34 digits fit no BSON type (only other programs write them): the nearest Decimal128, counted as a misfit.
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
    found = reference_of(document)
    if isinstance(found, dict):
        raise _Misfit
    return found


def _to_double(text: str, suffix: str) -> float:
    return float(text)


def _to_rare_double(text: str, suffix: str) -> float:
    value = float(text)
    if repr(value) != text:
        raise _Misfit  # "5" is a string that another program wrote
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
        padded = number.quantize(Decimal((0, (1,), int(suffix))), context=EXACT)
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
