"""The client's calls are pymongo's: none is missing, and each takes its arguments in pymongo's order."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest
from docferry.client.api import arguments, collections, cursors, manager
from docferry.core.access.calls import (
    COLLECTION_CALLS,
    CURSOR_CALLS,
    DATABASE_CALLS,
    SERVED_CALLS,
    shape_of_call,
    writes,
)
from docferry.core.mql.expressions import known
from docferry.core.mql.pipelines import STAGES
from docferry.core.mql.pipelines.grouping import ACCUMULATORS
from pymongo import InsertOne, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.asynchronous.cursor import AsyncCursor
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.collection import Collection
from pymongo.cursor import Cursor
from pymongo.database import Database
from support.place import ROOT


def public(kind: type) -> set[str]:
    return {name for name in dir(kind) if not name.startswith("_")}


@pytest.mark.parametrize(
    ("ours", "theirs", "table"),
    [
        (collections.Collection, Collection, COLLECTION_CALLS),
        (collections.AsyncCollection, AsyncCollection, COLLECTION_CALLS),
        (manager.DualWriteManager, Database, DATABASE_CALLS),
        (manager.AsyncDualWriteManager, AsyncDatabase, DATABASE_CALLS),
        (cursors.Cursor, Cursor, CURSOR_CALLS),
        (cursors.AsyncCursor, AsyncCursor, CURSOR_CALLS),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_nothing_that_pymongo_has_is_missing(ours: type, theirs: type, table: Any) -> None:
    made = {"name", "database"} if theirs in (Collection, AsyncCollection) else set()
    assert public(theirs) - public(ours) - made - {"next"} == (
        {*table, *(SERVED_CALLS if table is COLLECTION_CALLS else ())} - public(ours)
    )


@pytest.mark.parametrize("method", arguments.MORE)
def test_arguments_are_in_pymongos_order(method: str) -> None:
    theirs = [
        one.name
        for one in inspect.signature(getattr(Collection, method)).parameters.values()
        if one.kind is not one.VAR_KEYWORD
    ]
    written = inspect.signature(getattr(collections.Collection, method)).parameters.values()
    ours = [one.name for one in written if one.kind is one.POSITIONAL_OR_KEYWORD]
    assert [*ours, *arguments.MORE[method]] == theirs


def test_find_takes_pymongos_arguments() -> None:
    theirs = list(inspect.signature(Cursor.__init__).parameters)
    assert list(cursors.FIND) == theirs[2:]


@pytest.mark.parametrize(
    ("method", "arguments", "options", "shape"),
    [
        (
            "aggregate", ([{"$match": {"b": "secret", "a": 1}}, {"$match": {"c": 1}}, {"$out": "secret"}],), {},
            "$match(a, b), $match, $out",
        ),
        ("aggregate", ("secret",), {}, "nothing"),
        ("bulk_write", ([UpdateOne({}, {}), InsertOne({"a": "secret"}), UpdateOne({}, {})],), {}, "InsertOne, UpdateOne"),
        ("delete_many", ({"a": {"$gt": "secret"}},), {"session": "secret", "comment": "secret"}, "a $gt"),
        ("create_index", ([("secret", 1)],), {}, "nothing"),
    ],
)  # fmt: skip
def test_shape_tells_names_and_no_value(method: str, arguments: Any, options: Any, shape: str) -> None:
    assert shape_of_call("users", method, arguments, options) == f"users.{method}({shape})"


@pytest.mark.parametrize(
    ("method", "argument", "expected"),
    [
        ("aggregate", [{"$match": {}}], False), ("aggregate", [{"$match": {}}, {"$merge": "a"}], True),
        ("aggregate", [{"$out": "a"}], True),
        ("command", "ping", False), ("command", {"Count": "a"}, False), ("command", {"findAndModify": "a"}, True),
        ("command", "dropDatabase", True), ("command", {"aggregate": "a", "pipeline": [{"$out": "b"}]}, True),
        ("command", {"aggregate": "a", "pipeline": []}, False),
    ],
)  # fmt: skip
def test_what_may_change_anything_is_known_by_the_call(method: str, argument: Any, expected: bool) -> None:
    assert writes(method, DATABASE_CALLS[method], (argument,)) is expected


def test_page_names_what_aggregations_know_and_no_more() -> None:
    page = (ROOT / "docs" / "client-calls.md").read_text()
    section = page.partition("## Aggregations once DynamoDB leads")[2].partition("\n## ")[0]
    served, _, refused = section.partition("Not served")
    assert set(re.findall(r"\$\w+", served)) - {"$expr"} == {*known(), *STAGES, *ACCUMULATORS}
    assert not set(re.findall(r"\$\w+", refused)) & set(STAGES)
