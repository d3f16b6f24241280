"""What MongoDB alone does is pymongo's own while MongoDB leads, counted by shape, and refused by name afterwards."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from copy import copy
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from bson import CodecOptions, DBRef
from docferry import wiring
from docferry.core.access.calls import COLLECTION_CALLS, DATABASE_CALLS
from docferry.errors import CallRefused, ConfigError, KeyNotRepresentable
from docferry.sandbox import SandboxStack
from gridfs import GridFSBucket
from gridfs.asynchronous import AsyncGridFSBucket
from pymongo import CursorType, DeleteOne, InsertOne, ReadPreference, UpdateMany, WriteConcern
from pymongo.errors import BulkWriteError, InvalidOperation, OperationFailure
from pymongo.read_concern import ReadConcern
from support.backfill.rig import Rig
from support.client.cases import ANN, order, user
from support.client.delegated import DELEGATED
from support.client.rig import Asynchronous, Blocking, Db, application, connected, empty, set_mode

Served = tuple[Rig, Db]


def managed(served: Served) -> tuple[Rig, Blocking | Asynchronous, Any]:
    rig, db = served
    assert isinstance(db, Blocking | Asynchronous)
    return rig, db, db.manager


def answer(db: Blocking | Asynchronous, found: Any) -> Any:
    return db.wait(found) if isinstance(db, Asynchronous) else found


def leads(db: Blocking | Asynchronous) -> bool:
    """Whether DynamoDB does."""
    return bool(db.manager.get_metrics()["configuration"]["mode"] == "DYNAMODB_ONLY")


@pytest.mark.parametrize("case", DELEGATED)
def test_call_is_pymongos_own_while_mongodb_leads(
    served: Served, expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db, _ = managed(served)
    if leads(db):
        return  # refused, by the test below
    empty(rig)
    assert DELEGATED[case](db) == expected(case)


def test_every_call_is_refused_once_dynamodb_leads_with_what_to_write_instead(served: Served) -> None:
    _, db, manager = managed(served)
    if not leads(db):
        return
    for name in COLLECTION_CALLS:
        with pytest.raises(CallRefused) as refused:
            answer(db, getattr(manager.users, name)([], {}))
        assert f"users.{name}" in refused.value.what
        assert refused.value.suggestion == COLLECTION_CALLS[name].instead
    for name in DATABASE_CALLS:
        with pytest.raises(CallRefused):
            answer(db, getattr(manager, name)("users"))
    for call in (manager.users.find({}).explain, lambda: manager.client.start_session(snapshot=True)):
        with pytest.raises(CallRefused):
            answer(db, call())


def test_call_is_counted_by_its_shape_beside_dynamodb(served: Served) -> None:
    _, db, manager = managed(served)
    if leads(db):
        return
    tally = manager.parts.membership.tally
    before = tally.unserved
    answer(db, manager.orders.aggregate([{"$match": {"n": "secret"}}, {"$count": "n"}]))
    answer(db, manager.orders.delete_many({"n": "secret"}))
    answer(db, manager.orders.distinct("status", {"n": "secret"}))
    answer(db, manager.command("ping"))
    answer(db, manager.orders.update_one({"n": "secret"}, {"$set": {"a": 1}}, collation={"locale": "en"}))
    answer(db, manager.orders.delete_one({"n": "secret"}))
    found = {name for name, number in tally.unserved.items() if number > before.get(name, 0)}
    counted = {
        "orders.aggregate($match(n), $count)", "orders.delete_many(n)", "orders.distinct status(n)",
        "database.command(ping)",
        "orders.update_one(n; collation)", "orders.delete_one(n)",
    }  # fmt: skip
    mode = manager.get_metrics()["configuration"]["mode"]
    assert found == (set() if mode == "MONGO_ONLY" else counted)


def test_names_references_and_what_a_cursor_tells_apart_are_served_in_every_mode(served: Served) -> None:
    rig, db, manager = managed(served)
    empty(rig)
    answer(db, manager.orders.insert_one(order(1)))
    assert "orders" in answer(db, manager.list_collection_names())
    assert answer(db, manager.list_collection_names(filter={"name": {"$in": ["orders", "nowhere"]}})) == ["orders"]
    assert answer(db, manager.dereference(DBRef("orders", order(1)["_id"]))) == answer(
        db, manager.orders.find_one({"_id": order(1)["_id"]})
    )
    assert answer(db, manager.dereference(DBRef("orders", order(7)["_id"]))) is None
    assert answer(db, manager.orders.find({"_id": order(1)["_id"]}, sort=[("_id", 1)]).distinct("items.name")) == ["x"]
    with pytest.raises(ValueError, match="another database"):
        answer(db, manager.dereference(DBRef("orders", order(1)["_id"], "elsewhere")))
    with pytest.raises(TypeError):
        answer(db, manager.dereference(1))


def test_database_is_pymongos(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    answer(db, manager.orders.insert_one(order(1)))
    assert answer(db, manager.command("count", "orders"))["n"] == 1
    assert answer(db, manager.command({"update": "orders", "updates": [{"q": {}, "u": {"$set": {"a": 1}}}]}))["n"] == 1
    assert "orders" in answer(db, manager.list_collection_names())
    made = answer(db, manager.create_collection("made"))
    assert made == manager["made"] == manager.client[manager.name].made
    with pytest.raises(OperationFailure, match="not authorized"):
        answer(db, manager.validate_collection(manager.made))
    answer(db, manager.drop_collection(manager.made))
    assert "made" not in answer(db, manager.list_collection_names())
    names = answer(db, manager.client.list_database_names())
    assert manager.name in names
    assert manager.orders.below.full_name == f"{manager.name}.orders.below" == manager.orders["below"].full_name
    with pytest.raises(TypeError, match=r"'orders\.no_such_method' is a collection"):
        manager.orders.no_such_method()
    with pytest.raises(TypeError):
        iter(manager)
    with pytest.raises(NotImplementedError):
        bool(manager.orders)


def test_other_options_are_those_of_a_collection_and_of_what_it_finds(served: Served) -> None:
    rig, db, manager = managed(served)
    empty(rig)
    aware = manager.get_collection("users", CodecOptions(tz_aware=True), ReadPreference.SECONDARY_PREFERRED)
    answer(db, aware.insert_one(user("ann", ANN)))
    assert answer(db, aware.find_one({"username": "ann"}))["lastLoginAt"].tzinfo is not None
    assert answer(db, manager.users.find_one({"username": "ann"}))["lastLoginAt"].tzinfo is None
    assert aware.read_preference == ReadPreference.SECONDARY_PREFERRED
    assert aware.with_options(read_concern=ReadConcern("majority")).codec_options.tz_aware
    assert manager.users.write_concern == WriteConcern("majority")
    unheard = manager.users.with_options(write_concern=WriteConcern(0))
    assert unheard.update_one is not None
    changed = answer(db, unheard.update_one({"username": "ann"}, {"$set": {"status": "idle"}}))
    assert changed.acknowledged == leads(db)


def test_what_no_majority_acknowledges_is_not_written_to_dynamodb_beside(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    quick = manager.users.with_options(write_concern=WriteConcern(1))
    assert answer(db, quick.insert_one(user("ann", ANN))).acknowledged
    assert rig.dynamodb.scan(TableName=rig.table)["Count"] == 0
    assert answer(db, quick.find_one({"username": "ann"}))["_id"] == ANN


NEW = {"$set": {"n": 1}}
WITHOUT_A_KEY: dict[str, Callable[[Any, dict[str, Any]], Any]] = {
    "insert_one": lambda users, ann: users.insert_one(ann),
    "insert_many": lambda users, ann: users.insert_many([ann, {"username": "bob"}]),
    "update_one": lambda users, ann: users.update_one(ann, NEW, upsert=True),
    "replace_one": lambda users, ann: users.replace_one({"n": 1}, ann, True),
    "find_one_and_update": lambda users, ann: users.find_one_and_update(ann, NEW, upsert=True),
    "find_one_and_replace": lambda users, ann: users.find_one_and_replace(ann, {"n": 1}, upsert=True),
    "update_many": lambda users, ann: users.update_many(ann, NEW, True),
    "bulk_write insert": lambda users, ann: users.bulk_write([InsertOne({"username": "bob"}), InsertOne(ann)]),
    "bulk_write upsert": lambda users, ann: users.bulk_write([UpdateMany(ann, NEW, upsert=True), DeleteOne({"n": 2})]),
}
"""Calls that make a document without the field that users' keys are made of."""


