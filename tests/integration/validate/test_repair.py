"""Repair mends what validation finds, never overwrites what is newer, and loses nothing that it replaces."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from docferry.core.versions import parse_version, version_time
from docferry.errors import RefusedByStore
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.validate import first_pass
from docferry.flows.validate import repair as mending
from docferry.ports.flows import Written
from docferry.rehearsal.independent import judge
from docferry.rehearsal.independent.item_check import Expected, compare_all
from docferry.rehearsal.independent.shop_items import SHOP
from docferry.rehearsal.independent.verdict import VERSION
from docferry.rehearsal.shop import COLLECTIONS, ShopPlan, load_shop, shop_documents
from docferry.sandbox import SandboxStack
from docferry.testing.jobs import change_job
from support.backfill.rig import Rig, unguarded_shop_rig
from support.validate.planting import (
    MAKERS,
    PLANTS,
    SECRET,
    Item,
    at_once,
    forget_position,
    insert_hosts,
    item_of,
    job_of,
    key,
    keys,
    ledger_dump,
    plant_named,
    repair,
    tamper,
    validate,
    with_target,
)

__all__ = ["at_once"]
pytestmark = [pytest.mark.xdist_group("repair"), pytest.mark.usefixtures("at_once")]
PLAN = ShopPlan(users=40, awkward=40, unstorable=4)
UNSTORABLE = {
    name: frozenset(judge.id_key(one.document["_id"]) for one in shop_documents(name, PLAN) if not one.storable)
    for name in COLLECTIONS
}


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    load_shop(stack.env()["DOCFERRY_MONGO_URI"], "repairing", users=40, awkward=40, unstorable=4)
    made = unguarded_shop_rig(stack.env(), tmp_path_factory.mktemp("repairing"), "repairing")
    yield made
    made.close()


@pytest.fixture(scope="module")
def hosts(rig: Rig) -> dict[str, dict[str, Any]]:
    made = insert_hosts(rig)
    rig.load()
    forget_position(rig)
    return made


@pytest.fixture
def small(stack: SandboxStack, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Rig]:
    """One user, one order, one product, loaded."""
    made = unguarded_shop_rig(stack.env(), tmp_path, f"repair_{abs(hash(request.node.name))}")
    for name in ("users", "orders", "products"):
        made.database[name].insert_one(MAKERS[name]("one"))
    made.load()
    forget_position(made)
    yield made
    made.mongo.drop_database(made.migration.source.database)
    made.close()


def alive(table: dict[Any, Item]) -> dict[Any, Item]:
    return {place: item for place, item in table.items() if "_deleted" not in item}


def contents(table: dict[Any, Item]) -> dict[Any, Item]:
    return {place: {n: v for n, v in item.items() if n != "_v"} for place, item in alive(table).items()}


def verdict_of(rig: Rig) -> judge.Verdict:
    """The judge knows nothing of tombstones: it is shown what a reader sees."""
    verdict = judge.Verdict()

    def expected() -> Iterator[Expected]:
        for collection, items_of in SHOP.items():
            for document in judge.read_documents(rig.database, collection):
                if judge.id_key(document["_id"]) not in UNSTORABLE[collection]:
                    yield from (one for one in items_of(document) if not one.entity.startswith("UNIQUE#"))

    return compare_all(expected(), list(alive(rig.scan()).values()), verdict)


# --- everything at once ----------------------------------------------------------------------------------------------


def test_repair_mends_everything_at_once_and_the_judge_agrees(rig: Rig, hosts: dict[str, dict[str, Any]]) -> None:
    assert verdict_of(rig).counts == (0, 0, 0)
    clean = rig.scan()
    tampered = [tamper(rig, plant, item_of(clean, plant, hosts[plant.name])) for plant in PLANTS]
    broken = rig.scan()
    before = validate(rig)
    told = {(one.pk, one.sk) for one in before.differences}
    assert {key(one.planted or one.original) for one in tampered} <= told

    ledger = ledger_dump(rig)
    dry = repair(rig, dry_run=True)
    assert not dry.complete
    assert rig.scan() == broken, "a dry run changes no item"
    assert ledger_dump(rig) == ledger, "a dry run changes no record"

    done = repair(rig)
    assert done.complete, done.to_dict()
    extra = [one for plant, one in zip(PLANTS, tampered, strict=True) if plant.kind == "extra"]
    assert done.tombstones == len(extra) == 3
    assert done.documents == done.written == len(PLANTS) - len(extra)
    mended = rig.scan()
    assert contents(mended) == contents(clean)
    after = validate(rig)
    assert after.ok, after.render()
    verdict = verdict_of(rig)
    assert verdict.counts == (0, 0, 0), verdict

    again = repair(rig)
    assert again.complete
    assert (again.documents, again.tombstones) == (0, 0)
    assert rig.scan() == mended, "nothing was left to change"


# --- versions --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["f" * 22, "zzz"])
def test_newer_item_is_not_overwritten_and_that_is_said(small: Rig, version: str) -> None:
    item = small.scan()[one_key(small, "products")]
    newer = {**item, "stock": {"N": "99"}, "_v": {"S": version}}
    small.dynamodb.put_item(TableName=small.table, Item=newer)
    report = repair(small)
    assert (report.documents, report.superseded, report.written, report.items_superseded) == (1, 1, 0, 1)
    assert (report.stuck, report.complete) == (1, False)
    assert small.scan()[key(item)] == newer
    small.dynamodb.put_item(TableName=small.table, Item={name: newer[name] for name in newer if name != "_v"})
    assert repair(small).complete  # as it says to do
    assert small.scan()[key(item)]["stock"] == item["stock"]


def test_newer_child_stays_while_the_rest_of_its_document_is_mended(small: Rig) -> None:
    table = small.scan()
    root = table[one_key(small, "orders")]
    child = next(item for place, item in table.items() if place == (key(root)[0], "ITEM#001"))
    newer = {**child, "quantity": {"N": "99"}, "_v": {"S": "f" * 22}}
    small.dynamodb.put_item(TableName=small.table, Item=newer)
    small.dynamodb.put_item(TableName=small.table, Item={**root, "currency": {"S": "XXX"}})
    report = repair(small)
    assert (report.written, report.superseded, report.items_superseded, report.complete) == (1, 0, 1, False)
    assert small.scan()[key(child)] == newer
    assert small.scan()[key(root)]["currency"] == {"S": "EUR"}


def test_newer_extra_item_is_not_buried_and_that_is_said(small: Rig) -> None:
    item = small.scan()[one_key(small, "products")]
    extra = {**item, "PK": {"S": "PRODUCT#other"}, "_v": {"S": "f" * 22}}
    small.dynamodb.put_item(TableName=small.table, Item=extra)
    report = repair(small)
    assert (report.tombstones, report.tombstones_superseded, report.complete) == (0, 1, False)
    assert small.scan()[key(extra)] == extra


def test_newer_tombstone_stays(small: Rig) -> None:
    item = small.scan()[one_key(small, "products")]
    grave = {**{n: item[n] for n in ("PK", "SK", "_id")}, "_deleted": {"BOOL": True}, "_v": {"S": "f" * 22}}
    small.dynamodb.put_item(TableName=small.table, Item=grave)
    report = repair(small)
    assert (report.superseded, report.complete) == (1, False)
    assert small.scan()[key(item)] == grave


def test_repaired_items_carry_the_version_of_the_snapshot_they_were_read_at(small: Rig) -> None:
    item = small.scan()[one_key(small, "products")]
    small.dynamodb.put_item(TableName=small.table, Item={**item, "stock": {"N": "99"}})
    repair(small)
    mended = small.scan()[key(item)]
    assert mended["_v"]["S"] > item["_v"]["S"]
    assert VERSION.fullmatch(mended["_v"]["S"])
    assert {n: v for n, v in mended.items() if n != "_v"} == {n: v for n, v in item.items() if n != "_v"}


def test_repair_waits_while_mongodbs_time_is_still_that_of_the_broken_item(small: Rig) -> None:
    """Right after a backfill, on a MongoDB without writes, the snapshot of now is the one that was loaded."""
    item = small.scan()[one_key(small, "products")]
    small.dynamodb.put_item(TableName=small.table, Item={**item, "stock": {"N": "99"}})
    job = job_of(small)
    standing = Standing(job.source, version_time(parse_version(item["_v"]["S"])))
    report = repair(small, job=change_job(job, source=standing))
    assert (report.written, report.items_superseded) == (1, 0)
    assert standing.reads_at_the_old_time > 3
    assert validate(small).ok


class Standing:
    """A source whose time stands still for a while."""

    def __init__(self, source: Any, at: Any) -> None:
        self._source, self._at, self.reads_at_the_old_time = source, at, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._source, name)

    def cluster_time(self) -> Any:
        if self.reads_at_the_old_time < 25:
            self.reads_at_the_old_time += 1
            return self._at
        return self._source.cluster_time()


def one_key(rig: Rig, collection: str) -> tuple[str, str]:
    prefix = {"users": "USER", "orders": "ORDER", "products": "PRODUCT"}[collection]
    sk = "PROFILE" if collection == "users" else "METADATA"
    return next(place for place in rig.scan() if place[0].startswith(prefix) and place[1] == sk)


# --- extra items -----------------------------------------------------------------------------------------------------


def test_extra_item_becomes_a_tombstone_and_its_content_is_kept_in_the_ledger(small: Rig) -> None:
    item = small.scan()[one_key(small, "products")]
    big = {"S": "x" * 350_000}  # more than one part
    extra = {**item, "PK": {"S": "PRODUCT#gone"}, "scan": big, "data": {"B": b"\x00\xff"}}
    small.dynamodb.put_item(TableName=small.table, Item=extra)
    assert repair(small).tombstones == 1
    grave = small.scan()[key(extra)]
    assert set(grave) == {"PK", "SK", "_id", "entityType", "_v", "_deleted", "_ttl"}
    assert "_t" not in item or "/_id" not in str(item["_t"])
    parts = small.ledger.list(f"replaced:{small.table}", "PRODUCT#gone#METADATA")
    assert len(parts) == 2
    kept = json.loads(b"".join(part.body["data"] for part in parts))
    assert kept == {**extra, "data": {"B": "AP8="}}


def test_repair_of_one_collection_leaves_items_of_no_collection_alone(small: Rig) -> None:
    """One of another collection may have lost its name."""
    user = small.scan()[one_key(small, "users")]
    nameless = {name: value for name, value in user.items() if name not in ("entityType", "_id")}
    small.dynamodb.put_item(TableName=small.table, Item=nameless)
    report = repair(small, "products")
    assert (report.kept, report.tombstones, report.complete) == (1, 0, False)
    assert small.scan()[key(user)] == nameless
    assert repair(small).complete
    assert validate(small).ok


def test_repair_of_one_collection_does_not_bury_what_another_ones_document_has(small: Rig) -> None:
    user = small.scan()[one_key(small, "users")]
    small.dynamodb.put_item(TableName=small.table, Item={**user, "entityType": {"S": "PRODUCT"}})
    repair(small, "products")
    assert "_deleted" not in small.scan()[key(user)]


def test_item_whose_document_has_come_back_since_is_not_buried(small: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    product = small.database["products"].find_one({})
    assert product is not None
    small.database["products"].delete_one({"_id": product["_id"]})
    before = small.scan()
    real = first_pass.validate

    async def then_it_comes_back(*args: Any, **options: Any) -> Any:
        report = await real(*args, **options)
        small.database["products"].insert_one(product)
        return report

    monkeypatch.setattr(mending, "validate", then_it_comes_back)
    report = repair(small)
    assert (report.kept, report.tombstones) == (1, 0)
    assert small.scan() == before
    monkeypatch.undo()
    assert validate(small).ok


# --- documents that cannot be stored ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"scan": bson.Binary(b"x" * 420_000)}, {"username": {"no": "key"}}], ids=["large", "key"]
)
def test_document_that_has_become_unstorable_gets_a_letter_and_its_items_are_buried(
    small: Rig, change: dict[str, Any]
) -> None:
    user = small.database["users"].find_one({})
    assert user is not None
    small.database["users"].update_one({"_id": user["_id"]}, {"$set": change})
    report = repair(small)
    assert (report.dead, report.documents, report.tombstones) == (1, 1, 3)
    (letter,) = list_letters(small.ledger, "users")
    assert letter.id == str(user["_id"])
    assert not [place for place in alive(small.scan()) if place[0].startswith("USER#")]
    after = validate(small)
    assert after.ok, after.render()
    assert sum(one.unstorable for one in after.collections) == 1


def test_document_that_dynamodb_refuses_is_not_left_half_written(small: Rig) -> None:
    order = small.database["orders"].find_one({})
    assert order is not None
    small.database["orders"].update_one({"_id": order["_id"]}, {"$set": {"currency": "CHF", "items.0.quantity": 9}})
    job = job_of(small)
    with_target(small, lambda target: mending.repair(job, Refusing(small, target, "ORDER")))
    assert not [place for place in alive(small.scan()) if place[0].startswith("ORDER#")]
    assert [letter.reason for letter in list_letters(small.ledger, "orders")] == ["RefusedByStore"]
    assert validate(small).ok


def test_root_is_written_after_its_children_are_acknowledged(small: Rig) -> None:
    """A reader trusts a root whose digest fits: it must not see the new root with the old children."""
    order = small.database["orders"].find_one({})
    assert order is not None
    small.database["orders"].update_one({"_id": order["_id"]}, {"$set": {"items.0.quantity": 9}})
    seen: list[list[str]] = []

    class Noting(Refusing):
        async def put_newer(self, table: str, items: Any, budget: Any, guard: Any, **options: Any) -> Written:
            seen.append([item["entityType"]["S"] for item in items])
            written: Written = await self._target.put_newer(table, items, budget, guard, **options)
            return written

    with_target(small, lambda target: mending.repair(job_of(small), Noting(small, target, "")))
    assert seen == [["ORDER_ITEM"] * 3, ["ORDER"]]


class Refusing:
    """A target that refuses root items of one kind, and lets time go on after each write."""

    def __init__(self, rig: Rig, target: Any, entity: str) -> None:
        self._rig, self._target, self._entity = rig, target, entity

    def __getattr__(self, name: str) -> Any:
        return getattr(self._target, name)

    async def put_newer(self, table: str, items: Any, budget: Any, guard: Any, **options: Any) -> Written:
        if any(item.get("entityType") == {"S": self._entity} and "_deleted" not in item for item in items):
            self._rig.database["ticks"].insert_one({})
            return Written({0: RefusedByStore("no")}, frozenset(), 0.0)
        written: Written = await self._target.put_newer(table, items, budget, guard, **options)
        return written


def test_summary_and_repr_carry_no_document(small: Rig) -> None:
    item = small.scan()[one_key(small, "products")]
    small.dynamodb.put_item(TableName=small.table, Item={**item, "PK": {"S": "PRODUCT#gone"}})
    small.dynamodb.put_item(TableName=small.table, Item={**item, "stock": {"N": "3"}})
    report = repair(small)
    assert SECRET in str(item)
    assert SECRET not in json.dumps(report.to_dict()) + repr(report)


def test_dry_run_says_what_it_found(small: Rig) -> None:
    plant = plant_named("changed field")
    order = small.database["orders"].find_one({})
    assert order is not None
    item = item_of(small.scan(), plant, order)
    tamper(small, plant, item)
    report = repair(small, dry_run=True)
    assert report.before is not None
    assert [one.path for one in report.before.differences] == ["currency"]
    assert dataclasses.asdict(report)["written"] == 0
    assert small.dynamodb.get_item(TableName=small.table, Key=keys(item))["Item"]["currency"] == {"S": "XXX"}
