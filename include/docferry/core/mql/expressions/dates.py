"""Operators of dates, in UTC: their parts, as a text, moved and cut off. Other time zones are refused by name."""

from __future__ import annotations

import calendar
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from bson import ObjectId, Timestamp
from bson.int64 import Int64

from docferry.core.bson_codec.order import ABSENT
from docferry.core.mql.expressions.compiling import (
    OPERATORS,
    Evaluate,
    Scope,
    compile_expression,
    is_nullish,
    named_operator,
    operands,
    refuse,
    shown,
)
from docferry.core.mql.values import whole_number
from docferry.errors import ExpressionRefused

_UTC = frozenset({"UTC", "GMT", "Z", "+00", "+00:00", "+0000", "Etc/UTC"})
_FORMAT: Final = "%Y-%m-%dT%H:%M:%S.%LZ"


def in_utc(name: str, value: Any) -> datetime:
    """A date, or the time in an ObjectId or a Timestamp, as a naive datetime."""
    if isinstance(value, ObjectId):
        return value.generation_time.replace(tzinfo=None)
    if isinstance(value, Timestamp):
        return datetime.fromtimestamp(value.time, UTC).replace(tzinfo=None)
    if isinstance(value, datetime):
        return value.astimezone(UTC).replace(tzinfo=None) if value.tzinfo is not None else value
    if type(value).__name__ == "DatetimeMS":
        raise refuse(f"{name} of a date outside the years 1 to 9999")
    raise ExpressionRefused(16006, f"can't convert from {shown(value)} to Date")


def _require_utc(zone: Any) -> None:
    if zone is not ABSENT and zone not in _UTC:
        raise refuse("a time zone other than UTC")


def _sunday_week(at: datetime) -> int:
    return int(at.strftime("%U"))


PARTS: Final[dict[str, Callable[[datetime], int]]] = {
    "$year": lambda at: at.year,
    "$month": lambda at: at.month,
    "$dayOfMonth": lambda at: at.day,
    "$hour": lambda at: at.hour,
    "$minute": lambda at: at.minute,
    "$second": lambda at: at.second,
    "$millisecond": lambda at: at.microsecond // 1000,
    "$dayOfYear": lambda at: at.timetuple().tm_yday,
    "$dayOfWeek": lambda at: at.isoweekday() % 7 + 1,
    "$week": _sunday_week,
    "$isoDayOfWeek": lambda at: at.isoweekday(),
    "$isoWeek": lambda at: at.isocalendar().week,
    "$isoWeekYear": lambda at: Int64(at.isocalendar().year),
}


def _part(name: str, operand: Any) -> Evaluate:
    if isinstance(operand, dict) and "date" in operand:
        if unknown := operand.keys() - {"date", "timezone"}:
            raise refuse(f"{name} with {min(unknown)}")
        date, zone = compile_expression(operand["date"]), compile_expression(operand.get("timezone", "UTC"))
    else:
        date, zone = compile_expression(operands(name, operand, 1, 1)[0]), compile_expression("UTC")
    part = PARTS[name]

    def evaluate(scope: Scope) -> Any:
        value, where = date(scope), zone(scope)
        if is_nullish(value) or is_nullish(where):
            return None
        _require_utc(where)
        return part(in_utc(name, value))

    return evaluate


OPERATORS.update(dict.fromkeys(PARTS, _part))

_WRITTEN: Final[dict[str, Callable[[datetime], str]]] = {
    "Y": lambda at: f"{at.year:04d}",
    "m": lambda at: f"{at.month:02d}",
    "d": lambda at: f"{at.day:02d}",
    "H": lambda at: f"{at.hour:02d}",
    "M": lambda at: f"{at.minute:02d}",
    "S": lambda at: f"{at.second:02d}",
    "L": lambda at: f"{at.microsecond // 1000:03d}",
    "j": lambda at: f"{at.timetuple().tm_yday:03d}",
    "u": lambda at: str(at.isoweekday()),
    "w": lambda at: str(at.isoweekday() % 7 + 1),
    "U": lambda at: f"{_sunday_week(at):02d}",
    "V": lambda at: f"{at.isocalendar().week:02d}",
    "G": lambda at: f"{at.isocalendar().year:04d}",
    "z": lambda at: "+0000",
    "Z": lambda at: "0",
    "%": lambda at: "%",
}


