"""Calls of the application as shapes without values, from what the profiler, `$currentOp` and slow-query logs hold. Pure.

A shape keeps names of fields and kinds of operators. No value of a query is kept, not even for a moment longer than it takes
to look at its operator.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Literal

from docferry.core.analyze.facts import QueryShape
from docferry.core.namespaces import Namespaces

Kind = Literal["find", "count", "distinct", "aggregate", "insert", "update", "delete", "findAndModify"]
_RANGE = frozenset({"$gt", "$gte", "$lt", "$lte"})
_EQUAL = frozenset({"$eq", "$in"})
OURS = "docferry"
"""Calls of docferry itself are no traffic of the application."""


def shape_of(entry: Mapping[str, Any], where: Namespaces | str, source: str) -> QueryShape | None:
    """The shape of one entry of `system.profile`, `$currentOp`, or a slow-query log (`attr`); None: no call of the
    application on a collection of this database, or of these."""
    where = Namespaces.at(where)
    namespace = str(entry.get("ns", ""))
    database, _, collection = namespace.partition(".")
    command = entry.get("command") or entry.get("originatingCommand") or {}
    if database not in where.databases or not collection or collection.startswith(("system.", "$cmd")):
        return None
    if not isinstance(command, Mapping) or OURS in str(entry.get("appName", "")):
        return None
    shape = _command_shape(where.name_of(database, collection), str(entry.get("op", entry.get("type", ""))), command)
    if shape is None:
        return None
    return replace(
        shape,
        ms=float(entry.get("millis", entry.get("durationMillis", entry.get("secs_running", 0) * 1000)) or 0),
        examined=int(entry.get("docsExamined", 0) or 0),
        returned=int(entry.get("nreturned", entry.get("nMatched", 0)) or 0),
        source=source,
    )


def shapes_of_log(lines: Iterable[str], where: Namespaces | str) -> list[QueryShape]:
    """Shapes of MongoDB's structured log (one JSON document a line); lines of other kinds are passed over."""
    found = []
    for line in lines:
        if '"Slow query"' not in line:
            continue
        try:
            entry = json.loads(line)
        except ValueError:
            continue  # a line that was cut off: it is no entry
        shape = shape_of(entry.get("attr", {}), where, "slow-query log")
        if shape is not None:
            found.append(shape)
    return found


def added_up(shapes: Iterable[QueryShape]) -> list[QueryShape]:
    """Equal shapes as one, most calls first."""
    sums: dict[tuple[Any, ...], QueryShape] = {}
    for one in shapes:
        key = (one.collection, one.kind, one.equality, one.range, one.other, one.sort, one.sets, one.many, one.limit)
        known = sums.get(key)
        sums[key] = (
            one
            if known is None
            else replace(
                known,
                calls=known.calls + one.calls,
                ms=known.ms + one.ms,
                examined=known.examined + one.examined,
                returned=known.returned + one.returned,
            )
        )
    return sorted(sums.values(), key=lambda one: -one.calls)


def _command_shape(collection: str, op: str, command: Mapping[str, Any]) -> QueryShape | None:
    if "find" in command:
        return _reading(collection, "find", command.get("filter"), command)
    if "aggregate" in command:
        return _aggregation(collection, command.get("pipeline"))
    if "count" in command:
        return _reading(collection, "count", command.get("query"), command)
    if "distinct" in command:
        return _reading(collection, "distinct", command.get("query"), command)
    if "findAndModify" in command or "findandmodify" in command:
        return _changing(
            collection, "findAndModify", command.get("query"), command.get("update"), False, command.get("sort")
        )
    if "q" in command and ("u" in command or op == "update"):
        return _changing(collection, "update", command.get("q"), command.get("u"), bool(command.get("multi")))
    if "q" in command or op in ("remove", "delete"):
        return _changing(collection, "delete", command.get("q"), None, command.get("limit") == 0)
    if "insert" in command or op == "insert":
        return QueryShape(collection=collection, kind="insert")
    return None


def _reading(collection: str, kind: Kind, query: Any, command: Mapping[str, Any]) -> QueryShape:
    equality, ranges, other = fields_of(query)
    sort = command.get("sort")
    return QueryShape(
        collection=collection,
        kind=kind,
        equality=equality,
        range=ranges,
        other=other,
        sort=_sort_of(sort),
        limit=bool(command.get("limit")),
    )


def _aggregation(collection: str, pipeline: Any) -> QueryShape:
    """Its first `$match`; whatever a later stage asks of other collections or groups is in `other`."""
    stages = [one for one in pipeline if isinstance(one, Mapping) and one] if isinstance(pipeline, list) else []
    equality, ranges, other = fields_of(stages[0].get("$match")) if stages else ((), (), ())
    rest = [next(iter(one)) for one in stages if "$match" not in one]
    return QueryShape(
        collection=collection, kind="aggregate", equality=equality, range=ranges, other=(*other, *dict.fromkeys(rest))
    )


def _changing(collection: str, kind: Kind, query: Any, update: Any, many: bool, sort: Any = None) -> QueryShape:
    equality, ranges, other = fields_of(query)
    sets: list[str] = []
    if isinstance(update, Mapping):
        for name, value in update.items():
            sets += [str(field) for field in value] if name.startswith("$") and isinstance(value, Mapping) else []
        if not any(str(name).startswith("$") for name in update):
            sets = ["*"]
    elif update is not None:
        sets = ["*"]
    return QueryShape(
        collection=collection,
        kind=kind,
        equality=equality,
        range=ranges,
        other=other,
        sort=_sort_of(sort),
        sets=tuple(sorted(set(sets))),
        many=many,
    )


def _sort_of(sort: Any) -> tuple[tuple[str, int], ...]:
    if not isinstance(sort, Mapping):
        return ()
    return tuple((str(name), 1 if way in (1, 1.0) else -1) for name, way in sort.items())


def fields_of(query: Any) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    """(fields under equality, fields under a range, fields under anything else) of a filter."""
    equality: set[str] = set()
    ranges: set[str] = set()
    other: set[str] = set()
    if isinstance(query, Mapping):
        _look(query, equality, ranges, other)
    return tuple(sorted(equality)), tuple(sorted(ranges - equality)), tuple(sorted(other))


def _look(query: Mapping[str, Any], equality: set[str], ranges: set[str], other: set[str]) -> None:
    for name, value in query.items():
        if name == "$and" and isinstance(value, list):
            for part in value:
                if isinstance(part, Mapping):
                    _look(part, equality, ranges, other)
        elif name.startswith("$"):
            other.add(name)
        elif isinstance(value, Mapping) and value and all(str(key).startswith("$") for key in value):
            for operator in value:
                place = equality if operator in _EQUAL else ranges if operator in _RANGE else other
                place.add(name if place is not other else f"{name} {operator}")
        else:
            equality.add(name)
