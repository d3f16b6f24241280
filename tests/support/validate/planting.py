"""Documents whose every value is known, and changes planted into their items behind docferry's back with plain boto3.

Each plant has a document of its own, so that all of them can be planted at once.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, Int64, ObjectId
from docferry.flows.kernel.job import Job
from docferry.flows.validate import first_pass as checking
from docferry.flows.validate import repair as mending
from docferry.flows.validate.first_pass import ValidationReport
from docferry.flows.validate.replay import ReplayReport, replay_letters
from docferry.testing.jobs import change_job, make_job
from docferry.wiring import who

from support.backfill.rig import Quiet, Rig

Item = dict[str, Any]
Key = tuple[str, str]

SECRET = "xyzzy-plugh-4711"
"""In every document made here, in a field that maps as it is: it must not turn up where documents do not belong."""


# --- documents -------------------------------------------------------------------------------------------------------


def user(name: str) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "username": name,
        "email": f"{name}@example.com",
        "profile": {"firstName": "Ada", "lastName": "King", "location": {"city": "London", "state": "LDN"}},
        "addresses": [
            {"type": "home", "street": "1 First St", "zipCode": "00001"},
            {"type": "work", "street": "2 Second St", "zipCode": "00002"},
        ],
        "createdAt": datetime(2024, 1, 15, 10, 30),
        "lastLoginAt": datetime(2024, 2, 1, 8, 0),
        "status": "active",
        "note": SECRET,
    }


def order(name: str) -> dict[str, Any]:
    line = {"productId": ObjectId(), "quantity": 2, "price": Decimal128("19.99"), "name": "Lamp"}
    return {
        "_id": ObjectId(),
        "userId": ObjectId(),
        "status": "shipped",
        "totalAmount": Decimal128("59.90"),
        "currency": "EUR",
        "items": [line, {**line, "name": "Desk"}, {**line, "name": "Chair"}],
        "createdAt": datetime(2024, 1, 15, 10, 30),
        "note": SECRET,
    }


def product(name: str) -> dict[str, Any]:
    return {
        "_id": ObjectId(),
        "sku": f"SKU-{name}",
        "name": "Lamp",
        "description": "A lamp",
        "price": Decimal128("12.50"),
        "categoryId": ObjectId(),
        "stock": 7,
        "weight": 1.0,
        "ratio": 0.25,
        "serial": Int64(5),
        "attributes": {"colour": "red", "dimensions": {"widthCm": 10, "heightCm": 20}},
        "tags": ["new", "sale"],
        "createdAt": datetime(2024, 1, 15, 10, 30),
        "note": SECRET,
    }


def category(name: str) -> dict[str, Any]:
    return {"_id": ObjectId(), "slug": name, "name": "Lamps", "parentId": ObjectId(), "path": ["a"], "note": SECRET}


MAKERS: Mapping[str, Callable[[str], dict[str, Any]]] = {
    "users": user,
    "orders": order,
    "products": product,
    "categories": category,
}


# --- plants ----------------------------------------------------------------------------------------------------------

Change = Callable[[Item], Item | None]
"""The item to put instead, None to delete it. An item under another key is put beside it."""


@dataclass(frozen=True, kw_only=True)
class Plant:
    """One thing made wrong. `sk` is the start of the sort key of the item that is changed."""

    name: str
    collection: str
    sk: str
    change: Change
    kind: str
    path: str
    reported_as: str = ""


def put(**attributes: Any) -> Change:
    return lambda item: {**item, **attributes}


def drop(*names: str) -> Change:
    return lambda item: {name: value for name, value in item.items() if name not in names}


def within(attribute: str, *path: str, to: Any) -> Change:
    """Change a value inside a map."""

    def change(item: Item) -> Item:
        def deep(value: Any, steps: Sequence[str]) -> Any:
            if not steps:
                return to
            return {"M": {**value["M"], steps[0]: deep(value["M"][steps[0]], steps[1:])}}

        return {**item, attribute: deep(item[attribute], path)}

    return change


def hint(pointer: str, to: str | None) -> Change:
    def change(item: Item) -> Item:
        hints = {name: value for name, value in item.get("_t", {"M": {}})["M"].items() if name != pointer}
        assert to is not None or len(hints) < len(item["_t"]["M"]), f"there is no hint {pointer} to drop"
        if to is not None:
            hints[pointer] = {"S": to}
        without: Item = {name: value for name, value in item.items() if name != "_t"}
        return without | ({"_t": {"M": hints}} if hints else {})

    return change


def buried(item: Item) -> Item:
    return {name: item[name] for name in ("PK", "SK", "_id", "_v", "entityType")} | {"_deleted": {"BOOL": True}}


def orphan(item: Item) -> Item:
    gone = str(ObjectId())
    return {**item, "PK": {"S": f"PRODUCT#{gone}"}, "_id": {"S": gone}, "productId": {"S": gone}}


def foreign(item: Item) -> Item:
    return {"PK": {"S": f"SETTINGS#{item['_id']['S']}"}, "SK": {"S": "v1"}, "note": {"S": "somebody else's"}}


def _plant(
    name: str, collection: str, sk: str, change: Change, path: str, kind: str = "different", **more: Any
) -> Plant:
    return Plant(name=name, collection=collection, sk=sk, change=change, path=path, kind=kind, **more)


PLANTS: tuple[Plant, ...] = (
    _plant("changed field", "orders", "METADATA", put(currency={"S": "XXX"}), "currency"),
    _plant("changed field under another name", "users", "PROFILE", put(firstName={"S": "Eve"}), "profile.firstName"),
    _plant(
        "changed nested field", "products", "METADATA",
        within("attributes", "dimensions", "widthCm", to={"N": "99"}), "attributes.dimensions.widthCm",
    ),
    _plant("changed field in a kept part", "users", "PROFILE",
           within("profile", "location", "city", to={"S": "Paris"}), "profile.location.city"),
    _plant("changed element", "products", "METADATA", put(tags={"L": [{"S": "new"}, {"S": "old"}]}), "tags.1"),
    _plant("element too many", "products", "METADATA", put(tags={"L": [{"S": c} for c in "abc"]}), "tags"),
    _plant("changed field of a child", "orders", "ITEM#001", put(quantity={"N": "3"}), "items.1.quantity"),
    _plant("changed renamed field of a child", "users", "ADDRESS#work", put(addressType={"S": "x"}), "addresses.1.type"),
    _plant("missing root", "users", "PROFILE", lambda item: None, "", "missing"),
    _plant("missing child", "orders", "ITEM#002", lambda item: None, "items.2", "missing"),
    _plant("extra child", "orders", "ITEM#002", put(SK={"S": "ITEM#003"}, _i={"N": "3"}), "", "extra"),
    _plant("extra item of no document", "products", "METADATA", orphan, "", "extra"),
    _plant("foreign item", "products", "METADATA", foreign, "", "extra", reported_as="(no collection)"),
    _plant("wrong index key", "orders", "METADATA", put(GSI2PK={"S": "STATUS#lost"}), "GSI2PK"),
    _plant("missing index key", "users", "PROFILE", drop("GSI1PK"), "GSI1PK"),
    _plant("index key too many", "users", "ADDRESS#home", put(GSI1SK={"S": "x"}), "addresses.0.GSI1SK"),
    _plant("dropped hint: double to int32", "products", "METADATA", hint("/weight", None), "weight"),
    _plant("dropped hint: int64 to int32", "products", "METADATA", hint("/serial", None), "serial"),
    _plant("wrong hint: int32 to double", "products", "METADATA", hint("/stock", "double"), "stock"),
    _plant("all hints dropped", "products", "METADATA", drop("_t"), "weight"),
    _plant("text for a number", "products", "METADATA", put(stock={"S": "7"}), "stock"),
    _plant("text for a declared decimal", "orders", "METADATA", put(totalAmount={"S": "59.90"}), "totalAmount"),
    _plant("text for a decimal of a child", "orders", "ITEM#000", put(price={"S": "19.99"}), "items.0.price"),
    _plant("a set for an array", "products", "METADATA", put(tags={"SS": ["new", "sale"]}), "tags"),
    _plant("a date written otherwise", "users", "PROFILE", put(createdAt={"S": "2024-01-15T10:30:00Z"}), "createdAt"),
    _plant("removed attribute", "products", "METADATA", drop("description"), "description"),
    _plant("null for a value", "products", "METADATA", put(description={"NULL": True}), "description"),
    _plant("added attribute", "categories", "METADATA", put(colour={"S": "red"}), "colour"),
    _plant("tombstone", "categories", "METADATA", buried, "", "missing"),
    _plant("tombstone of a child", "users", "ADDRESS#home", buried, "addresses.0", "missing"),
    _plant("unknown entityType", "categories", "METADATA", put(entityType={"S": "MALLORY"}), "entityType"),
    _plant("another collection's entityType", "categories", "METADATA", put(entityType={"S": "PRODUCT"}), "entityType"),
    _plant("no entityType", "categories", "METADATA", drop("entityType"), "entityType"),
    _plant("no version", "categories", "METADATA", drop("_v"), "_v"),
    _plant("no version of a child", "orders", "ITEM#000", drop("_v"), "items.0._v"),
    _plant("no id", "categories", "METADATA", drop("_id"), "_id"),
    _plant("another document's id", "categories", "METADATA", put(_id={"S": str(ObjectId())}), "_id"),
    _plant("wrong place of a child", "orders", "ITEM#000", put(_i={"N": "9"}), "items.0._i"),
    _plant("wrong digest", "orders", "METADATA", put(_digest={"S": "0" * 32}), "_digest"),
)  # fmt: skip


def plant_named(name: str) -> Plant:
    return next(plant for plant in PLANTS if plant.name == name)


# --- a rig with them -------------------------------------------------------------------------------------------------


def insert_hosts(rig: Rig, plants: Sequence[Plant] = PLANTS) -> dict[str, dict[str, Any]]:
    """One document for each plant, by the plant's name."""
    hosts = {plant.name: MAKERS[plant.collection](plant.name) for plant in plants}
    for collection in MAKERS:
        documents = [hosts[plant.name] for plant in plants if plant.collection == collection]
        if documents:
            rig.database[collection].insert_many(documents)
    return hosts


