"""A $match goes ahead of stages that touch nothing of what it asks for, as MongoDB moves it: so no document that it leaves out is
computed with, and none of them can make the aggregation fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from docferry.core.bson_codec.references import fields_of

Named = tuple[str, Any]
"""A stage: its name, and what it is given."""


def matches_first(stages: Sequence[Named]) -> list[Named]:
    """The stages in the order in which they are run."""
    found: list[Named] = []
    for name, asked in stages:
        place = len(found)
        while name == "$match" and place and _passes(asked, found[place - 1]):
            place -= 1
        found.insert(place, (name, asked))
    return found


def _passes(match: Any, stage: Named) -> bool:
    wanted = set(_fields_in(match)) if isinstance(match, dict) else {""}
    return "" not in wanted and not any(map(_touched(*stage), wanted))


def _touched(name: str, asked: Any) -> Any:
    """Whether a stage may change a field of the top level."""
    if name in ("$addFields", "$set") and isinstance(asked, dict):
        return {one.partition(".")[0] for one in asked}.__contains__
    if name == "$unset":
        return {one.partition(".")[0] for one in ([asked] if isinstance(asked, str) else asked)}.__contains__
    if name == "$project" and isinstance(asked, dict):
        kept = {one for one, how in asked.items() if how is True or (type(how) is not bool and how == 1)}
        left_out = {one.partition(".")[0] for one, how in asked.items() if how is False or how == 0}
        if left_out - {"_id"} and not kept:
            return left_out.__contains__
        return lambda field: field not in kept
    return lambda field: True


def _fields_in(query: Mapping[str, Any]) -> Iterator[str]:
    """The fields of the top level that a filter asks for; '' for what may be any."""
    for name, value in query.items():
        if name == "$expr":
            yield from _paths_in(value)
        elif name in ("$and", "$or", "$nor") and isinstance(value, list):
            for clause in value:
                yield from _fields_in(clause)
        else:
            yield "" if name[:1] == "$" else name.partition(".")[0]


def _paths_in(expression: Any) -> Iterator[str]:
    if isinstance(expression, str) and expression[:1] == "$":
        variable = expression[2:].partition(".")[0] if expression[:2] == "$$" else ""
        if variable in ("ROOT", "CURRENT"):
            yield ""
        elif not variable:
            yield expression[1:].partition(".")[0]
    elif isinstance(expression, list):
        for one in expression:
            yield from _paths_in(one)
    elif (fields := fields_of(expression)) is not None:
        yield from _paths_in(list(fields.values()))
