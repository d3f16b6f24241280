"""The documented way back from an attribute to BSON, by the type hints in `_t`; written down here once more, by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import bson
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from docferry.rehearsal.independent.verdict import OPTIONS, Wire


class Unreadable(Exception):
    """A hint that the documentation does not know, or that does not fit."""


def read_value(wire: Wire, hints: Mapping[str, str], at: tuple[str, ...], declared: str = "") -> Any:
    """One attribute as BSON. `at` holds the pointers under which its hint may stand ("-" is any place of an array)."""
    ((tag, content),) = wire.items()
    hint = next((hints[pointer] for pointer in at if pointer in hints), "")
    if hint:
        return _read_hinted(tag, content, hint, hints, at)
    if declared:
        try:
            return _read_hinted(tag, content, declared, hints, at)
        except Unreadable:
            pass
    return _read_plain(tag, content, hints, at)


def _read_plain(tag: str, content: Any, hints: Mapping[str, str], at: tuple[str, ...]) -> Any:
    if tag == "M":
        return {_unescape(name): read_value(inner, hints, at_field(at, name)) for name, inner in content.items()}
    if tag == "L":
        return [read_value(inner, hints, _place(at, index)) for index, inner in enumerate(content)]
    if tag == "NULL":
        return None
    if tag == "N":
        number = Decimal(content)
        if number != number.to_integral_value():
            return float(number)
        whole = int(number)
        return whole if -(2**31) <= whole < 2**31 else Int64(whole)
    if tag in ("S", "BOOL", "B"):
        return bytes(content) if tag == "B" else content
    raise Unreadable(f"{tag} is not written here")


def at_field(at: tuple[str, ...], name: str) -> tuple[str, ...]:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return tuple(f"{pointer}/{escaped}" for pointer in at)


def _place(at: tuple[str, ...], index: int) -> tuple[str, ...]:
    return tuple(f"{pointer}/{place}" for pointer in at for place in (str(index), "-"))


def _unescape(name: str) -> str:
    return name.removeprefix("~")


def _whole(text: str) -> int:
    number = Decimal(text)
    if number != number.to_integral_value():
        raise Unreadable(f"{text} is no integer")
    return int(number)


def _decimal(text: str, digits: str) -> Decimal128:
    number = Decimal(text)
    if digits:
        sign, figures, exponent = number.as_tuple()
        zeros = int(exponent) - int(digits)
        figures = (0,) if not number else figures + (0,) * zeros if zeros >= 0 else figures[:zeros]
        number = Decimal((sign, figures, int(digits)))
    return Decimal128(str(number))


def _negative(value: Any, text: str) -> Any:
    if Decimal(text) != 0:
        raise Unreadable(f"{text} is not zero")
    return value


def _iso(text: str) -> datetime:
    return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ")  # noqa: DTZ007 - BSON's dates are naive, as pymongo has them


_READERS: dict[tuple[str, str], Callable[[Any, str], Any]] = {
    ("string", "S"): lambda text, _: text,
    ("int", "N"): lambda text, _: _whole(text),
    ("long", "N"): lambda text, _: Int64(_whole(text)),
    ("double", "N"): lambda text, _: float(text),
    ("double", "S"): lambda text, _: float(text),
    ("-double", "N"): lambda text, _: _negative(-0.0, text),
    ("decimal", "N"): _decimal,
    ("decimal", "S"): lambda text, _: Decimal128(text),
    ("-decimal", "N"): lambda text, digits: _negative(Decimal128(Decimal((1, (0,), int(digits or 0)))), text),
    ("oid", "S"): lambda text, _: ObjectId(text),
    ("date", "S"): lambda text, _: _iso(text),
    ("datems", "N"): lambda text, _: DatetimeMS(int(text)),
    ("binary", "B"): lambda data, subtype: Binary(bytes(data), int(subtype or 0)),
    ("timestamp", "S"): lambda text, _: Timestamp(*(int(part) for part in text.split(":"))),
    ("regex", "S"): lambda text, flags: Regex(text, int(flags)),
    ("code", "S"): lambda text, _: Code(text),
    ("minkey", "S"): lambda _text, _: MinKey(),
    ("maxkey", "S"): lambda _text, _: MaxKey(),
    ("bson", "B"): lambda data, _: bson.decode(bytes(data), OPTIONS)[""],
}


def _read_hinted(tag: str, content: Any, hint: str, hints: Mapping[str, str], at: tuple[str, ...]) -> Any:
    name, _, suffix = hint.partition(":")
    if (name, tag) == ("dbref", "M"):
        fields = _read_plain(tag, content, hints, at)
        return DBRef(fields.pop("$ref"), fields.pop("$id"), fields.pop("$db", None), fields)
    if (name, tag) not in _READERS:
        raise Unreadable(f"hint {hint} on {tag}")
    try:
        return _READERS[name, tag](content, suffix)
    except (ValueError, ArithmeticError, bson.errors.BSONError) as error:
        raise Unreadable(f"hint {hint} on {content!r:.80}: {error}") from error
