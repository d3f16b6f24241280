"""A process that lifts the fence and stands still: DynamoDB may lead by the time that its request leaves."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from docferry.core.cutover.fence_plan import FencePlan
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import FenceFailed, MigrationError, MoveRefused, Unavailable
from docferry.flows.cutover.hold import back_out
from docferry.flows.fence import watch as fence_watch
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.marker import mark_leader, mark_neither
from docferry.flows.fence.record import FENCE, Recorded, recorded_fence
from docferry.flows.fence.watch import Unseen, fence_watched, misfit, put_right
from docferry.flows.ledger.modes import mode_record
from docferry.flows.ledger.times import now_ms
from docferry.testing.fakes import FakeFence, FakeLedger
from support.cutover.jobs import job_of, marker_of, set_mode

MONGO = ModeState(mode=Mode.MONGO_ONLY, epoch=5)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=9, floor=9)


class Stalling(FakeFence):
    """`stall` is run once, just before a request that lifts leaves; `stall_behind` just behind it."""

    stall: Callable[[], None] | None = None
    stall_behind: Callable[[], None] | None = None

    def lift_fence(self, plan: FencePlan) -> None:
        first, self.stall = self.stall, None
        if first is not None:
            first()
        super().lift_fence(plan)
        second, self.stall_behind = self.stall_behind, None
        if second is not None:
            second()


def out_of_time(ledger: FakeLedger) -> None:
    """So much time has passed that the lease on the fence has run out."""
    record = ledger.read(*FENCE)
    assert record is not None
    ledger.write(*FENCE, {**record.body, "until": 0}, expect=record)


def another_makes_dynamodb_lead(mongo: FakeFence, ledger: FakeLedger) -> Callable[[], None]:
    def switch() -> None:
        out_of_time(ledger)
        fence(job_of(mongo, ledger, "other"), 2.0)
        set_mode(ledger, LEADS)
        mark_leader(job_of(mongo, ledger, "other"))

    return switch


@pytest.mark.parametrize("at", ["stall", "stall_behind"])
def test_lift_that_comes_too_late_is_taken_back_and_is_no_success(at: str) -> None:
    mongo, ledger = Stalling(), FakeLedger()
    set_mode(ledger, MONGO)
    slow = job_of(mongo, ledger, "slow")
    fence(slow, 1.0)
    setattr(mongo, at, another_makes_dynamodb_lead(mongo, ledger))
    with pytest.raises(MigrationError):
        lift(slow)
    assert mongo.blocked
    assert recorded_fence(ledger)[0] is Recorded.UP
    assert misfit(slow) == ""


def test_lift_is_refused_where_dynamodb_leads_by_the_mode_under_the_lease() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    slow = job_of(mongo, ledger, "slow")
    fence(slow, 1.0)
    set_mode(ledger, LEADS)
    with pytest.raises(MoveRefused, match="the fence stays"):
        lift(slow)
    assert mongo.blocked


def test_mongodb_is_opened_behind_the_mode_and_not_in_a_hold() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger, "one")
    fence(job, 1.0)
    reads = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
    set_mode(ledger, reads.hold(Mode.DYNAMODB_ONLY, now_ms() + 60_000))
    with pytest.raises(MoveRefused):
        lift(job)
    assert mongo.blocked
    assert back_out(job, "too late").mode is Mode.DYNAMODB_READS
    assert not mongo.blocked
    assert marker_of(mongo).stored == Marker(revision=2, epoch=5, leader=Leads.MONGODB)


def test_hold_that_goes_back_late_does_not_open_mongodb_under_the_next_leader() -> None:
    """Another has put the hold back, held again and switched, while the first stood still in its lift."""
    mongo, ledger = Stalling(), FakeLedger()
    reads = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
    slow = job_of(mongo, ledger, "slow")
    fence(slow, 1.0)
    set_mode(ledger, reads.hold(Mode.DYNAMODB_ONLY, now_ms() + 60_000))
    mongo.stall = another_makes_dynamodb_lead(mongo, ledger)
    with pytest.raises(MigrationError):
        back_out(slow, "too slow")
    assert mongo.blocked


def test_fence_that_a_dead_process_took_away_is_seen_and_put_right() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger, "replicator")
    fence(job, 1.0)
    set_mode(ledger, LEADS)
    mark_leader(job)
    assert not put_right(job)
    mongo.blocked = False
    assert "others may write to MongoDB" in misfit(job)
    assert put_right(job)
    assert mongo.blocked
    assert misfit(job) == ""
    assert marker_of(mongo).stored == Marker(revision=1, epoch=9, leader=Leads.DYNAMODB)


def test_fence_that_a_process_raised_late_while_mongodb_leads_is_lifted() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger, "replicator")
    fence(job, 1.0)
    set_mode(ledger, MONGO)
    assert "the application cannot write" in misfit(job)
    assert put_right(job)
    assert not mongo.blocked
    assert misfit(job) == ""


def test_marker_that_is_gone_or_says_another_leader_is_named_and_put_right() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    job, marker = job_of(mongo, ledger), marker_of(mongo)
    set_mode(ledger, LEADS)
    assert "there is no marker" in misfit(job)
    assert put_right(job)
    assert misfit(job) == ""
    set_mode(ledger, ModeState(mode=Mode.MONGO_ONLY, epoch=10))
    assert "says dynamodb, and by the mode it is mongodb" in misfit(job)
    assert put_right(job)
    assert marker.stored == Marker(revision=2, epoch=10, leader=Leads.MONGODB)


def test_marker_of_a_later_mode_than_the_ledgers_is_left_alone_and_named() -> None:
    """The ledger was restored to an earlier time."""
    mongo, ledger = FakeFence(), FakeLedger()
    job, marker = job_of(mongo, ledger), marker_of(mongo)
    set_mode(ledger, MONGO)
    later = marker.stored = Marker(revision=7, epoch=11, leader=Leads.DYNAMODB)
    assert not put_right(job)
    assert marker.stored == later
    assert "was the ledger restored to an earlier time?" in misfit(job)


def test_hold_whose_marker_another_has_passed_is_refused() -> None:
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger, "slow")
    set_mode(ledger, ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100).hold(Mode.DYNAMODB_ONLY, now_ms()))
    held = mode_record(ledger)
    set_mode(ledger, LEADS)
    mark_leader(job_of(mongo, ledger, "other"))
    with pytest.raises(MoveRefused, match="says dynamodb by epoch 9, and this hold is of epoch 4"):
        mark_neither(job, held)


def test_whoever_replicates_puts_it_right_within_a_look(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence_watch, "LOOK_S", 0.01)
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger, "replicator")
    fence(job, 1.0)
    set_mode(ledger, LEADS)
    seen = threading.Event()
    monkeypatch.setattr(job.progress, "say", lambda text: seen.set() if "ALARM" in text else None)
    with fence_watched(job):
        mongo.blocked = False
        assert seen.wait(5)
    assert mongo.blocked


def test_fence_that_cannot_be_put_right_ends_the_watch_loudly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fence_watch, "LOOK_S", 0.01)
    mongo, ledger = FakeFence(), FakeLedger()
    job = job_of(mongo, ledger, "replicator")
    fence(job, 1.0)
    set_mode(ledger, LEADS)
    mark_leader(job)
    monkeypatch.setattr(mongo, "raise_fence", lambda plan: None)
    said = threading.Event()
    monkeypatch.setattr(job.progress, "say", lambda text: said.set())

    def watched() -> None:
        with fence_watched(job):
            mongo.blocked = False
            assert said.wait(5)

    with pytest.raises(FenceFailed, match="raised again"):
        watched()


def test_a_fence_that_cannot_be_looked_at_is_said_once_a_minute_and_when_it_is_over() -> None:
    said: list[str] = []
    now = 0.0
    unseen = Unseen(said.append, lambda: now)
    for second in range(130):
        now = float(second)
        unseen.not_now(Unavailable("no primary"))
    assert [one.partition(":")[0] for one in said] == [
        "the fence was not looked at for 5 s", "the fence was not looked at for 65 s",
        "the fence was not looked at for 125 s",
    ]  # fmt: skip
    unseen.seen()
    assert said[3:] == ["the fence is looked at again, after 129 s"]
    unseen.not_now(Unavailable("no primary"))
    unseen.seen()
    assert len(said) == 4
