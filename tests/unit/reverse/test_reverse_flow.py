"""Reverse replication in memory: what it follows, what it refuses, what becomes a dead letter, and how one is healed."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from docferry.errors import (
    InvariantBroken,
    LeaseHeld,
    NotApplied,
    PreflightFailed,
    RetryExhausted,
    StreamTrimmed,
    Throttled,
    TimedOut,
    Unavailable,
)
from docferry.flows.reporting.status import status_of
from docferry.flows.reverse.follower import RECORD, ReverseReport, latest_of, record_stream_start, reverse
from docferry.flows.reverse.proof import Write, unapplied
from docferry.ports.flows import StreamPage
from support.backfill.rig import eventually
from support.reverse.rig import MIGRATION, TABLE, Back, dynamodb_leads, hurry

ANN: dict[str, Any] = {"_id": 1, "name": "ann", "mail": "a", "addresses": [{"street": "one"}, {"street": "two"}]}
BOB: dict[str, Any] = {"_id": 2, "name": "bob", "mail": "b"}
DAY_MS = 24 * 3600 * 1000


@pytest.fixture
def back(monkeypatch: pytest.MonkeyPatch) -> Back:
    hurry(monkeypatch)
    made = Back()
    made.start()
    return made


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
    monkeypatch.setattr("docferry.flows.reverse.lanes.RETRY_FOR_S", 0.0)
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


# --- what is refused, and what is lost -------------------------------------------------------------------------------


def test_table_without_a_stream_is_refused_by_name(back: Back) -> None:
    back.streams.switch_off(TABLE)
    with pytest.raises(PreflightFailed, match=r"tables\.Items: has no stream"):
        record_stream_start(back.ledger, back.streams, [TABLE])


def test_stream_without_images_is_refused(back: Back) -> None:
    back.streams.images = False
    with pytest.raises(PreflightFailed, match="both images"):
        record_stream_start(back.ledger, back.streams, [TABLE])


def marked_start(back: Back) -> None:
    """As the switch does it: five records are in the stream, of which MongoDB has all."""
    for number in range(5):
        back.put("users", BOB | {"n": number})
    latest = latest_of(back.streams, [TABLE])
    record_stream_start(back.ledger, back.streams, [TABLE], latest)
    back.put("users", BOB | {"n": 5})


def test_start_at_a_mark_reads_nothing_that_was_written_before(back: Back) -> None:
    marked_start(back)
    assert back.follow().records == 1
    assert [one["n"] for one in back.sink.all_of("users").values()] == [5]


def test_start_at_a_mark_that_has_expired_reads_all_from_the_beginning(back: Back) -> None:
    marked_start(back)
    back.streams.expire_iterators()
    assert back.follow().records == 6
    assert [one["n"] for one in back.sink.all_of("users").values()] == [5]


def test_second_run_goes_on_behind_what_the_first_one_applied_from_a_mark(back: Back) -> None:
    marked_start(back)
    back.follow()
    back.put("users", BOB | {"n": 6})
    assert back.follow().records == 1
    assert [one["n"] for one in back.sink.all_of("users").values()] == [6]


def test_following_without_a_recorded_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    hurry(monkeypatch)
    back = Back()
    dynamodb_leads(back.ledger)
    with pytest.raises(PreflightFailed, match=r"tables\.Items: no start is recorded"):
        back.follow()


def test_two_do_not_follow_at_once_and_no_start_is_recorded_under_a_follower(back: Back) -> None:
    found: list[BaseException] = []

    def is_held() -> bool:
        record = back.ledger.read(*RECORD)
        return record is not None and bool(record.body["owner"])

    async def both() -> None:
        job = back.job()
        first = asyncio.create_task(reverse(job, back.target, for_s=1.0))
        await asyncio.to_thread(eventually, is_held, "somebody to follow")
        for attempt in (lambda: back.start(), lambda: asyncio.run(reverse(job, back.target, for_s=0.1))):
            try:
                await asyncio.to_thread(attempt)
            except LeaseHeld as error:
                found.append(error)
        await first

    asyncio.run(both())
    assert len(found) == 2


def test_records_trimmed_before_they_were_read_are_an_error_of_their_own(back: Back) -> None:
    back.put("users", BOB)
    back.follow()
    back.put("users", ANN)
    back.streams.trim(TABLE)
    with pytest.raises(StreamTrimmed, match="mend MongoDB from DynamoDB"):
        back.follow()


def test_shard_that_is_gone_before_its_end_was_read_is_an_error_of_its_own(back: Back) -> None:
    back.put("users", BOB)
    back.streams.split(TABLE)
    back.streams.trim(TABLE)
    with pytest.raises(StreamTrimmed, match="not read to its end"):
        back.follow()


def test_follower_that_was_away_for_a_day_is_told_even_if_the_stream_does_not_say_so(back: Back) -> None:
    record = back.ledger.read(*RECORD)
    assert record is not None
    reached = int(record.body["reached"]) - DAY_MS - 60_000
    back.ledger.write(*RECORD, dict(record.body) | {"reached": reached}, expect=record)
    with pytest.raises(StreamTrimmed, match="24 h"):
        back.follow()


def test_stream_that_was_switched_off_is_an_error_of_its_own(back: Back) -> None:
    back.streams.switch_off(TABLE)
    with pytest.raises(StreamTrimmed, match="switched off"):
        back.follow()


def test_half_of_the_window_used_up_raises_an_alarm(back: Back) -> None:
    now = back.streams.clock_ms
    record = back.ledger.read(*RECORD)
    assert record is not None
    long_ago = {"reached": int(record.body["reached"]) - DAY_MS // 2 - 60_000}
    back.ledger.write(*RECORD, dict(record.body) | long_ago, expect=record)
    tables = {name: dict(body) | {"since": long_ago["reached"]} for name, body in record.body["tables"].items()}
    record = back.ledger.read(*RECORD)
    assert record is not None
    back.ledger.write(*RECORD, dict(record.body) | {"tables": tables}, expect=record)
    back.streams.clock_ms = lambda: now() - DAY_MS // 2 - 30_000
    back.put("users", BOB)
    back.sink.faults.fail_next(*[Unavailable("no primary")] * 4)
    back.follow()
    assert any(line.startswith("ALARM") for line in back.said.lines)
    assert back.users() == [BOB]


def test_report_that_does_not_add_up_is_our_bug() -> None:
    ReverseReport(records=3, applied=1, same=1, dead=1).check()
    with pytest.raises(InvariantBroken):
        ReverseReport(records=3, applied=1).check()


# --- proof -----------------------------------------------------------------------------------------------------------


def test_writes_are_proved_once_mongodb_holds_them_and_not_before(back: Back) -> None:
    writes = back.put("users", ANN)
    with pytest.raises(NotApplied, match="users ~i1"):
        back.prove(writes)
    back.follow()
    back.prove(writes)
    gone = back.remove("users", 1)
    with pytest.raises(NotApplied):
        back.prove(gone)
    back.follow()
    back.prove([*writes, *gone])


def test_write_that_dynamodb_does_not_show_is_not_proved(back: Back) -> None:
    (write,) = back.put("users", BOB)
    back.follow()
    with pytest.raises(NotApplied):
        back.prove([write._replace(version=write.version + 1)])
    with pytest.raises(NotApplied):
        back.prove([Write(TABLE, ("USER#nobody", "PROFILE"), 1)])


def test_rename_is_proved_only_when_old_and_new_key_are(back: Back) -> None:
    back.put("users", BOB)
    back.follow()
    writes = back.put("users", BOB | {"name": "eve"})
    assert len(writes) == 2
    with pytest.raises(NotApplied):
        back.prove(writes)
    back.follow()
    back.prove(writes)


def test_proof_waits_for_a_follower(back: Back) -> None:
    writes = back.put("users", ANN)
    follower = threading.Thread(target=lambda: back.follow(for_s=1.0), daemon=True)
    follower.start()
    back.prove(writes, within_s=20)
    back.stop.set()
    follower.join(20)
    assert back.users() == [ANN]


def test_one_look_names_only_the_writes_that_are_not_applied(back: Back) -> None:
    """A document that is written all the time must not hide that the others are there."""
    done = back.put("users", ANN)
    back.follow()
    open_writes = back.put("users", BOB)
    found = asyncio.run(unapplied(back.job(), back.target, [*done, *open_writes]))
    assert {write for write, _ in found} == set(open_writes)


def test_look_reads_each_document_once_however_many_of_its_items_were_written(
    back: Back, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes = back.put("users", ANN)
    assert len(writes) > 2
    back.follow()
    asked: list[str] = []
    ask = back.target._request

    async def counted(operation: str, table: str) -> Any:
        asked.append(operation)
        return await ask(operation, table)

    monkeypatch.setattr(back.target, "_request", counted)
    back.prove(writes)
    assert asked == ["BatchGetItem", "Query"]
