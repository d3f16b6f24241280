"""The client does what pymongo does, in every mode: the same calls, the same results, the same errors."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import SON, Decimal128, Int64, ObjectId, Regex
from bson.raw_bson import RawBSONDocument
from docferry.errors import CallRefused
from docferry.sandbox import SandboxStack
from pymongo.errors import BulkWriteError, DuplicateKeyError
from support.backfill.rig import Rig
from support.client.rig import (
    MODES,
    Asynchronous,
    Blocking,
    Db,
    Plain,
    application,
    connected,
    empty,
    outcome,
    set_mode,
)

ANN, BOB = ObjectId("650000000000000000000001"), ObjectId("650000000000000000000002")
WHEN = datetime(2024, 1, 15, 15, 45)
EAST = timezone(timedelta(hours=2))


def user(name: str, document_id: ObjectId, **more: Any) -> dict[str, Any]:
    return {
        "_id": document_id, "username": name, "email": f"{name}@example.com", "status": "active", "visits": 1,
        "profile": {"firstName": name.title(), "location": {"city": "Seattle"}}, "lastLoginAt": WHEN, "createdAt": WHEN,
        "addresses": [{"type": "home", "city": "Seattle"}, {"type": "work", "city": "Tacoma"}],
    } | more  # fmt: skip


def order(number: int, owner: ObjectId = ANN, **more: Any) -> dict[str, Any]:
    return {
        "_id": ObjectId(f"66{number:022x}"), "userId": owner, "status": "pending", "totalAmount": Decimal128("12.50"),
        "currency": "USD", "createdAt": datetime(2024, 1, 1 + number), "updatedAt": WHEN,
        "items": [{"productId": ObjectId(f"67{number:022x}"), "quantity": 2, "price": Decimal128("6.25"), "name": "x"}],
    } | more  # fmt: skip


Case = Callable[[Db], list[Any]]


def insert_and_find(db: Db) -> list[Any]:
    return [
        outcome(lambda: db.call("users", "insert_one", user("ann", ANN))),
        outcome(lambda: db.call("users", "find_one", {"username": "ann"})),
        outcome(lambda: db.call("users", "find_one", {"email": "ann@example.com"})),
        outcome(lambda: db.call("users", "find_one", {"username": "nobody"})),
        outcome(lambda: db.call("users", "find_one", {"username": "ann", "status": "gone"})),
        outcome(lambda: db.call("users", "find_one", {"username": "ann"}, {"username": 1, "_id": 0})),
        outcome(lambda: db.call("users", "count_documents", {"username": "ann"})),
    ]


def insert_twice(db: Db) -> list[Any]:
    return [
        outcome(lambda: db.call("users", "insert_one", user("ann", ANN))),
        outcome(lambda: db.call("users", "insert_one", user("ann", BOB))),
        outcome(lambda: db.call("orders", "insert_one", order(1))),
        outcome(lambda: db.call("orders", "insert_one", order(1))),
        outcome(lambda: db.call("orders", "find_one", order(1)["_id"])),
    ]


def insert_many(db: Db) -> list[Any]:
    return [
        outcome(lambda: db.call("orders", "insert_many", [order(number) for number in range(4)])),
        outcome(lambda: db.call("orders", "insert_many", [order(5), order(1), order(6)])),
        outcome(lambda: db.call("orders", "insert_many", [order(7), order(1), order(8)], ordered=False)),
        outcome(lambda: sorted(one["_id"] for one in db.call("orders", "find", {"userId": ANN}))),
        outcome(
            lambda: db.call("orders", "find", {"_id": {"$in": [order(2)["_id"], order(3)["_id"]]}}, sort=[("_id", 1)])
        ),
    ]


def update(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    by_name = {"username": "ann"}
    return [
        outcome(lambda: db.call("users", "update_one", by_name, {"$set": {"status": "idle"}, "$inc": {"visits": 2}})),
        outcome(lambda: db.call("users", "update_one", by_name, {"$set": {"status": "idle"}})),
        outcome(lambda: db.call("users", "update_one", {"username": "nobody"}, {"$set": {"status": "idle"}})),
        outcome(lambda: db.call("users", "update_one", by_name, {"$set": {"big": Int64(7)}})),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(
            lambda: db.call(
                "users", "update_one", by_name, {"$push": {"addresses": {"type": "home", "city": "Yakima"}}}
            )
        ),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("users", "update_one", by_name, {"$unset": {"email": 1}})),
        outcome(lambda: db.call("users", "find_one", {"email": "ann@example.com"})),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("users", "update_one", {"email": "ann@example.com"}, {"$set": {"status": "idle"}})),
    ]


def update_what_cannot_be(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    by_name = {"username": "ann"}
    return [
        outcome(lambda: db.call("users", "update_one", by_name, {"$inc": {"status": 1}})),
        outcome(lambda: db.call("users", "update_one", by_name, {"$set": {"_id": BOB}})),
        outcome(lambda: db.call("users", "update_one", by_name, {"$set": {"a": 1}, "$unset": {"a": 1}})),
        outcome(lambda: db.call("users", "find_one", by_name)),
    ]


def upsert(db: Db) -> list[Any]:
    by_name = {"username": "ann"}
    change = {"$set": {"email": "ann@example.com"}, "$setOnInsert": {"_id": ANN, "visits": 1}}
    return [
        outcome(lambda: db.call("users", "update_one", by_name, change, upsert=True)),
        outcome(lambda: db.call("users", "update_one", by_name, change, upsert=True)),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("orders", "replace_one", {"_id": order(1)["_id"]}, order(1), upsert=True)),
        outcome(lambda: db.call("orders", "find_one", order(1)["_id"])),
    ]


def replace(db: Db) -> list[Any]:
    db.call("orders", "insert_one", order(1))
    by_id = {"_id": order(1)["_id"]}
    return [
        outcome(lambda: db.call("orders", "replace_one", by_id, order(1, status="paid", items=[]))),
        outcome(lambda: db.call("orders", "find_one", by_id)),
        outcome(lambda: db.call("orders", "replace_one", by_id, {"status": "odd", "createdAt": WHEN, "userId": ANN})),
        outcome(lambda: db.call("orders", "find_one", by_id)),
        outcome(lambda: db.call("orders", "replace_one", {"_id": ANN}, {"status": "odd"})),
    ]


def move_a_key(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    db.call("users", "insert_one", user("bob", BOB))
    return [
        outcome(lambda: db.call("users", "update_one", {"username": "ann"}, {"$set": {"username": "bob"}})),
        outcome(lambda: db.call("users", "update_one", {"username": "bob"}, {"$set": {"username": "eve"}})),
        outcome(lambda: db.call("users", "update_one", {"username": "ann"}, {"$set": {"username": "bob"}})),
        outcome(lambda: db.call("users", "find_one", {"username": "bob"})),
        outcome(lambda: db.call("users", "find_one", {"username": "eve"})),
    ]


def delete(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    return [
        outcome(lambda: db.call("users", "delete_one", {"username": "nobody"})),
        outcome(lambda: db.call("users", "delete_one", {"username": "ann"})),
        outcome(lambda: db.call("users", "find_one", {"username": "ann"})),
        outcome(lambda: db.call("users", "find_one", {"email": "ann@example.com"})),
        outcome(lambda: db.call("users", "delete_one", {"username": "ann"})),
        outcome(lambda: db.call("users", "insert_one", user("ann", BOB))),
        outcome(lambda: db.call("users", "find_one", {"username": "ann"})),
    ]


def find_and_update(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    by_name, change = {"username": "ann"}, {"$inc": {"visits": 1}}
    return [
        outcome(lambda: db.call("users", "find_one_and_update", by_name, change)),
        outcome(lambda: db.call("users", "find_one_and_update", by_name, change, return_document=True)),
        outcome(lambda: db.call("users", "find_one_and_update", by_name, change, projection={"visits": 1, "_id": 0})),
        outcome(lambda: db.call("users", "find_one_and_update", {"username": "nobody"}, change)),
        outcome(lambda: db.call("users", "find_one", by_name)),
    ]


def lists(db: Db) -> list[Any]:
    for number in range(12):
        db.call("orders", "insert_one", order(number, status="paid" if number % 3 else "pending"))
    newest = [("createdAt", -1)]
    return [
        outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=newest)),
        outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=newest, limit=3)),
        outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=newest, limit=3, skip=2)),
        outcome(
            lambda: db.call("orders", "find", {"userId": ANN, "createdAt": {"$gte": datetime(2024, 1, 8)}}, sort=newest)
        ),
        outcome(
            lambda: db.call("orders", "find", {"userId": ANN, "createdAt": {"$lt": datetime(2024, 1, 3)}}, sort=newest)
        ),
        outcome(lambda: db.call("orders", "find", {"status": "pending"}, {"_id": 1}, sort=[("_id", 1)])),
        outcome(lambda: db.call("orders", "find_one", {"userId": ANN}, sort=newest)),
        outcome(lambda: db.call("orders", "count_documents", {"status": "pending"})),
        outcome(lambda: db.call("orders", "find", {"userId": BOB})),
    ]


def active_in_city(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    db.call("users", "insert_one", user("bob", BOB, status="idle"))
    here = {"profile.location.city": "Seattle", "status": "active"}
    return [
        outcome(lambda: db.call("users", "find", here)),
        outcome(lambda: db.call("users", "find", here | {"lastLoginAt": {"$gte": datetime(2024, 1, 1)}})),
        outcome(lambda: db.call("users", "find", here | {"lastLoginAt": {"$gte": datetime(2025, 1, 1)}})),
    ]


class Level(IntEnum):
    HIGH = 3


def what_python_brings(db: Db) -> list[Any]:
    """Values that are BSON's only once pymongo has encoded them."""
    by_name = {"username": "ann"}
    brought = {
        "pair": (1, (2, 3)), "pattern": re.compile("a.b", re.IGNORECASE), "level": Level.HIGH, "son": SON([("b", 1), ("a", 2)]),
        "raw": RawBSONDocument(bson.encode({"a": (1)})), "seen": datetime(2024, 1, 1, 12, 0, 0, 123_999, EAST),
    }  # fmt: skip
    return [
        outcome(lambda: db.call("users", "insert_one", user("ann", ANN, **brought))),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("users", "update_one", by_name, {"$set": {"pair": ((), 1), "seen": brought["seen"]}})),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("users", "replace_one", by_name, user("ann", ANN, **brought))),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("orders", "insert_many", (order(number, pair=(number,)) for number in range(3)))),
        outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=[("createdAt", 1)])),
    ]


