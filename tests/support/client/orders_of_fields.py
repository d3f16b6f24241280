"""Documents whose fields stand in awkward orders, changes that move fields, and what is read back, bit by bit: as one case."""

from __future__ import annotations

import os
import random
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import bson
from bson import Binary, DBRef, Decimal128, Int64
from pymongo import ReplaceOne, UpdateOne

from support.backfill.rig import Rig, rig_of
from support.client.rig import Db

Document = dict[str, Any]
COLLECTIONS = ("notes", "scans")
"""What is in `scans` is over 400 KB, and in parts."""


def noise(seed: int) -> Binary:
    return Binary(random.Random(seed).randbytes(450_000))


def kept_rig(env: Mapping[str, str], directory: Path, database: str) -> Rig:
    """Two collections that keep the order of fields, with attributes of their own, children and an index; `scans` is split."""
    table = f"Kept{os.urandom(4).hex()}"
    tree: Document = {
        "migration": "kept",
        "tables": {table: {"indexes": ["GSI1"]}},
        "collections": {
            name: {
                "order": "keep",
                "item": {
                    "entity": name.upper(),
                    "key": {"PK": f"{name.upper()}#{{_id}}", "SK": "META"},
                    "index": {"GSI1": {"PK": f"{name.upper()}OF#{{owner}}", "SK": "{_id}"}},
                    "attributes": {"city": "place.city", "at": "z"},
                },
                "children": {"lines": {"entity": f"LINE{name.upper()}", "key": {"SK": "LINE#{index:03d}"}}},
            }
            for name in COLLECTIONS
        },
        "access_patterns": {
            f"{name}_of": {"collection": name, "index": "GSI1", "PK": f"{name.upper()}OF#{{owner}}"}
            for name in COLLECTIONS
        },
        "validate": {"settle_s": 0.5},
    }
    tree["collections"]["scans"]["overflow"] = "split"
    made = rig_of(env, directory, tree, database)
    for name in COLLECTIONS:
        made.database.create_collection(name, changeStreamPreAndPostImages={"enabled": True})
    made.dynamodb.update_table(
        TableName=made.table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    )
    return made


def documents(collection: str) -> list[Document]:
    many = [f"f{number}" for number in range(60)]
    random.Random(7).shuffle(many)
    lines = [{"sku": 1, "n": 2}, {"n": 2, "sku": 1}, {"x": {"q": 1, "a": {"d": [], "c": {}}}, "n": None}]
    found: list[Document] = [
        {"z": 1, "_id": "a", "place": {"zip": 1, "city": "Bern", "a": {}}, "lines": lines, "owner": "ann", "b": None},
        {"_id": "b", "owner": "ann", **{name: {"y": 1, "x": at} for at, name in enumerate(many)}},
        {"owner": "ann", "m": dict.fromkeys(many, 1), "_id": "c", "list": [{"b": 1, "a": 2}, [{"d": 1, "c": 2}], {}, {"z": {}}]},
        {"owner": "ann", "list": [{"_id": 1, "b": 1}, {"b": 1, "_id": 1}], "empty": {}, "none": [], "_id": "d", "10": 1, "9": 2},
        {"_v": 1, "owner": "ann", "PK": {"_t": 1, "": 2, "#": {"b/c": 1, "~a": 2}}, "é": 1, "_id": "e", "~x": 1, "entityType": 2},
        {"zz": DBRef("notes", "a", y=1, x=2), "_id": "f", "owner": "ann", "when": datetime(2024, 1, 1), "d": Decimal128("1.50")},
        {"owner": "ann", "lines": [], "city": {"place": 1, "at": 2}, "at": 3, "_id": "g", "place": {"city": {"y": 1, "x": 2}}},
        {"owner": "ann", "lines": [{"b": 1, "a": 2}, 5], "_id": "h", "place": 1, "a": None},
    ]  # fmt: skip
    large = (0, 3, 6) if collection == "scans" else ()
    return [{"scan": noise(at), **one} if at in large else one for at, one in enumerate(found)]


