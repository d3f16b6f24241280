"""Transactions, as cases for every mode: MongoDB's while it leads, and afterwards DynamoDB's."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import isawaitable
from typing import Any

from bson import ObjectId
from pymongo import DeleteOne, InsertOne, UpdateOne

from support.client.cases import ANN, BOB, order, user
from support.client.rig import Asynchronous, Db, Plain, outcome

EACH = {"$group": {"_id": "$status", "n": {"$sum": "$n"}}}
Case = Callable[[Db], list[Any]]


class Opened:
    """A session of one client: calls are made in it, and awaited where that client's are."""

    def __init__(self, db: Db) -> None:
        self.db = db
        self.session = (db.client if isinstance(db, Plain) else db.manager.client).start_session()

    def call(self, collection: str, method: str, *arguments: Any, **options: Any) -> Any:
        return self.db.call(collection, method, *arguments, session=self.session, **options)

    def do(self, method: str, **options: Any) -> Any:
        found = getattr(self.session, method)(**options)
        return self.db.wait(found) if isinstance(self.db, Asynchronous) and isawaitable(found) else found


def _orders(db: Db) -> None:
    for number in range(4):
        db.call("orders", "insert_one", order(number, n=number))


def _left(db: Db) -> Any:
    return outcome(lambda: db.call("orders", "find", {"userId": ANN}, sort=[("createdAt", 1)]))


def _key(number: int) -> dict[str, Any]:
    return {"_id": order(number)["_id"]}


def committed(db: Db) -> list[Any]:
    _orders(db)
    one = Opened(db)
    within, outside = partial(partial, one.call), partial(partial, db.call)
    mine = {"userId": ANN, "status": "pending"}
    one.do("start_transaction")
    found = [
        outcome(within("orders", "update_one", _key(0), {"$inc": {"n": 10}})),
        outcome(within("orders", "find_one", _key(0), {"n": 1})),
        outcome(outside("orders", "find_one", _key(0), {"n": 1})),
        outcome(within("orders", "insert_one", order(7, n=7))),
        outcome(within("orders", "find", mine, {"n": 1}, sort=[("createdAt", -1)])),
        outcome(within("orders", "find", mine, {"n": 1}, sort=[("createdAt", 1)], limit=2)),
        outcome(outside("orders", "find_one", _key(7))),
        outcome(within("orders", "delete_one", _key(1))),
        outcome(within("orders", "find_one", _key(1))),
        outcome(within("orders", "find_one_and_update", _key(2), {"$set": {"n": 20}}, {"n": 1}, return_document=True)),
        outcome(within("orders", "replace_one", _key(3), {key: value for key, value in order(3, n=30).items() if key != "_id"})),
        outcome(within("orders", "update_many", {"userId": ANN, "n": {"$gte": 20}}, {"$set": {"status": "paid"}})),
        outcome(within("orders", "count_documents", {"userId": ANN})),
        outcome(within("orders", "update_one", {"_id": order(8)["_id"]}, {"$set": {"n": 8}}, upsert=True)),
        outcome(within("orders", "delete_many", {"userId": ANN, "n": {"$lt": 8}})),
        outcome(within("users", "insert_one", user("ann", ANN))),
        outcome(within("users", "update_one", {"username": "ann"}, {"$set": {"visits": 2}})),
        outcome(within("users", "find_one", {"username": "ann"}, {"visits": 1})),
        outcome(lambda: one.call("users", "bulk_write", [
            InsertOne(user("bob", BOB)), UpdateOne({"username": "bob"}, {"$set": {"visits": 3}}), DeleteOne({"username": "eve"}),
        ]).bulk_api_result["nModified"]),
        outcome(lambda: sorted(one.call("orders", "distinct", "status", {"userId": ANN}))),
        outcome(lambda: sorted(one.call("orders", "aggregate", [{"$match": {"userId": ANN}}, EACH]), key=str)),
        one.session.in_transaction,
        outcome(lambda: one.do("commit_transaction")),
        outcome(lambda: one.do("commit_transaction")),
        one.session.in_transaction,
        outcome(within("orders", "find_one", _key(0), {"n": 1})),
    ]  # fmt: skip
    one.do("end_session")
    names = {"username": {"$in": ["ann", "bob"]}}
    return [*found, _left(db), outcome(lambda: db.call("users", "find", names, sort=[("username", 1)]))]


