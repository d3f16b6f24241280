"""By what a read belongs to a share is told without planning it, and is what the plan would say."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import pytest
from bson import Int64, ObjectId, Regex
from docferry.client.context import Plan
from docferry.client.reads import read_share as module
from docferry.client.reads.read_share import ReadShare
from docferry.config import load_migration
from docferry.core.access.read_plan import plan_read
from docferry.core.mql.filters import compile_filter
from docferry.errors import CallRefused
from support.place import SHOP_FILE

SHOP = load_migration(SHOP_FILE)
WHEN = datetime(2024, 1, 15)
VALUES = ["ann", "a#b", "1", "", "x" * 3_000, 0, 1, Int64(1), True, None, ObjectId(), WHEN, 1.5, ["ann"], Regex("a")]
NAMES = {
    "users": ["username", "email", "status", "profile.location.city", "visits"],
    "products": ["_id", "sku", "categoryId"],
    "orders": ["_id", "userId", "status"],
}


def plan(collection: str, query: Mapping[str, Any]) -> Plan | None:
    patterns = [one for one in SHOP.access_patterns if one.collection == collection]
    try:
        compiled = compile_filter(query)
        return Plan(plan_read(SHOP.mapping(collection), patterns, query, compiled.equalities), compiled)
    except CallRefused:
        return None


def queries(collection: str) -> list[dict[str, Any]]:
    ones = [{name: value} for name in NAMES[collection] for value in VALUES]
    more = [{**one, **other} for one in ones[:20] for other in ones[20::7]]
    ranges = [{name: {"$gt": "a"}} for name in NAMES[collection]] + [{"$or": [{"sku": "a"}]}, {}]
    return [*ones, *more, *ranges, {"status": "active", "profile.location.city": "Rome"}]


@pytest.mark.parametrize("collection", NAMES)
def test_share_key_is_the_plans_for_every_query_also_once_its_shape_is_known(collection: str) -> None:
    share_keys = ReadShare(SHOP.mapping(collection))
    asked = queries(collection)
    for query in [*asked, *reversed(asked)]:
        made = plan(collection, query)
        expected = made.share_key if made is not None else None
        found = share_keys.of(query, lambda query=query: plan(collection, query))  # type: ignore[misc]
        if made is not None and not made.where.query and not made.where.keys:
            assert found is not None, query  # nothing can be there, and the caller finds that out
        else:
            assert found == expected, query


def test_known_shape_is_not_planned_again() -> None:
    share_keys, planned = ReadShare(SHOP.mapping("users")), []

    def planning(query: Mapping[str, Any]) -> Plan | None:
        planned.append(query)
        return plan("users", query)

    for name in ("ann", "bob", "cid"):
        assert share_keys.of({"username": name}, lambda name=name: planning({"username": name})) == f"USER#{name}"  # type: ignore[misc]
        assert share_keys.of({"visits": 3}, lambda: planning({"visits": 3})) is None
    assert planned == [{"username": "ann"}, {"visits": 3}]


def test_shapes_without_end_take_no_more_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_SHAPES", 3)
    share_keys = ReadShare(SHOP.mapping("users"))
    for number in range(10):
        assert share_keys.of({f"field{number}": 1}, lambda: None) is None
    assert len(share_keys._templates) == 3