def item_of(table: Mapping[Key, Item], plant: Plant, host: Mapping[str, Any]) -> Item:
    """The item that a plant changes, found by the document's id."""
    found = [
        item
        for (_, sk), item in table.items()
        if item.get("_id") == {"S": str(host["_id"])} and sk.startswith(plant.sk)
    ]
    assert len(found) == 1, f"{plant.name}: {len(found)} items"
    return found[0]


@dataclass
class Tampering:
    """What was planted, and how to take it back."""

    rig: Rig
    original: Item
    planted: Item | None

    def undo(self) -> None:
        if self.planted is not None and key(self.planted) != key(self.original):
            self.rig.dynamodb.delete_item(TableName=self.rig.table, Key=keys(self.planted))
        self.rig.dynamodb.put_item(TableName=self.rig.table, Item=self.original)


def tamper(rig: Rig, plant: Plant, original: Item) -> Tampering:
    planted = plant.change(original)
    if planted is None:
        rig.dynamodb.delete_item(TableName=rig.table, Key=keys(original))
    else:
        rig.dynamodb.put_item(TableName=rig.table, Item=planted)
    return Tampering(rig, original, planted)


def keys(item: Item) -> Item:
    return {"PK": item["PK"], "SK": item["SK"]}


def key(item: Item) -> Key:
    return item["PK"]["S"], item["SK"]["S"]


