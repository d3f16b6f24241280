"""A hold whose holder died, on fakes: who puts it back, what is in the way, and what is said if the change was made after all."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from docferry.client.membership import Membership
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import HoldFailed, LeaderUnknown, PreflightFailed, TimedOut
from docferry.flows.cutover import hold_watch as guard
from docferry.flows.cutover.hold import back_out, back_out_after
from docferry.flows.cutover.hold_watch import GRACE_S, end_dead_hold, put_back, watch_hold
from docferry.flows.fence.fence import fence
from docferry.flows.fence.record import FENCE, LEASE_S, Recorded, recorded_fence
from docferry.flows.ledger.leases import take_or_create
from docferry.flows.ledger.modes import (
    change_mode,
    list_moves,
    mode_record,
    read_mode,
    replication_yield_request,
    request_replication_yield,
)
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeFence, FakeLedger
from support.cutover.jobs import job_of, set_mode

READS = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=3, floor=9)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guard, "LOOK_S", 0.01)


def held(before: ModeState, ahead: Mode, left_s: float) -> ModeState:
    return before.hold(ahead, now_ms() + int(left_s * 1000))


def test_overdue_hold_is_put_back_and_replication_may_go_on() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    fence(job_of(mongo, ledger, "dead"), 1.0)
    request_replication_yield(ledger, "dead", 120)
    set_mode(ledger, held(READS, Mode.DYNAMODB_ONLY, -2))
    assert put_back(job_of(mongo, ledger))
    assert (read_mode(ledger), mongo.blocked) == (replace(READS, epoch=5), False)
    assert replication_yield_request(ledger) is None
    assert not put_back(job_of(mongo, ledger))


def test_whoever_is_to_replicate_waits_for_the_end_of_a_hold_that_nobody_is_at_and_for_no_other() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    assert not end_dead_hold(job_of(mongo, ledger))
    set_mode(ledger, held(READS, Mode.DYNAMODB_ONLY, 0.2 - GRACE_S))
    request_replication_yield(ledger, "who holds", 120)
    assert not end_dead_hold(job_of(mongo, ledger))
    request_replication_yield(ledger, "who holds", 0)
    assert end_dead_hold(job_of(mongo, ledger))
    assert read_mode(ledger).mode is Mode.DYNAMODB_READS


def test_mode_whose_record_is_gone_is_not_taken_for_one_that_was_never_changed() -> None:
    ledger = FakeLedger()
    assert read_mode(ledger).mode is Mode.MONGO_ONLY
    record, somebody = mode_record(ledger), Identity(name="a", mark="a", ended=lambda mark: False)
    ledger.delete(change_mode(ledger, record, READS, somebody, "why not"))
    for ask in (read_mode, mode_record):
        with pytest.raises(
            PreflightFailed, match=r"is gone, though the mode was changed 1 time\(s\), and is DYNAMODB_READS"
        ):
            ask(ledger)
    with pytest.raises(LeaderUnknown, match="lost its record"):
        Membership(lambda: ledger, lambda: somebody).join()
    assert ledger.read(*MODE) is None


def test_mode_and_its_history_are_written_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """In two requests, a second one that failed left HOLD standing until its deadline."""
    ledger = FakeLedger()
    record, someone = mode_record(ledger), Identity(name="a", mark="a", ended=lambda mark: False)
    writes: list[str] = []
    write = ledger.write

    def counted(section: str, key: str, body: Any, **options: Any) -> Any:
        writes.append(section)
        if len(writes) > 1:
            raise TimedOut("no answer", operation="PutItem")
        return write(section, key, body, **options)

    monkeypatch.setattr(ledger, "write", counted)
    change_mode(ledger, record, READS, someone, "why not")
    assert [move.epoch for move in list_moves(ledger)] == [READS.epoch]


def test_hold_that_somebody_is_carrying_out_is_left_to_him() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, held(READS, Mode.DYNAMODB_ONLY, 60))
    assert not put_back(job_of(mongo, ledger))
    assert read_mode(ledger).mode is Mode.HOLD


def test_watch_goes_on_while_the_fence_is_still_the_dead_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that died on another host while it raised the fence is not proved dead: its lease is out-waited."""
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, held(READS, Mode.DYNAMODB_ONLY, -2))
    dead = take_or_create(ledger, *FENCE, job_of(mongo, ledger, "dead").identity, LEASE_S)
    said: list[str] = []
    job = job_of(mongo, ledger)

    def heard(text: str) -> None:
        said.append(text)
        if len(said) == 4:
            dead.release()

    monkeypatch.setattr(job.progress, "say", heard)
    assert watch_hold(job, 10.0)
    assert "the mode is DYNAMODB_READS (100 %) again" in said[0]  # MongoDB is opened behind it
    assert all("fence/mongodb is being worked on by dead" in one for one in said[1:4])
    assert read_mode(ledger).mode is Mode.DYNAMODB_READS


def test_guard_that_cannot_do_it_in_time_says_what_was_in_the_way() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, held(READS, Mode.DYNAMODB_ONLY, 60))
    job = job_of(mongo, ledger)
    ledger.faults.fail_always(TimedOut("no ledger"))
    with pytest.raises(TimedOut, match="no ledger"):
        watch_hold(job, 0.1)


def test_replicator_that_nobody_asked_for_room_does_not_stay() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, READS)
    assert not watch_hold(job_of(mongo, ledger), 60.0, begins_within_s=0.0)


def test_fence_that_a_late_process_lifted_while_dynamodb_leads_is_up_again() -> None:
    """It was frozen on the way back, and woke when the hold had been put back already."""
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger)
    fence(job, 1.0)
    set_mode(ledger, LEADS)
    _, plan, _ = recorded_fence(ledger)
    assert plan is not None
    mongo.lift_fence(plan)  # its request alone: `lift` looks at the mode
    assert back_out(job, "late").mode is Mode.DYNAMODB_ONLY
    assert (mongo.blocked, recorded_fence(ledger)[0]) == (True, Recorded.UP)


def test_fence_that_a_late_process_raised_while_mongodb_leads_is_lifted() -> None:
    """It was frozen on the way there, and woke when the hold had been put back already."""
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger)
    set_mode(ledger, READS)
    fence(job, 1.0)
    assert back_out(job, "late") == READS
    assert (mongo.blocked, recorded_fence(ledger)[0]) == (False, Recorded.DOWN)


@pytest.mark.parametrize(
    ("now", "said"),
    [
        (READS, "the leader was not changed: no answer. Everything is as it was before."),
        (LEADS, "the leader was changed, the mode is DYNAMODB_ONLY; but then: no answer. See `docferry mode`."),
    ],
    ids=["it went back", "it had gone ahead"],
)
def test_error_says_what_the_mode_is_in_fact(now: ModeState, said: str) -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, now)
    error = back_out_after(job_of(mongo, ledger), HoldFailed("no answer"), {}, Mode.DYNAMODB_ONLY)
    assert isinstance(error, HoldFailed)
    assert str(error) == said
