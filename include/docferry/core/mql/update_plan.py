"""An update read into a plan: one change for each path.

A path may have one `$` (the element that the query was met by), `$[]` (each element) and `$[name]` (those that an array filter
names); which elements these are, a document tells (`update_steps`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from docferry.core.mql.array_filters import Element
from docferry.core.mql.update_errors import (
    BAD_VALUE,
    CONFLICTING_UPDATE_OPERATORS,
    EMPTY_FIELD_NAME,
    FAILED_TO_PARSE,
)
from docferry.core.mql.update_operators import OPERATORS, Operator, parse_operator
from docferry.core.mql.values import Path, as_bson, type_name
from docferry.errors import UpdateRefused

SUGGESTION: Final = (
    "use update operators ($set, $unset, $inc, $push and so on), or read the document, change it and replace it"
)
POSITION: Final = "$"
"""In a path: the element by which the query was met."""


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

    @property
    def elements(self) -> bool:
        """Whether its children are of elements that a document tells, `$[]` and `$[name]`."""
        return any(map(is_identifier, self.children))

    def add(self, path: Path, change: Change) -> None:
        """Raises UpdateRefused if another change is on the same path, above or below it."""
        node = self
        for depth, part in enumerate(path):
            if node.children and node.elements != is_identifier(part):
                raise conflict(path, path[:depth])
            if depth + 1 == len(path):
                break
            inner = node.children.setdefault(part, UpdatePlan())
            if not isinstance(inner, UpdatePlan):
                raise conflict(path, path[: depth + 1])
            node = inner
        if path[-1] in node.children:
            raise conflict(path, path)
        node.children[path[-1]] = change


def conflict(path: Path, at: Path) -> UpdateRefused:
    return UpdateRefused(
        CONFLICTING_UPDATE_OPERATORS,
        f"Updating the path '{'.'.join(path)}' would create a conflict at '{'.'.join(at)}'",
    )


def parse_update(
    update: Mapping[str, Any],
    now: datetime,
    inserting: bool,
    filters: Mapping[str, Element] | None = None,
    *,
    ordered: bool = False,
) -> UpdatePlan:
    """`filters` are the call's array filters, each of which must be used; `ordered` as `apply_update` has it."""
    if not update:
        raise UpdateRefused(FAILED_TO_PARSE, "The update names no operator")
    plan, used, filters = UpdatePlan(), set[str](), filters or {}
    for word, fields in as_bson(update).items():
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
            operator = parse_operator(word, name, argument, now, ordered=ordered)
            used |= _filters_of(path, filters)
            plan.add(path, operator if inserting or word != "$setOnInsert" else Reserved())
    if unused := filters.keys() - used:
        raise UpdateRefused(
            FAILED_TO_PARSE, f"The array filter for identifier '{min(unused)}' was not used in the update"
        )
    return plan


def _filters_of(path: Path, filters: Mapping[str, Element]) -> set[str]:
    """Which a path uses."""
    if is_identifier(path[0]):
        raise UpdateRefused(BAD_VALUE, f"Cannot have array filter identifier in the first position in path '{path[0]}'")
    found = {part[2:-1] for part in path if is_identifier(part)} - {""}
    if missing := found - filters.keys():
        raise UpdateRefused(
            BAD_VALUE, f"No array filter found for identifier '{min(missing)}' in path '{'.'.join(path)}'"
        )
    return found


def _plan_rename(plan: UpdatePlan, name: str, target: Any) -> None:
    if not isinstance(target, str):
        raise UpdateRefused(BAD_VALUE, f"The 'to' field for $rename must be a string: '{name}'")
    source, path = _path(name), _path(target)
    if any(part == POSITION or is_identifier(part) for part in (*source, *path)):
        raise UpdateRefused(BAD_VALUE, f"The source and the destination field for $rename may not be dynamic: '{name}'")
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
    if parts.count(POSITION) > 1:
        raise UpdateRefused(BAD_VALUE, f"Too many positional (i.e. '$') elements found in path '{name}'")
    if parts[0] == POSITION:
        raise UpdateRefused(
            BAD_VALUE, f"Cannot have positional (i.e. '$') element in the first position in path '{name}'"
        )
    return parts


def is_identifier(part: str) -> bool:
    """`$[]` or `$[name]`."""
    return part[:2] == "$[" and part[-1] == "]"
