"""DynamoDB follows MongoDB: every kind of write, keys that move, children that vanish, documents that cannot be stored.

At the end of each test a comparison that shares no code with docferry finds both databases equal.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bson
import pytest
from bson import Binary, Decimal128, ObjectId
from bson.raw_bson import RawBSONDocument
from demo.traffic import TrafficProcess, make_events
from docferry.errors import LeaseHeld, PreflightFailed
from docferry.flows.backfill import backfill
from docferry.flows.backfill.load import CONDITIONAL
from docferry.flows.ledger import state
from docferry.flows.replicate import follower as replicate
from docferry.rehearsal.independent import judge
from docferry.sandbox import SandboxStack
from pymongo import DeleteOne, InsertOne, ReplaceOne, UpdateOne
from support.backfill.rig import Rig, eventually
from support.replicate.rig import (
    Following,
    assert_equal,
    await_applied,
    end,
    follow,
    graves,
    job_of,
    large,
    live_keys,
    live_shop,
)
from support.validate.planting import MAKERS, order, user

pytestmark = pytest.mark.xdist_group("replicate")
Document = dict[str, Any]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits for the next event waits a tenth of the time."""
    monkeypatch.setattr(replicate, "READ_WAIT_S", 0.1)


@pytest.fixture(scope="module")
def shared(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    """For tests that each have documents of their own, and leave all applied."""
    made = live_shop(stack.env(), tmp_path_factory.mktemp("replicate"))
    yield made
    end(made)


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    made = live_shop(stack.env(), tmp_path)
    yield made
    end(made)


def insert(rig: Rig, collection: str, document: Document) -> Any:
    return rig.database[collection].insert_one(document).inserted_id


def a_user(rig: Rig, name: str, **more: Any) -> Any:
    """A user that is in both databases."""
    key = insert(rig, "users", user(name) | more)
    follow(rig)
    return key


def keys_of(rig: Rig, pk: str) -> set[str]:
    """The sort keys of what is alive in a partition."""
    return {key[1] for key in live_keys(rig) if key[0] == pk}


def letters(rig: Rig, collection: str = "users") -> list[tuple[str, str]]:
    return [(one.id, one.reason) for one in state.list_letters(rig.ledger, collection)]


# --- every kind of write ---------------------------------------------------------------------------------------------

ADDRESS = {"type": "spare", "street": "3 Third St"}
UPDATES: dict[str, Any] = {
    "$set": {"$set": {"profile.location.city": "Paris", "note": "x"}},
    "$set beyond the end": {"$set": {"scores.3": 1}},
    "$unset": {"$unset": {"note": "", "profile.lastName": ""}},
    "$inc": {"$inc": {"visits": 3}},
    "$mul": {"$mul": {"score": 2.5}},
    "$min": {"$min": {"score": -7}},
    "$max": {"$max": {"score": 7_000_000_000}},
    "$rename": {"$rename": {"note": "remark"}},
    "$currentDate": {"$currentDate": {"updatedAt": True}},
    "$bit": {"$bit": {"flags": {"or": 5}}},
    "$push": {"$push": {"addresses": ADDRESS}},
    "$push at the front": {"$push": {"addresses": {"$each": [ADDRESS], "$position": 0, "$slice": 2}}},
    "$push sorted": {"$push": {"addresses": {"$each": [ADDRESS], "$sort": {"street": -1}}}},
    "$pop": {"$pop": {"addresses": -1}},
    "$pull": {"$pull": {"addresses": {"type": "home"}}},
    "$pullAll": {"$pullAll": {"tags": ["a", "b"]}},
    "$addToSet": {"$addToSet": {"tags": {"$each": ["b", "z"]}}},
    "an element": {"$set": {"addresses.1.street": "elsewhere"}},
    "an element's key": {"$set": {"addresses.1.type": "other"}},
    "all elements": {"$set": {"addresses.$[].zipCode": "99999"}},
    "no array any more": {"$set": {"addresses": "none"}},
    "elements of another kind": {"$set": {"addresses": [1, 2]}},
    "pipeline": [{"$set": {"full": {"$concat": ["$username", "!"]}, "addresses": {"$slice": ["$addresses", 1]}}}],
    "pipeline that replaces": [{"$replaceWith": {"username": "$username", "email": "e@x", "addresses": []}}],
    "a name with a dot": [{"$set": {"profile": {"$setField": {"field": "a.b", "input": "$profile", "value": 1}}}}],
    "index keys": {"$set": {"status": "closed", "email": "new@example.com"}},
    "index key gone": {"$unset": {"email": ""}},
}


def test_every_kind_of_update_arrives(shared: Rig) -> None:
    users = shared.database["users"]
    for name in UPDATES:
        insert(shared, "users", user(name) | {"tags": ["a", "b", "c"], "score": 3, "flags": 2, "scores": [1]})
    follow(shared)
    for name, change in UPDATES.items():
        assert users.update_one({"username": name}, change).modified_count == 1, name
    users.update_one({"username": "$inc", "addresses.type": "work"}, {"$set": {"addresses.$.street": "positional"}})
    users.update_one({"username": "$inc"}, {"$set": {"addresses.$[a].x": 1}}, array_filters=[{"a.type": "home"}])
    users.update_many({"username": {"$in": ["$min", "$max"]}}, {"$set": {"many": True}})
    report = follow(shared)
    assert (report.events, report.written) == (len(UPDATES) + 4, len(UPDATES) + 4)
    assert_equal(shared)


def test_upserts_replaces_bulk_writes_and_find_and_modify_arrive(shared: Rig) -> None:
    orders, ids = shared.database["orders"], [ObjectId() for _ in range(6)]
    orders.update_one({"_id": ids[0]}, {"$setOnInsert": {"status": "new"}, "$set": {"items": []}}, upsert=True)
    orders.insert_one({**order("x"), "_id": ids[1]})
    orders.replace_one({"_id": ids[1]}, {**order("y"), "_id": ids[1], "items": []})
    requests: list[Any] = [
        InsertOne({**order("a"), "_id": ids[2]}),
        UpdateOne({"_id": ids[2]}, {"$set": {"totalAmount": Decimal128("1.00")}}),
        ReplaceOne({"_id": ids[3]}, {**order("b"), "_id": ids[3]}, upsert=True),
        DeleteOne({"_id": ids[2]}),
    ]
    orders.bulk_write(requests)
    orders.find_one_and_update({"_id": ids[3]}, {"$pop": {"items": 1}})
    orders.find_one_and_replace({"_id": ids[3]}, {**order("c"), "_id": ids[3]})
    orders.find_one_and_delete({"_id": ids[0]})
    report = follow(shared)
    assert (report.events, report.written, report.superseded, report.dead) == (10, 10, 0, 0)
    assert keys_of(shared, f"ORDER#{ids[0]}") == keys_of(shared, f"ORDER#{ids[2]}") == set()
    assert_equal(shared)


def test_update_leaves_the_items_that_it_did_not_touch_as_they_are(shared: Rig) -> None:
    a_user(shared, "untouched")
    before = shared.scan()
    shared.database["users"].update_one({"username": "untouched"}, {"$set": {"note": "new"}})
    follow(shared)
    after = shared.scan()
    assert {key[1] for key in after if before[key] != after[key]} == {"PROFILE"}
    shared.database["users"].update_one({"username": "untouched"}, {"$set": {"addresses.0.street": "new"}})
    follow(shared)
    last = shared.scan()
    assert {key[1] for key in after if last[key] != after[key]} == {"PROFILE", "ADDRESS#home#000", "ADDRESS#work#001"}
    assert_equal(shared)


# --- keys and children -----------------------------------------------------------------------------------------------


def test_key_that_moves_leaves_tombstones_behind(shared: Rig) -> None:
    a_user(shared, "moving")
    shared.database["users"].update_one({"username": "moving"}, {"$set": {"username": "moved"}})
    follow(shared)
    assert keys_of(shared, "USER#moving") == set()
    assert {key[1] for key in graves(shared) if key[0] == "USER#moving"} == keys_of(shared, "USER#moved")
    assert len(keys_of(shared, "USER#moved")) == 3
    shared.database["users"].update_one({"username": "moved"}, {"$set": {"username": "moving"}})
    follow(shared)
    assert len(keys_of(shared, "USER#moving")) == 3, "and it can come back"
    assert_equal(shared)


def test_key_is_passed_on_and_swapped(shared: Rig) -> None:
    users = shared.database["users"]
    one, two = a_user(shared, "one", addresses=[]), a_user(shared, "two")
    for key, name in ((one, "three"), (two, "one"), (one, "two")):
        users.update_one({"_id": key}, {"$set": {"username": name}})
    users.delete_one({"_id": two})
    users.update_one({"_id": one}, {"$set": {"username": "one"}})
    assert follow(shared).events == 5
    assert keys_of(shared, "USER#one") == {"PROFILE"}
    assert keys_of(shared, "USER#two") == keys_of(shared, "USER#three") == set()
    assert_equal(shared)


@pytest.mark.parametrize(
    "change",
    [
        {"$set": {"items": []}},
        {"$unset": {"items": ""}},
        {"$pop": {"items": 1}},
        {"$set": {"items": None}},
        {"$pull": {"items": {"name": "Desk"}}},
        None,
    ],
    ids=["emptied", "unset", "last", "null", "middle", "deleted"],
)
def test_children_that_vanish_are_buried(shared: Rig, change: Any) -> None:
    key = insert(shared, "orders", order("x"))
    follow(shared)
    had = keys_of(shared, f"ORDER#{key}")
    target = shared.database["orders"]
    target.delete_one({"_id": key}) if change is None else target.update_one({"_id": key}, change)
    follow(shared)
    stay = keys_of(shared, f"ORDER#{key}")
    buried = {sk for pk, sk in graves(shared) if pk == f"ORDER#{key}"}
    assert buried
    assert had == stay | buried
    assert_equal(shared)


def test_document_deleted_and_inserted_again_is_there(shared: Rig) -> None:
    key = a_user(shared, "phoenix")
    whole = shared.database["users"].find_one({"_id": key})
    shared.database["users"].delete_one({"_id": key})
    shared.database["users"].insert_one({**whole, "addresses": whole["addresses"][:1]})
    follow(shared)
    assert keys_of(shared, "USER#phoenix") == {"PROFILE", "ADDRESS#home#000"}
    assert_equal(shared)


def test_transaction_that_changes_one_document_often_arrives_as_it_ends(shared: Rig) -> None:
    one, two = a_user(shared, "in a transaction"), a_user(shared, "also")
    users, orders = shared.database["users"], shared.database["orders"]
    with shared.mongo.start_session() as session, session.start_transaction():
        users.update_one({"_id": one}, {"$set": {"username": "for a moment"}}, session=session)
        users.delete_one({"_id": two}, session=session)
        users.update_one({"_id": one}, {"$set": {"username": "also"}, "$pop": {"addresses": 1}}, session=session)
        users.insert_one({**user("in a transaction"), "_id": two, "addresses": []}, session=session)
        orders.insert_one(order("of it"), session=session)
        users.update_one({"_id": one}, {"$inc": {"n": 1}}, session=session)
    assert follow(shared).events == 6
    assert keys_of(shared, "USER#also") == {"PROFILE", "ADDRESS#home#000"}
    assert keys_of(shared, "USER#in a transaction") == {"PROFILE"}
    assert_equal(shared)


def test_aborted_transaction_leaves_nothing(shared: Rig) -> None:
    with shared.mongo.start_session() as session:
        session.start_transaction()
        shared.database["users"].insert_one(user("never"), session=session)
        session.abort_transaction()
    assert follow(shared).events == 0
    assert_equal(shared)


# --- documents that cannot be stored ---------------------------------------------------------------------------------

BREAKING: dict[str, tuple[Any, str, Any]] = {
    "too large": ({"$set": {"scan": large(420_000)}}, "ItemTooLarge", {"$unset": {"scan": ""}}),
    "no key": ({"$unset": {"username": ""}}, "KeyNotRepresentable", {"$set": {"username": "no key"}}),
    "empty key": ({"$set": {"username": ""}}, "KeyNotRepresentable", {"$set": {"username": "empty key"}}),
    "a child without its key": (
        {"$unset": {"addresses.0.type": ""}},
        "KeyNotRepresentable",
        {"$set": {"addresses.0.type": "x"}},
    ),
}


@pytest.mark.parametrize("what", BREAKING)
def test_document_that_becomes_unstorable_is_a_dead_letter_and_comes_back_whole(shared: Rig, what: str) -> None:
    harm, reason, cure = BREAKING[what]
    key = a_user(shared, what)
    users = shared.database["users"]
    users.update_one({"_id": key}, harm)
    users.update_one({"_id": key}, {"$set": {"note": "again"}})
    insert(shared, "categories", MAKERS["categories"](what))
    report = follow(shared)
    assert (report.events, report.written, report.dead) == (3, 1, 2)
    assert letters(shared) == [(str(key), reason)]
    assert keys_of(shared, f"USER#{what}") == set()
    assert_equal(shared)
    users.update_one({"_id": key}, cure)
    report = follow(shared)
    assert (report.written, report.dead) == (1, 0)
    assert letters(shared) == []
    assert len(keys_of(shared, f"USER#{what}")) == 3, "children, too, though the update did not touch them"
    assert_equal(shared)


def test_letter_is_closed_by_what_makes_the_document_good_in_the_same_run(shared: Rig) -> None:
    key = a_user(shared, "quick")
    users = shared.database["users"]
    for change in (BREAKING["too large"][0], {"$set": {"username": "quicker"}}, {"$unset": {"scan": ""}}):
        users.update_one({"_id": key}, change)
    report = follow(shared)
    assert (report.written, report.dead) == (1, 2)
    assert letters(shared) == []
    assert (len(keys_of(shared, "USER#quick")), len(keys_of(shared, "USER#quicker"))) == (0, 3)
    assert_equal(shared)


def test_letter_goes_with_the_document(shared: Rig) -> None:
    key = a_user(shared, "doomed")
    shared.database["users"].update_one({"_id": key}, BREAKING["too large"][0])
    shared.database["users"].delete_one({"_id": key})
    follow(shared)
    assert letters(shared) == []
    assert_equal(shared)


def test_document_that_is_unstorable_from_the_first_is_a_letter_that_shows_it(shared: Rig) -> None:
    key = insert(shared, "users", user("born large") | {"scan": large(420_000)})
    report = follow(shared)
    assert (report.dead, report.written) == (1, 0)
    record = state.letter_record(shared.ledger, "users", str(key))
    assert record is not None
    assert bson.decode(state.letter_document(shared.ledger, record))["scan"] == bytes(large(420_000))
    assert_equal(shared)
    shared.database["users"].delete_one({"_id": key})
    follow(shared)
    assert letters(shared) == []


def damaged(document: Document) -> RawBSONDocument:
    """With WXYZ as bytes that are no UTF-8."""
    return RawBSONDocument(bson.encode(document).replace(b"WXYZ", b"W\xff\xfeZ"))


def test_document_that_cannot_be_decoded_is_a_letter_and_good_once_it_is_mended(shared: Rig) -> None:
    raw = shared.database["users"]
    key = a_user(shared, "decoding")
    before = len(graves(shared))
    raw.update_one({"_id": key}, damaged({"$set": {"note": "WXYZ"}}))
    report = follow(shared)
    assert (report.dead, letters(shared)) == (1, [(str(key), "UnsupportedType")])
    assert len(graves(shared)) == before + 3
    raw.update_one({"_id": key}, damaged({"$set": {"note": "good", "username": "WXYZ"}}))
    follow(shared)
    assert letters(shared) == [(str(key), "UnsupportedType")], "its key is not known at all"
    raw.update_one({"_id": key}, {"$set": {"username": "decoded"}})
    report = follow(shared)
    assert (report.written, report.dead, letters(shared)) == (1, 0, [])
    assert len(keys_of(shared, "USER#decoded")) == 3
    assert_equal(shared)


def test_id_and_field_name_that_cannot_be_decoded_are_letters_and_their_lane_goes_on(shared: Rig) -> None:
    orders = shared.database["orders"]
    orders.insert_one(damaged({"_id": "WXYZ", "status": "new"}))
    key = insert(shared, "orders", order("x"))
    orders.update_one({"_id": key}, damaged({"$set": {"WXYZ": 1}}))
    report = follow(shared)
    assert (report.written, report.dead) == (1, 2)
    assert {reason for _, reason in letters(shared, "orders")} == {"UnsupportedType"}
    orders.delete_one(damaged({"_id": "WXYZ"}))
    orders.replace_one({"_id": key}, {"status": "good"})
    follow(shared)
    assert letters(shared, "orders") == []
    assert_equal(shared)


# --- counting, positions, time ---------------------------------------------------------------------------------------


def test_mixed_traffic_is_applied_and_every_event_counted(rig: Rig) -> None:
    position = follow(rig).position
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, 250, 3, unstorable=0.05)
    report = follow(rig)
    assert report.events == made.documents_changed
    assert report.events == report.written + report.superseded + report.dead + report.passed
    assert report.passed == 0
    assert report.superseded < report.events / 10, "only those of names that were passed on meanwhile"
    assert report.dead > 0
    assert position is not None
    assert report.position is not None
    assert report.position > position
    assert report.lag_s is not None
    record = rig.ledger.read(*state.REPLICATION)
    assert record is not None
    assert {name: record.body[name] for name in ("events", "written", "dead")} == {
        "events": report.events, "written": report.written, "dead": report.dead,
    }  # fmt: skip
    assert_equal(rig)