NO_DOCUMENTS: dict[str, Any] = {
    "a list": [], "nothing": None, "a set in it": user("bob", BOB, one={1}), "a number as a name": user("bob", BOB) | {1: 2},
    "65 bits": user("bob", BOB, one=2**64), "a UUID that nobody said how to store": user("bob", BOB, one=uuid.UUID(int=1)),
    "an array as its id": user("bob", BOB, _id=[1]), "a pattern as its id": user("bob", BOB, _id=Regex("a")),
    "an operator as its id": user("bob", BOB, _id={"$a": 1}), "an empty name in its id": user("bob", BOB, _id={"": 1}),
}  # fmt: skip


def what_is_no_document(db: Db) -> list[Any]:
    by_name = {"username": "ann"}
    db.call("users", "insert_one", user("ann", ANN))
    found = [outcome(lambda one=one: db.call("users", "insert_one", one)) for one in NO_DOCUMENTS.values()]
    found += [
        outcome(lambda one=one: db.call("orders", "insert_many", [order(1), one]))
        for one in (*NO_DOCUMENTS.values(), order(2, _id=[1]))
    ]
    found += [outcome(lambda one=one: db.call("orders", "insert_many", one)) for one in ([], {}, 3, iter(()))]
    for change in ({}, [], None, {"status": "idle"}):
        found.append(outcome(lambda one=change: db.call("users", "update_one", by_name, one)))
        found.append(outcome(lambda one=change: db.call("users", "find_one_and_update", by_name, one)))
    for replacement in ([], None, {"$set": {"status": "idle"}}):
        found.append(outcome(lambda one=replacement: db.call("users", "replace_one", by_name, one)))
    found.append(outcome(lambda: db.call("users", "find_one", by_name)))
    found.append(outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=[("createdAt", 1)])))
    return found


