"""Conditions of an index: an item is in it only if they hold, and a query is served by it only if it asks for no other."""

from __future__ import annotations

import json
from typing import Any

import bson
import pytest
from bson.decimal128 import Decimal128
from docferry.config import Migration, parse_migration
from docferry.core.access.patterns import compile_pattern
from docferry.core.access.read_plan import plan_read
from docferry.core.mapping.learnt.transcoder import Transcoder
from docferry.core.mapping.raw import encode_raw
from docferry.core.mql.filters import compile_filter
from docferry.errors import CallRefused
from support.config import problems_of

FILE = """migration: m
source: {database: d}
tables: {Tab: {indexes: [GSI1]}}
collections:
  c: {item: {entity: C, key: {PK: "C#{_id}", SK: R}, index: {GSI1: {PK: "K#{k}", SK: "{_id}", when: WHEN}}}}
access_patterns:
  p: {collection: c, index: GSI1, PK: "K#{k}"}
"""


def migration(when: str) -> Migration:
    return parse_migration(FILE.replace("WHEN", when).encode())


@pytest.mark.parametrize(
    ("when", "inside", "outside"),
    [
        ("{s: [a, 2, null]}", [{"s": "a"}, {"s": 2.0}, {"s": Decimal128("2.00")}, {"s": None}], [{"s": "b"}, {}, {"s": ["a"]}]),
        ("{gone: {exists: false}}", [{}, {"other": 1}], [{"gone": 1}, {"gone": None}, {"gone": False}]),
        ("{at.x: {exists: true}}", [{"at": {"x": 1}}, {"at": {"x": None}}], [{}, {"at": 5}, {"at": {}}]),
        ("{s: a, gone: {exists: false}}", [{"s": "a"}], [{"s": "a", "gone": 1}, {"s": "b"}]),
    ],
)  # fmt: skip
def test_item_is_in_the_index_if_its_conditions_hold(when: str, inside: list[Any], outside: list[Any]) -> None:
    mapping = migration(when).mapping("c")
    transcoder = Transcoder(mapping)
    for fields, expected in (*((one, True) for one in inside), *((one, False) for one in outside)):
        document = {"_id": "x", "k": "k", **fields}
        (item,) = mapping.encode(document, 1)
        assert ("GSI1PK" in item) == expected, document
        data = bson.encode(document)
        transcoder.learn(data)
        packed = transcoder.pack(data, 1)
        assert packed is None or packed[1].decode() == _text(encode_raw(mapping, data, 1)[0])


def _text(item: dict[str, Any]) -> str:
    return json.dumps(item, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    ("when", "query", "served"),
    [
        ("{s: [a, b]}", {"s": "a"}, True),
        ("{s: [a, b]}", {"s": {"$in": ["a", "b"]}}, True),
        ("{s: [a, b]}", {"s": {"$in": ["a", "c"]}}, False),
        ("{s: [a, b]}", {"s": "c"}, False),
        ("{s: [a, b]}", {}, False),
        ("{s: [true]}", {"s": 1}, False),
        ("{gone: {exists: false}}", {"gone": {"$exists": False}}, True),
        ("{gone: {exists: false}}", {"gone": None}, False),
        ("{gone: {exists: false}}", {}, False),
        ("{at: {exists: true}}", {"at": {"$exists": True}}, True),
        ("{at: {exists: true}}", {"at": 5}, True),
        ("{at: {exists: true}}", {"at": None}, False),
    ],
)  # fmt: skip
def test_query_is_served_if_all_that_it_looks_for_is_in_the_index(
    when: str, query: dict[str, Any], served: bool
) -> None:
    made = migration(when)
    whole = {"k": "k", **query}
    equalities = {name: value for name, value in whole.items() if not isinstance(value, dict)}
    try:
        plan = plan_read(made.mapping("c"), made.access_patterns, whole, equalities)
    except CallRefused:
        assert not served
    else:
        assert (plan.query is not None) == served


def test_pattern_asks_for_what_its_index_holds() -> None:
    made = migration("{s: [a, b], gone: {exists: false}}")
    query = compile_pattern(made.mapping("c"), made.access_patterns[0]).bind({"k": "k"}).query
    matches = compile_filter(query).matches
    assert [matches({"k": "k", **one}) for one in ({"s": "b"}, {"s": "c"}, {"s": "a", "gone": 1})] == [
        True,
        False,
        False,
    ]


@pytest.mark.parametrize("when", ["{s: []}", "{s: [[1]]}", "{s: {exist: true}}", "{s: {exists: 5}}"])
def test_condition_that_is_none_is_refused(when: str) -> None:
    (problem,) = problems_of(FILE.replace("WHEN", when))
    assert problem.where.startswith("collections.c.item.index.GSI1.when.s")
    assert problem.line == 5
