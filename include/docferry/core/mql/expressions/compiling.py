"""Expressions of MongoDB's aggregation language, compiled once and evaluated over documents in hand.

    evaluate = compile_expression({"$add": ["$price", 1]})      Raises: CallRefused for what is not known here
    evaluate(scope_of(document, now=...))                       a BSON value, or ABSENT; Raises: ExpressionRefused, as MongoDB

Values are as `codec.BSON_OPTIONS` reads them. Documents are equal whatever the order of their fields, which DynamoDB does not
keep, unless the scope says otherwise (`comparing`).
An operator is one entry of a table: what it makes of its operand. `known()` names them all.

Source: MongoDB 6.0 manual, "Aggregation Pipeline Operators", read 2026-11-29; held against a real mongod by property tests.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, TypeVar

from bson import Regex

from docferry.core.bson_codec.order import ABSENT, KeyOf, equality_key, order_key
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.values import as_bson
from docferry.errors import CallRefused

Scope = Mapping[str, Any]
"""The variables of an evaluation, by their names without $$: ROOT, CURRENT, NOW, and those of $let and its kin."""
Evaluate = Callable[[Scope], Any]
_EQUALITY: Final = ""
"""In a scope, what no variable is called: by which keys values are equal."""
F = TypeVar("F", bound=Callable[..., Any])
"""What an operator makes of its operands' values."""
Maker = Callable[[str, Any], Evaluate]
"""What an operator makes of its operand, uncompiled."""

OPERATORS: Final[dict[str, Maker]] = {}
SUGGESTION: Final = "compute it in the application, or store what is computed in a field"


def refuse(what: str) -> CallRefused:
    return CallRefused(f"{what} in an expression", SUGGESTION)


def scope_of(document: Mapping[str, Any], *, now: datetime, variables: Mapping[str, Any] | None = None) -> Scope:
    """`now` is one moment for all documents of a call, as MongoDB's is; `variables` are those of `let`, evaluated."""
    return {**(variables or {}), "ROOT": document, "CURRENT": document, "NOW": now}


def comparing(variables: Mapping[str, Any] | None, *, ordered: bool) -> Scope:
    """Variables of which an evaluation knows; `ordered`: and for which documents are equal with their fields in one order."""
    return {**(variables or {}), _EQUALITY: order_key} if ordered else variables or {}


def equality_of(scope: Scope) -> KeyOf:
    """By which keys values are equal there."""
    found: KeyOf = scope.get(_EQUALITY, equality_key)
    return found


def variables_of(let: Mapping[str, Any] | None, *, now: datetime) -> dict[str, Any]:
    """What a call's expressions know: NOW, and the variables of its option `let`, whose values are expressions over no document.

    Raises: as evaluating.
    """
    given = as_bson(let) if let else {}
    scope = scope_of({}, now=now, variables=comparing(None, ordered=True))  # nothing here has been in DynamoDB
    return {name: compile_expression(one)(scope) for name, one in given.items()} | {"NOW": now}


def compile_expression(raw: Any) -> Evaluate:
    """Raises: CallRefused, by name, for an operator that is not known here, and for what MongoDB would not take."""
    if isinstance(raw, str):
        return _path(raw) if raw[:1] == "$" else _constant(raw)
    if isinstance(raw, list):
        return _array([compile_expression(one) for one in raw])
    fields = fields_of(raw)
    if fields is None:
        return _constant(raw)
    return _document(fields)


def is_constant(raw: Any) -> bool:
    """Whether an expression says itself what it is, whatever the document."""
    if isinstance(raw, str):
        return raw[:1] != "$"
    if isinstance(raw, list):
        return all(map(is_constant, raw))
    return "$literal" in raw if isinstance(raw, dict) else True


def known() -> tuple[str, ...]:
    return tuple(sorted(OPERATORS))


# --- values and paths ------------------------------------------------------------------------------------------------


def _constant(value: Any) -> Evaluate:
    return lambda scope: value


def _array(parts: Sequence[Evaluate]) -> Evaluate:
    def evaluate(scope: Scope) -> list[Any]:
        return [None if (value := part(scope)) is ABSENT else value for part in parts]

    return evaluate


def _document(fields: Mapping[str, Any]) -> Evaluate:
    first = next(iter(fields), "")
    if first[:1] == "$":
        if len(fields) > 1:
            raise refuse(f"{first} beside another field")
        return _operator(first, fields[first])
    for name in fields:
        if not name or "." in name or name[:1] == "$":
            raise refuse(f"the field name '{name}'")
    parts = {name: compile_expression(one) for name, one in fields.items()}

    def evaluate(scope: Scope) -> dict[str, Any]:
        values = ((name, part(scope)) for name, part in parts.items())
        return {name: value for name, value in values if value is not ABSENT}

    return evaluate


