"""What an application should see of a BSON value in DynamoDB, as the documentation's table says."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import bson
from bson import Code, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp
from bson.datetime_ms import DatetimeMS

from docferry.rehearsal.independent.type_hints import Unreadable
from docferry.rehearsal.independent.verdict import Wire


def canonical(value: Any) -> bytes:
    """A value as BSON with the fields of each document in order of name. An int64 is not an int32, 12.50 not 12.5."""
    return bson.encode({"": _sorted(value)})


def _sorted(value: Any) -> Any:
    if isinstance(value, DBRef):
        value = value.as_doc()
    if isinstance(value, Mapping):
        return {name: _sorted(value[name]) for name in sorted(value)}
    if isinstance(value, list):
        return [_sorted(inner) for inner in value]
    if isinstance(value, Code) and value.scope is not None:
        return Code(str(value), _sorted(value.scope))
    return value


def shown(value: Any) -> Wire | str:
    """What an application should see of a BSON value, as the documentation's table says; only the tag where it says no more."""
    if value is None:
        return {"NULL": True}
    for kind, show in _SHOWN:
        if isinstance(value, kind):
            return show(value)
    raise Unreadable(f"{type(value).__name__} is no BSON type")


def _show_number(number: Decimal) -> Wire | str:
    in_range = number.is_finite() and (not number or -130 <= number.adjusted() <= 125)
    return {"N": str(number)} if in_range else "S"


def iso_text(value: datetime) -> str:
    return f"{value:%H:%M:%S}.{value.microsecond // 1000:03d}Z".join((f"{value.year:04d}-{value:%m-%d}T", ""))


_SHOWN: tuple[tuple[type, Callable[[Any], Wire | str]], ...] = (
    (Code, lambda value: "B" if value.scope is not None else {"S": str(value)}),
    (str, lambda value: {"S": value}),
    (bool, lambda value: {"BOOL": value}),
    (int, lambda value: {"N": str(int(value))}),
    (float, lambda value: _show_number(Decimal(repr(value)))),
    (Decimal128, lambda value: _show_number(value.to_decimal())),
    (bytes, lambda value: {"B": bytes(value)}),
    (ObjectId, lambda value: {"S": str(value)}),
    (datetime, lambda value: {"S": iso_text(value)}),
    (DatetimeMS, lambda value: {"N": str(int(value))}),
    (Timestamp, lambda value: {"S": f"{value.time}:{value.inc}"}),
    (Regex, lambda value: {"S": value.pattern}),
    (MinKey, lambda value: "S"),
    (MaxKey, lambda value: "S"),
    (DBRef, lambda value: shown(value.as_doc())),
    (dict, lambda value: {"M": {escape_name(name): shown(inner) for name, inner in value.items()}}),
    (list, lambda value: {"L": [shown(inner) for inner in value]}),
)


def escape_name(name: str, reserved: Iterable[str] = ()) -> str:
    return "~" + name if not name or name[0] == "~" or name in reserved else name


def shows_differently(expected: Wire | str, found: Wire, path: str = "") -> str | None:
    """The path of the first place where an attribute does not look as expected; None if it does."""
    ((tag, content),) = found.items()
    if isinstance(expected, str):
        return None if tag == expected else path
    ((wanted_tag, wanted),) = expected.items()
    if tag != wanted_tag:
        return path
    if tag == "M":
        return _maps_differ(wanted, content, path)
    if tag == "L":
        if len(wanted) != len(content):
            return path
        pairs = ((str(index), *pair) for index, pair in enumerate(zip(wanted, content, strict=True)))
        return next((p for step, a, b in pairs if (p := shows_differently(a, b, f"{path}/{step}")) is not None), None)
    if tag == "N":
        return None if Decimal(wanted) == Decimal(content) else path
    return None if wanted == (bytes(content) if tag == "B" else content) else path


def _maps_differ(wanted: Mapping[str, Any], content: Mapping[str, Any], path: str) -> str | None:
    if unpaired := wanted.keys() ^ content.keys():
        return f"{path}/{min(unpaired)}"
    for name, inner in wanted.items():
        if (found := shows_differently(inner, content[name], f"{path}/{name}")) is not None:
            return found
    return None
