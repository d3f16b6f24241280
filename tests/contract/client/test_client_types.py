"""Documents come in the application's own types, as from pymongo with the same codec options, in every mode."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from bson import Timestamp, UuidRepresentation
from bson.codec_options import CodecOptions
from docferry.adapters.mongodb.client.calls import codec_options_of
from docferry.client import DynamoDBClient, Put
from docferry.errors import CallRefused, ItemTooLarge, KeyNotRepresentable
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


class Own(dict[str, Any]):
    """An application's own class of documents."""


EAST = timezone(timedelta(hours=2))
OPTIONS: CodecOptions[Any] = CodecOptions(
    document_class=Own, tz_aware=True, tzinfo=EAST, uuid_representation=UuidRepresentation.STANDARD
)
ANN, BOB, EVE = (uuid.UUID(int=number) for number in (1, 2, 3))
SINCE = datetime(2024, 1, 15, 15, 45, tzinfo=UTC)


def user(name: str, document_id: uuid.UUID, **more: Any) -> dict[str, Any]:
    return {
        "_id": document_id, "username": name, "email": f"{name}@example.com", "status": "active",
        "profile": {"location": {"city": "Seattle"}}, "lastLoginAt": SINCE, "devices": [{"id": BOB, "seen": SINCE}],
    } | more  # fmt: skip


def everything(db: Db) -> list[Any]:
    by_name, here = {"username": "ann"}, {"profile.location.city": "Seattle", "status": "active"}
    seen = {"$set": {"devices": [{"id": EVE, "seen": SINCE + timedelta(hours=1)}]}, "$setOnInsert": {"_id": EVE}}
    return [
        outcome(lambda: db.call("users", "insert_one", user("ann", ANN))),
        outcome(lambda: db.call("users", "insert_many", [user("bob", BOB), user("tom", uuid.UUID(int=4))])),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("users", "find", {"username": "bob", "devices.id": BOB})),
        outcome(lambda: db.call("users", "count_documents", {"username": "bob", "devices.id": BOB})),
        outcome(lambda: db.call("users", "find", here | {"lastLoginAt": {"$gte": SINCE}}, sort=[("username", 1)])),
        outcome(lambda: db.call("users", "find", here | {"lastLoginAt": {"$gt": SINCE.astimezone(EAST)}})),
        outcome(lambda: db.call("users", "update_one", by_name | {"devices.id": BOB}, seen)),
        outcome(lambda: db.call("users", "update_one", {"username": "eve"}, seen, upsert=True)),
        outcome(lambda: db.call("users", "find_one_and_update", by_name, {"$set": {"key": EVE}}, return_document=True)),
        outcome(lambda: db.call("users", "replace_one", by_name, user("ann", ANN, status="idle"))),
        outcome(lambda: db.call("users", "find_one", by_name)),
        outcome(lambda: db.call("users", "delete_one", by_name | {"devices.id": EVE})),
        outcome(lambda: db.call("users", "delete_one", by_name | {"devices.id": BOB})),
    ]


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> list[Any]:
    plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}", OPTIONS)
    found = everything(plain)
    plain.close()
    return found


@pytest.fixture(scope="module")
def rig(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    rig = application(stack, tmp_path_factory.mktemp("served"), f"types{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        yield rig
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
@pytest.mark.parametrize("mode", MODES)
def test_documents_are_of_the_applications_types(
    rig: Rig, expected: list[Any], mode: str, kind: Callable[[Rig, CodecOptions[Any]], Db]
) -> None:
    empty(rig)
    set_mode(rig, MODES[mode])
    db = kind(rig, OPTIONS)
    try:
        assert everything(db) == expected
        found = db.call("users", "find_one", {"username": "bob"})
        assert type(found["profile"]) is Own
        assert found["lastLoginAt"].tzinfo is EAST
    finally:
        db.close()


def test_documents_by_named_patterns_are_of_the_applications_types(rig: Rig) -> None:
    empty(rig)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig, OPTIONS)
    named = DynamoDBClient(db.manager)
    named.transact([Put(collection="users", document=user("ann", ANN))])
    found = [
        named.get("user_by_username", username="ann"),
        named.get("user_by_email", email="ann@example.com"),
        *named.query("active_users_in_city", city="Seattle").documents,
        *named.batch_get("users", ["ann"]),
        *named.scan("users", {"devices.id": BOB}, limit=9, max_read_units=99).documents,
        named.update("user_by_username", {"$set": {"status": "active"}}, expect={"devices.id": BOB}, username="ann"),
    ]
    assert found == [user("ann", ANN)] * 6
    assert {type(one) for one in found} == {Own}
    db.close()


def test_what_mongodb_fills_in_is_left_to_replication_and_refused_once_dynamodb_leads(rig: Rig) -> None:
    empty(rig)
    set_mode(rig, MODES["DUAL_WRITE"])
    db = Blocking(rig)
    db.call("users", "insert_one", {"username": "ann", "at": Timestamp(0, 0)})
    counts = db.manager.get_metrics()["counts"]
    assert rig.database["users"].find_one()["at"] > Timestamp(0, 0)
    assert (counts.get("dual_put.unproved"), counts.get("dual_put.written")) == (1, None)
    assert rig.dynamodb.scan(TableName=rig.table)["Count"] == 0
    db.close()
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    with pytest.raises(CallRefused, match="'at'"):
        db.call("users", "insert_one", {"username": "bob", "at": Timestamp(0, 0)})
    db.close()


def test_insert_of_several_of_which_dynamodb_cannot_hold_one_writes_nothing_and_names_the_collection(rig: Rig) -> None:
    empty(rig)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    with pytest.raises(KeyNotRepresentable, match=r"this document of users: .*username"):
        db.call("users", "insert_many", [{"username": "a"}, {"email": "x"}, {"username": "b"}], ordered=False)
    with pytest.raises(ItemTooLarge, match="this document of users"):
        db.call("users", "insert_many", [{"username": "a"}, {"username": "b", "much": "x" * 500_000}])
    assert rig.dynamodb.scan(TableName=rig.table)["Count"] == 0
    db.close()


def test_cursor_reads_as_many_as_are_asked_for_and_then_goes_on(rig: Rig) -> None:
    empty(rig)
    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db = Blocking(rig)
    db.manager.users.insert_many(
        {"username": name, "status": "active", "lastLoginAt": SINCE, "profile": {"location": {"city": "Bern"}}}
        for name in "abc"
    )
    cursor = db.manager.users.find({"profile.location.city": "Bern", "status": "active"}).sort("username")
    assert [one["username"] for one in cursor.to_list(2)] == ["a", "b"]
    assert [one["username"] for one in cursor.to_list()] == ["c"]
    with pytest.raises(ValueError, match="greater than 0"):
        cursor.to_list(0)
    db.close()


def test_uri_says_what_types_an_application_has() -> None:
    options = codec_options_of("mongodb://nowhere.invalid/?tz_aware=true&uuidRepresentation=standard")
    assert (options.tz_aware, options.uuid_representation) == (True, UuidRepresentation.STANDARD)
