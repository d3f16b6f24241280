"""What pymongo alone does, as cases that any kind of client is taken through."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from pymongo import DeleteMany, DeleteOne, IndexModel, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.errors import BulkWriteError

from support.client.cases import ANN, BOB, order, user
from support.client.rig import Db, outcome

Case = Callable[[Db], list[Any]]
PAID = {"$match": {"status": "paid"}}


def _orders(db: Db) -> None:
    documents = [order(number, status="paid" if number % 3 else "pending") for number in range(6)]
    db.call("orders", "insert_many", documents)


def aggregates(db: Db) -> list[Any]:
    _orders(db)
    each = {"$group": {"_id": "$status", "n": {"$sum": 1}}}
    call = partial(partial, db.call, "orders", "aggregate")
    return [
        outcome(call([PAID, {"$sort": {"_id": 1}}, {"$project": {"status": 1}}])),
        outcome(call([each, {"$sort": {"_id": 1}}], batchSize=1)),
        outcome(
            call([{"$match": {"$expr": {"$eq": ["$status", "$$wanted"]}}}, {"$count": "n"}], let={"wanted": "paid"})
        ),
        outcome(call([{"$no": 1}])),
        outcome(call({"$match": {}})),
        outcome(call([PAID], None, None, None, "a word")),
    ]


def aggregates_that_write(db: Db) -> list[Any]:
    _orders(db)
    into = {"into": "orders", "whenMatched": "merge", "whenNotMatched": "discard"}
    return [
        outcome(lambda: db.call("orders", "aggregate", [PAID, {"$set": {"seen": True}}, {"$merge": into}])),
        outcome(lambda: db.call("orders", "find", {"seen": True}, sort=[("_id", 1)])),
        outcome(lambda: db.call("orders", "aggregate", [PAID, {"$out": "paid"}])),
        outcome(lambda: db.call("paid", "count_documents", {})),
        outcome(lambda: db.call("paid", "drop")),
    ]


def bulk(db: Db, requests: list[Any], **options: Any) -> Any:
    try:
        result = db.call("users", "bulk_write", requests, **options)
    except BulkWriteError as error:
        told = error.details
        return [told[name] for name in sorted(told) if name.startswith("n")], [
            (one["index"], one["code"], one["keyValue"]) for one in told["writeErrors"]
        ]
    return [getattr(result, f"{name}_count") for name in ("inserted", "matched", "modified", "deleted", "upserted")]


def bulk_writes(db: Db) -> list[Any]:
    ann = [InsertOne(user("ann", ANN)), InsertOne(user("ann", BOB)), UpdateOne({"username": "ann"}, {"$set": {"n": 1}})]
    several = [
        InsertOne(user("bob", BOB)), UpdateMany({}, {"$set": {"status": "idle"}}), DeleteOne({"username": "bob"}),
        ReplaceOne({"username": "eve"}, {"username": "eve"}, upsert=True), DeleteMany({"status": "none"}),
    ]  # fmt: skip
    return [
        bulk(db, ann),
        bulk(db, ann, ordered=False),
        bulk(db, several, comment="a word"),
        outcome(lambda: db.call("users", "find", {"username": "ann"})),
        outcome(lambda: db.call("users", "bulk_write", [])),
        outcome(lambda: db.call("users", "bulk_write", [{"insertOne": {}}])),
    ]


def writes_to_many(db: Db) -> list[Any]:
    _orders(db)
    tag = {"$set": {"items.$[one].name": "y"}}
    return [
        outcome(lambda: db.call("orders", "update_many", {"status": "paid"}, {"$inc": {"n": 1}})),
        outcome(
            lambda: db.call("orders", "update_many", {}, tag, array_filters=[{"one.quantity": 2}], comment="a word")
        ),
        outcome(lambda: db.call("orders", "update_many", {"_id": 1, "status": "none"}, {"$set": {"n": 1}}, True)),
        outcome(lambda: db.call("orders", "update_many", {}, {"n": 1})),
        outcome(lambda: db.call("orders", "delete_many", {"status": "pending"})),
        outcome(lambda: db.call("orders", "delete_many", {"$no": 1})),
        outcome(lambda: db.call("orders", "aggregate", [{"$sort": {"_id": 1}}])),
    ]


def finds_that_replace_and_delete(db: Db) -> list[Any]:
    db.call("users", "insert_many", [user("ann", ANN), user("bob", BOB)])
    ann, changed = {"username": "ann"}, user("ann", ANN, status="idle")
    return [
        outcome(lambda: db.call("users", "find_one_and_replace", ann, changed)),
        outcome(lambda: db.call("users", "find_one_and_replace", ann, changed, {"status": 1}, return_document=True)),
        outcome(lambda: db.call("users", "find_one_and_replace", ann, {"$set": {"a": 1}})),
        outcome(lambda: db.call("users", "find_one_and_delete", {}, sort=[("username", -1)])),
        outcome(lambda: db.call("users", "find_one_and_delete", {"username": "bob"})),
    ]


def reads(db: Db) -> list[Any]:
    _orders(db)
    return [
        outcome(lambda: db.call("orders", "distinct", "status")),
        outcome(lambda: db.call("orders", "distinct", "items.quantity", {"status": "paid"})),
        outcome(lambda: db.call("orders", "estimated_document_count")),
        outcome(lambda: len(b"".join(db.call("orders", "find_raw_batches", PAID["$match"])))),
        outcome(lambda: len(b"".join(db.call("orders", "aggregate_raw_batches", [PAID])))),
        outcome(lambda: db.call("none", "options")),
        outcome(lambda: db.call("orders", "no_such_method")),
    ]


def indexes(db: Db) -> list[Any]:
    models = [IndexModel("a"), IndexModel([("b", -1)], name="by b")]
    names = lambda: sorted(one["name"] for one in db.call("things", "list_indexes"))  # noqa: E731
    return [
        outcome(lambda: db.call("things", "create_index", [("n", 1)], unique=True)),
        outcome(lambda: db.call("things", "create_indexes", models)),
        outcome(lambda: sorted(db.call("things", "index_information"))),
        outcome(lambda: db.call("things", "drop_index", "by b")),
        outcome(names),
        outcome(lambda: db.call("things", "drop_indexes")),
        outcome(names),
        outcome(lambda: db.call("things", "drop_index", "none")),
        outcome(lambda: db.call("things", "drop")),
    ]


def options_of_writes(db: Db) -> list[Any]:
    """Each option of each call that DynamoDB is written after."""
    db.call("users", "insert_many", [user("ann", ANN), user("bob", BOB)])
    by_name = {"$expr": {"$eq": ["$username", "$$name"]}}
    ann, folded = {"name": "ann"}, {"locale": "en", "strength": 2}
    found = [
        outcome(lambda: db.call("users", "update_one", by_name, [{"$set": {"a": "$$name"}}], let=ann)),
        outcome(lambda: db.call("users", "find_one_and_update", by_name, [{"$set": {"a": "$$n"}}], let=ann | {"n": 1})),
        outcome(lambda: db.call("users", "replace_one", by_name, user("ann", ANN, n=1), let=ann)),
        outcome(lambda: db.call("users", "update_one", {"username": "ANN"}, {"$inc": {"n": 1}}, collation=folded)),
        outcome(
            lambda: db.call("users", "find_one_and_update", {"username": "ANN"}, {"$inc": {"n": 1}}, collation=folded)
        ),
        outcome(lambda: db.call("users", "update_one", {"username": "ann"}, {"$inc": {"n": 1}}, hint="none")),
        outcome(lambda: db.call("users", "find_one_and_update", {}, {"$inc": {"n": 1}}, hint="username_1", sort=[("_id", -1)])),
        outcome(lambda: db.call("users", "delete_one", by_name, let=ann)),
        outcome(lambda: db.call("users", "delete_one", {"username": "BOB"}, folded)),
        outcome(lambda: db.call("users", "find_one", {})),
    ]  # fmt: skip
    calls: dict[str, tuple[Any, ...]] = {
        "insert_one": ({},), "insert_many": ([{}],), "update_one": ({}, {"$set": {"a": 1}}), "replace_one": ({}, {}),
        "delete_one": ({},), "find": (), "find_one": (),
    }  # fmt: skip
    return found + [outcome(partial(db.call, "users", name, *given, no_such=1)) for name, given in calls.items()]


DELEGATED: dict[str, Case] = {
    one.__name__: one
    for one in (
        aggregates, aggregates_that_write, bulk_writes, writes_to_many, finds_that_replace_and_delete, reads, indexes,
        options_of_writes,
    )
}  # fmt: skip
