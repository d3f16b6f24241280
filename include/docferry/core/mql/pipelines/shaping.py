"""Stages that shape each document: $project, $addFields (or $set), $unset, $replaceWith (or $replaceRoot). Pure.

An expression under a dotted path is evaluated once a document, and put into each element of an array on its way.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.bson_codec.order import ABSENT
from docferry.core.bson_codec.references import fields_of
from docferry.core.mql.arithmetic import is_number
from docferry.core.mql.expressions import Evaluate, Scope, compile_expression
from docferry.core.mql.projection import project
from docferry.core.mql.values import Document, is_true
from docferry.errors import CallRefused, ExpressionRefused

Shape = Callable[[Document, Scope], Document]
SUGGESTION = "name each field once, as MongoDB takes it"


@dataclass(slots=True)
class _Computed:
    """What is computed at the fields of one place, and below them."""

    fields: dict[str, Evaluate | _Computed] = field(default_factory=dict)

    def put(self, path: str, evaluate: Evaluate) -> None:
        *steps, last = path.split(".")
        place = self
        for step in steps:
            inner = place.fields.setdefault(step, _Computed())
            if not isinstance(inner, _Computed):
                raise _refuse(f"a path beside a part of it, at '{path}'")
            place = inner
        if last in place.fields:
            raise _refuse(f"a path beside a part of it, at '{path}'")
        place.fields[last] = evaluate

    def into(self, document: Mapping[str, Any], scope: Scope) -> Document:
        found = dict(document)
        for name, what in self.fields.items():
            value = what.into_value(found.get(name, ABSENT), scope) if isinstance(what, _Computed) else what(scope)
            if value is ABSENT:
                found.pop(name, None)
            else:
                found[name] = value
        return found

    def opened(self, value: Any, *, within_array: bool = False) -> Any:
        """The value with documents for those elements of arrays, on the way to what is computed, that are none."""
        if isinstance(value, list):
            return [self.opened(one, within_array=True) for one in value]
        fields = fields_of(value)
        if fields is None:
            return {} if within_array else value
        inner = {
            name: what.opened(fields[name])
            for name, what in self.fields.items()
            if isinstance(what, _Computed) and name in fields
        }
        return {**fields, **inner}

    def into_value(self, value: Any, scope: Scope) -> Any:
        if isinstance(value, list):
            return [self.into_value(one, scope) for one in value]
        return self.into(fields_of(value) or {}, scope)


def _refuse(what: str) -> CallRefused:
    return CallRefused(f"{what}, in a stage of an aggregation", SUGGESTION)


def _checked(path: str) -> str:
    if any(not one or one[:1] == "$" for one in path.split(".")):
        raise _refuse(f"the field '{path}'")
    return path


def add_fields(asked: Any) -> Shape:
    if not isinstance(asked, dict) or not asked:
        raise _refuse("$addFields or $set without fields")
    computed = _Computed()
    for path, value in leaves("", asked):
        computed.put(path, compile_expression(value))
    return computed.into


def leaves(above: str, asked: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """(path, expression or flag): a document that names no operator is of paths below."""
    found: list[tuple[str, Any]] = []
    for name, value in asked.items():
        path = _checked(f"{above}.{name}" if above else name)
        if isinstance(value, dict) and not value:
            raise _refuse(f"an empty document, at '{path}'")
        if isinstance(value, dict) and next(iter(value))[:1] != "$":
            found += leaves(path, value)
        else:
            found.append((path, value))
    return found


def unset(asked: Any) -> Shape:
    names = [asked] if isinstance(asked, str) else asked
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise _refuse("$unset without names of fields")
    excluded = {_checked(one): 0 for one in names}
    return lambda document, _: project(document, excluded)


def project_stage(asked: Any) -> Shape:
    if not isinstance(asked, dict) or not asked:
        raise _refuse("$project without fields")
    flags: dict[str, int] = {}
    computed, paths = _Computed(), list[str]()
    for path, value in leaves("", asked):
        if isinstance(value, bool) or is_number(value):
            flags[path] = int(is_true(value))
        else:
            computed.put(path, compile_expression(value))
            paths.append(path)
    _require_apart([*flags, *paths])
    if not computed.fields:
        project({}, flags)
        return lambda document, _: project(document, flags)
    if any(not flag for path, flag in flags.items() if path != "_id"):
        raise _refuse("a projection that excludes fields and computes others")
    below = [
        path for path in paths if "." in path
    ]  # so that arrays on the way are kept, for what is put into their elements
    chosen = dict.fromkeys([*(path for path, flag in flags.items() if flag and path != "_id"), *below], 1)
    own_id = int(bool(flags.get("_id", 1)) and "_id" not in computed.fields)
    project({}, {**chosen, "_id": own_id})

    def shape(document: Document, scope: Scope) -> Document:
        inner = project(computed.opened(document), {**chosen, "_id": own_id}) if chosen or own_id else {}
        return computed.into(inner, scope)

    return shape


def _require_apart(paths: Sequence[str]) -> None:
    for one in paths:
        if any(other.startswith(f"{one}.") for other in paths):
            raise _refuse(f"a path beside a part of it, at '{one}'")


def replace_with(asked: Any) -> Shape:
    evaluate = compile_expression(asked)

    def shape(document: Document, scope: Scope) -> Document:
        fields = fields_of(evaluate(scope))
        if fields is None:
            raise ExpressionRefused(40228, "'newRoot' expression must evaluate to an object")
        return dict(fields)

    return shape


def replace_root(asked: Any) -> Shape:
    if not isinstance(asked, dict) or asked.keys() != {"newRoot"}:
        raise _refuse("$replaceRoot without newRoot")
    return replace_with(asked["newRoot"])
