"""Documents that stay over 400 KB compressed, through the client: as from pymongo, in parts in DynamoDB, and none left over."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from bson import Binary, ObjectId
from docferry.errors import ItemsUnreadable
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
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
from support.replicate.compressed import bucket_of, compressing, left_over, objects, parts, stored_parts

ANN, BOB = (ObjectId(f"64b00000000000000000000{number}") for number in (1, 2))
BY_NAME = {"username": "ann"}


def noise(size: int, seed: int = 0) -> Binary:
    return Binary(random.Random(seed).randbytes(size))


def user(name: str, document_id: ObjectId, **more: Any) -> dict[str, Any]:
    return {"_id": document_id, "username": name, "status": "active", "visits": 1} | more


def everything(db: Db) -> list[Any]:
    addresses = [{"type": "home", "plan": noise(450_000)}, {"type": "work"}]
    return [
        outcome(lambda: db.call("users", "insert_one", user("ann", ANN, scan=noise(900_000), addresses=addresses))),
        outcome(lambda: db.call("users", "insert_one", user("bob", BOB))),
        outcome(lambda: db.call("users", "find_one", BY_NAME)),
        outcome(lambda: db.call("users", "update_one", BY_NAME, {"$inc": {"visits": 1}})),
        outcome(lambda: db.call("users", "update_one", BY_NAME, {"$set": {"addresses.1.plan": noise(420_000, 1)}})),
        outcome(lambda: db.call("users", "find_one", BY_NAME | {"visits": 2, "addresses.type": "work"})),
        outcome(lambda: db.call("users", "find_one", BY_NAME | {"scan": noise(1)})),
        outcome(lambda: db.call("users", "find_one_and_update", {"username": "bob"}, {"$set": {"scan": noise(500_000)}})),
        outcome(lambda: db.call("users", "update_one", BY_NAME, {"$set": {"username": "eve"}})),
        outcome(lambda: db.call("users", "find_one", {"username": "eve"})),
        outcome(lambda: db.call("users", "update_one", {"username": "eve"}, {"$unset": {"scan": ""}, "$pop": {"addresses": 1}})),
        outcome(lambda: db.call("users", "find_one", {"username": "eve"})),
        outcome(lambda: db.call("users", "delete_one", {"username": "bob"})),
    ]  # fmt: skip


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> list[Any]:
    plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
    found = everything(plain)
    plain.close()
    return found


@pytest.fixture(scope="module", params=["split", "s3"])
def rig(request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = compressing(
        application(stack, tmp_path_factory.mktemp("parts"), f"parts{uuid.uuid4().hex[:8]}"), request.param
    )
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        yield rig
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


def nothing_there(rig: Rig) -> None:
    empty(rig)
    for key in objects(rig):
        rig.s3.delete_object(Bucket=bucket_of(rig), Key=key)


@pytest.mark.parametrize(
    ("mode", "kind"), [("DUAL_WRITE", Blocking), ("DYNAMODB_ONLY", Blocking), ("DYNAMODB_ONLY", Asynchronous)]
)
def test_documents_in_parts_are_what_they_are_to_pymongo(
    rig: Rig, expected: list[Any], mode: str, kind: Callable[[Rig], Db]
) -> None:
    nothing_there(rig)
    set_mode(rig, MODES[mode])
    db = kind(rig)
    try:
        found = everything(db)
        assert [place for place, (one, other) in enumerate(zip(found, expected, strict=True)) if one != other] == []
    finally:
        db.close()
    assert len(stored_parts(rig)) >= (1 if rig.migration.target.objects else 2)  # of the address that stays
    assert mode != "DYNAMODB_ONLY" or left_over(rig) == set()  # before, what a document leaves is left to replication


def remove_one(rig: Rig) -> tuple[str, str]:
    """A part is gone: its key, as an item."""
    if rig.migration.target.objects:
        (key,) = objects(rig)
        rig.s3.delete_object(Bucket=bucket_of(rig), Key=key)
        return "", ""
    gone = parts(rig)[1]
    rig.dynamodb.delete_item(TableName=rig.table, Key={name: gone[name] for name in ("PK", "SK")})
    return gone["PK"]["S"], gone["SK"]["S"]


def test_reads_of_documents_in_parts_are_compared_while_mongodb_leads(rig: Rig) -> None:
    nothing_there(rig)
    set_mode(rig, MODES["DUAL_WRITE"])
    db = Blocking(rig)
    try:
        db.call("users", "insert_one", user("ann", ANN, scan=noise(900_000)))
        db.call("users", "find_one", BY_NAME)
        eventually(lambda: db.manager.get_metrics()["counts"].get("shadow.equal") == 1, "the read to be compared")
    finally:
        db.close()


def test_a_part_that_is_missing_is_an_error_with_the_document(rig: Rig) -> None:
    nothing_there(rig)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    try:
        db.call("users", "insert_one", user("ann", ANN, scan=noise(900_000)))
        there, gone = rig.scan(), remove_one(rig)
        for method, change in (("find_one", ()), ("update_one", ({"$set": {"visits": 9}},)), ("delete_one", ())):
            with pytest.raises(ItemsUnreadable) as caught:
                db.call("users", method, BY_NAME, *change)
            assert (caught.value.namespace, caught.value.id) == ("users", str(ANN))
        assert rig.scan().keys() == there.keys() - {gone}
    finally:
        db.close()


def test_a_transaction_changes_documents_of_more_megabytes_than_one_takes(rig: Rig) -> None:
    nothing_there(rig)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    names = {"ann": ANN, "bob": BOB}

    def change(session: Any) -> None:
        for name in names:
            found = db.call("users", "find_one", {"username": name}, session=session)
            changed = {"$set": {"scan": noise(3_000_000, found["visits"])}}
            db.call("users", "update_one", {"username": name}, changed, session=session)

    try:
        for name, key in names.items():
            db.call("users", "insert_one", user(name, key, scan=noise(3_000_000)))
        with db.manager.client.start_session() as session:
            session.with_transaction(change)
        for name in names:
            assert db.call("users", "find_one", {"username": name})["scan"] == bytes(noise(3_000_000, 1))
    finally:
        db.close()
    assert left_over(rig) == set()
