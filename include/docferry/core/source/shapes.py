"""Calls that were seen running, as shapes: those of a profiler or a log, and those that the client counts. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from docferry.core.access.read_plan import shape_of
from docferry.core.analyze.facts import QueryShape
from docferry.core.analyze.query_shapes import fields_of
from docferry.core.source.calls import SOME, DriverCall

_KINDS: Final[Mapping[str, str]] = {
    "find": "find", "find_one": "find", "count_documents": "count", "distinct": "distinct", "aggregate": "aggregate",
    "insert_one": "insert", "insert_many": "insert", "update_one": "update", "update_many": "update", "replace_one": "update",
    "delete_one": "delete", "delete_many": "delete", "find_one_and_update": "findAndModify",
    "find_one_and_replace": "findAndModify", "find_one_and_delete": "findAndModify",
}  # fmt: skip
_METHODS: Final[Mapping[tuple[str, bool], str]] = {
    ("find", False): "find", ("count", False): "count_documents", ("distinct", False): "distinct",
    ("aggregate", False): "aggregate",
    ("insert", False): "insert_one", ("update", False): "update_one", ("update", True): "update_many",
    ("delete", False): "delete_one", ("delete", True): "delete_many", ("findAndModify", False): "find_one_and_update",
}  # fmt: skip
_COUNTED: Final = re.compile(r"^(?P<collection>.+)\.(?P<method>[a-z_]+)(?: (?P<key>\S+))?\((?P<query>.*)\)$", re.DOTALL)
_LISTS = frozenset({"$in", "$nin", "$all"})


def seen_of(calls: Sequence[DriverCall], seen: Sequence[QueryShape]) -> tuple[list[DriverCall], list[QueryShape]]:
    """(the calls with how often their shape was seen, the shapes that no call of the source has)."""
    known: dict[Any, int] = {}
    for shape in seen:
        key = (shape.collection, shape.kind, tuple(shape.equality), tuple(shape.range), tuple(shape.other))
        known[key] = known.get(key, 0) + shape.calls
    keys = [_key_of(one) for one in calls]
    counted = [replace(one, calls=known[key]) if key in known else one for one, key in zip(calls, keys, strict=True)]
    there = set(keys)
    others = [
        one
        for one in seen
        if (one.collection, one.kind, tuple(one.equality), tuple(one.range), tuple(one.other)) not in there
    ]
    return counted, others


def _key_of(call: DriverCall) -> Any:
    if call.filter is None or call.method not in _KINDS:
        return None
    return (call.collection, _KINDS[call.method], *fields_of(call.filter))


def call_of_shape(shape: QueryShape) -> DriverCall:
    """A shape of the profiler's as a call."""
    query: dict[str, Any] = dict.fromkeys(shape.equality, SOME)
    query |= {name: {"$gte": SOME} for name in shape.range}
    for one in shape.other:
        name, _, operator = one.rpartition(" ")
        query |= (
            {name: {operator: SOME}}
            if name
            else {one: SOME}
            if one.startswith("$") and shape.kind != "aggregate"
            else {}
        )
    method = _METHODS.get((shape.kind, shape.many)) or _METHODS[shape.kind, False]
    update = {"$set": dict.fromkeys(shape.sets, SOME)} if shape.sets and "*" not in shape.sets else None
    return DriverCall(
        driver=shape.source or "profiler",
        written=shape.kind,
        method=method,
        collection=shape.collection,
        filter=query,
        update=update,
        sort=tuple(shape.sort),
        documents=(SOME,) if method.startswith("insert") else (),
        calls=shape.calls,
    )


def call_of_counted(shape: str, calls: int) -> DriverCall:
    """A shape by which the client counts what DynamoDB could not do (`users.find(visits $gt; hint)`) as a call.

    One that was too long for the count, and is cut off, is not known.
    """
    found = _COUNTED.match(shape)
    if found is None:
        return DriverCall(
            method="find", written=shape, driver="counted", unknown=f"the shape {shape} says no call", calls=calls
        )
    query, _, options = found["query"].partition("; ")
    names = [one for one in options.split(", ") if one]
    return DriverCall(
        driver="counted",
        written=shape,
        method=found["method"],
        of="database" if found["collection"] == "database" and found["method"] not in _KINDS else "collection",
        collection=found["collection"],
        filter=dict(_conditions(query)),
        options={name: SOME for name in names if " " not in name and not name.startswith("$")},
        calls=calls,
    )


def counted_in(calls: Sequence[DriverCall], shapes: Mapping[str, int]) -> list[DriverCall]:
    """The calls with how often the clients counted their shape, and behind them the shapes that none of them has."""
    told = [(one, shown(one)) for one in calls]
    there = {text for _, text in told}
    found = [replace(one, calls=(one.calls or 0) + shapes[text]) if text in shapes else one for one, text in told]
    others = sorted(((shape, count) for shape, count in shapes.items() if shape not in there), key=lambda one: -one[1])
    return [*found, *(call_of_counted(shape, count) for shape, count in others)]


def _conditions(text: str) -> Iterator[tuple[str, Any]]:
    """`city, status $in` as a filter."""
    for one in text.split(", ") if text != "nothing" else ():
        name, *operators = one.split(" ")
        if name in ("$and", "$or", "$nor"):
            yield name, [{"x": SOME}]
        elif operators:
            yield name, {word: SOME for word in operators}
        elif name:
            yield name, SOME


def shown(call: DriverCall) -> str:
    """A call in one line, without any value: in the form in which the client counts shapes."""
    if call.driver == "counted":
        return call.written
    if call.of == "database":
        return f"{call.written}()"
    where = call.collection if call.collection is not None else "?"
    if call.filter is None:
        return f"{where}.{call.method}(?)"
    if call.method.startswith("insert") or call.method not in _KINDS or call.method == "aggregate":
        return f"{where}.{call.method}()"
    return shape_of(where, call.method, call.filter, call.options)
