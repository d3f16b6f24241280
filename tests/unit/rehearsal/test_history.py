"""The drill's checker finds what is planted: losses, resurrections, stale reads; and does not cry where nothing is wrong."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId, json_util
from docferry.rehearsal.history import HistoryWriter as Writing
from docferry.rehearsal.independent.aftermath import compare_with_dynamodb, compare_with_mongodb
from docferry.rehearsal.independent.history import HistoryVerdict, Replayed, read_history
from docferry.rehearsal.independent.replay import replay

ANN, BOB = ObjectId("650000000000000000000001"), ObjectId("650000000000000000000002")
VERSION = {"S": "650000000000000000ffff"}
Document = dict[str, Any]


def user(name: str = "ann", identity: ObjectId = ANN, **more: Any) -> Document:
    return {"_id": identity, "username": name, "email": f"{name}@drill.example", "drill": "p0", "visits": 1, **more}


class Told:
    """A history, request after request, one second each."""

    def __init__(self, path: Path, number: int = 0) -> None:
        self.path, self.now, self.last, self.mode = path, 0.0, 0, "MONGO_ONLY"
        self._line({"at": "start", "number": number})

    def _line(self, line: Document) -> None:
        text = json_util.dumps({**line, "time": self.now}, json_options=json_util.CANONICAL_JSON_OPTIONS)
        with self.path.open("a") as file:
            file.write(f"{text}\n")

    def begin(self, kind: str, method: str, *, collection: str = "users", **about: Any) -> int:
        self.last += 1
        line = {"at": "begin", "n": self.last, "kind": kind, "method": method, "collection": collection, **about}
        self._line({**line, "mode": self.mode})
        self.now += 1.0
        return self.last

    def end(self, number: int, **what: Any) -> None:
        self._line({"at": "end", "n": number, "outcome": "ok", "mode": self.mode, **what})

    def write(self, method: str, argument: Any, result: Any, identity: ObjectId = ANN, query: Any = None) -> None:
        query = {} if method == "insert_one" else query or {"username": "ann"}
        number = self.begin("write", method, _id=identity, query=query, argument=argument)
        self.end(number, result=result)

    def fail(self, method: str, argument: Any, error: str, **more: Any) -> None:
        query = {} if method == "insert_one" else {"username": "ann"}
        number = self.begin("write", method, _id=ANN, query=query, argument=argument, **more)
        self.end(number, outcome="failed", error=error)

    def insert(self, document: Document) -> None:
        self.write("insert_one", document, {"inserted": 1}, document["_id"])

    def count(self, **what: Any) -> None:
        number = self.begin("increment", "update_one", counter="c", query={"username": "c"})
        if what:
            self.end(number, **what)

    def read(self, found: Sequence[Document], **query: Any) -> None:
        number = self.begin("read", "find_one", query=query)
        self.end(number, result={"documents": list(found)})

    def replayed(self, **counters: int) -> Replayed:
        return Replayed([read_history(self.path)], counters)

    def verdict(self) -> HistoryVerdict:
        return self.replayed().verdict


@pytest.fixture
def told(tmp_path: Path) -> Told:
    return Told(tmp_path / "history.jsonl")


# --- the databases, as far as the checker asks them ------------------------------------------------------------------


class Mongo(dict[str, list[Document]]):
    """Collections by name."""

    def get_collection(self, name: str, codec_options: Any = None) -> Mongo:
        return Mongo({"": self.get(name, [])})

    def __getitem__(self, name: str) -> Any:
        return self.get_collection(name)

    def find(self, query: Document) -> list[Document]:
        return [one for one in self.get("", []) if not query or one.get("username") in query["username"]["$in"]]


class Dynamo:
    """A table that can be scanned."""

    def __init__(self, *items: Document) -> None:
        self.items = list(items)

    def get_paginator(self, _: str) -> Dynamo:
        return self

    def paginate(self, **_: Any) -> list[Document]:
        return [{"Items": self.items}]


def item(name: str = "ann", identity: ObjectId = ANN, visits: int = 1) -> Document:
    return {
        "PK": {"S": f"USER#{name}"}, "SK": {"S": "PROFILE"}, "entityType": {"S": "USER_PROFILE"},
        "GSI1PK": {"S": f"EMAIL#{name}@drill.example"}, "GSI1SK": {"S": "USER"}, "_v": VERSION,
        "_id": {"S": str(identity)}, "userId": {"S": str(identity)}, "username": {"S": name},
        "email": {"S": f"{name}@drill.example"}, "drill": {"S": "p0"}, "visits": {"N": str(visits)},
    }  # fmt: skip


def tombstone(name: str, identity: ObjectId) -> Document:
    return {
        "PK": {"S": f"USER#{name}"}, "SK": {"S": "PROFILE"}, "entityType": {"S": "USER_PROFILE"}, "_v": VERSION,
        "_id": {"S": str(identity)}, "_deleted": {"BOOL": True}, "_ttl": {"N": "2000000000"},
    }  # fmt: skip


def in_mongodb(told: Told, *users: Document, **counters: int) -> HistoryVerdict:
    replayed = told.replayed(**counters)
    compare_with_mongodb(replayed, Mongo(users=list(users)))
    return replayed.verdict


def in_dynamodb(told: Told, *items: Document) -> HistoryVerdict:
    replayed = told.replayed()
    compare_with_dynamodb(replayed, Dynamo(*items), "Shop")
    return replayed.verdict


NOTHING = (0, 0, 0, 0)
LOST, RESURRECTED, FAILED, CONTRADICTED = (1, 0, 0, 0), (0, 1, 0, 0), (0, 0, 1, 0), (0, 0, 0, 1)


def test_documents_as_they_were_acknowledged_are_no_finding(told: Told) -> None:
    told.insert(user())
    told.write("update_one", {"$inc": {"visits": 4}}, {"matched": 1, "modified": 1})
    told.insert(user("bob", BOB))
    told.write("delete_one", None, {"deleted": 1}, BOB, {"username": "bob"})
    assert in_mongodb(told, user(visits=5)).counts == NOTHING
    assert in_dynamodb(told, item(visits=5), tombstone("bob", BOB)).counts == NOTHING


def test_update_that_is_not_there_is_lost(told: Told) -> None:
    told.insert(user())
    told.write("update_one", {"$inc": {"visits": 4}}, {"matched": 1, "modified": 1})
    assert in_mongodb(told, user()).counts == LOST
    assert in_dynamodb(told, item()).counts == LOST


def test_insert_that_is_not_there_is_lost(told: Told) -> None:
    told.insert(user())
    assert in_mongodb(told).counts == LOST
    assert in_dynamodb(told, tombstone("ann", ANN)).counts == LOST


def test_index_key_that_is_not_there_is_lost(told: Told) -> None:
    told.insert(user())
    bare = {name: value for name, value in item().items() if not name.startswith("GSI")}
    assert in_dynamodb(told, bare).counts == LOST


def test_deleted_document_that_is_there_is_resurrected(told: Told) -> None:
    told.insert(user())
    told.write("delete_one", None, {"deleted": 1})
    assert in_mongodb(told, user()).counts == RESURRECTED
    assert in_dynamodb(told, item()).counts == RESURRECTED


def test_old_key_of_a_renamed_document_is_resurrected(told: Told) -> None:
    told.insert(user())
    told.write("update_one", {"$set": {"username": "eve", "email": "eve@drill.example"}}, {"matched": 1, "modified": 1})
    assert in_dynamodb(told, item("eve"), tombstone("ann", ANN)).counts == NOTHING
    assert in_dynamodb(told, item("eve"), item("ann")).counts == RESURRECTED


def test_document_that_nobody_wrote_is_resurrected(told: Told) -> None:
    told.insert(user())
    assert in_mongodb(told, user(), user("bob", BOB)).counts == RESURRECTED
    assert in_dynamodb(told, item(), item("bob", BOB)).counts == RESURRECTED


def test_document_of_somebody_else_is_not_looked_at(told: Told) -> None:
    other = user("bob", BOB)
    del other["drill"]
    stored = item("bob", BOB)
    del stored["drill"]
    assert in_mongodb(told, other).counts == NOTHING
    assert in_dynamodb(told, stored).counts == NOTHING


def test_attempt_without_an_end_may_have_happened_or_not(told: Told) -> None:
    told.insert(user())
    told.begin("write", "update_one", _id=ANN, query={"username": "ann"}, argument={"$inc": {"visits": 4}})
    for visits in (1, 5):
        assert in_mongodb(told, user(visits=visits)).counts == NOTHING
        assert in_dynamodb(told, item(visits=visits)).counts == NOTHING
    assert in_mongodb(told, user(visits=9)).counts == LOST
    assert in_dynamodb(told).counts == LOST
    assert in_mongodb(told, user()).killed == [0]


def test_half_a_line_of_a_killed_process_is_passed_over(told: Told) -> None:
    told.insert(user())
    with told.path.open("a") as file:
        file.write('{"at": "begin", "n": 9, "ki')
    assert in_mongodb(told, user()).counts == NOTHING


def test_failed_write_with_an_unknown_outcome_may_have_happened_and_is_counted(told: Told) -> None:
    told.insert(user())
    told.fail("update_one", {"$inc": {"visits": 4}}, "AutoReconnect")
    assert in_mongodb(told, user(visits=1)).counts == FAILED
    assert in_mongodb(told, user(visits=5)).counts == FAILED


def test_write_that_was_held_too_long_has_not_happened(told: Told) -> None:
    told.insert(user())
    told.fail("update_one", {"$inc": {"visits": 4}}, "WritesHeld")
    assert in_mongodb(told, user(visits=1)).counts == FAILED
    assert in_mongodb(told, user(visits=5)).counts == (1, 0, 1, 0)


def test_later_answer_tells_whether_an_unknown_write_has_happened(told: Told) -> None:
    told.insert(user())
    told.fail("delete_one", None, "AutoReconnect")
    told.write("update_one", {"$inc": {"visits": 1}}, {"matched": 0, "modified": 0})
    assert in_mongodb(told).counts == FAILED
    assert in_mongodb(told, user(visits=2)).counts == (0, 1, 1, 0)


def test_answer_that_contradicts_what_was_acknowledged_is_found(told: Told) -> None:
    told.insert(user())
    told.write("update_one", {"$inc": {"visits": 1}}, {"matched": 0, "modified": 0})
    assert told.verdict().counts == CONTRADICTED


def test_insert_under_a_taken_key_must_be_refused(told: Told) -> None:
    told.insert(user())
    told.fail("insert_one", user(identity=BOB), "DuplicateKeyError", refused=True)
    assert in_mongodb(told, user()).counts == NOTHING
    number = told.begin("write", "insert_one", _id=BOB, query={}, argument=user(identity=BOB), refused=True)
    told.end(number, result={"inserted": 1})
    assert told.verdict().counts == CONTRADICTED


# --- counters --------------------------------------------------------------------------------------------------------


def test_counter_lies_between_the_acknowledged_and_the_attempted_increments(told: Told) -> None:
    told.count(result={"matched": 1, "modified": 1})
    told.count(result={"matched": 1, "modified": 1})
    told.count()
    counter = user("c")
    assert in_mongodb(told, c=7).counts == LOST
    for visits, found in ((8, LOST), (9, NOTHING), (10, NOTHING), (11, RESURRECTED)):
        del (one := counter | {"visits": visits})["drill"]
        assert in_mongodb(told, one, c=7).counts == found, visits


def test_counter_seen_below_its_own_increments_is_a_contradiction(told: Told) -> None:
    told.count(result={"matched": 1, "modified": 1})
    told.read([{"_id": BOB, "username": "c", "visits": 1}], username="c")
    assert told.replayed(c=0).verdict.counts == NOTHING
    told.read([{"_id": BOB, "username": "c", "visits": 0}], username="c")
    assert told.replayed(c=0).verdict.counts == CONTRADICTED


# --- reads -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["MONGO_ONLY", "DUAL_WRITE", "DYNAMODB_ONLY"])
def test_old_read_is_a_contradiction_where_the_mode_promises_better(told: Told, mode: str) -> None:
    told.mode = mode
    told.insert(user())
    told.write("update_one", {"$set": {"visits": 2}}, {"matched": 1, "modified": 1})
    told.read([user(visits=2)], username="ann")
    assert told.verdict().counts == NOTHING
    told.read([user(visits=1)], username="ann")
    assert told.verdict().counts == CONTRADICTED
    told.read([], username="ann")
    assert told.verdict().counts == (0, 0, 0, 2)


def test_old_read_where_dynamodb_may_be_behind_is_only_counted(told: Told) -> None:
    told.insert(user())
    told.write("update_one", {"$set": {"visits": 2}}, {"matched": 1, "modified": 1})
    told.mode = "DYNAMODB_READS"
    told.read([user(visits=1)], username="ann")
    verdict = told.verdict()
    assert (verdict.counts, verdict.stale) == (NOTHING, 1)


def test_read_in_a_hold_goes_by_the_mode_before(told: Told) -> None:
    told.insert(user())
    told.write("update_one", {"$set": {"visits": 2}}, {"matched": 1, "modified": 1})
    told.mode = "DYNAMODB_ONLY"
    told.read([user(visits=2)], username="ann")
    told.mode = "HOLD"
    told.read([user(visits=1)], username="ann")
    assert told.verdict().counts == CONTRADICTED


def test_deleted_document_that_is_read_is_a_contradiction(told: Told) -> None:
    told.insert(user())
    told.write("delete_one", None, {"deleted": 1})
    told.read([user()], username="ann")
    (found,) = told.verdict().contradicted
    assert "after it was deleted" in found


def test_read_beside_a_write_may_see_either(told: Told) -> None:
    told.insert(user())
    write = told.begin("write", "update_one", _id=ANN, query={"username": "ann"}, argument={"$set": {"visits": 2}})
    told.read([user(visits=2)], username="ann")
    told.read([user(visits=1)], username="ann")
    told.read([user(visits=3)], username="ann")
    told.end(write, result={"matched": 1, "modified": 1})
    assert told.verdict().counts == CONTRADICTED


def test_document_that_an_index_of_dynamodb_does_not_name_yet_is_only_counted(told: Told) -> None:
    told.insert(user())
    told.read([], email="ann@drill.example")
    assert told.verdict().counts == CONTRADICTED
    told.now, told.mode = told.now + 1.0, "DYNAMODB_ONLY"
    told.read([user()], email="ann@drill.example")
    told.read([], email="ann@drill.example")
    verdict = told.verdict()
    assert (verdict.counts, verdict.unindexed) == (CONTRADICTED, 1)


def test_failed_read_is_counted(told: Told) -> None:
    told.end(told.begin("read", "find_one", query={"username": "ann"}), outcome="failed", error="TornRead")
    assert told.verdict().counts == FAILED


def test_pauses_latencies_and_holds_are_measured(told: Told) -> None:
    told.read([], username="x")
    told.now += 4.0
    told.read([], username="x")
    told.insert(user())
    told.mode = "HOLD"
    number = told.begin("write", "update_one", _id=ANN, query={"username": "ann"}, argument={"$set": {"visits": 2}})
    told.now += 1.0
    told.mode = "DYNAMODB_ONLY"
    told.end(number, result={"matched": 1, "modified": 1})
    verdict = told.verdict()
    assert verdict.pauses_s == [5.0]
    assert verdict.writes_s == [1.0, 2.0]
    assert verdict.held_s == [2.0]


# --- what writes make ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("update", "after"),
    [
        ({"$set": {"a.b": 1, "c": 2}}, {"a": {"b": 1}, "c": 2}),
        ({"$unset": {"visits": "", "x.y": ""}}, {"visits": None}),
        ({"$min": {"visits": 0}, "$max": {"best": 5}}, {"visits": 0, "best": 5}),
        ({"$push": {"tags": "b"}}, {"tags": ["a", "b"]}),
        ({"$addToSet": {"tags": "a"}}, {"tags": ["a"]}),
        ({"$pull": {"lines": {"n": 1}}}, {"lines": [{"n": 2}]}),
    ],
)
def test_update_makes_of_a_document_what_mongodb_makes(update: Document, after: Document) -> None:
    before = user(tags=["a"], lines=[{"n": 1}, {"n": 2}, {"n": 1}])
    kept = copy.deepcopy(before)
    write = {"method": "update_one", "query": {"username": "ann"}, "argument": update}
    found, _ = replay(before, write)
    assert before == kept
    assert found == {name: value for name, value in (before | after).items() if value is not None}


def test_history_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "history.jsonl"
    argument = user(price=Decimal128("1.50"), at=datetime(2024, 1, 1, 12))
    about = {
        "kind": "write",
        "method": "insert_one",
        "collection": "users",
        "_id": ANN,
        "query": {},
        "argument": argument,
    }

    def refuse() -> None:
        raise ValueError("xyzzy")

    with Writing(path, 3, lambda: "DUAL_WRITE") as history:
        assert history.request(lambda: {"inserted": 1}, about) == ({"inserted": 1}, "")
        assert history.request(refuse, about) == (None, "ValueError")
        history.stop({"mongodb.insert_one": 1})
    read = read_history(path)
    first, second = read.requests
    assert (read.process, read.stopped, first.about["argument"], first.end["result"]) == (
        3,
        True,
        argument,
        {"inserted": 1},
    )
    assert (second.ok, second.error) == (False, "ValueError")
    assert "xyzzy" not in path.read_text()
    with pytest.raises(FileExistsError):
        Writing(path, 3, lambda: "DUAL_WRITE")
