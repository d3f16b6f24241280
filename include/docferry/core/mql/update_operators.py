"""What each of MongoDB's update operators makes of the value at one path.

An operator is parsed once (`parse_operator`) into two functions: of the value that is there, and of nothing. Their results
are new values; what they are given stays as it is.

Source: MongoDB 6.0 manual, "Update Operators", read 2026-11-24; held against a real mongod by property tests.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from bson import Int64, Regex, Timestamp

from docferry.core.bson_codec.order import ABSENT, KeyOf, equality_key, order_key, same
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import ArithmeticOperation, combine, is_nan, is_number
from docferry.core.mql.filters import compile_filter
from docferry.core.mql.push import parse_push
from docferry.core.mql.update_errors import BAD_VALUE, FAILED_TO_PARSE, TYPE_MISMATCH
from docferry.core.mql.values import type_name, whole_number
from docferry.errors import CallRefused, UpdateRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """`update` gives the new value (ABSENT: remove it) of one that is there, at a dotted path; `create` one where none is.

    Without `create` nothing happens where the path does not lead, but `viable` wants that it could. `counted`, of the
    value that is there: MongoDB counts it as a change even if it stays the same.
    """

    update: Callable[[Any, str], Any]
    create: Callable[[], Any] | None = None
    viable: bool = True
    counted: Callable[[Any], bool] = lambda old: False


@dataclass(frozen=True, slots=True)
class UpdateTerms:
    """What the operators of one update have in common."""

    now: datetime
    ordered: bool

    @property
    def key_of(self) -> KeyOf:
        """By which values are equal."""
        return order_key if self.ordered else equality_key


def parse_operator(word: str, path: str, argument: Any, now: datetime, *, ordered: bool = False) -> Operator:
    """The operator `word` with its argument for one path. `word` is one of OPERATORS. `ordered`: documents are equal with their
    fields in one order.

    Raises: UpdateRefused where MongoDB refuses the argument; CallRefused for what is not supported inside a $pull.
    """
    return OPERATORS[word](path, argument, UpdateTerms(now, ordered))


def _set(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    return Operator(update=lambda old, at: argument, create=lambda: argument)


def _unset(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    return Operator(update=lambda old, at: ABSENT, viable=False)


def _arithmetic(word: str, verb: str, operation: ArithmeticOperation) -> Callable[[str, Any, UpdateTerms], Operator]:
    def parse(path: str, argument: Any, terms: UpdateTerms) -> Operator:
        if not is_number(argument):
            raise UpdateRefused(TYPE_MISMATCH, f"Cannot {verb} with non-numeric argument for '{path}'")

        def update(old: Any, at: str) -> Any:
            if not is_number(old):
                raise UpdateRefused(
                    TYPE_MISMATCH, f"Cannot apply {word} to the field '{at}' of non-numeric type {type_name(old)}"
                )
            try:
                new = combine(operation, argument, old)
            except OverflowError:
                raise UpdateRefused(BAD_VALUE, f"{word} takes the field '{at}' out of the range of 64 bits") from None
            # An equal number of the same type changes nothing: a zero keeps its sign, a decimal its digits.
            return old if type(new) is type(old) and same(new, old) else new

        created = argument if operation is ArithmeticOperation.ADD else combine(operation, argument, 0)
        return Operator(update=update, create=lambda: created, counted=is_nan)

    return parse


def _extreme(replaces: Callable[[Any, Any], bool]) -> Callable[[str, Any, UpdateTerms], Operator]:
    def parse(path: str, argument: Any, terms: UpdateTerms) -> Operator:
        key = order_key(argument)
        return Operator(
            update=lambda old, at: argument if replaces(key, order_key(old)) else old, create=lambda: argument
        )

    return parse


def _push(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    push = parse_push(argument)

    def update(old: Any, at: str) -> Any:
        if not isinstance(old, list):
            raise UpdateRefused(BAD_VALUE, f"The field '{at}' must be an array but is of type {type_name(old)}")
        return push(old)

    few = isinstance(argument, dict) and argument.get("$each") == [] and "$sort" not in argument
    return Operator(update=update, create=lambda: push([]), counted=lambda old: not few)


def _add_to_set(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    values = [argument]
    if isinstance(argument, dict) and next(iter(argument), "") == "$each":
        values = argument["$each"]
        if not isinstance(values, list):
            raise UpdateRefused(
                TYPE_MISMATCH,
                f"The argument to $each in $addToSet must be an array but it was of type {type_name(values)}",
            )
        if len(argument) > 1:
            raise UpdateRefused(BAD_VALUE, f"Found unexpected fields after $each in $addToSet for '{path}'")

    def update(old: Any, at: str) -> Any:
        if not isinstance(old, list):
            raise UpdateRefused(
                BAD_VALUE,
                f"Cannot apply $addToSet to non-array field. Field '{at}' has non-array type {type_name(old)}",
            )
        return old + _new_among(values, old, terms.key_of)

    return Operator(update=update, create=lambda: _new_among(values, [], terms.key_of))


def _new_among(values: list[Any], there: list[Any], key_of: KeyOf) -> list[Any]:
    keys = {key_of(value) for value in there}
    found: list[Any] = []
    for value in values:
        key = key_of(value)
        if key not in keys:
            keys.add(key)
            found.append(value)
    return found


def _pop(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    end = whole_number(argument)
    if end not in (1, -1):
        raise UpdateRefused(FAILED_TO_PARSE, f"$pop expects 1 or -1 for '{path}'")

    def update(old: Any, at: str) -> Any:
        if not isinstance(old, list):
            raise UpdateRefused(TYPE_MISMATCH, f"Path '{at}' contains an element of non-array type '{type_name(old)}'")
        return old[:-1] if end == 1 else old[1:]

    return Operator(update=update)


def _pull(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    goes = _pulled(argument, terms)

    def update(old: Any, at: str) -> Any:
        if not isinstance(old, list):
            raise UpdateRefused(BAD_VALUE, f"Cannot apply $pull to the non-array value at '{at}'")
        return [value for value in old if not goes(value)]

    return Operator(update=update)


_ON_A_VALUE: Final = frozenset(
    {"$eq", "$ne", "$gt", "$gte", "$lt", "$lte", "$in", "$nin", "$exists", "$size", "$all", "$elemMatch", "$type"}
)


def _pulled(argument: Any, terms: UpdateTerms) -> Callable[[Any], bool]:
    """Which elements a $pull removes: those equal to a value, or that match a query or a condition on a value."""
    if isinstance(argument, dict) and next(iter(argument), "") in _ON_A_VALUE:
        on_value = compile_filter({"": argument}, ordered=terms.ordered)
        return lambda value: on_value.matches({"": value})
    if isinstance(argument, dict):
        query = compile_filter(argument, ordered=terms.ordered)
        return lambda value: (fields := fields_of(value)) is not None and query.matches(fields)
    if isinstance(argument, Regex):
        raise CallRefused(
            "$pull with a regular expression", "pull by value, or filter the array in the application and $set it"
        )
    key_of = terms.key_of
    wanted = key_of(argument)
    return lambda value: key_of(value) == wanted


def _pull_all(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    if not isinstance(argument, list):
        raise UpdateRefused(BAD_VALUE, f"$pullAll requires an array argument but was given a {type_name(argument)}")
    key_of = terms.key_of
    gone = {key_of(value) for value in argument}

    def update(old: Any, at: str) -> Any:
        if not isinstance(old, list):
            raise UpdateRefused(BAD_VALUE, f"Cannot apply $pullAll to the non-array value at '{at}'")
        return [value for value in old if key_of(value) not in gone]

    return Operator(update=update)


def _bit(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    if not isinstance(argument, dict) or not argument:
        raise UpdateRefused(BAD_VALUE, f"$bit takes {{and, or, xor: number}}, not {type_name(argument)}, for '{path}'")
    for word, number in argument.items():
        if word not in _BITWISE or not _is_integer(number):
            raise UpdateRefused(BAD_VALUE, f"$bit takes and, or and xor, each of a 32 or 64 bit integer, for '{path}'")

    def update(old: Any, at: str) -> Any:
        if not _is_integer(old):
            raise UpdateRefused(BAD_VALUE, f"Cannot apply $bit to a value of non-integral type at '{at}'")
        for word, number in argument.items():
            long = isinstance(old, Int64) or isinstance(number, Int64)
            old = (Int64 if long else int)(_BITWISE[word](int(old), int(number)))
        return old

    return Operator(update=update, create=lambda: update(0, path))


_BITWISE: Final[Mapping[str, Callable[[int, int], int]]] = {
    "and": operator.and_,
    "or": operator.or_,
    "xor": operator.xor,
}


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _current_date(path: str, argument: Any, terms: UpdateTerms) -> Operator:
    wanted = "date" if isinstance(argument, bool) else None
    if isinstance(argument, dict):
        unknown = next((name for name in argument if name != "$type"), None)
        if unknown is not None:
            raise UpdateRefused(BAD_VALUE, f"Unrecognized $currentDate option for '{path}'")
        wanted = argument.get("$type")
    if wanted not in ("date", "timestamp"):
        raise UpdateRefused(BAD_VALUE, f"$currentDate takes true or {{$type: 'date' or 'timestamp'}} for '{path}'")
    value = terms.now if wanted == "date" else Timestamp(terms.now, 1)
    return Operator(update=lambda old, at: value, create=lambda: value, counted=lambda old: True)


OPERATORS: Final[Mapping[str, Callable[[str, Any, UpdateTerms], Operator]]] = {
    "$set": _set,
    "$setOnInsert": _set,
    "$unset": _unset,
    "$inc": _arithmetic("$inc", "increment", ArithmeticOperation.ADD),
    "$mul": _arithmetic("$mul", "multiply", ArithmeticOperation.MULTIPLY),
    "$min": _extreme(lambda new, old: new < old),
    "$max": _extreme(lambda new, old: new > old),
    "$push": _push,
    "$addToSet": _add_to_set,
    "$pop": _pop,
    "$pull": _pull,
    "$pullAll": _pull_all,
    "$bit": _bit,
    "$currentDate": _current_date,
}