def test_replay_from_an_older_position_changes_nothing(rig: Rig) -> None:
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, 150, 5)
    first = follow(rig)
    before = rig.scan()
    record, begun = rig.ledger.read(*state.REPLICATION), state.recorded_position(rig.ledger)
    assert record is not None
    assert begun is not None
    rig.ledger.write(*state.REPLICATION, {**record.body, **state.position_body(begun)}, expect=record)
    again = follow(rig)
    assert (again.events, again.superseded, again.written) == (made.documents_changed, made.documents_changed, 0)
    assert first.written > made.documents_changed * 0.9
    assert rig.scan() == before


def test_what_the_load_has_read_already_is_superseded(stack: SandboxStack, tmp_path: Path) -> None:
    rig = live_shop(stack.env(), tmp_path, load=False)
    job = rig.job()
    state.record_position(rig.ledger, job.source)
    rig.database["users"].update_many({}, {"$set": {"note": "before it was read"}})
    rig.load(job=job)
    rig.database["users"].update_one({}, {"$set": {"note": "behind"}})
    report = follow(rig)
    assert (report.superseded, report.written) == (3, 1)
    assert_equal(rig)
    end(rig)


def test_run_ends_after_its_time_and_another_one_goes_on(rig: Rig) -> None:
    began = time.monotonic()
    report = follow(rig, for_s=1.0)
    assert 1.0 <= time.monotonic() - began < 20
    assert report.events == 0
    insert(rig, "users", user("later"))
    until = job_of(rig).source.cluster_time()
    insert(rig, "users", user("even later"))
    assert 1 <= follow(rig, until=until).events <= 2
    assert follow(rig).events <= 1
    assert_equal(rig)


