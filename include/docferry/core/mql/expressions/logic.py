"""Operators that compare, decide and bind: $eq and its kin, $and, $or, $not, $cond, $ifNull, $switch, $let, $literal."""

from __future__ import annotations

from typing import Any

from docferry.core.bson_codec.order import ABSENT, KeyOf, order_key
from docferry.core.mql.expressions.compiling import (
    Evaluate,
    Scope,
    arguments,
    compile_expression,
    is_nullish,
    operands,
    operator,
    refuse,
    special,
)
from docferry.core.mql.values import is_true
from docferry.errors import ExpressionRefused


def truth(value: Any) -> bool:
    return value is not ABSENT and is_true(value)


@operator("$cmp", 2)
def _cmp(one: Any, other: Any) -> int:
    first, second = order_key(one), order_key(other)
    return (first > second) - (first < second)


@operator("$eq", 2, equality=True)
def _eq(key_of: KeyOf, one: Any, other: Any) -> bool:
    return key_of(one) == key_of(other)


@operator("$ne", 2, equality=True)
def _ne(key_of: KeyOf, one: Any, other: Any) -> bool:
    return not _eq(key_of, one, other)


@operator("$gt", 2)
def _gt(one: Any, other: Any) -> bool:
    return order_key(one) > order_key(other)


@operator("$gte", 2, equality=True)
def _gte(key_of: KeyOf, one: Any, other: Any) -> bool:
    return _gt(one, other) or _eq(key_of, one, other)


@operator("$lt", 2)
def _lt(one: Any, other: Any) -> bool:
    return order_key(one) < order_key(other)


@operator("$lte", 2, equality=True)
def _lte(key_of: KeyOf, one: Any, other: Any) -> bool:
    return _lt(one, other) or _eq(key_of, one, other)


@operator("$not", 1)
def _not(value: Any) -> bool:
    return not truth(value)


@special("$and")
def _and(name: str, operand: Any) -> Evaluate:
    parts = [compile_expression(one) for one in operands(name, operand, 0, None)]
    return lambda scope: all(truth(part(scope)) for part in parts)


@special("$or")
def _or(name: str, operand: Any) -> Evaluate:
    parts = [compile_expression(one) for one in operands(name, operand, 0, None)]
    return lambda scope: any(truth(part(scope)) for part in parts)


@special("$cond")
def _cond(name: str, operand: Any) -> Evaluate:
    if isinstance(operand, dict):
        given = arguments(name, operand, ("if", "then", "else"))
        asked = [given["if"], given["then"], given["else"]]
    else:
        asked = operands(name, operand, 3, 3)
    condition, then, otherwise = (compile_expression(one) for one in asked)
    return lambda scope: then(scope) if truth(condition(scope)) else otherwise(scope)


@special("$ifNull")
def _if_null(name: str, operand: Any) -> Evaluate:
    *parts, last = [compile_expression(one) for one in operands(name, operand, 2, None)]

    def evaluate(scope: Scope) -> Any:
        for part in parts:
            value = part(scope)
            if not is_nullish(value):
                return value
        return last(scope)

    return evaluate


@special("$switch")
def _switch(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("branches",), ("default",))
    if not isinstance(given["branches"], list) or not given["branches"]:
        raise refuse("$switch without branches")
    branches = [arguments("a branch of $switch", one, ("case", "then")) for one in given["branches"]]
    compiled = [(compile_expression(one["case"]), compile_expression(one["then"])) for one in branches]
    default = compile_expression(given["default"]) if "default" in given else None

    def evaluate(scope: Scope) -> Any:
        for case, then in compiled:
            if truth(case(scope)):
                return then(scope)
        if default is None:
            raise ExpressionRefused(40066, "$switch could not find a matching branch, and no default was specified.")
        return default(scope)

    return evaluate


@special("$literal")
def _literal(name: str, operand: Any) -> Evaluate:
    return lambda scope: operand


@special("$let")
def _let(name: str, operand: Any) -> Evaluate:
    given = arguments(name, operand, ("vars", "in"))
    if not isinstance(given["vars"], dict):
        raise refuse("$let with vars that are no document")
    variables = {one: compile_expression(value) for one, value in given["vars"].items()}
    for one in variables:
        require_variable(one)
    inner = compile_expression(given["in"])
    return lambda scope: inner({**scope, **{one: value(scope) for one, value in variables.items()}})


def require_variable(name: Any) -> None:
    """Raises: CallRefused for a name that MongoDB does not take for a variable of the user's."""
    letters = isinstance(name, str) and name.replace("_", "a").isalnum()
    if name != "CURRENT" and not (letters and (name[0].islower() or not name[0].isascii())):
        raise refuse(f"the variable name '{name}'")
