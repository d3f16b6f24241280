"""Which of several ways a query goes: by the table, or by an index."""

from __future__ import annotations

from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.access.read_plan import plan_read

FILE = b"""migration: m
source: {database: d}
tables: {Tab: {key: {PK: pk, SK: sk}, indexes: [GSI1, GSI2]}}
collections:
  c:
    item:
      entity: C
      key: {PK: "T#{tenant}", SK: "C#{_id}"}
      index:
        GSI1: {PK: "T#{tenant}#{status}", SK: "{at:number}"}
        GSI2: {PK: "T#{tenant}", SK: "{at:-number}"}
access_patterns:
  a: {collection: c, index: GSI1, PK: "T#{tenant}#{status}"}
  b: {collection: c, index: GSI2, PK: "T#{tenant}"}
"""
MIGRATION = parse_migration(FILE)


@pytest.mark.parametrize(
    ("query", "sort", "index", "backwards"),
    [
        ({"tenant": "x"}, [], "", False),
        ({"tenant": "x", "other": 1}, [], "", False),
        ({"tenant": "x", "status": "new"}, [], "GSI1", False),
        ({"tenant": "x"}, [("at", 1)], "GSI2", True),
        ({"tenant": "x"}, [("at", -1)], "GSI2", False),
        ({"tenant": "x", "status": "new"}, [("at", -1)], "GSI1", True),
        ({"tenant": "x", "at": {"$gt": 5}}, [], "GSI2", False),
        ({"tenant": "x"}, [("other", 1)], "", False),
    ],
)
def test_query_goes_the_narrowest_way_that_gives_its_order(
    query: dict[str, Any], sort: list[tuple[str, int]], index: str, backwards: bool
) -> None:
    equalities = {name: value for name, value in query.items() if not isinstance(value, dict)}
    plan = plan_read(MIGRATION.mapping("c"), MIGRATION.access_patterns, query, equalities, sort)
    assert plan.query is not None
    assert (plan.query.index, plan.query.backwards) == (index, backwards)
    assert plan.query.sorted == (not sort or sort[0][0] == "at")
    assert plan.by == (f"index {index}" if index else "the table's partition")


def test_whole_key_is_no_query() -> None:
    query = {"tenant": "x", "_id": 1}
    assert plan_read(MIGRATION.mapping("c"), MIGRATION.access_patterns, query, query).keys == (("T#x", "C#~i1"),)