def test_position_moves_on_while_nobody_writes(rig: Rig) -> None:
    position = follow(rig).position
    rig.mongo[f"{rig.database.name}b"]["x"].insert_one({})
    moved = follow(rig)
    rig.mongo.drop_database(f"{rig.database.name}b")
    assert moved.events == 0
    assert position is not None
    assert moved.position is not None
    assert moved.position > position


# --- one at a time ---------------------------------------------------------------------------------------------------


def test_second_one_is_told_who_follows(rig: Rig) -> None:
    with Following(rig) as first:
        await_applied(rig, first)
        with pytest.raises(LeaseHeld) as caught:
            follow(rig)
        assert first.job.identity.name in str(caught.value)
        with pytest.raises(LeaseHeld, match=first.job.identity.name):
            backfill.begin_again(rig.job())
        insert(rig, "users", user("goes on"))
        first.await_all()
    assert first.report is not None
    assert first.report.events == 1
    assert follow(rig).events == 0, "the lease was given back"
    assert_equal(rig)


def test_following_waits_for_every_load(stack: SandboxStack, tmp_path: Path) -> None:
    rig = live_shop(stack.env(), tmp_path, load=False)
    rig.load("users", "orders", "products")
    with pytest.raises(PreflightFailed, match="categories: is not loaded"):
        follow(rig)
    rig.load("categories")
    assert follow(rig).events == 0
    end(rig)


