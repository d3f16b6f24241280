"""Reverse replication in memory: what it follows, what it refuses, what becomes a dead letter, and how one is healed."""

from __future__ import annotations

from typing import Any

import bson
import pytest
from docferry.core.backoff import Backoff
from docferry.errors import (
    InvariantBroken,
    ItemsUnreadable,
    RetryExhausted,
    Throttled,
    TimedOut,
    Unavailable,
)
from docferry.flows.kernel.unforeseen import ATTEMPTS
from docferry.flows.reporting.status import status_of
from docferry.flows.reverse.places import places_of
from docferry.flows.reverse.report import ReverseReport
from docferry.ports.flows import StreamPage, StreamRecord
from docferry.testing.fakes import FakeSink
from support.reverse.fakes import ANN, BOB, back
from support.reverse.rig import MIGRATION, TABLE, Back

__all__ = ["back"]


def counts(report: ReverseReport) -> dict[str, int]:
    names = ("records", "applied", "same", "removed", "ignored", "dead")
    return {name: value for name in names if (value := getattr(report, name))}


# --- what is followed ------------------------------------------------------------------------------------------------


def test_documents_written_renamed_and_deleted_reach_mongodb_and_add_up(back: Back) -> None:
    back.put("users", ANN)
    back.put("users", BOB)
    back.follow()
    assert back.users() == [ANN, BOB]
    back.put("users", ANN | {"name": "eve", "addresses": []})
    back.remove("users", 2)
    report = back.follow()
    assert back.users() == [ANN | {"name": "eve", "addresses": []}]
    assert report.records == 5
    assert report.lag_s == 0.0
    assert (report.dead, report.letters) == (0, 0)


def test_second_run_goes_on_where_the_first_one_left(back: Back) -> None:
    back.put("users", ANN)
    assert back.follow().records == 3
    assert counts(back.follow()) == {}
    back.put("users", BOB)
    assert counts(back.follow()) == {"records": 1, "applied": 1}


def test_document_that_is_the_same_but_for_the_order_of_fields_is_not_written(back: Back) -> None:
    back.put("users", BOB)
    back.follow()
    written = back.sink.writes
    back.put("users", dict(reversed(BOB.items())))
    assert counts(back.follow()) == {"records": 1, "same": 1}
    assert back.sink.writes == written


def test_one_look_answers_all_records_of_a_document_that_came_before_it(back: Back) -> None:
    for number in range(20):
        back.put("users", BOB | {"x": number})
    back.streams.page_records = 100
    report = back.follow()
    assert counts(report) == {"records": 20, "applied": 1, "same": 19}
    assert back.target.requests["Query"] == back.sink.writes == 1


def test_shards_that_split_while_it_runs_are_read_to_their_end_and_then_their_children(back: Back) -> None:
    back.streams.page_records = 1
    for number in range(12):
        back.put("notes", {"_id": number})
        if number % 3 == 0:
            back.streams.split(TABLE)
    report = back.follow()
    assert len(back.sink.all_of("notes")) == 12
    assert report.records == 12
    assert report.lag_s == 0.0
    assert counts(back.follow()) == {}


def test_split_during_a_run_does_not_end_it_before_the_children_are_read(back: Back) -> None:
    back.put("notes", {"_id": 0})
    records = back.streams.records
    split: list[int] = []

    def split_once(iterator: str, limit: int) -> StreamPage:
        page = records(iterator, limit)
        if not page.records and not split:
            split.append(1)
            back.streams.split(TABLE)
            back.put("notes", {"_id": 1}, {"_id": 2}, {"_id": 3})
        return page

    back.streams.records = split_once  # type: ignore[method-assign]
    back.follow()
    back.follow()
    assert len(back.sink.all_of("notes")) == 4


def test_iterators_that_expire_are_opened_again_behind_the_last_record_read(back: Back) -> None:
    back.streams.page_records = 2
    records = back.streams.records

    def expiring(iterator: str, limit: int) -> StreamPage:
        page = records(iterator, limit)
        if page.records:
            back.streams.expire_iterators()
        return page

    back.streams.records = expiring  # type: ignore[method-assign]
    for number in range(7):
        back.put("notes", {"_id": number})
    assert back.follow().records == 7
    assert len(back.sink.all_of("notes")) == 7