def test_document_that_will_be_a_dead_letter_is_told_to_the_metrics_once(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return  # refused
    session = manager.client.start_session()
    for name, call in WITHOUT_A_KEY.items():
        for users in (manager.users, InSession(manager.users, session)):
            empty(rig)
            before = letters(manager)
            answer(db, call(users, {"email": "ann@example.com"}))
            assert letters(manager) == before + 1, (name, users)
    answer(db, session.end_session())


def letters(manager: Any) -> int:
    """How many dead letters the metrics have been told of."""
    return int(manager.get_metrics()["counts"].get("dead_letter.coming.users", 0))


def test_bulk_write_that_fails_tells_of_what_it_has_written(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    before = letters(manager)
    twice = [InsertOne({"_id": at, "email": f"{at}@example.com"}) for at in (1, 1, 2)]
    with pytest.raises(BulkWriteError):
        answer(db, manager.users.bulk_write(twice))
    assert letters(manager) == before + 1


class InSession:
    """A collection whose calls get a session."""

    def __init__(self, collection: Any, session: Any) -> None:
        self._collection, self._session = collection, session

    def __getattr__(self, name: str) -> Any:
        return partial(getattr(self._collection, name), session=self._session)


def test_transaction_is_mongodbs_and_not_counted_where_dynamodb_could_do_it(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    answer(db, manager.orders.insert_many([order(1), order(2)]))
    before = manager.parts.membership.tally.unserved

    async def move(session: Any) -> None:
        await manager.orders.update_one({"_id": order(1)["_id"]}, {"$inc": {"n": -1}}, session=session)
        await session.client[manager.name].orders.update_one(
            {"_id": order(2)["_id"]}, {"$inc": {"n": 1}}, session=session
        )

    def move_now(session: Any) -> None:
        manager.orders.update_one({"_id": order(1)["_id"]}, {"$inc": {"n": -1}}, session=session)
        session.client[manager.name].orders.update_one({"_id": order(2)["_id"]}, {"$inc": {"n": 1}}, session=session)
        assert manager.orders.find_one({"n": 1}, session=session)["_id"] == order(2)["_id"]
        assert [one["n"] for one in manager.orders.find({}, session=session).sort("n", 1)] == [-1, 1]

    session = manager.client.start_session()
    answer(db, session.with_transaction(move_now if isinstance(db, Blocking) else move))
    answer(db, session.end_session())
    assert sorted(one["n"] for one in rig.database["orders"].find()) == [-1, 1]
    tally = manager.parts.membership.tally
    new = {name for name, number in tally.unserved.items() if number > before.get(name, 0)}
    assert not any("update_one" in name for name in new)


def test_transaction_does_not_outlast_a_change_of_the_mode(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    state = manager.parts.membership.state
    answer(db, manager.orders.insert_one(order(1)))
    session = manager.client.start_session()
    answer(db, session.start_transaction())
    answer(db, manager.orders.update_one({"_id": order(1)["_id"]}, {"$set": {"n": 1}}, session=session))
    set_mode(rig, replace(state, epoch=state.epoch + 1))
    manager.parts.membership.look()
    with pytest.raises(OperationFailure) as refused:
        answer(db, session.commit_transaction())
    assert refused.value.has_error_label("TransientTransactionError")
    answer(db, session.end_session())
    (left,) = rig.database["orders"].find()
    assert "n" not in left


def test_files_are_kept_in_gridfs(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    content = bytes(range(256)) * 3_000
    if isinstance(db, Blocking):
        bucket: Any = GridFSBucket(manager)
        made = bucket.upload_from_stream("one", content, metadata={"n": 1})
        assert bucket.open_download_stream(made).read() == content
        assert [one.filename for one in bucket.find({"metadata.n": 1})] == ["one"]
    else:
        bucket = AsyncGridFSBucket(manager)
        made = db.wait(bucket.upload_from_stream("one", content, metadata={"n": 1}))
        stream = db.wait(bucket.open_download_stream(made))
        assert db.wait(stream.read()) == content
    answer(db, bucket.rename(made, "two"))
    assert rig.database["fs.files"].find_one()["filename"] == "two"
    answer(db, bucket.delete(made))
    assert rig.database["fs.chunks"].count_documents({}) == 0


def test_changes_are_watched(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    stream = answer(db, manager.orders.watch([{"$match": {"operationType": "insert"}}], max_await_time_ms=100))
    answer(db, manager.orders.insert_one(order(1)))
    assert answer(db, stream.next())["documentKey"] == {"_id": order(1)["_id"]}
    answer(db, stream.close())


def test_cursor_of_any_kind_is_pymongos(served: Served) -> None:
    rig, db, manager = managed(served)
    if leads(db):
        return
    empty(rig)
    answer(db, manager.orders.insert_many([order(number, n=number) for number in range(4)]))
    find = manager.orders.find
    assert answer(db, find({"n": {"$gt": 1}}).distinct("n")) == [2, 3]
    assert "queryPlanner" in answer(db, find({"n": 1}).explain())
    assert [one["n"] for one in answer(db, find().where("this.n > 2").to_list())] == [3]
    by_id = [("_id", 1)]
    bounded = find().hint(by_id).min([("_id", order(1)["_id"])]).max([("_id", order(3)["_id"])]).sort(by_id)
    assert [one["n"] for one in answer(db, bounded.to_list())] == [1, 2]
    assert answer(db, find(show_record_id=True).to_list(1))[0]["$recordId"] is not None
    cursor = find(batch_size=1)
    answer(db, cursor.next())
    assert (cursor.retrieved, cursor.collection, cursor.alive) == (1, manager.orders, True)
    assert cursor.cursor_id
    with pytest.raises(InvalidOperation):
        cursor.sort("n", 1)
    answer(db, cursor.close())
    copied = copy(find({"n": 1}))
    assert [one["n"] for one in answer(db, copied.to_list())] == [1]
    rig.database.create_collection("log", capped=True, size=10_000)
    answer(db, manager.log.insert_one({"n": 1}))
    tail = manager.log.find(cursor_type=CursorType.TAILABLE)
    assert answer(db, tail.next())["n"] == 1
    answer(db, manager.log.insert_one({"n": 2}))
    assert tail.alive
    assert answer(db, tail.next())["n"] == 2
    answer(db, tail.close())
    answer(db, manager.log.drop())


def test_strict_client_refuses_what_will_be_refused(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = application(stack, tmp_path, f"strict{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    with wiring.connect(rig.file, strict="dynamodb") as manager:
        manager["users"].insert_one(user("ann", ANN))
        assert manager["users"].update_one({"username": "ann"}, {"$set": {"status": "idle"}}).modified_count == 1
        assert manager["users"].find_one({"username": "ann"})["_id"] == ANN  # type: ignore[index]
        assert manager["users"].count_documents({"username": "ann"}) == 1
        later: tuple[Callable[[], Any], ...] = (
            lambda: manager["users"].find_one({"status": "idle"}), lambda: manager["users"].find({"status": "idle"}).to_list(),
            lambda: manager["users"].count_documents({}),
            lambda: manager["users"].update_one({"status": "a"}, {"$set": {"a": 1}}),
            lambda: manager["users"].update_one({"username": "ann"}, [{"$match": {"a": 1}}]),
            lambda: manager["users"].delete_one({"username": "ann"}, collation={"locale": "en"}),
            lambda: manager["users"].replace_one({"status": "a"}, {}), lambda: manager["users"].aggregate([]),
            lambda: manager["letters"].insert_one({}), lambda: manager.client.start_session(snapshot=True),
            lambda: manager.command("ping"),
        )  # fmt: skip
        for call in later:
            with pytest.raises(CallRefused):
                call()
        with pytest.raises(KeyNotRepresentable):
            manager["users"].insert_one({"email": "ann@example.com"})
    with pytest.raises(ConfigError):
        wiring.connect(rig.file, strict="mongodb")  # type: ignore[arg-type]
    assert rig.database["users"].count_documents({}) == 1
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()
