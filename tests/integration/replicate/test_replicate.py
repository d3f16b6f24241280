"""DynamoDB follows MongoDB: every kind of write, keys that move, children that vanish, documents that cannot be stored.

At the end of each test a comparison that shares no code with docferry finds both databases equal.
"""

from __future__ import annotations

from typing import Any

import pytest
from bson import Decimal128, ObjectId
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from support.backfill.rig import Rig
from support.replicate.rig import (
    assert_equal,
    follow,
    graves,
)
from support.replicate.shop import a_user, impatient, insert, keys_of, rig, shared
from support.validate.planting import order, user

__all__ = ["impatient", "rig", "shared"]

pytestmark = pytest.mark.xdist_group("replicate")
# --- every kind of write ---------------------------------------------------------------------------------------------

ADDRESS = {"type": "spare", "street": "3 Third St"}
UPDATES: dict[str, Any] = {
    "$set": {"$set": {"profile.location.city": "Paris", "note": "x"}},
    "$set beyond the end": {"$set": {"scores.3": 1}},
    "$unset": {"$unset": {"note": "", "profile.lastName": ""}},
    "$inc": {"$inc": {"visits": 3}},
    "$mul": {"$mul": {"score": 2.5}},
    "$min": {"$min": {"score": -7}},
    "$max": {"$max": {"score": 7_000_000_000}},
    "$rename": {"$rename": {"note": "remark"}},
    "$currentDate": {"$currentDate": {"updatedAt": True}},
    "$bit": {"$bit": {"flags": {"or": 5}}},
    "$push": {"$push": {"addresses": ADDRESS}},
    "$push at the front": {"$push": {"addresses": {"$each": [ADDRESS], "$position": 0, "$slice": 2}}},
    "$push sorted": {"$push": {"addresses": {"$each": [ADDRESS], "$sort": {"street": -1}}}},
    "$pop": {"$pop": {"addresses": -1}},
    "$pull": {"$pull": {"addresses": {"type": "home"}}},
    "$pullAll": {"$pullAll": {"tags": ["a", "b"]}},
    "$addToSet": {"$addToSet": {"tags": {"$each": ["b", "z"]}}},
    "an element": {"$set": {"addresses.1.street": "elsewhere"}},
    "an element's key": {"$set": {"addresses.1.type": "other"}},
    "all elements": {"$set": {"addresses.$[].zipCode": "99999"}},
    "no array any more": {"$set": {"addresses": "none"}},
    "elements of another kind": {"$set": {"addresses": [1, 2]}},
    "pipeline": [{"$set": {"full": {"$concat": ["$username", "!"]}, "addresses": {"$slice": ["$addresses", 1]}}}],
    "pipeline that replaces": [{"$replaceWith": {"username": "$username", "email": "e@x", "addresses": []}}],
    "a name with a dot": [{"$set": {"profile": {"$setField": {"field": "a.b", "input": "$profile", "value": 1}}}}],
    "index keys": {"$set": {"status": "closed", "email": "new@example.com"}},
    "index key gone": {"$unset": {"email": ""}},
}


def test_every_kind_of_update_arrives(shared: Rig) -> None:
    users = shared.database["users"]
    for name in UPDATES:
        insert(shared, "users", user(name) | {"tags": ["a", "b", "c"], "score": 3, "flags": 2, "scores": [1]})
    follow(shared)
    for name, change in UPDATES.items():
        assert users.update_one({"username": name}, change).modified_count == 1, name
    users.update_one({"username": "$inc", "addresses.type": "work"}, {"$set": {"addresses.$.street": "positional"}})
    users.update_one({"username": "$inc"}, {"$set": {"addresses.$[a].x": 1}}, array_filters=[{"a.type": "home"}])
    users.update_many({"username": {"$in": ["$min", "$max"]}}, {"$set": {"many": True}})
    report = follow(shared)
    assert (report.events, report.written) == (len(UPDATES) + 4, len(UPDATES) + 4)
    assert_equal(shared)


def test_upserts_replaces_bulk_writes_and_find_and_modify_arrive(shared: Rig) -> None:
    orders, ids = shared.database["orders"], [ObjectId() for _ in range(6)]
    orders.update_one({"_id": ids[0]}, {"$setOnInsert": {"status": "new"}, "$set": {"items": []}}, upsert=True)
    orders.insert_one({**order("x"), "_id": ids[1]})
    orders.replace_one({"_id": ids[1]}, {**order("y"), "_id": ids[1], "items": []})
    requests: list[Any] = [
        InsertOne({**order("a"), "_id": ids[2]}),
        UpdateOne({"_id": ids[2]}, {"$set": {"totalAmount": Decimal128("1.00")}}),
        ReplaceOne({"_id": ids[3]}, {**order("b"), "_id": ids[3]}, upsert=True),
        DeleteOne({"_id": ids[2]}),
    ]
    orders.bulk_write(requests)
    orders.find_one_and_update({"_id": ids[3]}, {"$pop": {"items": 1}})
    orders.find_one_and_replace({"_id": ids[3]}, {**order("c"), "_id": ids[3]})
    orders.find_one_and_delete({"_id": ids[0]})
    report = follow(shared)
    assert (report.events, report.written, report.superseded, report.dead) == (10, 10, 0, 0)
    assert keys_of(shared, f"ORDER#{ids[0]}") == keys_of(shared, f"ORDER#{ids[2]}") == set()
    assert_equal(shared)


