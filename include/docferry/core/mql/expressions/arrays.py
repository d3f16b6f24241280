"""Operators of arrays and sets. A set's elements are told apart as MongoDB does: 1 and 1.0 are one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from docferry.core.bson_codec.order import ABSENT, KeyOf, order_key
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions.compiling import (
    Evaluate,
    Scope,
    arguments,
    compile_expression,
    is_nullish,
    operator,
    refuse,
    shown,
    special,
    value_at,
)
from docferry.core.mql.expressions.logic import require_variable, truth
from docferry.core.mql.values import whole_number
from docferry.errors import ExpressionRefused

MOST_ELEMENTS = 1_000_000
"""Of $range."""


def _list(code: int, name: str, value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise ExpressionRefused(code, f"{name} needs an array, and not {shown(value)}")
    return value


def _whole(code: int, name: str, value: Any) -> int:
    found = whole_number(value)
    if found is None or not is_number(value) or not -(2**31) <= found < 2**31:
        raise ExpressionRefused(code, f"{name} needs a 32-bit integer, and not {shown(value)}")
    return found


@operator("$isArray", 1)
def _is_array(value: Any) -> bool:
    return isinstance(value, list)


@operator("$size", 1)
def _size(value: Any) -> int:
    return len(_list(17124, "$size", value))


@operator("$arrayElemAt", 2)
def _array_elem_at(value: Any, at: Any) -> Any:
    if is_nullish(value) or is_nullish(at):
        return None
    elements = _list(28689, "$arrayElemAt", value)
    if not is_number(at):
        raise ExpressionRefused(28690, f"$arrayElemAt needs a number, and not {shown(at)}")
    index = _whole(28691, "$arrayElemAt", at)
    return elements[index] if -len(elements) <= index < len(elements) else ABSENT


@operator("$first", 1)
def _first(value: Any) -> Any:
    return None if is_nullish(value) else next(iter(_list(28689, "$first", value)), ABSENT)


@operator("$last", 1)
def _last(value: Any) -> Any:
    return None if is_nullish(value) else next(reversed(_list(28689, "$last", value)), ABSENT)


@operator("$concatArrays", 0, any_number=True)
def _concat_arrays(values: Iterable[Any]) -> Any:
    found: list[Any] = []
    for one in values:
        if is_nullish(one):
            return None
        found += _list(28664, "$concatArrays", one)
    return found


@operator("$in", 2, equality=True)
def _in(key_of: KeyOf, value: Any, among: Any) -> bool:
    return key_of(value) in {key_of(one) for one in _list(40081, "$in", among)}


@operator("$indexOfArray", 2, 4, equality=True)
def _index_of_array(key_of: KeyOf, value: Any, wanted: Any, start: Any = 0, end: Any = ABSENT) -> Any:
    if is_nullish(value):
        return None
    elements, key = _list(40090, "$indexOfArray", value), key_of(wanted)
    first = _whole(40096, "$indexOfArray", start)
    last = len(elements) if end is ABSENT else _whole(40096, "$indexOfArray", end)
    if first < 0 or last < 0:
        raise ExpressionRefused(40097, "$indexOfArray needs bounds that are not negative")
    return next((at for at in range(first, min(last, len(elements))) if key_of(elements[at]) == key), -1)


@operator("$slice", 2, 3)
def _slice(value: Any, one: Any, other: Any = ABSENT) -> Any:
    if is_nullish(value) or is_nullish(one) or other is None:
        return None
    elements, first = _list(28724, "$slice", value), _whole(28726, "$slice", one)
    if other is ABSENT:
        return elements[first:] if first < 0 else elements[:first]
    count = _whole(28728, "$slice", other)
    if count <= 0:
        raise ExpressionRefused(28729, "$slice needs a third argument that is positive")
    begin = max(0, len(elements) + first) if first < 0 else first
    return elements[begin : begin + count]


@operator("$reverseArray", 1)
def _reverse_array(value: Any) -> Any:
    return None if is_nullish(value) else _list(34435, "$reverseArray", value)[::-1]


@operator("$range", 2, 3)
def _range(start: Any, end: Any, step: Any = 1) -> list[int]:
    first, last, by = (_whole(34444, "$range", one) for one in (start, end, step))
    if by == 0:
        raise ExpressionRefused(34449, "$range needs a step that is not zero")
    found = range(first, last, by)
    if len(found) > MOST_ELEMENTS:
        raise ExpressionRefused(146, f"$range of more than {MOST_ELEMENTS} numbers")
    return list(found)


# --- over elements ---------------------------------------------------------------------------------------------------


@special("$filter")
def _filter(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("input", "cond"), ("as", "limit"))
    source, variable = compile_expression(given["input"]), given.get("as", "this")
    require_variable(variable)
    condition = compile_expression(given["cond"])
    limit = compile_expression(given["limit"]) if "limit" in given else None

    def evaluate(scope: Scope) -> Any:
        most = limit(scope) if limit is not None else None
        value = source(scope)
        if is_nullish(value):
            return None
        if not is_nullish(most) and _whole(327391, "$filter", most) < 1:
            raise ExpressionRefused(327392, "$filter needs a limit that is positive")
        found = [one for one in _list(28651, "$filter", value) if truth(condition({**scope, variable: one}))]
        return found if is_nullish(most) else found[: _whole(327391, "$filter", most)]

    return evaluate


@special("$map")
def _map(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("input", "in"), ("as",))
    source, variable = compile_expression(given["input"]), given.get("as", "this")
    require_variable(variable)
    inner = compile_expression(given["in"])

    def evaluate(scope: Scope) -> Any:
        value = source(scope)
        if is_nullish(value):
            return None
        made = (inner({**scope, variable: one}) for one in _list(16883, "$map", value))
        return [None if one is ABSENT else one for one in made]

    return evaluate


@special("$reduce")
def _reduce(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("input", "initialValue", "in"))
    source, initial, inner = (compile_expression(given[one]) for one in ("input", "initialValue", "in"))

    def evaluate(scope: Scope) -> Any:
        value = source(scope)
        if is_nullish(value):
            return None
        elements = _list(40080, "$reduce", value)
        found = initial(scope)
        for one in elements:
            found = inner({**scope, "value": found, "this": one})
        return found

    return evaluate


@special("$sortArray")
def _sort_array(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("input", "sortBy"))
    source, by = compile_expression(given["input"]), given["sortBy"]
    pairs = list(by.items()) if isinstance(by, dict) else [("", by)]
    if not pairs or any(whole_number(direction) not in (1, -1) or "$" in path for path, direction in pairs):
        raise refuse("$sortArray by anything but fields, 1 and -1")

    def evaluate(scope: Scope) -> Any:
        value = source(scope)
        if is_nullish(value):
            return None
        found = list(_list(2942504, "$sortArray", value))
        for path, direction in reversed(pairs):
            keys = [_sorted_by(one, path, whole_number(direction) == 1) for one in found]
            order = sorted(range(len(found)), key=keys.__getitem__, reverse=whole_number(direction) == -1)
            found = [found[at] for at in order]
        return found

    return evaluate


def _sorted_by(element: Any, path: str, up: bool) -> Any:
    if not path:
        return order_key(element)
    value = value_at(element, path.split(".")) if isinstance(element, dict) else ABSENT
    if isinstance(value, list):
        raise refuse("$sortArray by a field that holds an array")
    return order_key(None if value is ABSENT else value)


# --- sets ------------------------------------------------------------------------------------------------------------


def distinct(key_of: KeyOf, values: Iterable[Any]) -> dict[Any, Any]:
    """Each value once, by what it is equal to; the first of equals stays."""
    found: dict[Any, Any] = {}
    for one in values:
        found.setdefault(key_of(one), one)
    return found


def _in_order(found: dict[Any, Any]) -> list[Any]:
    """A set's elements, in the order of values: MongoDB's own order of these results."""
    return sorted(found.values(), key=order_key)


@operator("$setUnion", 0, any_number=True, equality=True)
def _set_union(key_of: KeyOf, values: Iterable[Any]) -> Any:
    found: list[Any] = []
    for one in values:
        if is_nullish(one):
            return None
        found += _list(17043, "$setUnion", one)
    return _in_order(distinct(key_of, found))


@operator("$setIntersection", 0, any_number=True, equality=True)
def _set_intersection(key_of: KeyOf, values: Iterable[Any]) -> Any:
    found: dict[Any, Any] | None = None
    for one in values:
        if is_nullish(one):
            return None
        own = distinct(key_of, _list(17047, "$setIntersection", one))
        found = own if found is None else {key: value for key, value in found.items() if key in own}
    return _in_order(found or {})


@operator("$setDifference", 2, equality=True)
def _set_difference(key_of: KeyOf, one: Any, other: Any) -> Any:
    if is_nullish(one) or is_nullish(other):
        return None
    elements = distinct(key_of, _list(17048, "$setDifference", one))
    without = distinct(key_of, _list(17049, "$setDifference", other))
    return [value for key, value in elements.items() if key not in without]


@operator("$setIsSubset", 2, equality=True)
def _set_is_subset(key_of: KeyOf, one: Any, other: Any) -> bool:
    first, second = _list(17046, "$setIsSubset", one), _list(17042, "$setIsSubset", other)
    return distinct(key_of, first).keys() <= distinct(key_of, second).keys()


@operator("$setEquals", 2, any_number=True, equality=True)
def _set_equals(key_of: KeyOf, values: Iterable[Any]) -> bool:
    first, *others = [distinct(key_of, _list(17044, "$setEquals", one)).keys() for one in values]
    return all(first == other for other in others)


@operator("$anyElementTrue", 1)
def _any_element_true(value: Any) -> bool:
    return any(map(truth, _list(17041, "$anyElementTrue", value)))


@operator("$allElementsTrue", 1)
def _all_elements_true(value: Any) -> bool:
    return all(map(truth, _list(17040, "$allElementsTrue", value)))
