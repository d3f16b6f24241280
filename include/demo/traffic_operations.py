"""What the demo's traffic does to the shop: every kind of write that MongoDB knows, by name and weight.

Each operation is a function of the shop; it raises PyMongoError as the driver does. The table is `OPERATIONS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

from bson import ObjectId
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from docferry.rehearsal.shop import CHILDREN
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateMany, UpdateOne
from pymongo.client_session import ClientSession

from demo.traffic_broken import break_document, heal_document
from demo.traffic_shop import UNIQUE, BusyShop, UniqueField
from demo.traffic_updates import UPDATES

Run = Callable[[BusyShop], None]
RAW: CodecOptions[Any] = CodecOptions(document_class=RawBSONDocument)


@dataclass(frozen=True, slots=True)
class TrafficOperation:
    run: Run
    weight: int


OPERATIONS: dict[str, TrafficOperation] = {
    **{name: TrafficOperation(update.run, update.weight) for name, update in UPDATES.items()},
    # Only with `operation_kinds(unstorable=...)`.
    **{run.__name__: TrafficOperation(run, 0) for run in (break_document, heal_document)},
}


def operation(weight: int) -> Callable[[Run], Run]:
    """Enter a function into OPERATIONS under its own name."""

    def enter(run: Run) -> Run:
        OPERATIONS[run.__name__] = TrafficOperation(run, weight)
        return run

    return enter


def operation_kinds(seed: int, unstorable: float = 0.0) -> Iterator[str]:
    """Names of operations, for ever: the same for the same seed, whatever becomes of each.

    All kinds come up, as often as they weigh, before one begins anew. A share of `unstorable` is in addition to
    these: `break_document` and `heal_document`.
    """
    random = Random(f"{seed}/kinds")
    bag = [name for name, one in OPERATIONS.items() for _ in range(one.weight)]
    while True:
        for name in random.sample(bag, len(bag)):
            while random.random() < unstorable:
                yield random.choice(("break_document", "break_document", "heal_document"))
            yield name


# --- inserts, replaces, deletes -------------------------------------------------------------------------------------


@operation(weight=8)
def insert_one(shop: BusyShop) -> None:
    name = shop.collection()
    shop.insert(name, shop.fresh(name))


@operation(weight=3)
def insert_many(shop: BusyShop) -> None:
    name = shop.collection()
    documents = [shop.fresh(name) for _ in range(shop.births(name))]
    shop.count(shop[name].insert_many(documents))
    shop.remember(name, *(document["_id"] for document in documents))


@operation(weight=2)
def duplicate_key(shop: BusyShop) -> None:
    """A writer takes a value that is taken."""
    at = shop.random.choice(UNIQUE)
    taken = _unique_value(shop, at, shop.pick(at.collection))
    shop.insert(at.collection, {**shop.fresh(at.collection), at.field: taken or shop.unused(at.collection)})


@operation(weight=6)
def replace_one(shop: BusyShop) -> None:
    name = shop.collection()
    identity = shop.pick(name)
    shop.count(shop[name].replace_one({"_id": identity}, shop.replacement(name, identity)))


@operation(weight=2)
def replace_upsert(shop: BusyShop) -> None:
    name = shop.collection()
    document = shop.replacement(name)
    shop.count(shop[name].replace_one({"_id": document["_id"]}, document, upsert=True))
    shop.remember(name, document["_id"])


@operation(weight=3)
def upsert_set_on_insert(shop: BusyShop) -> None:
    """One that exists, or a new one, of which $setOnInsert makes a whole document."""
    name = shop.collection()
    document = shop.fresh(name)
    exists = shop.random.random() < 0.5
    identity = shop.pick(name) if exists else document["_id"]
    # The operators refuse names with dots and dollars, which an insert takes.
    rest = {key: value for key, value in document.items() if key not in ("_id", "note") and key.isidentifier()}
    change = {"$setOnInsert": rest, "$set": {"note": shop.word()}}
    if shop.count(shop[name].update_one({"_id": identity}, change, upsert=True)) and not exists:
        shop.remember(name, identity)


@operation(weight=6)
def delete_one(shop: BusyShop) -> None:
    name = shop.collection()
    identity = shop.pick(name)
    shop.count(shop[name].delete_one({"_id": identity}))
    shop.forget(name, identity)


@operation(weight=3)
def delete_many(shop: BusyShop) -> None:
    name = shop.collection()
    ids = shop.picks(name, shop.deaths(name))
    shop.count(shop[name].delete_many({"_id": {"$in": ids}}))
    shop.forget(name, *ids)


@operation(weight=4)
def update_many(shop: BusyShop) -> None:
    name = shop.collection()
    change = {"$set": {"campaign": shop.word()}, "$inc": {"visits": 1}}
    shop.count(shop[name].update_many({"_id": {"$in": shop.picks(name, 3)}}, change))


@operation(weight=3)
def find_one_and_update(shop: BusyShop) -> None:
    name = shop.collection()
    found = shop[name].find_one_and_update({"_id": shop.pick(name)}, {"$inc": {"visits": 1}}, {"_id": 1})
    shop.changed += found is not None


@operation(weight=2)
def find_one_and_replace(shop: BusyShop) -> None:
    name = shop.collection()
    identity = shop.pick(name)
    document = {**shop.replacement(name, identity), "serial": shop.unused(name)}
    found = shop[name].find_one_and_replace({"_id": identity}, document, {"_id": 1})
    shop.changed += found is not None


@operation(weight=2)
def find_one_and_delete(shop: BusyShop) -> None:
    name = shop.collection()
    identity = shop.pick(name)
    found = shop[name].find_one_and_delete({"_id": identity}, {"_id": 1})
    shop.changed += found is not None
    shop.forget(name, identity)


@operation(weight=3)
def bulk_ordered(shop: BusyShop) -> None:
    _bulk(shop, ordered=True)


@operation(weight=3)
def bulk_unordered(shop: BusyShop) -> None:
    _bulk(shop, ordered=False)


def _bulk(shop: BusyShop, *, ordered: bool) -> None:
    """All kinds of requests, several for one document; now and then one in the middle fails for its key."""
    name = shop.collection()
    one, two, three = shop.picks(name, 3)
    new = shop.fresh(name)
    requests: list[Any] = [
        InsertOne(new),
        UpdateOne({"_id": one}, {"$inc": {"visits": 1}}),
        UpdateOne({"_id": one}, {"$set": {"note": shop.word()}}),
        ReplaceOne({"_id": two}, shop.replacement(name, two)),
        UpdateMany({"_id": {"$in": [one, two]}}, {"$set": {"campaign": shop.word()}}),
        DeleteOne({"_id": three}),
    ]
    if shop.random.random() < 0.3:
        requests.insert(3, InsertOne({**shop.fresh(name), "_id": one}))
    if not ordered:
        shop.random.shuffle(requests)
    shop.remember(name, new["_id"])
    shop.forget(name, three)
    shop.bulk(name, requests, ordered=ordered)


@operation(weight=3)
def reinserted(shop: BusyShop) -> None:
    """Deleted, and inserted again as it was."""
    name = shop.collection()
    _reinsert(shop, name, shop.pick(name), None)


@operation(weight=3)
def reinserted_anew(shop: BusyShop) -> None:
    """Deleted, and another document inserted under its `_id`."""
    name = shop.collection()
    identity = shop.pick(name)
    shop.count(shop[name].delete_one({"_id": identity}))
    shop.insert(name, shop.fresh(name, identity))
    shop.forget(name, identity)


def _reinsert(shop: BusyShop, name: str, identity: Any, session: ClientSession | None) -> None:
    whole = shop[name].with_options(codec_options=RAW).find_one({"_id": identity}, session=session)
    if whole is not None:
        shop.count(shop[name].delete_one({"_id": identity}, session=session))
        shop.count(shop[name].insert_one(whole, session=session))


# --- writes that change nothing -------------------------------------------------------------------------------------


@operation(weight=2)
def noop_set(shop: BusyShop) -> None:
    """The same twice: the second one changes nothing."""
    name = shop.collection()
    identity, change = shop.pick(name), {"$set": {"note": shop.word()}}
    shop.count(shop[name].update_one({"_id": identity}, change))
    shop.count(shop[name].update_one({"_id": identity}, change))


@operation(weight=2)
def noop_replace(shop: BusyShop) -> None:
    name = shop.collection()
    identity = shop.pick(name)
    whole = shop[name].with_options(codec_options=RAW).find_one({"_id": identity})
    if whole is not None and not any(key.startswith("$") for key in whole):
        shop.count(shop[name].replace_one({"_id": identity}, whole))


@operation(weight=1)
def noop_missing(shop: BusyShop) -> None:
    """A document that is not there."""
    shop.count(shop[shop.collection()].update_one({"_id": ObjectId()}, {"$set": {"note": shop.word()}}))


# --- children -------------------------------------------------------------------------------------------------------


@operation(weight=3)
def children_emptied(shop: BusyShop) -> None:
    name, array, _ = shop.child()
    shop.count(shop[name].update_one({"_id": shop.pick(name)}, {"$set": {array: []}}))


@operation(weight=3)
def children_unset(shop: BusyShop) -> None:
    name, array, _ = shop.child()
    shop.count(shop[name].update_one({"_id": shop.pick(name)}, {"$unset": {array: ""}}))


@operation(weight=10)
def children_back(shop: BusyShop) -> None:
    """A whole new array, whatever was there."""
    name = shop.random.choice(list(CHILDREN))
    array = CHILDREN[name]
    make = shop.address if name == "users" else shop.line
    elements = [make() for _ in range(shop.random.randint(1, 5))]
    shop.count(shop[name].update_one({"_id": shop.pick(name)}, {"$set": {array: elements}}))


# --- unique values --------------------------------------------------------------------------------------------------


def _unique_value(shop: BusyShop, at: UniqueField, identity: Any, session: ClientSession | None = None) -> str:
    """'' if there is no such document, or it has no text in the field."""
    found = shop[at.collection].find_one({"_id": identity}, {at.field: 1}, session=session) or {}
    value = found.get(at.field)
    return value if isinstance(value, str) else ""


def _take(shop: BusyShop, at: UniqueField, identity: Any, value: str, session: ClientSession | None = None) -> int:
    change = {"$set": {at.field: value}}
    return shop.count(shop[at.collection].update_one({"_id": identity}, change, session=session))


@operation(weight=6)
def value_passed_on(shop: BusyShop) -> None:
    """One document takes another value, and a second one takes the old value at once."""
    at = shop.random.choice(UNIQUE)
    one, other = shop.picks(at.collection, 2)
    old = _unique_value(shop, at, one)
    if _take(shop, at, one, shop.unused(at.collection)) and old:
        _take(shop, at, other, old)


@operation(weight=3)
def values_swapped(shop: BusyShop) -> None:
    """Three writes, since the value must be free before it is taken."""
    at = shop.random.choice(UNIQUE)
    one, other = shop.picks(at.collection, 2)
    _swap(shop, at, one, other, None)


@operation(weight=3)
def values_swapped_at_once(shop: BusyShop) -> None:
    at = shop.random.choice(UNIQUE)
    one, other = shop.picks(at.collection, 2)
    with shop.transaction() as session:
        _swap(shop, at, one, other, session)


def _swap(shop: BusyShop, at: UniqueField, one: Any, other: Any, session: ClientSession | None) -> None:
    mine, theirs = (_unique_value(shop, at, identity, session) for identity in (one, other))
    if mine and theirs:
        _take(shop, at, one, shop.unused(at.collection), session)
        _take(shop, at, other, mine, session)
        _take(shop, at, one, theirs, session)


# --- transactions ---------------------------------------------------------------------------------------------------


@operation(weight=5)
def transaction_order(shop: BusyShop) -> None:
    """An order is placed: written in four collections."""
    _place_order(shop, abort=False)


@operation(weight=2)
def transaction_aborted(shop: BusyShop) -> None:
    _place_order(shop, abort=True)


def _place_order(shop: BusyShop, *, abort: bool) -> None:
    user, product, category = (shop.pick(name) for name in ("users", "products", "categories"))
    order = {**shop.fresh("orders"), "userId": user}
    with shop.transaction(abort=abort) as session:
        shop.insert("orders", order, session)
        for name, identity, change in (
            ("products", product, {"$inc": {"sold": 1}}),
            ("categories", category, {"$inc": {"sold": 1}}),
            ("users", user, {"$set": {"lastOrderId": order["_id"]}, "$inc": {"orders": 1}}),
            # The same document a second time: two events of one time.
            ("users", user, {"$inc": {"points": 10}}),
        ):
            shop.count(shop[name].update_one({"_id": identity}, change, session=session))


@operation(weight=2)
def transaction_reinsert(shop: BusyShop) -> None:
    """One document deleted, inserted and changed inside one transaction, another one replaced, a third deleted."""
    name = shop.collection()
    one, two, three = shop.picks(name, 3)
    with shop.transaction() as session:
        _reinsert(shop, name, one, session)
        shop.count(shop[name].update_one({"_id": one}, {"$inc": {"visits": 1}}, session=session))
        shop.count(shop[name].replace_one({"_id": two}, shop.replacement(name, two), session=session))
        shop.count(shop[name].delete_one({"_id": three}, session=session))
    shop.forget(name, three)


@operation(weight=1)
def transaction_duplicate_key(shop: BusyShop) -> None:
    """What was written before the refusal goes with it."""
    at = shop.random.choice(UNIQUE)
    one, other = shop.picks(at.collection, 2)
    with shop.transaction() as session:
        taken = _unique_value(shop, at, other, session) or shop.unused(at.collection)
        shop.count(shop[at.collection].update_one({"_id": other}, {"$inc": {"visits": 1}}, session=session))
        _take(shop, at, one, taken, session)


@operation(weight=1)
def transaction_conflict(shop: BusyShop) -> None:
    """Two transactions want one document: the second is refused (WriteConflict), and the first with it."""
    name = shop.collection()
    wanted, change = {"_id": shop.pick(name)}, {"$inc": {"visits": 1}}
    with shop.transaction() as first:
        shop.count(shop[name].update_one(wanted, change, session=first))
        with shop.transaction() as second:
            shop.count(shop[name].update_one(wanted, change, session=second))
