"""$push and its modifiers: $each, $position, $sort, $slice.

Source: MongoDB 6.0 manual, "$push", read 2026-11-24; held against a real mongod by property tests. MongoDB leaves open how
elements that sort equal are arranged in arrays of more than 16; here they keep their order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from docferry.core.bson_codec.order import ABSENT, OrderKey, order_key
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.update_errors import BAD_VALUE
from docferry.core.mql.values import type_name, whole_number
from docferry.errors import UpdateRefused

Array = list[Any]
Step = Callable[[Array], Array]
_MODIFIERS: Final = frozenset({"$each", "$position", "$sort", "$slice"})


def parse_push(argument: Any) -> Step:
    """What a $push makes of an array. Raises: UpdateRefused where MongoDB refuses the argument."""
    if not isinstance(argument, dict) or "$each" not in argument:
        return lambda array: [*array, argument]
    unknown = next((name for name in argument if name not in _MODIFIERS), None)
    if unknown is not None:
        raise UpdateRefused(BAD_VALUE, f"Unrecognized clause in $push: {unknown}")
    values = argument["$each"]
    if not isinstance(values, list):
        raise UpdateRefused(
            BAD_VALUE, f"The argument to $each in $push must be an array but it was of type: {type_name(values)}"
        )
    steps: list[Step] = [partial(_insert, values, _whole(argument, "$position"))]
    size = _whole(argument, "$slice")
    if "$sort" in argument:
        steps.append(_sorting(argument["$sort"]))
    if size is not None:
        steps.append(partial(_cut, size))
    return partial(_through, steps)


def _through(steps: list[Step], array: Array) -> Array:
    for step in steps:
        array = step(array)
    return array


def _whole(argument: dict[str, Any], name: str) -> int | None:
    if name not in argument:
        return None
    value = whole_number(argument[name])
    if value is None:
        raise UpdateRefused(
            BAD_VALUE, f"The value for {name} must be an integer value but was given type: {type_name(argument[name])}"
        )
    return value


def _insert(values: Array, position: int | None, array: Array) -> Array:
    at = len(array) if position is None else position
    return [*array[:at], *values, *array[at:]]


def _cut(size: int, array: Array) -> Array:
    return array[:size] if size >= 0 else array[size:]


def _sorting(pattern: Any) -> Step:
    if is_number(pattern):
        return partial(_by_value, _direction(pattern))
    if not isinstance(pattern, dict):
        raise UpdateRefused(
            BAD_VALUE,
            "The $sort is invalid: use 1/-1 to sort the whole element, or {field:1/-1} to sort embedded fields",
        )
    if not pattern:
        raise UpdateRefused(BAD_VALUE, "The $sort pattern is empty when it should be a set of fields.")
    fields = [(_sort_path(name), _direction(value)) for name, value in pattern.items()]
    return partial(_by_fields, fields)


def _direction(value: Any) -> int:
    direction = whole_number(value)
    if direction not in (1, -1):
        raise UpdateRefused(BAD_VALUE, "The $sort element value must be either 1 or -1")
    return direction


def _sort_path(name: str) -> list[str]:
    parts = name.split(".")
    if "" in parts:
        raise UpdateRefused(BAD_VALUE, "The $sort field is empty, or a dotted field with an empty part")
    return parts


def _by_value(direction: int, array: Array) -> Array:
    return sorted(array, key=order_key, reverse=direction < 0)


def _by_fields(fields: list[tuple[list[str], int]], array: Array) -> Array:
    for path, direction in reversed(fields):
        array = sorted(array, key=partial(_field_key, path), reverse=direction < 0)
    return array


def _field_key(path: list[str], element: Any) -> OrderKey:
    """What is missing sorts as null. An array on the way is entered by number only, one at the end sorts as a whole."""
    if isinstance(element, list):
        return order_key(None)
    value = element
    for part in path:
        if isinstance(value, list):
            value = {str(index): inner for index, inner in enumerate(value)}
        value = (fields_of(value) or {}).get(part, ABSENT)
    return order_key(None if value is ABSENT else value)