def told(call: Callable[[], Any]) -> Any:
    """What an error says of the keys that are taken."""
    try:
        return call()
    except DuplicateKeyError as error:
        return error.details["index"], error.details["keyPattern"], error.details["keyValue"]
    except BulkWriteError as error:
        return error.details["nInserted"], [
            (one["index"], one["op"]["_id"], one["keyPattern"], one["keyValue"]) for one in error.details["writeErrors"]
        ]


def what_an_error_tells(db: Db) -> list[Any]:
    db.call("users", "insert_one", user("ann", ANN))
    db.call("orders", "insert_one", order(1))
    several = [order(0), order(1), order(2)]
    return [
        told(lambda: db.call("users", "insert_one", user("ann", BOB))),
        told(lambda: db.call("orders", "insert_one", order(1))),
        told(lambda: db.call("orders", "insert_many", several, ordered=False)),
    ]


def odd_arguments(db: Db) -> list[Any]:
    db.call("users", "insert_many", [user("ann", ANN), user("bob", BOB)])
    change = {"$set": {"status": "idle"}}
    found = [
        outcome(lambda one=one, method=method, more=more: db.call("users", method, one, *more))
        for one in (None, "ann", [1])
        for method, more in (
            ("update_one", (change,)), ("find_one_and_update", (change,)), ("replace_one", ({},)), ("delete_one", ()),
        )
    ]  # fmt: skip
    found += [outcome(lambda one=one: db.call("users", "find", one)) for one in ("ann", [1], 1)]
    names = ["ann", "bob"]
    return [
        *found,
        outcome(lambda: db.call("users", "find", {"username": "ann"}, limit="2")),
        outcome(lambda: db.call("users", "find", {"username": {"$in": tuple(names)}}, sort=["username"])),
        outcome(lambda: db.call("users", "find_one", {"username": {"$in": names}}, sort=[("username", -1)])),
        outcome(lambda: db.call("users", "find_one", {"username": "ann"}, None, 1)),
        outcome(lambda: db.call("users", "update_one", {"username": "ann"}, change, comment="a word")),
        outcome(lambda: db.call("users", "find_one_and_update", {"username": "ann"}, change, {"status": 1, "_id": 0})),
        outcome(lambda: db.call("users", "delete_one", {"username": "ann"}, comment="a word")),
    ]


