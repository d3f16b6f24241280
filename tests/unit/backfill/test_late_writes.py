"""A bulk write has no condition: one that was sent and never answered is waited for before replication begins."""

from __future__ import annotations

import asyncio
import threading
import time
from dataclasses import replace

import pytest
from docferry.errors import PreflightFailed, Stopped, Unavailable
from docferry.flows.backfill.finish import finish
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.ledger.leases import ORPHANED, take_or_create
from docferry.flows.ledger.load_headers import (
    NONE_LATE,
    Counts,
    LateWrites,
    LoadHeaders,
    chunk_checkpoint,
    chunk_in,
    chunk_section,
    list_chunks,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.replicate.follower import replicate
from docferry.flows.reporting.status import status_of
from docferry.testing.fakes import FakeLedger
from docferry.testing.jobs import make_job
from support.replicate.fake_world import MIGRATION, World

LIFE_S = 1.5
SHORT = replace(MIGRATION, backfill=replace(MIGRATION.backfill, late_writes_s=LIFE_S))


class NoLimit:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class Said:
    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, *_: object) -> None: ...


def half_loaded_world() -> World:
    """The load's first request was carried out, but its answer is lost: so the load has failed."""
    world = World(5)
    world.common |= {"migration": SHORT, "progress": Said()}
    world.target.faults.lose_next_answers(Unavailable("the answer is lost", operation="BatchWriteItem"))
    with pytest.raises(Unavailable):
        world.load()
    return world


def test_replication_that_is_to_end_at_a_time_is_refused_while_a_write_may_come_late() -> None:
    world = half_loaded_world()
    world.common["migration"] = MIGRATION
    world.load()
    with pytest.raises(PreflightFailed, match="1 requests without an answer; waiting until"):
        world.replicate()


def test_replication_waits_for_the_late_write_and_then_its_own_is_the_last() -> None:
    world = half_loaded_world()
    world.load()
    sent = list(world.target.tables["Items"].values())
    world.source.put("docs", {"_id": 3, "x": "newer"})
    header = LoadHeaders(world.ledger).read("docs")
    assert header is not None
    signed_ms = header.late.signed_ms

    async def both() -> None:
        job = make_job(**world.common)
        following = asyncio.create_task(replicate(job, world.target, for_s=LIFE_S + 3.0))
        await asyncio.sleep(max(0.0, LIFE_S - 0.4 - (now_ms() - signed_ms) / 1000))
        await world.target.put_all("Items", world.target.pack(sent), NoLimit(), lambda: None)
        await following

    asyncio.run(both())
    [item] = [one for one in world.target.tables["Items"].values() if "newer" in str(one)]
    assert item["x"] == {"S": "newer"}
    assert any("1 requests without an answer; waiting until" in line for line in world.common["progress"].lines)
    assert now_ms() >= signed_ms + LIFE_S * 1000


def test_what_is_waited_for_is_in_the_report_and_in_the_status() -> None:
    world = half_loaded_world()
    job = make_job(**world.common, run="first")
    report = asyncio.run(backfill_collection(job, world.target, "docs"))
    assert report.waits.startswith("1 requests without an answer; waiting until ")
    assert report.to_dict()["waits"] == report.waits == status_of(SHORT, world.ledger)["collections"][0]["waits"]
    time.sleep(LIFE_S)
    assert finish(job, "docs").waits == ""


def test_nothing_is_waited_for_when_all_was_answered() -> None:
    world = World(5)
    world.load()
    header = LoadHeaders(world.ledger).read("docs")
    assert header is not None
    assert header.late == LateWrites()
    world.replicate()


def test_a_load_with_conditions_is_not_waited_for() -> None:
    world = World(5)
    world.load()
    world.replicate()
    world.target.faults.lose_next_answers(Unavailable("the answer is lost", operation="PutItem"))
    with pytest.raises(Unavailable):
        world.load(again=True)
    world.load()
    world.replicate()


def test_a_chunk_of_a_process_that_ended_is_waited_for_proved_dead_or_not() -> None:
    world = World(1)
    body = {"state": "pending", "owner": "host/1", "mark": "no such mark", "until": 1}
    world.ledger.write(chunk_section("docs"), "00000", body, expect=None)
    lease = take_or_create(world.ledger, chunk_section("docs"), "00000", world.common["identity"], 5.0)
    lease.release()
    [chunk] = list_chunks(world.ledger, "docs")
    stored = world.ledger.read(chunk_section("docs"), "00000")
    assert stored is not None
    assert chunk.late.orphaned_ms == stored.body[ORPHANED]
    assert now_ms() - 5_000 < chunk.late.orphaned_ms <= now_ms()
    assert "a process that ended while it wrote" in chunk.late.text(900.0)


def test_a_stop_ends_the_wait() -> None:
    world = half_loaded_world()
    world.common["migration"] = MIGRATION
    world.load()

    def stop_soon() -> None:
        while not world.common["progress"].lines:
            time.sleep(0.02)
        world.common["stop"].set()

    threading.Thread(target=stop_soon, daemon=True).start()
    with pytest.raises(Stopped):
        asyncio.run(replicate(make_job(**world.common), world.target))


def test_requests_that_were_answered_after_a_checkpoint_are_not_waited_for() -> None:
    on_their_way = chunk_checkpoint(b"a", Counts(), LateWrites(24, now_ms()))
    answered = chunk_checkpoint(b"b", Counts(), NONE_LATE, done=True)
    ledger = FakeLedger()
    first = ledger.write("chunks:users", "00000", {"lower": None, **on_their_way}, expect=None)
    assert chunk_in(first).late.requests == 24
    assert chunk_in(ledger.write("chunks:users", "00000", {**first.body, **answered}, expect=first)).late == NONE_LATE