def aborted(db: Db) -> list[Any]:
    _orders(db)
    one = Opened(db)
    found = [
        outcome(lambda: one.do("commit_transaction")),
        outcome(lambda: one.do("abort_transaction")),
    ]
    one.do("start_transaction")
    found += [
        outcome(lambda: one.do("start_transaction")),
        outcome(lambda: one.call("orders", "update_one", _key(0), {"$set": {"n": 9}})),
        outcome(lambda: one.call("orders", "insert_one", order(9))),
        outcome(lambda: one.do("abort_transaction")),
        outcome(lambda: one.do("commit_transaction")),
        _left(db),
    ]
    one.do("start_transaction")
    found += [
        outcome(lambda: one.call("orders", "delete_one", _key(0))),
        outcome(lambda: one.do("end_session")),
        outcome(lambda: one.call("orders", "find_one", _key(0))),
        _left(db),
    ]
    return found


def refused_within(db: Db) -> list[Any]:
    """An error ends a transaction: what comes behind it is told so, and nothing of it is there."""
    _orders(db)
    found: list[Any] = []
    calls: list[Callable[[Opened], Any]] = [
        lambda one: one.call("orders", "insert_one", order(2)),
        lambda one: one.call("orders", "update_one", _key(0), {"$inc": {"status": 1}}),
        lambda one: one.call("orders", "update_one", _key(0), {"$set": {"_id": ObjectId()}}),
    ]
    for call in calls:
        one = Opened(db)
        one.do("start_transaction")
        found += [
            outcome(partial(one.call, "orders", "update_one", _key(3), {"$set": {"n": 33}})),
            outcome(partial(call, one)),
            outcome(partial(one.call, "orders", "find_one", _key(0))),
            outcome(partial(one.do, "commit_transaction")),
        ]
        one.do("end_session")
    return [*found, _left(db)]


def met_by_another(db: Db) -> list[Any]:
    """What it has read is changed by another before it writes: it is not committed, whenever that is told."""
    _orders(db)
    one = Opened(db)
    one.do("start_transaction")
    before = outcome(lambda: one.call("orders", "find_one", _key(0), {"n": 1}))
    db.call("orders", "update_one", _key(0), {"$inc": {"n": 1}})

    def rest() -> None:
        one.call("orders", "update_one", _key(0), {"$inc": {"n": 5}})
        one.do("commit_transaction")

    found = [before, outcome(rest)]
    one.do("end_session")
    return [*found, _left(db)]


def begun_anew(db: Db) -> list[Any]:
    """`with_transaction` does it again, and again, until nothing has changed meanwhile."""
    _orders(db)
    met: list[int] = []

    def between() -> None:
        if len(met) < 2:
            met.append(db.call("orders", "update_one", _key(0), {"$inc": {"n": 1}}).modified_count)

    if isinstance(db, Asynchronous):
        return [*_awaited(db), _left(db)]

    def change(session: Any) -> int:
        there = db.call("orders", "find_one", _key(0), session=session)
        between()
        db.call("orders", "update_one", _key(0), {"$set": {"n": there["n"] + 10}}, session=session)
        return int(there["n"])

    with (db.client if isinstance(db, Plain) else db.manager.client).start_session() as session:
        told = session.with_transaction(change)
    return [told, len(met), _left(db)]


def _awaited(db: Asynchronous) -> list[Any]:
    orders, met = db.manager["orders"], [0]

    async def change(session: Any) -> int:
        there: Any = await orders.find_one(_key(0), session=session)
        if met[0] < 2:
            met[0] += (await orders.update_one(_key(0), {"$inc": {"n": 1}})).modified_count
        await orders.update_one(_key(0), {"$set": {"n": there["n"] + 10}}, session=session)
        return int(there["n"])

    async def whole() -> int:
        async with db.manager.client.start_session() as session:
            told: int = await session.with_transaction(change)
            return told

    return [db.wait(whole()), met[0]]


TRANSACTIONS: dict[str, Case] = {
    one.__name__: one for one in (committed, aborted, refused_within, met_by_another, begun_anew)
}
