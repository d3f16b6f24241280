"""Calls that an application makes, each as a case: what it gives is compared with what pymongo gives."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from enum import IntEnum
from functools import partial
from typing import Any

import bson
from bson import SON, Decimal128, Int64, ObjectId, Regex
from bson.raw_bson import RawBSONDocument
from pymongo.errors import BulkWriteError, DuplicateKeyError

from support.client.rig import (
    Db,
    outcome,
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
        outcome(lambda: db.call("users", "find_one_and_update", by_name, {"$inc": {"status": 1}})),
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
    "65 bits": user("bob", BOB, one=2**64), "a UUID without a representation": user("bob", BOB, one=uuid.UUID(int=1)),
    "an array as its id": user("bob", BOB, _id=[1]), "a pattern as its id": user("bob", BOB, _id=Regex("a")),
    "an operator as its id": user("bob", BOB, _id={"$a": 1}), "an empty name in its id": user("bob", BOB, _id={"": 1}),
}  # fmt: skip


def what_is_no_document(db: Db) -> list[Any]:
    by_name = {"username": "ann"}
    db.call("users", "insert_one", user("ann", ANN))
    found = [outcome(partial(db.call, "users", "insert_one", one)) for one in NO_DOCUMENTS.values()]
    found += [
        outcome(partial(db.call, "orders", "insert_many", [order(1), one]))
        for one in (*NO_DOCUMENTS.values(), order(2, _id=[1]))
    ]
    lists: tuple[Any, ...] = ([], {}, 3, iter(()))
    found += [outcome(partial(db.call, "orders", "insert_many", one)) for one in lists]
    changes: tuple[Any, ...] = ({}, [], None, {"status": "idle"})
    for change in changes:
        found.append(outcome(partial(db.call, "users", "update_one", by_name, change)))
        found.append(outcome(partial(db.call, "users", "find_one_and_update", by_name, change)))
    replacements: tuple[Any, ...] = ([], None, {"$set": {"status": "idle"}})
    for replacement in replacements:
        found.append(outcome(partial(db.call, "users", "replace_one", by_name, replacement)))
    found.append(outcome(lambda: db.call("users", "find_one", by_name)))
    found.append(outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=[("createdAt", 1)])))
    return found


def told(call: Callable[[], Any]) -> Any:
    """What an error says of the keys that are taken."""
    try:
        return call()
    except DuplicateKeyError as error:
        return tuple((error.details or {})[name] for name in ("index", "keyPattern", "keyValue"))
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
        outcome(partial(db.call, "users", method, one, *more))
        for one in (None, "ann", [1])
        for method, more in (
            ("update_one", (change,)), ("find_one_and_update", (change,)), ("replace_one", ({},)), ("delete_one", ()),
        )
    ]  # fmt: skip
    found += [outcome(partial(db.call, "users", "find", one)) for one in ("ann", [1], 1)]
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