def test_after_the_first_follower_nothing_is_loaded_without_conditions(rig: Rig) -> None:
    follow(rig)
    header = rig.ledger.read("backfill", "categories")
    assert header is not None
    rig.ledger.delete(header)
    key = insert(rig, "categories", MAKERS["categories"]("new"))
    follow_not_yet = pytest.raises(PreflightFailed, match="categories")
    with follow_not_yet:
        follow(rig)
    rig.load("categories")
    header = rig.ledger.read("backfill", "categories")
    assert header is not None
    assert header.body["mode"] == CONDITIONAL
    assert follow(rig).events == 1
    assert keys_of(rig, f"CATEGORY#{key}") == {"METADATA"}
    assert_equal(rig)


def test_load_again_under_live_writes_overwrites_nothing_newer(rig: Rig, tmp_path: Path) -> None:
    """The writer never stops; what follows stops only for as long as `begin_again` takes."""
    follow(rig)
    traffic = TrafficProcess(
        rig.env["DOCFERRY_MONGO_URI"], tmp_path, database=rig.migration.source.database, rate=15, seed=4
    )
    with traffic:
        traffic.await_writing()
        names = backfill.begin_again(rig.job())
        with Following(rig) as following:
            reports = rig.load()
            assert set(reports) == set(names) == set(MAKERS)
            assert all(report.counts.read > 0 for report in reports.values())
            traffic.stop()
            following.await_all()
    assert following.report is not None
    assert following.report.written > 0
    header = rig.ledger.read("backfill", "users")
    assert header is not None
    assert (header.body["mode"], header.body["state"]) == (CONDITIONAL, "complete")
    assert_equal(rig)