def test_servers_that_do_not_answer_for_a_while_cost_nothing(back: Back) -> None:
    back.put("users", ANN, BOB)
    back.streams.faults.fail_next(Throttled("slow down"), Unavailable("away"))
    back.sink.faults.fail_next(Unavailable("no primary"), TimedOut("late"))
    back.sink.faults.lose_next_answers(TimedOut("late"))
    report = back.follow()
    assert sorted(one["_id"] for one in back.users()) == [1, 2]
    report.check()


def test_server_that_stays_away_ends_the_run_and_nothing_is_passed(back: Back, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("docferry.flows.reverse.lanes.BACKOFF", Backoff(for_s=0.0))
    back.put("users", BOB)
    back.sink.faults.fail_next(*[Unavailable("no primary")] * 3)
    with pytest.raises(RetryExhausted):
        back.follow()
    back.sink.faults = type(back.sink.faults)()
    assert counts(back.follow()) == {"records": 1, "applied": 1}


def test_run_for_a_time_ends_and_one_that_is_stopped_keeps_what_is_applied(back: Back) -> None:
    back.put("users", BOB)
    assert back.follow(for_s=0.3).applied == 1
    back.stop.set()
    assert counts(back.follow(for_s=60)) == {}


def test_status_tells_how_far_it_is(back: Back) -> None:
    back.put("users", BOB)
    back.follow()
    told = status_of(MIGRATION, back.ledger)["reverse"]
    assert (told["records"], told["applied"], told["lag_s"], told["owner"]) == (1, 1, 0, "")
    assert told["begun_ms"] <= told["applied_up_to_ms"]
    assert status_of(MIGRATION, Back().ledger)["reverse"] is None


# --- what is passed over ---------------------------------------------------------------------------------------------


def test_tombstone_that_ttl_removes_is_ignored(back: Back) -> None:
    back.put("users", BOB)
    (grave,) = back.remove("users", 2)
    back.follow()
    back.streams.write(TABLE, deletes=[grave.key])
    report = back.follow()
    assert counts(report) == {"records": 1, "ignored": 1}
    assert report.ignored_by == {"a tombstone's own end": 1}


def test_items_of_a_type_that_the_file_does_not_know_are_ignored_and_told(back: Back) -> None:
    stranger = {"PK": {"S": "X"}, "SK": {"S": "Y"}}
    back.streams.write(TABLE, [stranger | {"entityType": {"S": "SESSION"}}, stranger | {"PK": {"S": "Z"}}])
    report = back.follow()
    assert counts(report) == {"records": 2, "ignored": 2}
    assert report.ignored_by == {"entityType SESSION": 1, "no entityType": 1}
    assert any("SESSION" in line for line in back.said.lines)


def test_records_from_long_before_the_start_are_passed_over(back: Back) -> None:
    now = back.streams.clock_ms
    back.streams.clock_ms = lambda: now() - 3600 * 1000
    back.put("users", BOB)
    back.streams.clock_ms = now
    back.put("users", ANN)
    report = back.follow()
    assert back.users() == [ANN]
    assert report.ignored_by == {"written before the start": 1}


# --- dead letters ----------------------------------------------------------------------------------------------------


def only_letter(back: Back) -> tuple[str, str, str]:
    (letter,) = back.letters()
    return letter.collection, letter.id, letter.reason


def test_torn_document_becomes_a_dead_letter_and_is_healed_once_it_is_whole(back: Back) -> None:
    back.put("users", ANN)
    back.follow()
    child = back.target.tables[TABLE][("USER#ann", "ADDRESS#000")]
    torn = child | {"street": {"S": "secret"}}
    back.streams.write(TABLE, [torn])
    report = back.follow()
    assert counts(report) == {"records": 1, "dead": 1}
    assert only_letter(back) == ("users", "~i1", "TornDocument")
    assert back.users() == [ANN]
    assert "secret" not in str(back.letters()[0].to_dict()) + " ".join(back.said.lines)
    back.put("users", ANN | {"x": 1})
    assert back.follow().healed == 1
    assert back.users() == [ANN | {"x": 1}]
    assert back.letters() == []


def test_unique_value_that_two_documents_hold_becomes_a_dead_letter_until_one_lets_go(back: Back) -> None:
    back.put("users", ANN)
    back.put("users", BOB | {"mail": "a"})
    assert back.follow().dead == 1
    assert only_letter(back)[2] == "DuplicateKey"
    assert back.users() == [ANN]
    back.put("users", ANN | {"mail": "c"})
    back.follow()
    report = back.follow(for_s=0.5)  # nothing comes of the other one any more: it is looked at again
    assert report.letters == 0
    assert back.letters() == []
    assert sorted(one["mail"] for one in back.users()) == ["a", "c"]


def test_unique_values_that_change_places_do_so_without_a_dead_letter(back: Back) -> None:
    back.put("users", ANN, BOB)
    back.follow()
    back.put("users", ANN | {"mail": "b"}, BOB | {"mail": "a"})
    report = back.follow()
    assert report.dead == 0
    assert {one["_id"]: one["mail"] for one in back.users()} == {1: "b", 2: "a"}


def test_item_that_names_no_document_becomes_a_dead_letter_until_it_is_mended(back: Back) -> None:
    nobody = {"PK": {"S": "NOTE#~i1"}, "SK": {"S": "NOTE"}, "entityType": {"S": "NOTE"}}
    back.streams.write(TABLE, [nobody])
    assert back.follow().dead == 1
    collection, name, reason = only_letter(back)
    assert (collection, reason) == ("notes", "ItemsUnreadable")
    assert name.startswith("~item#")
    back.put("notes", {"_id": 1})
    back.follow()
    back.follow(for_s=0.5)
    assert back.letters() == []


def test_document_whose_content_asks_for_another_key_becomes_a_dead_letter(back: Back) -> None:
    """Else its end would find that MongoDB's copy maps to another key, and leave it there for ever."""
    back.put("users", BOB)
    stored = back.target.tables[TABLE][("USER#bob", "PROFILE")]
    back.streams.write(TABLE, [stored | {"name": {"S": "eve"}}])
    assert back.follow().dead >= 1
    assert only_letter(back) == ("users", "~i2", "ItemsUnreadable")


def test_document_that_mongodb_does_not_take_becomes_a_dead_letter(back: Back) -> None:
    back.sink.refuses = lambda document: "x" in document
    back.put("users", BOB | {"x": 1})
    assert back.follow().dead == 1
    assert only_letter(back) == ("users", "~i2", "RefusedByStore")
    back.put("users", BOB)
    assert back.follow().healed == 1


class Buggy(FakeSink):
    """Has an error that no code foresees, for one document."""

    error: Exception = AttributeError("secret value of a document")
    times = 10**9

    def put(self, collection: str, data: bytes) -> None:
        if self.times and bson.decode(data)["_id"] == 2:
            self.times -= 1
            raise self.error
        super().put(collection, data)


def buggy(back: Back, **settings: Any) -> Buggy:
    back.sink = sink = Buggy({"users": [("mail",)]})
    for name, value in settings.items():
        setattr(sink, name, value)
    return sink


def test_a_document_with_an_error_that_nothing_foresees_becomes_a_letter_and_the_stream_goes_on(back: Back) -> None:
    sink = buggy(back)
    back.put("users", BOB)
    back.put("users", ANN)
    report = back.follow()
    assert report.dead == 1
    assert back.users() == [ANN]
    assert only_letter(back) == ("users", "~i2", "Unforeseen")
    assert "secret" not in back.letters()[0].message
    sink.times = 0
    back.put("users", BOB)
    assert back.follow().healed == 1


def test_an_error_that_goes_away_leaves_no_letter(back: Back) -> None:
    buggy(back, times=ATTEMPTS - 1)
    back.put("users", BOB)
    assert (back.follow().applied, back.letters()) == (1, [])


def test_a_broken_invariant_ends_the_way_back(back: Back) -> None:
    buggy(back, error=InvariantBroken("two followers"))
    back.put("users", BOB)
    with pytest.raises(InvariantBroken):
        back.follow()
    assert back.letters() == []


class Strange(dict[str, Any]):
    """What no code expects in the place of a value."""

    def __iter__(self) -> Any:
        raise AttributeError("secret")

    items = keys = __iter__


def test_an_item_whose_id_brings_out_a_bug_becomes_a_letter_and_the_stream_goes_on(back: Back) -> None:
    back.put("users", BOB)
    strange = {
        "PK": {"S": "x"},
        "SK": {"S": "y"},
        "entityType": {"S": "USER"},
        "_v": {"S": "0" * 22},
        "_id": Strange(S="2"),
    }
    record = StreamRecord(sequence="1", key=("x", "y"), created_ms=0, new=strange)
    (found,) = places_of(record, MIGRATION.entities(TABLE))
    assert isinstance(found, ItemsUnreadable)
