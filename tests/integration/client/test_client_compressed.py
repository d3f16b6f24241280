"""Documents over 400 KB through the client, in every mode as from pymongo; DynamoDB holds them compressed."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any

import pytest
from bson import ObjectId
from docferry.errors import CallRefused, ItemsUnreadable, ItemTooLarge
from docferry.sandbox import SandboxStack
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
from support.replicate.compressed import compressed, compressing, pages

TEXT = pages(600_000)
ANN, BOB = (ObjectId(f"64b00000000000000000000{number}") for number in (1, 2))
BY_NAME, HERE = {"username": "ann"}, {"profile.location.city": "Seattle", "status": "active"}


def user(name: str, document_id: ObjectId, **more: Any) -> dict[str, Any]:
    return {
        "_id": document_id, "username": name, "status": "active", "profile": {"location": {"city": "Seattle"}},
        "lastLoginAt": datetime(2024, 1, 15), "visits": 1,
    } | more  # fmt: skip


def everything(db: Db) -> list[Any]:
    addresses = [{"type": "home", "street": "short"}, {"type": "work", "street": TEXT}]
    shortened = [{"$match": BY_NAME}, {"$project": {"length": {"$strLenCP": "$note"}, "visits": 1}}]
    return [
        outcome(lambda: db.call("users", "insert_one", user("ann", ANN, note=TEXT, addresses=addresses))),
        outcome(lambda: db.call("users", "insert_one", user("bob", BOB))),
        outcome(lambda: db.call("users", "find_one", BY_NAME)),
        outcome(lambda: db.call("users", "update_one", BY_NAME, {"$inc": {"visits": 1}})),
        outcome(
            lambda: db.call("users", "update_one", BY_NAME, {"$set": {"addresses.0.street": TEXT, "note": TEXT[:-1]}})
        ),
        outcome(lambda: db.call("users", "find_one", BY_NAME)),
        outcome(lambda: db.call("users", "find", HERE | {"visits": 2, "addresses.street": TEXT})),
        outcome(lambda: db.call("users", "count_documents", HERE | {"note": TEXT[:-1]})),
        outcome(lambda: db.call("users", "find_one", BY_NAME | {"note": "another"})),
        outcome(lambda: db.call("users", "aggregate", shortened)),
        outcome(lambda: db.call("users", "find_one_and_update", {"username": "bob"}, {"$set": {"note": TEXT}})),
        outcome(lambda: db.call("users", "find_one", {"username": "bob"}, {"note": 1})),
        outcome(lambda: db.call("users", "update_one", BY_NAME, {"$set": {"username": "eve"}})),
        outcome(lambda: db.call("users", "find_one", {"username": "eve"})),
        outcome(
            lambda: db.call(
                "users", "update_one", {"username": "eve"}, {"$unset": {"note": ""}, "$pop": {"addresses": 1}}
            )
        ),
        outcome(lambda: db.call("users", "find_one", {"username": "eve"})),
        outcome(lambda: db.call("users", "delete_one", {"username": "bob", "note": TEXT})),
        outcome(lambda: db.call("users", "find_one", {"username": "bob"})),
    ]


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> list[Any]:
    plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
    found = everything(plain)
    plain.close()
    return found


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = compressing(application(stack, tmp_path_factory.mktemp("large"), f"large{uuid.uuid4().hex[:8]}"))
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        yield rig
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("DUAL_WRITE", Blocking),
        ("DYNAMODB_READS 100", Asynchronous),
        ("DYNAMODB_ONLY", Blocking),
        ("DYNAMODB_ONLY", Asynchronous),
    ],
)
def test_large_documents_are_what_they_are_to_pymongo(
    rig: Rig, expected: list[Any], mode: str, kind: Callable[[Rig], Db]
) -> None:
    empty(rig)
    set_mode(rig, MODES[mode])
    db = kind(rig)
    try:
        found = everything(db)
        assert [place for place, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other] == []
        there = compressed(rig)
        assert ("USER#eve", "ADDRESS#home#000") in there
        assert mode != "DYNAMODB_ONLY" or len(there) == 1  # before, replication clears up behind a document that moves
    finally:
        db.close()


@pytest.mark.parametrize("mode", ["DYNAMODB_READS 100", "DYNAMODB_ONLY"])
def test_what_does_not_decompress_is_mongodbs_answer_or_an_error_with_the_document(rig: Rig, mode: str) -> None:
    empty(rig)
    set_mode(rig, MODES["DYNAMODB_READS 100"])
    db = Blocking(rig)
    db.call("users", "insert_one", user("ann", ANN, note=TEXT))
    (item,) = rig.scan().values()
    rig.dynamodb.put_item(TableName=rig.table, Item=item | {"_z": {"B": item["_z"]["B"][:-1]}})
    try:
        if mode != "DYNAMODB_ONLY":
            assert db.call("users", "find_one", BY_NAME)["note"] == TEXT
            return
        db.close()
        set_mode(rig, MODES[mode])
        db = Blocking(rig)
        for method, change in (("find_one", ()), ("update_one", ({"$set": {"visits": 9}},)), ("delete_one", ())):
            with pytest.raises(ItemsUnreadable) as caught:
                db.call("users", method, BY_NAME, *change)
            assert (caught.value.namespace, caught.value.id) == ("users", str(ANN))
        assert rig.scan().popitem()[1]["_v"] == item["_v"]
    finally:
        db.close()


def test_what_passes_a_transaction_is_refused_by_name_and_left_to_replication_before(rig: Rig) -> None:
    noise = random.Random(3)
    streets = [{"type": str(number), "street": noise.randbytes(400_000)} for number in range(11)]
    empty(rig)
    set_mode(rig, MODES["DUAL_WRITE"])
    db = Blocking(rig)
    db.call("users", "insert_one", user("ann", ANN, addresses=streets))
    assert rig.scan() == {}
    db.close()
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    try:
        with pytest.raises(CallRefused, match="bytes, and a transaction 4194304"):
            db.call("users", "insert_one", user("bob", BOB, addresses=streets))
        with pytest.raises(ItemTooLarge):
            db.call("users", "insert_one", user("bob", BOB, note=noise.randbytes(500_000)))
        assert rig.scan() == {}
    finally:
        db.close()