# --- running ---------------------------------------------------------------------------------------------------------


def job_of(rig: Rig, **changes: Any) -> Job:
    load = rig.job()
    job = make_job(
        migration=rig.migration,
        source=load.source,
        ledger=rig.ledger,
        identity=who("validating"),
        progress=Quiet(),
        stop=load.stop,
    )
    return change_job(job, **changes)


def with_target(rig: Rig, flow: Callable[[Any], Any]) -> Any:
    async def run() -> Any:
        target = rig.target()
        try:
            return await flow(target)
        finally:
            await target.close()

    return asyncio.run(run())


def validate(rig: Rig, *only: str, sample: int | None = None, job: Job | None = None) -> ValidationReport:
    job = job or job_of(rig)
    report: ValidationReport = with_target(rig, lambda target: checking.validate(job, target, only, sample))
    return report


def require_equal(rig: Rig) -> None:
    """A full validation finds all equal. Where an application writes on a busy machine, some documents may not be judged in the
    time that there is: then it is made again."""
    for _ in range(3):
        report = validate(rig)
        if report.verdict != "UNDECIDED":
            break
    assert report.ok, report.render()


def tick(rig: Rig) -> None:
    """Let MongoDB's time pass: without writes it stands still for up to ten seconds."""
    rig.database["ticks"].insert_one({})


def repair(rig: Rig, *only: str, dry_run: bool = False, job: Job | None = None) -> mending.RepairReport:
    tick(rig)
    job = job or job_of(rig)
    report: mending.RepairReport = with_target(rig, lambda target: mending.repair(job, target, only, dry_run))
    return report


def replay(rig: Rig, collection: str, *ids: str, job: Job | None = None) -> ReplayReport:
    job = job or job_of(rig)
    report: ReplayReport = with_target(rig, lambda target: replay_letters(job, target, collection, ids))
    return report


def masking(rig: Rig, *paths: str) -> Rig:
    """The same rig with a migration that masks these paths."""
    settings = dataclasses.replace(rig.migration.validate, masked=paths)
    return dataclasses.replace(rig, migration=dataclasses.replace(rig.migration, validate=settings))


def ledger_dump(rig: Rig) -> dict[Key, Item]:
    pages = rig.dynamodb.get_paginator("scan").paginate(TableName=rig.migration.ledger.table, ConsistentRead=True)
    return {key(item): item for page in pages for item in page["Items"]}


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is on its way in these tests: look again without waiting."""
    monkeypatch.setattr(checking, "SETTLE_S", 0.0)


def forget_position(rig: Rig) -> None:
    """Nobody replicates in these tests, and what they change in MongoDB is not to be taken for what is still on its way."""
    record = rig.ledger.read("position", "stream")
    assert record is not None
    rig.ledger.delete(record)
