"""What reads, counters and pauses of a history prove, or do not."""

from __future__ import annotations

import pytest
from support.rehearsal.told import (
    ANN,
    BOB,
    CONTRADICTED,
    FAILED,
    LOST,
    NOTHING,
    RESURRECTED,
    Told,
    in_mongodb,
    told,
    user,
)

__all__ = ["told"]


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