@named_operator("$dateToString", ("date",), ("format", "timezone", "onNull"))
def _date_to_string(date: Any, format: Any, timezone: Any, onNull: Any) -> Any:
    if format is not ABSENT and not isinstance(format, str | None):
        raise ExpressionRefused(18533, "$dateToString requires that 'format' be a string")
    pattern = format if isinstance(format, str) else _FORMAT
    pieces = _pieces(pattern)
    if is_nullish(date):
        return None if onNull is ABSENT else onNull
    if format is None or timezone is None:
        return None
    _require_utc(timezone)
    at = in_utc("$dateToString", date)
    return "".join(one if not written else _WRITTEN[one](at) for one, written in pieces)


def _pieces(pattern: str) -> list[tuple[str, bool]]:
    found: list[tuple[str, bool]] = []
    letters = iter(pattern)
    for one in letters:
        if one != "%":
            found.append((one, False))
            continue
        kind = next(letters, "")
        if kind not in _WRITTEN:
            raise ExpressionRefused(18536, f"invalid format character '%{kind}' in format string")
        found.append((kind, True))
    return found


# --- moved, and cut off ----------------------------------------------------------------------------------------------

_LENGTHS: Final = {
    "week": timedelta(weeks=1), "day": timedelta(days=1), "hour": timedelta(hours=1), "minute": timedelta(minutes=1),
    "second": timedelta(seconds=1), "millisecond": timedelta(milliseconds=1),
}  # fmt: skip
_MONTHS: Final = {"month": 1, "quarter": 3, "year": 12}
_DAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _unit(name: str, unit: Any) -> str:
    if not isinstance(unit, str) or unit not in (*_LENGTHS, *_MONTHS):
        raise ExpressionRefused(9, f"{name} requires 'unit' to be a valid time unit")
    return unit


def _moved(name: str, date: Any, unit: Any, amount: Any, sign: int) -> Any:
    if is_nullish(date) or is_nullish(unit) or is_nullish(amount):
        return None
    kind, number = _unit(name, unit), whole_number(amount)
    if number is None or isinstance(amount, bool):
        raise ExpressionRefused(5166405, f"{name} expects integer amount of time units")
    at = in_utc(name, date)
    try:
        if kind in _LENGTHS:
            return at + sign * number * _LENGTHS[kind]
        months = at.year * 12 + at.month - 1 + sign * number * _MONTHS[kind]
        year, month = divmod(months, 12)
        return at.replace(year=year, month=month + 1, day=min(at.day, calendar.monthrange(year, month + 1)[1]))
    except (OverflowError, ValueError, calendar.IllegalMonthError):
        raise refuse(f"{name} past the years 1 to 9999") from None


@named_operator("$dateAdd", ("startDate", "unit", "amount"), ("timezone",))
def _date_add(startDate: Any, unit: Any, amount: Any, timezone: Any) -> Any:
    _require_utc(timezone)
    return _moved("$dateAdd", startDate, unit, amount, 1)


@named_operator("$dateSubtract", ("startDate", "unit", "amount"), ("timezone",))
def _date_subtract(startDate: Any, unit: Any, amount: Any, timezone: Any) -> Any:
    _require_utc(timezone)
    return _moved("$dateSubtract", startDate, unit, amount, -1)


@named_operator("$dateTrunc", ("date", "unit"), ("binSize", "timezone", "startOfWeek"))
def _date_trunc(date: Any, unit: Any, binSize: Any, timezone: Any, startOfWeek: Any) -> Any:
    if is_nullish(date) or is_nullish(unit) or binSize is None or timezone is None:
        return None
    _require_utc(timezone)
    if binSize is not ABSENT and whole_number(binSize) != 1:
        raise refuse("$dateTrunc with a binSize other than 1")
    kind, at = _unit("$dateTrunc", unit), in_utc("$dateTrunc", date)
    midnight = at.replace(hour=0, minute=0, second=0, microsecond=0)
    if kind in _MONTHS:
        month = (at.month - 1) // _MONTHS[kind] * _MONTHS[kind] + 1 if kind != "year" else 1
        return midnight.replace(month=month, day=1)
    if kind == "week":
        first = "sunday" if is_nullish(startOfWeek) else startOfWeek
        named = [one for one in _DAYS if isinstance(first, str) and first.lower() in (one, one[:3])]
        if not named:
            raise ExpressionRefused(5439016, "$dateTrunc requires 'startOfWeek' to be a day of the week")
        return midnight - timedelta(days=(at.weekday() - _DAYS.index(named[0])) % 7)
    return midnight + (at - midnight) // _LENGTHS[kind] * _LENGTHS[kind]