def _operator(name: str, operand: Any) -> Evaluate:
    make = OPERATORS.get(name)
    if make is None:
        raise refuse(f"the operator {name}")
    return make(name, operand)


def _path(text: str) -> Evaluate:
    variable, names = ("CURRENT", text[1:].split(".")) if text[:2] != "$$" else _variable(text[2:])
    if any(not one or one[:1] == "$" for one in names):
        raise refuse(f"the path '{text}'")
    if variable == "REMOVE":
        return lambda scope: ABSENT

    def evaluate(scope: Scope) -> Any:
        if variable not in scope:
            raise refuse(f"the variable $${variable}")
        return value_at(scope[variable], names)

    return evaluate


def _variable(text: str) -> tuple[str, list[str]]:
    name, *names = text.split(".")
    if not name or name in ("CLUSTER_TIME", "DESCEND", "PRUNE", "KEEP", "USER_ROLES", "SEARCH_META"):
        raise refuse(f"the variable $${name}")
    return name, names


def value_at(value: Any, names: Sequence[str]) -> Any:
    """What a path leads to: of an array, that of each of its documents that has it. A number is the name of a field."""
    for at, name in enumerate(names):
        if isinstance(value, list):
            inner = (value_at(one, names[at:]) for one in value if fields_of(one) is not None)
            return [one for one in inner if one is not ABSENT]
        fields = fields_of(value)
        if fields is None:
            return ABSENT
        value = fields.get(name, ABSENT)
    return value


# --- kinds of operators ----------------------------------------------------------------------------------------------


def operator(
    name: str,
    least: int = 1,
    most: int | None = None,
    *,
    any_number: bool = False,
    in_turn: bool = False,
    equality: bool = False,
) -> Callable[[F], F]:
    """Register a function of values as an operator of so many operands (`most` None: as `least`).

    One of `any_number`, or that takes them `in_turn`, gets an iterator: as MongoDB's, it may have its answer before it has
    looked at all of them. With `equality` it gets first by which keys values are equal.
    """
    top = None if any_number else least if most is None else most

    def register(function: F) -> F:
        def make(word: str, operand: Any) -> Evaluate:
            parts = [compile_expression(one) for one in operands(word, operand, least, top)]
            if equality and any_number:
                return lambda scope: function(equality_of(scope), (part(scope) for part in parts))
            if equality:
                return lambda scope: function(equality_of(scope), *(part(scope) for part in parts))
            if any_number or in_turn:
                return lambda scope: function(part(scope) for part in parts)
            return lambda scope: function(*(part(scope) for part in parts))

        OPERATORS[name] = make
        return function

    return register


def named_operator(name: str, required: Sequence[str], optional: Sequence[str] = ()) -> Callable[[F], F]:
    """Register a function of named values: {$op: {input: ..., ...}}. What is not given is passed as ABSENT."""

    def register(function: F) -> F:
        def make(word: str, operand: Any) -> Evaluate:
            parts = {key: compile_expression(one) for key, one in arguments(word, operand, required, optional).items()}
            left = [key for key in optional if key not in parts]

            def evaluate(scope: Scope) -> Any:
                return function(**{key: part(scope) for key, part in parts.items()}, **dict.fromkeys(left, ABSENT))

            return evaluate

        OPERATORS[name] = make
        return function

    return register


def special(name: str) -> Callable[[Maker], Maker]:
    """Register what compiles its operand itself."""

    def register(make: Maker) -> Maker:
        OPERATORS[name] = make
        return make

    return register


def operands(name: str, operand: Any, least: int, most: int | None) -> list[Any]:
    given = operand if isinstance(operand, list) else [operand]
    if len(given) < least or (most is not None and len(given) > most):
        raise refuse(f"{name} with {len(given)} operand(s)")
    return given


def arguments(name: str, operand: Any, required: Sequence[str], optional: Sequence[str] = ()) -> dict[str, Any]:
    if not isinstance(operand, dict) or any(one not in operand for one in required):
        raise refuse(f"{name} without {' and '.join(required)}")
    if unknown := [one for one in operand if one not in (*required, *optional)]:
        raise refuse(f"{name} with {unknown[0]}")
    return dict(operand)


def is_nullish(value: Any) -> bool:
    """Null, or not there."""
    return value is None or value is ABSENT


def shown(value: Any) -> str:
    """A type in words, without the value."""
    return "missing" if value is ABSENT else "regex" if isinstance(value, Regex) else type(value).__name__
