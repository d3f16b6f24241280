"""A part of a collection goes to DynamoDB and back, on real servers; the rest stays MongoDB's alone, and is never touched."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry import wiring
from docferry.core.cutover.instances import unserved_by
from docferry.core.cutover.modes import Mode
from docferry.errors import OutsideFilter
from docferry.flows.cutover.hold import back_out
from docferry.flows.ledger.modes import list_instances, read_mode
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually, rig_of
from support.client.rig import MODES, connected, set_mode
from support.cutover.switching import READS, approved, job_of, own_stack, reversing, switch, switch_back
from support.cutover.unfence import unfence
from support.replicate.rig import Following, end
from support.validate.planting import require_equal

__all__ = ["own_stack"]
pytestmark = pytest.mark.cutover

Document = dict[str, Any]


@pytest.fixture
def rig(own_stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    item = {
        "entity": "ORDER",
        "key": {"PK": "ORDER#{_id}", "SK": "META"},
        "index": {"GSI1": {"PK": "OWNER#{owner}", "SK": "{_id}"}},
    }
    tree = {
        "migration": "part",
        "tables": {f"Part{os.urandom(4).hex()}": {"indexes": ["GSI1"]}},
        "collections": {"orders": {"item": item, "filter": {"region": {"$in": ["eu", "uk"]}}}},
        "access_patterns": {"by_owner": {"collection": "orders", "index": "GSI1", "PK": "OWNER#{owner}"}},
        "validate": {"settle_s": 0.5},
    }
    made = rig_of(own_stack.env(), tmp_path, tree, f"part{uuid.uuid4().hex[:8]}")
    made.database.create_collection("orders", changeStreamPreAndPostImages={"enabled": True})
    made.dynamodb.update_table(
        TableName=made.table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    )
    connected(made, monkeypatch, own_stack)
    yield made
    back_out(job_of(made), "the test is over")
    unfence(job_of(made))
    end(made)


def order(number: int, region: str, **more: Any) -> Document:
    return {"_id": f"o{number}", "region": region, "owner": "ann", "n": 1, **more}


def refused() -> pytest.RaisesExc[OutsideFilter]:
    return pytest.raises(OutsideFilter, match="outside the part that is migrated, by region")


def apart(rig: Rig) -> dict[str, Document]:
    return {one["_id"]: one for one in rig.database["orders"].find({"region": {"$nin": ["eu", "uk"]}})}


def stored(rig: Rig) -> set[str]:
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=rig.table, ConsistentRead=True)
    return {one["_id"]["S"] for page in pages for one in page["Items"] if "_deleted" not in one}


def test_a_part_goes_there_and_back_and_the_rest_is_never_touched(rig: Rig) -> None:
    orders = [order(number, region) for number, region in enumerate(("eu", "us", "uk", "us", "eu", "jp"))]
    rig.database["orders"].insert_many(orders)
    rig.load()
    with wiring.connect(rig.file) as manager:
        mine = manager["orders"]
        with Following(rig):
            set_mode(rig, MODES["DUAL_WRITE"])
            eventually(lambda: manager.get_metrics()["configuration"]["mode"] == "DUAL_WRITE", "the mode")
            mine.insert_one(order(6, "us"))
            mine.update_one({"_id": "o1"}, {"$set": {"n": 2}})
            mine.delete_one({"_id": "o3"})
            mine.insert_one(order(7, "uk"))
            assert manager.get_metrics()["counts"]["outside_filter.orders"] == 3
            require_equal(rig)
            assert stored(rig) == {"o0", "o2", "o4", "o7"}
            set_mode(rig, READS)
            eventually(lambda: manager.get_metrics()["configuration"]["mode"] == "DYNAMODB_READS", "the mode")
            with wiring.connect(rig.file) as other:
                whole = {one["_id"] for one in other["orders"].find({"owner": "ann"})}
            assert whole == {"o0", "o1", "o2", "o4", "o5", "o6", "o7"}
            assert {one["_id"] for one in mine.find({"owner": "ann", "region": "eu"})} == {"o0", "o4"}
            assert mine.find_one({"_id": "o1"}) == order(1, "us", n=2)
            assert mine.find_one({"_id": "o0"}) == order(0, "eu")
            beyond = "orders.find(owner; beyond the filter)"
            eventually(
                lambda: beyond in unserved_by(list_instances(rig.ledger), ()), "the call that finds more than a part"
            )
        before = apart(rig)
        approved(rig)
        switch(rig)
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        with refused():
            mine.insert_one(order(8, "us"))
        with refused():
            mine.insert_many([order(9, "eu"), order(10, "us")])
        with refused():
            mine.update_one({"_id": "o0"}, {"$set": {"region": "us"}})
        with refused():
            mine.replace_one({"_id": "o11"}, order(11, "us"), upsert=True)
        with refused():
            mine.update_many({"owner": "ann", "region": "eu"}, {"$unset": {"region": ""}})
        mine.insert_one(order(12, "eu"))
        mine.update_one({"_id": "o0"}, {"$set": {"region": "uk", "n": 3}})
        mine.delete_one({"_id": "o2"})
        assert mine.update_many({"owner": "ann"}, {"$inc": {"n": 1}}).modified_count == 4
        assert mine.find_one({"_id": "o1"}) is None
        with reversing(rig):
            require_equal(rig)
            assert apart(rig) == before
        switch_back(rig)
        assert read_mode(rig.ledger).mode is Mode.MONGO_ONLY
        mine.insert_one(order(13, "us"))
    assert apart(rig) == before | {"o13": order(13, "us")}
    there = {one["_id"]: one for one in rig.database["orders"].find({"region": {"$in": ["eu", "uk"]}})}
    assert there == {
        "o0": order(0, "uk", n=4), "o4": order(4, "eu", n=2), "o7": order(7, "uk", n=2), "o12": order(12, "eu", n=2),
    }  # fmt: skip
    with Following(rig):
        require_equal(rig)
    assert stored(rig) == set(there)
