"""Calls as shapes without values, as the profiler and the log of mongod write them."""

from __future__ import annotations

import json

from docferry.core.analyze.query_shapes import added_up, fields_of, shape_of, shapes_of_log


def test_find_tells_equality_range_sort_and_limit() -> None:
    command = {
        "find": "orders",
        "filter": {"userId": 1, "total": {"$gt": 3}, "tag": {"$regex": "^a"}},
        "sort": {"at": -1},
        "limit": 5,
    }
    shape = shape_of(
        {"ns": "shop.orders", "op": "query", "command": command, "millis": 7, "docsExamined": 9, "nreturned": 2},
        "shop",
        "profiler",
    )
    assert shape is not None
    assert (shape.kind, shape.equality, shape.range, shape.other) == ("find", ("userId",), ("total",), ("tag $regex",))
    assert (shape.sort, shape.limit, shape.ms, shape.examined, shape.returned) == ((("at", -1),), True, 7.0, 9, 2)


def test_and_is_looked_into_and_or_is_no_key() -> None:
    assert fields_of({"$and": [{"a": 1}, {"b": {"$in": [1, 2]}}], "$or": [{"c": 1}]}) == (("a", "b"), (), ("$or",))


def test_updates_tell_what_they_change() -> None:
    entry = {
        "ns": "shop.users",
        "op": "update",
        "command": {"q": {"_id": 1}, "u": {"$set": {"email": "x"}, "$inc": {"n": 1}}, "multi": False},
    }
    shape = shape_of(entry, "shop", "profiler")
    assert shape is not None
    assert (shape.kind, shape.equality, shape.sets, shape.many) == ("update", ("_id",), ("email", "n"), False)


def test_calls_of_docferry_of_other_databases_and_of_the_system_are_no_traffic() -> None:
    command = {"find": "orders", "filter": {}}
    assert shape_of({"ns": "other.orders", "command": command}, "shop", "p") is None
    assert shape_of({"ns": "shop.system.profile", "command": command}, "shop", "p") is None
    assert shape_of({"ns": "shop.orders", "command": command, "appName": "docferry analyze"}, "shop", "p") is None


def test_log_is_read_line_by_line_and_equal_shapes_add_up() -> None:
    attr = {
        "type": "command",
        "ns": "shop.users",
        "command": {"find": "users", "filter": {"email": "ann@example.org"}},
        "durationMillis": 120,
    }
    line = json.dumps({"msg": "Slow query", "attr": attr})
    found = added_up(shapes_of_log([line, line, 'not json "Slow query"', json.dumps({"msg": "other"})], "shop"))
    assert [(one.equality, one.calls, one.ms) for one in found] == [(("email",), 2, 240.0)]
    assert "ann" not in repr(found)