# --- processes -------------------------------------------------------------------------------------------------------


def start(rig: Rig, *words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "docferry.cli", "replicate", str(rig.file), "--json", *words]
    return subprocess.Popen(
        command, env={**rig.env, "PATH": ""}, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_killed_in_the_midst_it_goes_on_where_all_was_applied(rig: Rig) -> None:
    made = make_events(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, 200, 11)
    process = start(rig)
    first = {key: item["_v"] for key, item in rig.scan().items()}
    eventually(lambda: {key: item["_v"] for key, item in rig.scan().items()} != first, "the first change", 60)
    process.send_signal(signal.SIGKILL)
    process.communicate(timeout=30)
    with pytest.raises(AssertionError):
        assert_equal(rig)
    report = follow(rig)
    assert 0 < report.events <= made.documents_changed
    assert_equal(rig)


def test_sigterm_ends_it_with_its_position_kept(rig: Rig) -> None:
    process = start(rig)
    await_applied(rig)
    insert(rig, "users", user("before the end"))
    await_applied(rig)
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 0, err
    assert '"events": 1' in out
    assert follow(rig).events == 0
    assert_equal(rig)


def test_judge_sees_what_replication_would_have_to_do(rig: Rig) -> None:
    """The comparison at the end of these tests finds each kind of difference."""
    follow(rig)
    rig.database["users"].update_one({}, {"$set": {"note": Binary(b"x")}})
    rig.database["orders"].delete_one({})
    insert(rig, "products", MAKERS["products"]("new"))
    found = judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True)
    assert found.counts == (1, 4, 1)
    follow(rig)
    assert_equal(rig)
    key, item = next((key, item) for key, item in rig.scan().items() if "_deleted" in item)
    rig.dynamodb.put_item(TableName=rig.table, Item={**item, "status": {"S": "left"}})
    assert key
    assert judge.judge_shop(rig.database, rig.dynamodb, rig.table, live=True).counts == (0, 1, 0)