def test_update_leaves_the_items_that_it_did_not_touch_as_they_are(shared: Rig) -> None:
    a_user(shared, "untouched")
    before = shared.scan()
    shared.database["users"].update_one({"username": "untouched"}, {"$set": {"note": "new"}})
    follow(shared)
    after = shared.scan()
    assert {key[1] for key in after if before[key] != after[key]} == {"PROFILE"}
    shared.database["users"].update_one({"username": "untouched"}, {"$set": {"addresses.0.street": "new"}})
    follow(shared)
    last = shared.scan()
    assert {key[1] for key in after if last[key] != after[key]} == {"PROFILE", "ADDRESS#home#000", "ADDRESS#work#001"}
    assert_equal(shared)


# --- keys and children -----------------------------------------------------------------------------------------------


def test_key_that_moves_leaves_tombstones_behind(shared: Rig) -> None:
    a_user(shared, "moving")
    shared.database["users"].update_one({"username": "moving"}, {"$set": {"username": "moved"}})
    follow(shared)
    assert keys_of(shared, "USER#moving") == set()
    assert {key[1] for key in graves(shared) if key[0] == "USER#moving"} == keys_of(shared, "USER#moved")
    assert len(keys_of(shared, "USER#moved")) == 3
    shared.database["users"].update_one({"username": "moved"}, {"$set": {"username": "moving"}})
    follow(shared)
    assert len(keys_of(shared, "USER#moving")) == 3, "and it can come back"
    assert_equal(shared)


def test_key_is_passed_on_and_swapped(shared: Rig) -> None:
    users = shared.database["users"]
    one, two = a_user(shared, "one", addresses=[]), a_user(shared, "two")
    for key, name in ((one, "three"), (two, "one"), (one, "two")):
        users.update_one({"_id": key}, {"$set": {"username": name}})
    users.delete_one({"_id": two})
    users.update_one({"_id": one}, {"$set": {"username": "one"}})
    assert follow(shared).events == 5
    assert keys_of(shared, "USER#one") == {"PROFILE"}
    assert keys_of(shared, "USER#two") == keys_of(shared, "USER#three") == set()
    assert_equal(shared)


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"items": []}},
        {"$unset": {"items": ""}},
        {"$pop": {"items": 1}},
        {"$set": {"items": None}},
        {"$pull": {"items": {"name": "Desk"}}},
        None,
    ],
    ids=["emptied", "unset", "last", "null", "middle", "deleted"],
)
def test_children_that_vanish_are_buried(shared: Rig, change: Any) -> None:
    key = insert(shared, "orders", order("x"))
    follow(shared)
    had = keys_of(shared, f"ORDER#{key}")
    target = shared.database["orders"]
    target.delete_one({"_id": key}) if change is None else target.update_one({"_id": key}, change)
    follow(shared)
    stay = keys_of(shared, f"ORDER#{key}")
    buried = {sk for pk, sk in graves(shared) if pk == f"ORDER#{key}"}
    assert buried
    assert had == stay | buried
    assert_equal(shared)


def test_document_deleted_and_inserted_again_is_there(shared: Rig) -> None:
    key = a_user(shared, "phoenix")
    whole = shared.database["users"].find_one({"_id": key})
    shared.database["users"].delete_one({"_id": key})
    shared.database["users"].insert_one({**whole, "addresses": whole["addresses"][:1]})
    follow(shared)
    assert keys_of(shared, "USER#phoenix") == {"PROFILE", "ADDRESS#home#000"}
    assert_equal(shared)


def test_transaction_that_changes_one_document_often_arrives_as_it_ends(shared: Rig) -> None:
    one, two = a_user(shared, "in a transaction"), a_user(shared, "also")
    users, orders = shared.database["users"], shared.database["orders"]
    with shared.mongo.start_session() as session, session.start_transaction():
        users.update_one({"_id": one}, {"$set": {"username": "for a moment"}}, session=session)
        users.delete_one({"_id": two}, session=session)
        users.update_one({"_id": one}, {"$set": {"username": "also"}, "$pop": {"addresses": 1}}, session=session)
        # The name of one, the address of the other.
        again = {**user("in a transaction"), "_id": two, "email": "also@example.com", "addresses": []}
        users.insert_one(again, session=session)
        orders.insert_one(order("of it"), session=session)
        users.update_one({"_id": one}, {"$inc": {"n": 1}}, session=session)
    assert follow(shared).events == 6
    assert keys_of(shared, "USER#also") == {"PROFILE", "ADDRESS#home#000"}
    assert keys_of(shared, "USER#in a transaction") == {"PROFILE"}
    assert_equal(shared)


def test_aborted_transaction_leaves_nothing(shared: Rig) -> None:
    with shared.mongo.start_session() as session:
        session.start_transaction()
        shared.database["users"].insert_one(user("never"), session=session)
        session.abort_transaction()
    assert follow(shared).events == 0
    assert_equal(shared)
