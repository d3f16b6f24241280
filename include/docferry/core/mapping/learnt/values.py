"""The kinds of values that a learnt shape (`transcoder`) takes out of BSON and puts into JSON.

A kind is as narrow as the mapping's type hints demand: where 1.5 needs no hint and 2.0 needs one, they are of two kinds.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from json.encoder import encode_basestring
from typing import Any, Final

from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from docferry.core.bson_codec.bson_bytes import int32_at
from docferry.core.bson_codec.options import INT32_MAX, INT32_MIN

KEY_TEXT_BYTES: Final = 200
"""Longest text of a field in a key that is taken here."""
DOUBLE, STRING, OBJECT_ID, BOOL, DATE, NULL, INT32, INT64, DECIMAL = 1, 2, 7, 8, 9, 10, 16, 18, 19
"""BSON's numbers of the types that are taken, arrays and documents aside."""

Convert = Callable[[Any], str | None]
"""The text of a value in JSON, None if it needs another hint than the value that was learnt from."""

_TEXT: Final = rb"(.{4})([^\x00]*+\x00)"
_KEY_TEXT: Final = rb'(.{4})(?![^\x00]{24}\x00)([^\x00-\x1f"\\#~]{1,%d}+\x00)' % KEY_TEXT_BYTES
"""Not of 24 bytes: such a text may look like an ObjectId or a date, and is then written another way."""
_ELEMENT: Final = rb"\x02[0-9]++\x00(.{4})([^\x00]*+\x00)"
STRINGS_PATTERN: Final = rb"(.{4}(?:\x02[0-9]++\x00.{4}[^\x00]*+\x00)*+\x00)"
_elements = re.compile(_ELEMENT, re.DOTALL).findall
_two_words = struct.Struct("<QQ").unpack
_DAY_MS: Final = 86_400_000
_EPOCH: Final = datetime(1970, 1, 1)  # noqa: DTZ001 - naive is UTC, as in pymongo
_FIRST_DAY, _LAST_DAY = 1 - date(1970, 1, 1).toordinal(), date.max.toordinal() - date(1970, 1, 1).toordinal()
_MINUTES: Final = tuple([f"T{minute // 60:02d}:{minute % 60:02d}:" for minute in range(24 * 60)])
_SECONDS: Final = tuple([f"{second:02d}." for second in range(60)])
_CACHED_BYTES: Final = 256


class NotSimple(Exception):
    """This document is not for the transcoder."""


@lru_cache(maxsize=4096)
def _day(day: int) -> str:
    return date.fromordinal(day + 719_163).isoformat()


def _date(ms: int) -> str | None:
    day = ms // _DAY_MS
    if not _FIRST_DAY <= day <= _LAST_DAY:
        return None
    ms -= day * _DAY_MS
    second = ms // 1000
    return f"{_day(day)}{_MINUTES[second // 60]}{_SECONDS[second % 60]}{ms % 1000:03d}Z"


def _short_long(number: int) -> str | None:
    return str(number) if INT32_MIN <= number <= INT32_MAX else None


def _long(number: int) -> str | None:
    return None if INT32_MIN <= number <= INT32_MAX else str(number)


def _fraction(number: float) -> str | None:
    text = repr(number)
    return None if text[-2:] == ".0" or "e" in text or "n" in text else text


def _usual_double(number: float) -> str | None:
    return _fraction(number) or _whole_double(number)


def _whole_double(number: float) -> str | None:
    text = repr(number)
    return text[:-2] if text[-2:] == ".0" and text != "-0.0" else None


def _decimals(digits: int, zero: bool | None) -> Convert:
    """The coefficient of Decimal128s with `digits` decimals, of which the last is a zero, is none, or (None) either."""

    def convert(coefficient: int) -> str | None:
        if not coefficient:
            return None
        text = str(coefficient)
        if not digits:
            return text
        if len(text) <= digits:
            text = text.rjust(digits + 1, "0")
        if text[-1] != "0":
            return None if zero else f"{text[:-digits]}.{text[-digits:]}"
        if zero is False:
            return None
        fraction = text[-digits:].rstrip("0")
        return f"{text[:-digits]}.{fraction}" if fraction else text[:-digits]

    return convert


def strings(array: bytes) -> str | None:
    """The elements of an array of strings, as JSON. The same few come again and again."""
    return _few_strings(array) if len(array) <= _CACHED_BYTES else _read_strings(array)


def _read_strings(array: bytes) -> str | None:
    found = _elements(array, 4)
    texts = [text for _, text in found]
    if [int32_at(length, 0) for length, _ in found] != [len(text) for text in texts]:
        return None  # a text with a zero byte in it
    return ",".join([f'{{"S":{encode_basestring(text)}}}' for text in b"".join(texts).decode().split("\x00")[:-1]])


_few_strings = lru_cache(maxsize=4096)(_read_strings)


def python_of(kind: int, value: bytes) -> Callable[[Any], Any]:
    """How a value of a fixed length, as `struct` reads it, becomes what pymongo makes of it."""
    if kind == DECIMAL:
        high = value[8:]
        return lambda low: Decimal128.from_bid(low.to_bytes(8, "little") + high)
    return _PYTHON[kind]


