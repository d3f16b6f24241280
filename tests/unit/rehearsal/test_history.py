"""The drill's checker finds what is planted: losses, resurrections, stale reads; and does not cry where nothing is wrong."""

from __future__ import annotations

import copy
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from docferry.rehearsal.history import HistoryWriter as Writing
from docferry.rehearsal.independent.aftermath import compare_with_dynamodb
from docferry.rehearsal.independent.history import HistoryVerdict, read_history
from docferry.rehearsal.independent.replay import replay
from support.rehearsal.told import (
    ANN,
    BOB,
    CONTRADICTED,
    FAILED,
    LOST,
    NOTHING,
    RESURRECTED,
    Document,
    Told,
    in_mongodb,
    told,
    user,
)

__all__ = ["told"]

VERSION = {"S": "650000000000000000ffff"}


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


def in_dynamodb(told: Told, *items: Document) -> HistoryVerdict:
    replayed = told.replayed()
    compare_with_dynamodb(replayed, Dynamo(*items), "Shop")
    return replayed.verdict


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
