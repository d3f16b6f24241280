"""Scans that the file allows: any supported filter and sort of a small collection, and no silence past the bound."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from bson import ObjectId
from click.testing import CliRunner
from docferry import wiring
from docferry.cli.main import main
from docferry.client.api.manager import DualWriteManager
from docferry.errors import NoAccessPattern, ScanTooLarge
from docferry.sandbox import SandboxStack
from pymongo import DeleteOne, UpdateMany
from support.backfill.rig import Rig, eventually, rig_of
from support.client.rig import MODES, Asynchronous, connected, set_mode

PERSON = {
    "entity": "PERSON",
    "key": {"PK": "PERSON#{name}", "SK": "PERSON"},
    "index": {"GSI1": {"PK": "CITY#{city}", "SK": "{name}"}},
}
SPREAD = {
    "entity": "SPREAD",
    "key": {"PK": "SPREAD#{_id}", "SK": "SPREAD"},
    "index": {"GSI1": {"PK": "S#{status}#{_id:shard(4)}", "SK": "{n:number}"}},
}
PHONE = {"entity": "PHONE", "key": {"SK": "PHONE#{index:03d}"}}
TREE: dict[str, Any] = {
    "migration": "scans",
    "tables": {"Shared": {"indexes": ["GSI1"]}},
    "collections": {
        "people": {"table": "Shared", "item": PERSON, "children": {"phones": PHONE}, "scan": {"allowed": True}},
        "others": {"table": "Shared"},
        "spread": {"table": "Shared", "item": SPREAD},
        "closed": {"table": "Shared", "scan": {"allowed": False}},
        "bounded": {"table": "Shared", "scan": {"allowed": True, "most_read_units": 3}},
    },
    "access_patterns": {"spread_by_status": {"collection": "spread", "index": "GSI1", "PK": "S#{status}"}},
}
PEOPLE = [
    {"_id": ObjectId(), "name": name, "age": age, "city": city, "phones": [{"n": one} for one in range(age % 3)]}
    for name, age, city in (("ann", 31, "Oslo"), ("bob", 29, "Rome"), ("cid", 47, "Oslo"), ("dan", 18, "Bern"))
]


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    mark = uuid.uuid4().hex[:8]
    tables = {f"{name}{mark}": one for name, one in TREE["tables"].items()}
    collections = {name: one | {"table": one["table"] + mark} for name, one in TREE["collections"].items()}
    tree = TREE | {"tables": tables, "collections": collections}
    rig = rig_of(stack.env(), tmp_path_factory.mktemp("scans"), tree, f"scans{mark}")
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    yield rig
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.fixture
def db(rig: Rig, stack: SandboxStack, monkeypatch: pytest.MonkeyPatch) -> Iterator[DualWriteManager]:
    connected(rig, monkeypatch, stack)
    with wiring.connect(rig.file) as manager:
        manager["people"].delete_many({})
        manager["people"].insert_many([dict(one) for one in PEOPLE])
        yield manager


def names(found: Any) -> list[str]:
    return [one["name"] for one in found]


def test_any_supported_filter_and_sort_is_answered(db: DualWriteManager) -> None:
    people = db["people"]
    db["others"].insert_one({"_id": ObjectId(), "name": "not one of them", "age": 30})
    assert names(people.find()) == ["ann", "bob", "cid", "dan"]  # in the order of _id
    assert names(people.find({"age": {"$gt": 20}}).sort("age", -1)) == ["cid", "ann", "bob"]
    assert names(people.find({"$or": [{"city": "Oslo"}, {"age": 18}]}).sort([("city", 1), ("name", -1)])) == [
        "dan",
        "cid",
        "ann",
    ]
    assert names(people.find().skip(1).limit(2)) == ["bob", "cid"]
    assert people.find_one({"phones.n": 1}, {"_id": 0, "name": 1}) == {"name": "bob"}
    assert people.find_one({"age": 47}, {"_id": 0, "phones": 1}) == {"phones": [{"n": 0}, {"n": 1}]}
    assert people.count_documents({"phones": {"$size": 0}}) == 1
    assert sorted(people.distinct("city")) == ["Bern", "Oslo", "Rome"]


def test_documents_found_by_a_scan_are_changed_one_by_one(db: DualWriteManager) -> None:
    people = db["people"]
    assert people.update_many({"age": {"$gt": 20}}, {"$inc": {"age": 1}}).modified_count == 3
    assert people.update_one({"city": "Bern"}, {"$set": {"city": "Nice"}}).modified_count == 1
    assert people.find_one_and_delete({}, sort=[("age", 1)])["name"] == "dan"
    assert people.find_one_and_update({"age": 32}, {"$set": {"age": 5}})["name"] == "ann"
    done = people.bulk_write([UpdateMany({"age": {"$lt": 40}}, {"$set": {"young": True}}), DeleteOne({"age": 48})])
    assert (done.modified_count, done.deleted_count) == (2, 1)
    assert people.delete_many({"young": True}).deleted_count == 2
    assert list(people.find()) == []


def test_update_that_fails_on_its_way_says_how_far_it_came(db: DualWriteManager) -> None:
    people = db["people"]
    people.update_one({"age": 47}, {"$set": {"age": "old"}})
    with pytest.raises(Exception, match="Cannot apply") as caught:
        people.update_many({}, {"$inc": {"age": 1}})
    assert caught.value.__notes__ == ["people: 2 document(s) of 4 had been changed"]


def test_without_the_line_it_is_refused_and_told_that_a_scan_could_be_allowed(db: DualWriteManager) -> None:
    for name in ("others", "closed"):
        with pytest.raises(NoAccessPattern, match=r"scan: {allowed: true"):
            db[name].find_one({"age": 1})


def test_scan_past_its_bound_answers_and_changes_nothing_and_is_counted(db: DualWriteManager) -> None:
    bounded = db["bounded"]
    bounded.insert_many([{"_id": number, "text": "x" * 3_000, "n": 0} for number in range(12)])
    for call in (
        lambda: bounded.find({"n": 0}).to_list(),
        lambda: bounded.update_many({"n": 0}, {"$set": {"n": 1}}),
        lambda: bounded.count_documents({}),
    ):
        with pytest.raises(ScanTooLarge, match="has used up its 3 read units"):
            call()
    assert bounded.find_one({"_id": 3}) == {"_id": 3, "text": "x" * 3_000, "n": 0}
    counts = db.get_metrics()["counts"]
    assert counts["scan.too_large"] == 3
    assert 9 <= counts["scan.read_units"] < 60


def test_asynchronous_application_scans_too(rig: Rig, db: DualWriteManager) -> None:
    client = Asynchronous(rig)
    try:
        assert names(client.call("people", "find", {"age": {"$lt": 40}}, sort=[("age", 1)])) == ["dan", "bob", "ann"]
        assert client.call("people", "update_many", {}, {"$set": {"seen": True}}).modified_count == 4
    finally:
        client.close()


def test_partitions_of_a_spread_key_are_read_at_once_and_no_further_than_asked(rig: Rig, db: DualWriteManager) -> None:
    spread = db["spread"]
    spread.insert_many([{"_id": number, "status": "new", "n": number} for number in range(40)])
    asked = {"status": "new"}

    def found() -> list[int]:
        return [one["n"] for one in spread.find(asked).sort("n", -1)]

    eventually(lambda: found() == list(range(39, -1, -1)), "the index to name all")
    assert len(list(spread.find(asked).limit(5))) == 5
    total = [{"$match": asked}, {"$group": {"_id": None, "n": {"$sum": "$n"}}}]
    assert list(spread.aggregate(total)) == [{"_id": None, "n": 780}]
    client = Asynchronous(rig)
    try:
        assert client.call("spread", "count_documents", asked) == 40
        assert client.call("spread", "aggregate", total) == [{"_id": None, "n": 780}]
    finally:
        client.close()


def test_mode_tells_what_each_shape_of_call_costs(rig: Rig, db: DualWriteManager) -> None:
    people = db["people"]
    people.find_one({"name": "ann"})
    people.count_documents({"age": {"$gt": 20}})
    people.update_one({"name": "bob"}, {"$inc": {"age": 1}})
    people.aggregate([{"$match": {"age": 30}}, {"$count": "n"}]).to_list()

    def shapes() -> Any:
        told = json.loads(CliRunner().invoke(main, ["mode", str(rig.file), "--shapes", "--json"]).stdout)
        return {one["shape"]: one for one in told["costs"]}

    eventually(lambda: "people.aggregate($match(age), $count) by a scan" in shapes(), "the calls to be counted")
    found = shapes()
    by_key, counted = (
        found["people.find_one(name) by the table key"],
        found["people.count_documents(age $gt) by a scan"],
    )
    changed = found["people.update_one(name) by the table key"]
    assert (by_key["calls"], counted["calls"], changed["calls"]) == (1, 1, 1)
    assert (by_key["write_units"], counted["write_units"]) == (0, 0)
    assert min(one["read_units"] for one in (by_key, counted, changed)) > 0
    assert changed["write_units"] >= 2  # the item, and the entry in the journal
    assert counted["advice"].startswith("each call reads the whole table: pin name, or give people an index")
    told = CliRunner().invoke(main, ["mode", str(rig.file)]).stdout
    assert "  DynamoDB answers people." in told