_PYTHON: Final[Mapping[int, Callable[[Any], Any]]] = {
    OBJECT_ID: ObjectId,
    DATE: lambda ms: _EPOCH + timedelta(milliseconds=ms),
    INT32: int,
    INT64: Int64,
    DOUBLE: float,
}


@dataclass(frozen=True, slots=True)
class ValueKind:
    """How a value is taken from the BSON (`fixed` is its code for `struct`, if its length is), and put into the JSON.

    `mark(n)` is a value of the kind, different for each n, and `text(mark)` what stands for it in JSON.
    Values of a `wide` kind may need different hints; those of an even and of an odd mark then do.
    """

    pattern: bytes
    fixed: str
    convert: Convert
    mark: Callable[[int], Any]
    text: Callable[[Any], str] = str
    wide: bool = False


def _number(n: int) -> int:
    """Nine digits, different for each n below a thousand."""
    return 100_000_000 + 1_234_567 * n


def _letters(n: int) -> str:
    return "".join("klmnopqrst"[int(digit)] for digit in str(_number(n)))


def _oid_mark(n: int) -> ObjectId:
    return ObjectId("".join("abcdefabcd"[int(digit)] for digit in f"{_number(n)}{_number(n)}999999"))


def _date_mark(n: int) -> datetime:
    return _EPOCH + timedelta(days=n, milliseconds=_number(n) % _DAY_MS)


_string_kind: Final = ValueKind(_TEXT, "", str, _letters)
_key_string_kind: Final = ValueKind(_KEY_TEXT, "", str, _letters)
_oid_kind: Final = ValueKind(b"(.{12})", "12s", bytes.hex, _oid_mark)
_date_kind: Final = ValueKind(b"(.{8})", "q", _date, _date_mark, lambda mark: f"{mark.isoformat('T', 'milliseconds')}Z")
_int32_kind: Final = ValueKind(b"(.{4})", "i", str, _number)
STRINGS: Final = ValueKind(STRINGS_PATTERN, "", strings, lambda n: [_letters(n)], lambda mark: f'{{"S":"{mark[0]}"}}')
_PLAIN: Final = {OBJECT_ID: _oid_kind, DATE: _date_kind, INT32: _int32_kind}


def _plain_double(mark: float) -> str:
    return repr(mark).removesuffix(".0")


_NUMBERS: Final = {
    INT64: (
        ValueKind(b"(.{8})", "q", str, lambda n: Int64(_number(n) * (1_000_000_000 if n % 2 else 1)), wide=True),
        ValueKind(b"(.{8})", "q", _short_long, lambda n: Int64(_number(n))),
        ValueKind(b"(.{8})", "q", _long, lambda n: Int64(_number(n) * 1_000_000_000 + n)),
    ),
    DOUBLE: (
        ValueKind(b"(.{8})", "d", _usual_double, lambda n: _number(n) + n % 2 / 16, _plain_double, wide=True),
        ValueKind(b"(.{8})", "d", _fraction, lambda n: _number(n) + 0.0625, repr),
        ValueKind(b"(.{8})", "d", _whole_double, lambda n: float(_number(n)), _plain_double),
    ),
}
"""Kinds of numbers, the widest first: if the file declares the type, no hint is needed, whatever the value."""


def _kinds_of(kind: int, value: bytes, in_key: bool) -> Sequence[ValueKind]:
    """What a value may be, hints included, the widest kind first."""
    if kind == STRING:
        return (_key_string_kind if in_key else _string_kind,)
    if kind in _PLAIN:
        return (_PLAIN[kind],)
    if in_key:
        return ()
    return _decimal_kinds(value) if kind == DECIMAL else _NUMBERS.get(kind, ())


def _fits(kind: ValueKind, value: bytes) -> bool:
    if not kind.fixed:
        return True
    return kind.convert(struct.unpack_from(f"<{kind.fixed}", value)[0]) is not None


def kind_of(kind: int, value: bytes, in_key: bool, wide: bool) -> ValueKind:
    """The kind of a value, the widest or the narrowest. Raises NotSimple if there is none for it."""
    fitting = [one for one in _kinds_of(kind, value, in_key) if _fits(one, value)]
    if not fitting:
        raise NotSimple
    return fitting[0] if wide else fitting[-1]


def _decimal_kinds(value: bytes) -> Sequence[ValueKind]:
    """Positive ones with a coefficient of at most 64 bits; the exponent belongs to the shape."""
    digits = 6176 - (_two_words(value)[1] >> 49)
    pattern = b"(.{8})" + re.escape(value[8:])
    if not digits:
        return (ValueKind(pattern, "Q", _decimals(0, None), lambda n: Decimal128(str(_number(n)))),)
    if not 0 < digits <= 9:
        return ()
    end, zero = "7".rjust(digits, "5"), "0".rjust(digits, "5")
    return (
        ValueKind(
            pattern,
            "Q",
            _decimals(digits, None),
            lambda n: Decimal128(f"{_number(n)}.{zero if n % 2 else end}"),
            _plain,
            wide=True,
        ),
        ValueKind(pattern, "Q", _decimals(digits, False), lambda n: Decimal128(f"{_number(n)}.{end}")),
        ValueKind(pattern, "Q", _decimals(digits, True), lambda n: Decimal128(f"{_number(n)}.{zero}"), _plain),
    )


def _plain(mark: Decimal128) -> str:
    """Without trailing zeros."""
    return str(mark).rstrip("0").rstrip(".")
