"""The values of access patterns as the fields that they stand for hold them. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from bson.decimal128 import Decimal128
from bson.int64 import Int64
from bson.objectid import ObjectId

from docferry.core.bson_codec.options import INT64_MAX, INT64_MIN
from docferry.core.mapping.item_plan import ItemPlan
from docferry.errors import CallRefused

_OID: Final = re.compile(r"[0-9a-fA-F]{24}")


def typed(plan: ItemPlan, path: str, value: Any, *, number: bool = False) -> Any:
    """A parameter as the field that it stands for holds it, by the type that the file declares; `number`: its key is one.

    Shape:  "507f1f77bcf86cd799439011" -> ObjectId, where the field is declared `oid`; "2024-01-01" -> datetime, where `date`;
            55425 -> "55425", where `string`; "7" -> 7, where `int` or `long`
    Raises: CallRefused for what the declared type cannot be, and for what is in no key: a list or a document.
    """
    if isinstance(value, list | tuple | set | Mapping):
        raise CallRefused(what=f"{path} cannot be asked for by a {type(value).__name__}", suggestion="give one value")
    declared = _declared(plan, path)
    if declared == "oid" and isinstance(value, str) and _OID.fullmatch(value):
        return ObjectId(value)
    if declared == "date" and isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return value
    if isinstance(value, datetime):
        return _as_mongo_keeps_it(value)
    name, _, digits = (declared or "").partition(":")
    read = _READ.get(name) or (_read_any_number if number and isinstance(value, str) else None)
    if read is None:
        return value
    found = read(value, digits)
    if found is None:
        raise CallRefused(
            what=f"{path} is declared {name}, and {type(value).__name__} {value!r} is none"
            if name
            else f"{path} is a number in its key, and {value!r} is none",
            suggestion="give a value of that type",
        )
    return found


def is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal128) and not isinstance(value, bool)


def _as_mongo_keeps_it(value: datetime) -> datetime:
    """UTC without saying so, in milliseconds."""
    naive = value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    return naive.replace(microsecond=naive.microsecond // 1000 * 1000)


def _declared(plan: ItemPlan, path: str) -> str | None:
    steps = tuple(path.split("."))
    known = plan.declared | plan.natural
    found = [known[name] for name, source in plan.sources.items() if source == steps and name in known]
    if found:
        return found[0]
    if steps == ("_id",) and not plan.path and "_id" not in plan.natural:
        return "oid"
    return known.get(path)


# --- readers: (value, digits after the point as in decimal:-2) -> the value, or None ---------------------------------


def _decimal(value: Any) -> Decimal | None:
    if isinstance(value, Decimal128):
        return value.to_decimal()
    if not is_number(value) and not isinstance(value, str | Decimal):
        return None
    try:
        return Decimal(repr(value) if isinstance(value, float) else value)
    except InvalidOperation:
        return None


def _read_string(value: Any, _digits: str) -> str | None:
    if isinstance(value, str):
        return value
    return str(value) if is_number(value) else None


def _read_int(value: Any, _digits: str) -> int | None:
    number = _decimal(value)
    if number is None or not number.is_finite() or number != number.to_integral_value():
        return None
    return int(number) if INT64_MIN <= number <= INT64_MAX else None


def _read_long(value: Any, digits: str) -> Int64 | None:
    number = _read_int(value, digits)
    return Int64(number) if number is not None else None


def _read_double(value: Any, _digits: str) -> float | None:
    number = _decimal(value)
    return float(number) if number is not None else None


def _read_decimal(value: Any, digits: str) -> Decimal128 | None:
    number = _decimal(value)
    if number is None:
        return None
    places = Decimal(1).scaleb(int(digits or 0))
    exact = number.is_finite() and digits != "" and number == number.quantize(places)
    return Decimal128(number.quantize(places) if exact else number)


def _read_bool(value: Any, _digits: str) -> bool | None:
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(value) if isinstance(value, str) else None


def _read_any_number(value: str, _digits: str) -> int | Decimal128 | None:
    number = _decimal(value)
    if number is None:
        return None
    return int(number) if number.is_finite() and number == number.to_integral_value() else Decimal128(number)


_READ: Final[Mapping[str, Callable[[Any, str], Any]]] = {
    "string": _read_string,
    "int": _read_int,
    "long": _read_long,
    "double": _read_double,
    "decimal": _read_decimal,
    "bool": _read_bool,
}