CASES: dict[str, Case] = {
    one.__name__: one
    for one in (
        insert_and_find, insert_twice, insert_many, update, update_what_cannot_be, upsert, replace, move_a_key, delete,
        find_and_update, lists, active_in_city, what_python_brings, what_is_no_document,
        what_an_error_tells, odd_arguments,
    )
}  # fmt: skip


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> Callable[[str], list[Any]]:
    """What pymongo does, once for each case."""
    found: dict[str, list[Any]] = {}

    def of(case: str) -> list[Any]:
        if case not in found:
            plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
            plain.database["users"].create_index("username", unique=True)
            plain.database["users"].create_index("email", unique=True, sparse=True)
            found[case] = CASES[case](plain)
            plain.close()
        return found[case]

    return of


@pytest.fixture(scope="module", params=[(mode, kind) for mode in MODES for kind in (Blocking, Asynchronous)], ids=str)
def served(
    request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rig, Db]]:
    mode, kind = request.param
    rig = application(stack, tmp_path_factory.mktemp("served"), f"client{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        set_mode(rig, MODES[mode])
        db = kind(rig)
        yield rig, db
        db.close()
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.mark.parametrize("case", CASES)
def test_call_has_pymongos_outcome_in_every_mode(
    served: tuple[Rig, Db], expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db = served
    empty(rig)
    assert CASES[case](db) == expected(case)


def cursor_idioms(orders: Any) -> list[Any]:
    """What applications do with a cursor."""
    mine = {"userId": ANN}
    found: list[Any] = []
    with orders.find(mine).sort("createdAt", -1).batch_size(2).max_time_ms(10_000).comment("a word") as cursor:
        found += [next(cursor)["_id"], cursor.next()["_id"], cursor.alive]
    found += [list(cursor), cursor.alive]
    cursor = orders.find(mine).sort([("createdAt", 1)])
    found += [cursor[1]["_id"], [one["_id"] for one in cursor[1:3]]]
    found.append([one["_id"] for one in cursor.rewind()])
    found += [len(list(cursor)), len(cursor.clone().to_list()), outcome(lambda: cursor.rewind()[9])]
    cursor = orders.find(mine, batch_size=2)
    next(cursor)
    cursor.close()
    left = list(cursor)  # pymongo has the rest of its batch
    found += [len(left) < 2, [one["_id"] for one in orders.find(mine, None, 1, 2).sort(["createdAt"])]]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_cursor_is_used_as_pymongos(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
    rig = application(stack, tmp_path, f"cursors{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES[mode])
    db = Blocking(rig)
    for one in (plain, db):
        one.call("orders", "insert_many", [order(number) for number in range(5)])
    assert cursor_idioms(db.manager.orders) == cursor_idioms(plain.database.orders)
    db.close()
    plain.close()
    rig.close()


def test_what_is_not_supported_is_refused_by_name_and_what_to_do_instead(served: tuple[Rig, Db]) -> None:
    _, db = served
    assert isinstance(db, Blocking | Asynchronous)
    for call in (
        lambda: db.manager.command("ping"), lambda: db.manager.client.start_session(), lambda: db.manager.users.aggregate([]),
        lambda: db.manager.users.drop(), lambda: db.manager.users.find({}).explain(), lambda: db.manager.list_collection_names(),
    ):  # fmt: skip
        with pytest.raises(CallRefused):
            call()
    with pytest.raises(TypeError, match="'no_such_method' is a collection"):
        db.manager.no_such_method()
    with pytest.raises(TypeError):
        iter(db.manager)
    assert db.manager.users == db.manager["users"] == db.manager.get_collection("users")
    assert db.manager.users != db.manager.orders
    assert db.manager.name == served[0].migration.source.database


def test_what_only_mongodb_can_do_is_done_while_it_leads_and_counted(served: tuple[Rig, Db]) -> None:
    rig, db = served
    assert isinstance(db, Blocking | Asynchronous)
    mode = db.manager.get_metrics()["configuration"]["mode"]
    if mode == "DYNAMODB_ONLY":
        with pytest.raises(CallRefused):
            db.call("users", "estimated_document_count")
        with pytest.raises(CallRefused):
            db.call("users", "create_index", "visits")
        return
    empty(rig)
    db.call("users", "insert_one", user("ann", ANN))
    assert db.call("users", "estimated_document_count") == 1
    assert db.call("users", "create_index", [("visits", 1)]) == "visits_1"
    assert "visits_1" in db.call("users", "index_information")
    shapes = {f"users.{one}(nothing)" for one in ("estimated_document_count", "create_index", "index_information")}
    assert db.manager.parts.membership._unserved.keys() & shapes == (shapes if mode != "MONGO_ONLY" else set())
    rig.database["users"].drop_index("visits_1")
