"""Calls that change several documents, or give back what they replace or remove, by keys and indexes: as cases for every mode."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pymongo import DeleteMany, DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError

from support.client.cases import ANN, BOB, order, user
from support.client.rig import Db, outcome

Case = Callable[[Db], list[Any]]
MINE = {"userId": ANN}


def _orders(db: Db) -> None:
    documents = [order(number, status="paid" if number % 3 else "pending") for number in range(6)]
    db.call("orders", "insert_many", documents)


def _all(db: Db) -> Any:
    return outcome(lambda: db.call("orders", "find", MINE, sort=[("createdAt", 1)]))


def changes_of_many(db: Db) -> list[Any]:
    _orders(db)
    many = partial(partial, db.call, "orders", "update_many")
    found = [
        outcome(many(MINE, {"$inc": {"n": 1}, "$set": {"seen": True}})),
        outcome(many({"status": "paid"}, {"$set": {"status": "sent"}})),
        outcome(many({"status": "paid"}, {"$set": {"status": "sent"}})),
        outcome(many({**MINE, "status": "sent"}, {"$set": {"seen": True}})),
        outcome(many({"_id": order(9)["_id"]}, {"$set": order(9) | {"_id": order(9)["_id"]}}, True)),
        outcome(many({"_id": order(9)["_id"]}, {"$set": {"n": 2}}, upsert=True, comment="a word")),
        outcome(many(MINE, {"n": 1})),
        outcome(many(MINE, {})),
        outcome(many(None, {"$set": {"n": 1}})),
        outcome(many(MINE, {"$set": {"n": 1}}, no_such=1)),
    ]
    return [*found, _all(db)]


def removals_of_many(db: Db) -> list[Any]:
    _orders(db)
    return [
        outcome(lambda: db.call("orders", "delete_many", {"status": "pending"})),
        outcome(lambda: db.call("orders", "delete_many", {"status": "pending"})),
        outcome(lambda: db.call("orders", "delete_many", {**MINE, "_id": {"$gt": order(3)["_id"]}})),
        outcome(lambda: db.call("orders", "delete_many", "all")),
        _all(db),
    ]


def update_that_fails_on_its_way(db: Db) -> list[Any]:
    """MongoDB changes one after the other, and so some stay changed."""
    for number in range(4):
        db.call("orders", "insert_one", order(number, n="text" if number == 2 else 0))
    asked = {"status": "pending", "_id": {"$in": [order(number)["_id"] for number in range(4)]}}
    return [outcome(lambda: db.call("orders", "update_many", asked, {"$inc": {"n": 1}})), _all(db)[2]]


def replaced_and_removed(db: Db) -> list[Any]:
    db.call("users", "insert_many", [user("ann", ANN), user("bob", BOB)])
    ann, idle = {"username": "ann"}, user("ann", ANN, status="idle")
    replace, remove = (partial(partial, db.call, "users", f"find_one_and_{one}") for one in ("replace", "delete"))
    return [
        outcome(replace(ann, idle)),
        outcome(replace(ann, user("ann", ANN, n=1), {"status": 1, "n": 1}, return_document=True)),
        outcome(replace(ann, {"$set": {"a": 1}})),
        outcome(replace(ann, user("ann", BOB))),
        outcome(replace({"username": "eve"}, user("eve", ANN, _id="eve"), upsert=True)),
        outcome(replace({"username": "tom"}, user("tom", ANN, _id="tom"), upsert=True, return_document=True)),
        outcome(replace({"username": "zoe"}, user("zoe", ANN))),
        outcome(remove({"username": {"$in": ["ann", "bob"]}}, sort=[("username", -1)])),
        outcome(remove({"username": "bob"})),
        outcome(remove({"username": "eve"}, {"status": 1, "_id": 0})),
        outcome(remove("ann")),
    ]


def changed_elements(db: Db) -> list[Any]:
    items = [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": 2}, {"sku": "a", "quantity": 3}]
    for number in range(3):
        db.call("orders", "insert_one", order(number, items=items, flags=6))
    one, second = {"_id": order(0)["_id"]}, {"_id": order(1)["_id"]}
    update = partial(partial, db.call, "orders", "update_one")
    made = {"userId": ANN, "createdAt": order(8)["createdAt"], "items": [], "n": {"$add": [1, 1]}}
    few, none = [{"x.quantity": {"$lt": 3}}], {"_id": order(7)["_id"]}
    return [
        outcome(update({**one, "items.sku": "b"}, {"$inc": {"items.$.quantity": 10}})),
        outcome(update({**one, "items": {"$elemMatch": {"sku": "a", "quantity": 3}}}, {"$set": {"items.$.sku": "c"}})),
        outcome(update(one, {"$set": {"items.$.sku": "c"}})),
        outcome(update(one, {"$mul": {"items.$[].quantity": 2}, "$bit": {"flags": {"and": 3}}})),
        outcome(update(one, {"$unset": {"items.$[x].sku": ""}}, array_filters=few)),
        outcome(update(one, {"$set": {"items.$[y].sku": ""}}, array_filters=few)),
        outcome(update(one, {"$set": {"items.$[x].sku": ""}}, array_filters={"x": 1})),
        outcome(update(none, {"$set": {"items.$[].sku": ""}}, upsert=True)),
        outcome(update(one, {"$set": {"hinted": 1}}, hint="_id_")),
        outcome(update(one, [{"$set": {"total": {"$sum": "$items.quantity"}}}, {"$unset": "flags"}])),
        outcome(update(one, [{"$set": {"_id": 1}}])),
        outcome(update({**one, "$expr": {"$eq": ["$total", "$$n"]}}, [{"$set": {"total": "$$m"}}], let={"n": 32, "m": 33})),
        outcome(update({**one, "$expr": {"$gt": ["$total", "$$sum"]}}, {"$inc": {"total": 1}}, let={"sum": 40})),
        outcome(lambda: db.call("orders", "delete_one", {**one, "$expr": {"$lt": ["$total", "$$sum"]}}, let={"sum": 2})),
        outcome(update({"_id": order(8)["_id"]}, [{"$set": made}], upsert=True)),
        outcome(
            lambda: db.call(
                "orders", "find_one_and_update", {**second, "items.sku": "b"}, {"$set": {"items.$.sku": "d"}},
                {"items": 1, "_id": 0}, return_document=True,
            )
        ),
        outcome(lambda: db.call("orders", "update_many", MINE, {"$inc": {"items.$[x].quantity": 1}}, array_filters=few)),
        told(lambda: db.call("orders", "bulk_write", [
            UpdateOne({**second, "items.sku": "a"}, {"$pullAll": {"tags": [1]}, "$set": {"items.$.sku": "z"}}),
            UpdateMany(MINE, {"$unset": {"items.$[x].quantity": ""}}, array_filters=[{"x.sku": "d"}]),
            UpdateOne(second, {"$set": {"items.$.sku": "z"}}),
        ])),
        _all(db),
    ]  # fmt: skip


def told(call: Callable[[], Any]) -> Any:
    """What a bulk write, or its error, tells."""
    try:
        result = call()
    except BulkWriteError as error:
        said = error.details
        counts = {name: value for name, value in said.items() if name.startswith("n")}
        return (
            counts,
            said["upserted"],
            [(one["index"], one["code"], one["op"]) for one in said["writeErrors"]],
        )
    except Exception as error:  # compared, whatever it is
        return type(error).__name__
    named = (
        "inserted_count",
        "matched_count",
        "modified_count",
        "deleted_count",
        "upserted_count",
        "upserted_ids",
        "acknowledged",
    )
    return {name: getattr(result, name) for name in named}


def bulks(db: Db) -> list[Any]:
    bulk = partial(partial, db.call, "users", "bulk_write")
    ann = {"username": "ann"}
    twice = [InsertOne(user("ann", ANN)), InsertOne(user("ann", BOB)), UpdateOne(ann, {"$set": {"n": 1}})]
    several = [
        InsertOne(user("bob", BOB)), UpdateOne(ann, {"$inc": {"n": 1}}),
        UpdateOne({"username": "eve"}, {"$set": {"_id": "eve"}}, upsert=True),
        ReplaceOne(ann, user("ann", ANN, n=5)), ReplaceOne({"username": "tom"}, user("tom", ANN, _id="tom"), upsert=True),
        UpdateMany({"username": {"$in": ["ann", "bob"]}}, {"$set": {"n": 6}}), DeleteOne({"username": "bob"}),
        DeleteMany({"username": {"$in": ["tom", "zoe"]}}), UpdateOne({"username": "zoe"}, {"$set": {"n": 1}}),
        UpdateMany({"username": "max"}, {"$set": {"_id": "max"}}, upsert=True),
    ]  # fmt: skip
    wrong = [UpdateOne(ann, {"$inc": {"status": 1}}), UpdateOne(ann, {"$set": {"n": 7}})]
    found = [
        told(bulk(twice)),
        told(bulk(twice, ordered=False)),
        told(bulk(several, comment="a word")),
        told(bulk(wrong)),
        told(bulk(wrong, False)),
        told(bulk([])),
        told(bulk([{"insertOne": {}}])),
        told(bulk("none")),
        told(bulk([UpdateOne(ann, {"n": 1})])),
    ]
    names = {"username": {"$in": ["ann", "bob", "eve", "tom", "max"]}}
    return [*found, outcome(lambda: db.call("users", "find", names, sort=[("username", 1)]))]


def distinct_values(db: Db) -> list[Any]:
    for number in range(6):
        items = [{"quantity": number % 2, "tags": ["a", number]}, {"quantity": 2.0}]
        db.call("orders", "insert_one", order(number, status="paid" if number % 3 else "pending", items=items))

    def distinct(*arguments: Any) -> Any:
        return outcome(lambda: db.call("orders", "distinct", *arguments))

    return [
        distinct("status", MINE), distinct("items.quantity", MINE), distinct("items.tags", MINE), distinct("none", MINE),
        distinct("status", {"status": "none"}), distinct("createdAt", {"status": "pending"}),
        distinct("items", {"status": "pending"}),
    ]  # fmt: skip


def aggregations(db: Db) -> list[Any]:
    for number in range(6):
        items = [{"sku": f"s{number % 2}", "n": number}, {"sku": "s2", "n": 1.5}]
        db.call(
            "orders", "insert_one", order(number, status="paid" if number % 3 else "pending", items=items, n=number)
        )
    paid = {"$match": {"status": "paid"}}
    call = partial(partial, db.call, "orders", "aggregate")
    return [
        outcome(
            call(
                [
                    {"$match": MINE},
                    {"$group": {"_id": "$status", "n": {"$sum": "$n"}, "of": {"$count": {}}}},
                    {"$sort": {"_id": 1}},
                ]
            )
        ),
        outcome(
            call(
                [
                    paid,
                    {"$unwind": "$items"},
                    {"$group": {"_id": "$items.sku", "n": {"$avg": "$items.n"}}},
                    {"$sort": {"_id": 1}},
                ]
            )
        ),
        outcome(
            call(
                [
                    paid,
                    {"$sort": {"n": -1}},
                    {"$skip": 1},
                    {"$limit": 2},
                    {"$project": {"n": 1, "twice": {"$multiply": ["$n", 2]}}},
                ]
            )
        ),
        outcome(
            call(
                [{"$match": {"_id": order(4)["_id"], "$expr": {"$gt": ["$n", "$$least"]}}}, {"$count": "n"}],
                let={"least": 3},
                hint="_id_",
            )
        ),
        outcome(
            call([{"$match": {"status": "none"}}, {"$count": "n"}], batchSize=1, allowDiskUse=True, comment="a word")
        ),
        outcome(call([paid, {"$set": {"x": {"$divide": ["$n", 0]}}}])),
        outcome(call({"$match": {}})),
    ]


MANY: dict[str, Case] = {
    one.__name__: one
    for one in (
        changes_of_many, changed_elements, removals_of_many,
        update_that_fails_on_its_way, replaced_and_removed, bulks, distinct_values, aggregations,
    )
}  # fmt: skip
