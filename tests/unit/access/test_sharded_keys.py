"""A sharded key spreads one value over partitions, and a query that does not name the shard reads all of them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import pytest
from bson.int64 import Int64
from bson.objectid import ObjectId
from docferry.config import parse_migration
from docferry.core.access.patterns import compile_pattern
from docferry.core.access.read_plan import leads_to, plan_read
from docferry.core.mapping.key_templates import shard_of
from support.config import problems_of

FILE = """migration: m
source: {database: d}
tables: {Tab: {indexes: [GSI1]}}
collections:
  c: {item: {entity: C, key: {PK: "C#{_id}", SK: R}, index: {GSI1: {PK: "S#{status}#{_id:shard(10)}", SK: "{at:number}"}}}}
access_patterns:
  by_status: {collection: c, index: GSI1, PK: "S#{status}"}
"""
MIGRATION = parse_migration(FILE.encode())
MAPPING = MIGRATION.mapping("c")


def document(key: Any) -> dict[str, Any]:
    return {"_id": key, "status": "new", "at": 1}


def test_documents_are_spread_evenly_and_always_alike() -> None:
    shards = Counter(MAPPING.encode(document(f"d{n}"), 1)[0]["GSI1PK"]["S"] for n in range(2_000))
    assert set(shards) == {f"S#new#{n}" for n in range(10)}
    assert max(shards.values()) < 2 * min(shards.values())
    assert shard_of(1, 10) == shard_of(Int64(1), 10), "one value to MongoDB"


def test_query_without_the_shard_reads_all_partitions_and_leaves_the_order_to_who_asks() -> None:
    query = {"status": "new"}
    plan = plan_read(MAPPING, MIGRATION.access_patterns, query, query, [("at", 1)])
    assert plan.query is not None
    assert (plan.query.partition, *plan.query.others) == tuple(f"S#new#{n}" for n in range(10))
    assert not plan.query.sorted
    assert all(leads_to(MAPPING, plan, document(ObjectId())) for _ in range(50))
    assert not leads_to(MAPPING, plan, document("x") | {"status": "old"})


def test_named_pattern_over_shards_asks_all_partitions_in_the_order_of_their_shards() -> None:
    asked = compile_pattern(MAPPING, MIGRATION.access_patterns[0]).bind({"status": "new"}, since=3)
    assert (asked.partition, *asked.others) == tuple(f"S#new#{n}" for n in range(10))
    assert asked.query == {"status": "new", "at": {"$gte": 3}}
    assert asked.low is not None


def test_named_pattern_that_tells_the_shard_asks_one_partition() -> None:
    settings = replace(MIGRATION.access_patterns[0], key={"PK": "S#{status}", "SK": "{id}"})
    mapping = parse_migration(FILE.replace("{at:number}", "{_id}").encode()).mapping("c")
    asked = compile_pattern(mapping, settings).bind({"status": "new", "id": "x"})
    assert (asked.partition, asked.others) == (f"S#new#{shard_of('x', 10)}", ())


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('PK: "C#{_id}"', 'PK: "C#{_id:shard(10)}"', "only the partition key of an index"),
        ('SK: "{at:number}"', 'SK: "{at:shard(10)}"', "only the partition key of an index"),
        ("#{_id:shard(10)}", "#{_id:shard(10)}#x", "the shard ends a key"),
        ("#{_id:shard(10)}", "#{_id:shard(0)}", "an unmatched brace, or a format other"),
        ("#{_id:shard(10)}", "#{_id:shard(1000)}", "an unmatched brace, or a format other"),
    ],
)
def test_shard_elsewhere_is_refused(old: str, new: str, word: str) -> None:
    (problem,) = problems_of(FILE.replace(old, new, 1))
    assert word in problem.what
    assert problem.line == 5
