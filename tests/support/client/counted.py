"""What MongoDB counts as modified of calls that leave a document as it was, or nearly so: as cases for every mode.

Of those that only change an order of fields nothing is here: a collection that does not keep it cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from bson import Int64
from pymongo import ReplaceOne, UpdateMany, UpdateOne

from support.client.cases import ANN, user
from support.client.rig import Db

NAMED = {"username": "ann"}
STORED = user("ann", ANN, n=1, nan=math.nan, numbers=[1, 2, 3], empty=[], flags=6, nothing=None)
REST = {name: value for name, value in STORED.items() if name != "_id"}
REPLACEMENTS: list[dict[str, Any]] = [
    STORED,
    REST,
    REST | {"_id": ANN},
    {"username": "ann", "_id": ANN} | REST,
    STORED | {"n": 1.0},
    STORED | {"n": Int64(1)},
    STORED | {"n": 2},
]
UPDATES: list[Any] = [
    {"$set": {"n": 1, "status": "active", "profile": STORED["profile"], "numbers": [1, 2, 3], "nothing": None}},
    {"$set": {"_id": ANN, "nan": math.nan, "profile.firstName": "Ann"}},
    {"$set": {"n": 1.0}},
    {"$set": {"n": Int64(1)}},
    {"$unset": {"none": 1, "profile.none": 1}},
    {"$inc": {"n": 0}},
    {"$inc": {"n": 0.0}},
    {"$inc": {"nan": 1}},
    {"$mul": {"nan": 2}},
    {"$mul": {"n": 1}},
    {"$min": {"n": 1.0, "nan": math.nan}, "$max": {"visits": 0}},
    {"$push": {"numbers": {"$each": []}}},
    {"$push": {"numbers": {"$each": [], "$slice": 5}}},
    {"$push": {"numbers": {"$each": [], "$sort": 1}}},
    {"$push": {"numbers": {"$each": [4], "$slice": 3}}},
    {"$addToSet": {"numbers": 2.0}, "$pull": {"empty": 1}},
    {"$pullAll": {"numbers": [9]}, "$pop": {"empty": 1}, "$bit": {"flags": {"or": 2}}, "$rename": {"none": "nil"}},
    {"$setOnInsert": {"n": 9}},
    {"$set": {}},
    [{"$set": {"n": "$n", "visits": {"$add": ["$visits", 0]}}}],
    [{"$set": {"n": 1.0}}],
    [{"$unset": "none"}],
    [{"$unset": "_id"}],
    [{"$replaceWith": "$$ROOT"}],
]


def _counts(db: Db, changes: list[Any], call: Callable[[Any], Any]) -> list[Any]:
    """Of each, with what is stored, or what those before it have left if they were counted and changed nothing."""
    found: list[Any] = []
    for change in changes:
        stored = db.call("users", "find_one", NAMED) or {}
        if stored | {"nan": None} != STORED | {"nan": None}:  # which equals nothing
            db.call("users", "delete_one", NAMED)
            db.call("users", "insert_one", dict(STORED))
        found.append((repr(change), call(change).modified_count))
    return found


def counts_of_replacements(db: Db) -> list[Any]:
    return _counts(db, REPLACEMENTS, lambda change: db.call("users", "replace_one", NAMED, change))


def counts_of_updates(db: Db) -> list[Any]:
    return _counts(db, UPDATES, lambda change: db.call("users", "update_one", NAMED, change))


def counts_of_many(db: Db) -> list[Any]:
    few = [UPDATES[at] for at in (0, 2, 7, 13)]
    bulk: list[Any] = [ReplaceOne(NAMED, change) for change in REPLACEMENTS[:4]]
    bulk += [kind(NAMED, change) for change in few for kind in (UpdateOne, UpdateMany)]
    return [
        *_counts(db, few, lambda change: db.call("users", "update_many", NAMED, change)),
        *_counts(db, bulk, lambda one: db.call("users", "bulk_write", [one])),
    ]


COUNTED = {one.__name__: one for one in (counts_of_replacements, counts_of_updates)}
COUNTED_OF_MANY = {counts_of_many.__name__: counts_of_many}
