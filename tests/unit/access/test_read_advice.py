"""What a query that no key leads to is told: an index that would lead to it, by what the query asks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docferry.config import load_migration
from docferry.core.access.read_plan import plan_read
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mql.filters import compile_filter
from docferry.core.settings import ScanSettings
from docferry.errors import NoAccessPattern
from support.place import ROOT

SHOP = load_migration(ROOT / "include" / "migrations" / "shop.yaml")
MADE = "pin username, or give users an index whose "
DECLARED = ", and declare it under access_patterns"
ASKED: list[tuple[dict[str, Any], str]] = [
    ({"status": "a"}, f"{MADE}partition key is made of status{DECLARED}"),
    ({"status": "a", "role": "b"}, f"{MADE}partition key is made of role, status{DECLARED}"),
    (
        {"status": "a", "age": {"$gt": 1, "$lt": 5}},
        f"{MADE}partition key is made of status and whose sort key is made of age{DECLARED}",
    ),
    ({"status": "a", "age": {"$ne": 1}}, f"{MADE}partition key is made of status{DECLARED}"),
    ({"status": {"$in": ["a", "b"]}}, f"{MADE}partition key is made of status{DECLARED}; of $in, ask for one value a call"),
    ({"age": {"$gte": 1}}, f"{MADE}sort key is made of age, under a partition key that the call pins"),
    ({"$or": [{"a": 1}, {"b": 1}]}, "pin username, or ask each side of the $or by a call of its own"),
    ({"age": {"$ne": 1}}, "pin username, or read it in pages by DynamoDBClient.scan"),
    ({}, "pin username, or read it in pages by DynamoDBClient.scan"),
    ({"email": None}, "no key is made of a email that is null or empty"),
]  # fmt: skip


@pytest.mark.parametrize(("query", "advice"), ASKED, ids=str)
def test_query_that_no_key_leads_to_is_told_what_would(query: dict[str, Any], advice: str) -> None:
    patterns = [one for one in SHOP.access_patterns if one.collection == "users"]
    with pytest.raises(NoAccessPattern) as caught:
        plan_read(SHOP.mappings["users"], patterns, query, compile_filter(query).equalities)
    assert caught.value.suggestion.startswith(advice)
    assert ("scan: {allowed: true" in caught.value.suggestion) is ("is null or empty" not in advice)


def test_collection_that_may_be_scanned_is_scanned_only_where_no_key_leads() -> None:
    mapping = DocumentMapping(
        replace(SHOP.mappings["users"].settings, scan=ScanSettings(allowed=True, most_read_units=7))
    )
    for query, scan in (({"status": "a"}, 7), ({"email": None}, 7), ({"username": "ann"}, 0)):
        assert plan_read(mapping, [], query, compile_filter(query).equalities).scan == scan