Change = tuple[str, Any, Any]
CHANGES: list[Change] = [
    ("update_one", {"_id": "a"}, {"$set": {"place.new": 1, "place.city": "Thun", "a": {"y": 1, "x": 2}}}),
    ("update_one", {"_id": "a"}, {"$set": {"lines.1.more": {"y": 1, "x": 2}, "lines.0": {"n": 2, "sku": 1}}}),
    ("update_one", {"_id": "a"}, {"$push": {"lines": {"z": 1, "y": {"b": 1, "a": 2}}}, "$rename": {"b": "z2"}}),
    ("update_one", {"_id": "a"}, {"$unset": {"place.zip": 1}, "$rename": {"z": "place.z"}}),
    ("update_one", {"_id": "b"}, {"$set": {"f7": {"x": 1, "y": 1}}, "$unset": {"f3": 1}, "$currentDate": {}}),
    ("update_one", {"_id": "c"}, {"$set": {"m.f61": 1, "m.f0": {"b": 1, "a": 2}, "list.1.0.e": 1}}),
    ("update_one", {"_id": "d", "list": {"b": 1, "_id": 1}}, {"$set": {"list.$": {"z": 1, "_id": 2, "y": 3}}}),
    ("update_one", {"_id": "d"}, {"$addToSet": {"list": {"b": 1, "_id": 2}}}),
    ("update_one", {"_id": "d"}, {"$pullAll": {"list": [{"_id": 1, "b": 1}]}}),
    ("update_one", {"_id": "d"}, {"$addToSet": {"list": {"b": 1, "_id": 1}}}),
    ("update_one", {"_id": "e"}, [{"$set": {"PK.a": "$é", "new": {"y": "$~x", "x": 1}}}, {"$unset": "é"}]),
    ("update_one", {"_id": "e"}, [{"$replaceWith": {"$mergeObjects": [{"last": 1}, "$$ROOT"]}}]),
    ("replace_one", {"_id": "f"}, {"owner": "ann", "x": {"b": 1, "a": 2}, "_id": "f", "a": Int64(1)}),
    ("update_one", {"_id": "g"}, {"$set": {"place.city.a": 1, "lines": [{"b": 1, "a": 2}, {"a": 2, "b": 1}]}}),
    ("find_one_and_update", {"_id": "g", "place": {"city": {"y": 1, "x": 2, "a": 1}}}, {"$inc": {"n": 1}}),
    ("find_one_and_update", {"_id": "g", "place": {"city": {"x": 2, "y": 1, "a": 1}}}, {"$inc": {"n": 1}}),
    ("update_one", {"_id": "h"}, {"$set": {"lines": [{"b": 1, "a": 2}]}}),
    ("update_one", {"_id": "h"}, {"$set": {"lines": [{"a": 2, "b": 1}]}}),
    ("update_one", {"_id": "h"}, {"$set": {"lines": [{"a": 2, "b": 1}]}}),
    ("delete_one", {"_id": "c", "list": {"a": 2, "b": 1}}, None),
]  # fmt: skip
ONCE_IT_LEADS: list[Change] = [
    ("update_many", {"owner": "ann", "_id": {"$gt": "d"}}, {"$set": {"a": {"z": 1, "b": 2}}, "$unset": {"at": 1}}),
    ("find_one_and_replace", {"_id": "b"}, {"z": 1, "owner": "ann", "_id": "b", "a": {"z": 1, "b": 2}}),
    ("bulk_write", [ReplaceOne({"_id": "b"}, {"a": {"z": 1, "b": 2}, "owner": "ann", "z": 1})], None),
    ("bulk_write", [UpdateOne({"_id": "b"}, {"$set": {"a": {"b": 2, "z": 1}}})], None),
    ("aggregate", [{"$match": {"_id": "b"}}, {"$group": {"_id": {"z": "$z", "a": "$a"}, "all": {"$push": "$$ROOT"}}}], None),
    ("distinct", {"owner": "ann"}, "lines"),
]  # fmt: skip


def everything(db: Db, collection: str, *, led: bool) -> list[bytes]:
    """What each call gives, and what is read afterwards. `led`: with calls, too, that are MongoDB's alone while it leads."""
    made = documents(collection)
    db.call(collection, "insert_one", made[0])
    db.call(collection, "insert_many", made[1:])
    found = [read_back(db, collection)]
    for asked in [*CHANGES, *(ONCE_IT_LEADS if led else [])]:
        found.append(change(db, collection, asked))
        key = asked[1]["_id"] if isinstance(asked[1], dict) and isinstance(asked[1].get("_id"), str) else "b"
        found.append(bits(db.call(collection, "find_one", {"_id": key})))
    return [*found, read_back(db, collection)]


def change(db: Any, collection: str, asked: Change) -> bytes:
    """What the call gives."""
    method, first, second = asked
    arguments = (second, first) if method == "distinct" else (first,) if second is None else (first, second)
    return told(db.call(collection, method, *arguments))


def read_back(db: Db, collection: str) -> bytes:
    """All documents, by their ids and by the index, and some fields of them."""
    by_id = [db.call(collection, "find_one", {"_id": key}) for key in "abcdefgh"]
    by_owner = db.call(collection, "find", {"owner": "ann"}, sort=[("_id", 1)])
    some = db.call(
        collection, "find", {"owner": "ann"}, {"place.city": 1, "list": 1, "a": 1, "lines": 1}, sort=[("_id", 1)]
    )
    return bits([by_id, by_owner, some])


def told(result: Any) -> bytes:
    counts = [getattr(result, name, None) for name in ("matched_count", "modified_count", "deleted_count")]
    return bits(result if isinstance(result, dict | list | None.__class__) else counts)


def bits(value: Any) -> bytes:
    """Of the value as it stands: a document of its own would have its `_id` moved to the front."""
    return bson.encode({"": value})
