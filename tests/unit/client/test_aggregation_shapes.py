"""Whether DynamoDB could answer an aggregation is remembered by its shape, and is what each one's own plan says."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from bson import Int64, ObjectId, Regex
from docferry.client.context import ClientContext
from docferry.client.membership import Membership
from docferry.client.metrics.metered import Metered, NoMetrics
from docferry.client.reads.aggregate import Aggregation, Aggregations
from docferry.config import load_migration
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.rehearsal.trial import LEASE_S, NOWHERE, ClosedMongoDB, EmptyDynamoDB
from docferry.testing.fakes import FakeLedger
from docferry.wiring import who
from support.place import SHOP_FILE

SHOP = load_migration(SHOP_FILE)
DUAL = ModeState(mode=Mode.DUAL_WRITE, percent=100)
MATCHES: list[dict[str, Any]] = [
    {"username": value} for value in ("ann", "ben", "", 1, Int64(1), ObjectId(), None, Regex("a"), ["ann"], True)
] + [
    {"status": "active"},
    {"status": "gone"},
    {"status": "active", "visits": 3},
    {"$or": [{"username": "ann"}]},
    {},
    {"username": {"$in": ["ann"]}},
    {"username": {"$gt": "a"}},
]
REST: list[list[dict[str, Any]]] = [
    [],
    [{"$group": {"_id": "$status", "n": {"$sum": 1}}}],
    [{"$group": {"_id": "$status", "n": {"$sum": True}}}],
    [{"$project": {"username": 1}}, {"$limit": 5}],
    [{"$limit": -5}],
    [{"$lookup": {"from": "orders", "as": "them"}}],
    [{"$match": {"$expr": {"$gt": ["$visits", 3]}}}],
    [{"$set": {"x": {"$dateTrunc": {"date": "$at", "unit": "day"}}}}],
]
PIPELINES = [[{"$match": match}, *rest] for match, rest in product(MATCHES, REST)] + REST
OPTIONS: list[dict[str, Any]] = [{}, {"hint": "a"}, {"collation": {"locale": "en"}}, {"collation": None}]


@pytest.fixture
def parts() -> ClientContext:
    ledger = FakeLedger()
    ledger.write(*MODE, DUAL.to_body(), expect=None)
    membership, nothing = Membership(lambda: ledger, who, lease_s=LEASE_S), EmptyDynamoDB()
    return ClientContext(
        migration=SHOP.name,
        journal="",
        mappings=SHOP.mappings,
        patterns=SHOP.access_patterns,
        mongo=ClosedMongoDB(NOWHERE, SHOP.namespaces),
        calls=nothing,
        beside=nothing,
        membership=membership,
        metrics=Metered(NoMetrics(), membership),
    )


def counted(parts: ClientContext, aggregations: Aggregations, pipeline: list[Any], options: dict[str, Any]) -> Any:
    before = dict(parts.membership.tally.unserved)
    aggregations.note(DUAL, Aggregation(pipeline=pipeline, options=options))
    return {
        name: n - before.get(name, 0) for name, n in parts.membership.tally.unserved.items() if n != before.get(name)
    }


def test_each_pipeline_is_counted_as_if_it_were_the_first(parts: ClientContext) -> None:
    remembering, seen = Aggregations(parts, "users"), set()
    for pipeline, options in [*product(PIPELINES, OPTIONS), *reversed([*product(PIPELINES, OPTIONS)])]:
        expected = counted(parts, Aggregations(parts, "users"), pipeline, options)
        assert counted(parts, remembering, pipeline, options) == expected, (pipeline, options)
        seen.add(bool(expected))
    assert seen == {True, False}


def test_a_shape_is_planned_once(parts: ClientContext, monkeypatch: pytest.MonkeyPatch) -> None:
    planned: list[object] = []
    original = ClientContext.plan

    def plan(*given: Any, **more: Any) -> Any:
        planned.append(given)
        return original(*given, **more)

    monkeypatch.setattr(ClientContext, "plan", plan)
    aggregations = Aggregations(parts, "users")
    for at in range(5):
        counted(parts, aggregations, [{"$match": {"username": f"user{at}"}}, {"$limit": 3}], {})
    assert len(planned) == 1
