"""Operators of documents: $mergeObjects, $objectToArray and back, $getField, $setField, $unsetField."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from docferry.core.bson_codec.order import ABSENT
from docferry.core.bson_codec.references import fields_of
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
)
from docferry.errors import ExpressionRefused


@operator("$mergeObjects", 0, any_number=True)
def _merge_objects(values: Iterable[Any]) -> dict[str, Any]:
    """Of one operand that is an array its elements are meant."""
    given, found = list(values), dict[str, Any]()
    for one in given[0] if len(given) == 1 and isinstance(given[0], list) else given:
        if is_nullish(one):
            continue
        fields = fields_of(one)
        if fields is None:
            raise ExpressionRefused(40400, f"$mergeObjects requires object inputs, and not {shown(one)}")
        found |= fields
    return found


@operator("$objectToArray", 1)
def _object_to_array(value: Any) -> Any:
    if is_nullish(value):
        return None
    fields = fields_of(value)
    if fields is None:
        raise ExpressionRefused(40390, f"$objectToArray requires a document input, and not {shown(value)}")
    return [{"k": name, "v": one} for name, one in fields.items()]


@operator("$arrayToObject", 1)
def _array_to_object(value: Any) -> Any:
    if is_nullish(value):
        return None
    if not isinstance(value, list):
        raise ExpressionRefused(40386, f"$arrayToObject requires an array input, and not {shown(value)}")
    pairs = [_pair(one) for one in value]
    return dict(pairs)


def _pair(one: Any) -> tuple[str, Any]:
    if isinstance(one, list) and len(one) == 2:
        name, value = one
    elif isinstance(one, dict) and one.keys() == {"k", "v"}:
        name, value = one["k"], one["v"]
    else:
        raise ExpressionRefused(40392, "$arrayToObject requires pairs of a name and a value")
    if not isinstance(name, str) or "\0" in name:
        raise ExpressionRefused(40395, f"$arrayToObject requires names that are strings, and not {shown(name)}")
    return name, value


@special("$getField")
def _get_field(name: str, operand: Any) -> Evaluate:
    given = operand if isinstance(operand, dict) and "field" in operand else {"field": operand}
    given = arguments(name, given, ("field",), ("input",))
    field, source = _field_name(name, given["field"]), compile_expression(given.get("input", "$$CURRENT"))

    def evaluate(scope: Scope) -> Any:
        value = source(scope)
        if is_nullish(value):
            return value
        fields = fields_of(value)
        return ABSENT if fields is None else fields.get(field, ABSENT)

    return evaluate


@special("$setField")
def _set_field(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("field", "input", "value"))
    return _changed(name, given["field"], given["input"], compile_expression(given["value"]))


@special("$unsetField")
def _unset_field(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("field", "input"))
    return _changed(name, given["field"], given["input"], lambda scope: ABSENT)


def _changed(name: str, field: Any, source: Any, value: Evaluate) -> Evaluate:
    named, input = _field_name(name, field), compile_expression(source)

    def evaluate(scope: Scope) -> Any:
        found = input(scope)
        if is_nullish(found):
            return None
        fields = fields_of(found)
        if fields is None:
            raise ExpressionRefused(
                4161105, f"{name} requires 'input' to evaluate to type Object, and not {shown(found)}"
            )
        made = value(scope)
        if made is ABSENT:
            return {key: one for key, one in fields.items() if key != named}
        return {**fields, named: made}

    return evaluate


def _field_name(name: str, field: Any) -> str:
    """A name that the expression says itself: a text without $ in front, or a literal."""
    if isinstance(field, dict) and field.keys() == {"$literal"} and isinstance(field["$literal"], str):
        return str(field["$literal"])
    if isinstance(field, str) and field[:1] != "$":
        return field
    raise refuse(f"{name} with a field that is not a constant text")
