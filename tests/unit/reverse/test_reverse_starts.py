"""Where reverse replication begins, and when it refuses to go on."""

from __future__ import annotations

import asyncio

import pytest
from docferry.errors import (
    LeaseHeld,
    PreflightFailed,
    StreamTrimmed,
    Unavailable,
)
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.reverse.follower import latest_of, record_stream_start, reverse
from support.backfill.rig import eventually
from support.reverse.fakes import ANN, BOB, back
from support.reverse.rig import TABLE, Back, dynamodb_leads, hurry

__all__ = ["back"]

DAY_MS = 24 * 3600 * 1000


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
        record = back.ledger.read(*REVERSE)
        return record is not None and bool(record.body["owner"])

    async def both() -> None:
        job = back.job()
        first = asyncio.create_task(reverse(job, back.target, for_s=1.0))
        await asyncio.to_thread(eventually, is_held, "a process to follow")
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
    with pytest.raises(StreamTrimmed, match="correct MongoDB from DynamoDB"):
        back.follow()


def test_shard_that_is_gone_before_its_end_was_read_is_an_error_of_its_own(back: Back) -> None:
    back.put("users", BOB)
    back.streams.split(TABLE)
    back.streams.trim(TABLE)
    with pytest.raises(StreamTrimmed, match="not read to its end"):
        back.follow()


def test_follower_that_was_away_for_a_day_is_told_even_if_the_stream_does_not_say_so(back: Back) -> None:
    record = back.ledger.read(*REVERSE)
    assert record is not None
    reached = int(record.body["reached"]) - DAY_MS - 60_000
    back.ledger.write(*REVERSE, dict(record.body) | {"reached": reached}, expect=record)
    with pytest.raises(StreamTrimmed, match="24 h"):
        back.follow()


def test_stream_that_was_switched_off_is_an_error_of_its_own(back: Back) -> None:
    back.streams.switch_off(TABLE)
    with pytest.raises(StreamTrimmed, match="switched off"):
        back.follow()


def test_half_of_the_window_used_up_raises_an_alarm(back: Back) -> None:
    now = back.streams.clock_ms
    record = back.ledger.read(*REVERSE)
    assert record is not None
    long_ago = {"reached": int(record.body["reached"]) - DAY_MS // 2 - 60_000}
    back.ledger.write(*REVERSE, dict(record.body) | long_ago, expect=record)
    tables = {name: dict(body) | {"since": long_ago["reached"]} for name, body in record.body["tables"].items()}
    record = back.ledger.read(*REVERSE)
    assert record is not None
    back.ledger.write(*REVERSE, dict(record.body) | {"tables": tables}, expect=record)
    back.streams.clock_ms = lambda: now() - DAY_MS // 2 - 30_000
    back.put("users", BOB)
    back.sink.faults.fail_next(*[Unavailable("no primary")] * 4)
    back.follow()
    assert any(line.startswith("ALARM") for line in back.said.lines)
    assert back.users() == [BOB]
