"""An update read into a plan: one change for each path, in MongoDB's order."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cmp_to_key
from typing import Any, Final

from docferry.core.mql.update_errors import (
    BAD_VALUE,
    CONFLICTING_UPDATE_OPERATORS,
    EMPTY_FIELD_NAME,
    FAILED_TO_PARSE,
)
from docferry.core.mql.update_operators import OPERATORS, Operator, parse_operator
from docferry.core.mql.values import Path, as_bson, type_name
from docferry.errors import CallRefused, UpdateRefused

_NOT_HERE: Final = frozenset({"$bit", "$pullAll", "$pushAll", "$v"})
SUGGESTION: Final = (
    "use $set $unset $inc $mul $min $max $rename $push $pull $addToSet $pop $currentDate $setOnInsert on plain paths, "
    "or read the document, change it and replace it"
)


@dataclass(frozen=True, slots=True)
class Rename:
    """Goes to the path that it stands at."""

    source: Path


@dataclass(frozen=True, slots=True)
class Reserved:
    """A path on which something is planned that this step does not do."""


Change = Operator | Rename | Reserved


@dataclass(frozen=True, slots=True)
class UpdatePlan:
    """A tree of path parts with changes at its leaves."""

    children: dict[str, UpdatePlan | Change] = field(default_factory=dict)

    def add(self, path: Path, change: Change) -> None:
        """Raises UpdateRefused if another change is on the same path, above or below it."""
        node = self
        for depth, part in enumerate(path[:-1], start=1):
            inner = node.children.setdefault(part, UpdatePlan())
            if not isinstance(inner, UpdatePlan):
                raise _conflict(path, path[:depth])
            node = inner
        if path[-1] in node.children:
            raise _conflict(path, path)
        node.children[path[-1]] = change

    def steps(self, above: Path = ()) -> Iterator[tuple[Path, Change]]:
        for part in sorted(self.children, key=cmp_to_key(_compare_parts)):
            inner = self.children[part]
            if isinstance(inner, UpdatePlan):
                yield from inner.steps((*above, part))
            else:
                yield (*above, part), inner


def _compare_parts(one: str, other: str) -> int:
    if is_number(one) and is_number(other) and int(one) != int(other):
        return int(one) - int(other)
    mine, theirs = one.encode(), other.encode()
    return (mine > theirs) - (mine < theirs)


def _conflict(path: Path, at: Path) -> UpdateRefused:
    return UpdateRefused(
        CONFLICTING_UPDATE_OPERATORS,
        f"Updating the path '{'.'.join(path)}' would create a conflict at '{'.'.join(at)}'",
    )


def parse_update(update: Mapping[str, Any], now: datetime, inserting: bool) -> UpdatePlan:
    if not isinstance(update, Mapping):
        raise CallRefused("an update that is a pipeline", SUGGESTION)
    if not update:
        raise UpdateRefused(FAILED_TO_PARSE, "The update names no operator")
    plan = UpdatePlan()
    for word, fields in as_bson(update).items():
        if word in _NOT_HERE:
            raise CallRefused(f"the update operator {word}", SUGGESTION)
        if word not in OPERATORS and word != "$rename":
            raise UpdateRefused(FAILED_TO_PARSE, f"Unknown modifier: {word}. Expected a valid update modifier")
        if not isinstance(fields, dict):
            raise UpdateRefused(
                FAILED_TO_PARSE,
                f"Modifiers operate on fields but we found type {type_name(fields)} instead, for {word}",
            )
        for name, argument in fields.items():
            if word == "$rename":
                _plan_rename(plan, name, argument)
                continue
            path = _path(name)
            operator = parse_operator(word, name, argument, now)
            plan.add(path, operator if inserting or word != "$setOnInsert" else Reserved())
    return plan


def _plan_rename(plan: UpdatePlan, name: str, target: Any) -> None:
    if not isinstance(target, str):
        raise UpdateRefused(BAD_VALUE, f"The 'to' field for $rename must be a string: '{name}'")
    source, path = _path(name), _path(target)
    plan.add(source, Reserved())
    if "\0" in target:
        raise UpdateRefused(BAD_VALUE, "The 'to' field for $rename cannot contain an embedded null byte")
    if source == path:
        raise UpdateRefused(BAD_VALUE, f"The source and target field for $rename must differ: '{name}'")
    shorter = min(len(source), len(path))
    if source[:shorter] == path[:shorter]:
        raise UpdateRefused(
            BAD_VALUE, f"The source and target field for $rename must not be on the same path: '{name}'"
        )
    plan.add(path, Rename(source))


def _path(name: str) -> Path:
    if not name:
        raise UpdateRefused(EMPTY_FIELD_NAME, "An empty update path is not valid.")
    parts = tuple(name.split("."))
    if "" in parts:
        raise UpdateRefused(
            EMPTY_FIELD_NAME, f"The update path '{name}' contains an empty field name, which is not allowed."
        )
    positional = next((part for part in parts if part == "$" or part[:2] == "$["), None)
    if positional is not None:
        raise CallRefused(f"the positional path '{name}'", SUGGESTION)
    return parts


def is_number(part: str) -> bool:
    return part.isascii() and part.isdigit() and len(part) < 20
