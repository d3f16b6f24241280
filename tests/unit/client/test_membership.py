"""A process of the application as a member: what it knows, what it may do, and what it says when the mode changes."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docferry.client import membership as module
from docferry.client.following import BEAT_S
from docferry.client.membership import Membership
from docferry.client.ticket import Writing
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.instances import EXPIRES, INSTANCES, KEPT_S, Instance, instance_of
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import CallRefused, LeaderUnknown, LeaseLost, MembershipBroken, TimedOut, WritesHeld
from docferry.flows.ledger import modes
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeLedger
from support.backfill.rig import eventually as eventually_said

READS = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
LEADS = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5, floor=9)


class Waits:
    """Only sleeping is asked of it here."""

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251


CALLS: DynamoCalls = Waits()  # type: ignore[assignment]


def eventually(condition: Callable[[], Any]) -> None:
    eventually_said(condition, "what the member was to do")


def identity() -> Identity:
    return Identity(name="shop", mark="boot/1/2/3", ended=lambda mark: False)


def set_mode(ledger: FakeLedger, state: ModeState) -> None:
    ledger.write(*MODE, state.to_body(), expect=ledger.read(*MODE))


@pytest.fixture
def ledger() -> FakeLedger:
    made = FakeLedger()
    set_mode(made, READS)
    return made


@pytest.fixture
def member(ledger: FakeLedger) -> Iterator[Membership]:
    made = Membership(lambda: ledger, identity, region="us-east-1", lease_s=1.0)
    yield made
    ledger.faults.clear()
    made.leave()


def begin(member: Membership) -> Any:
    return run(member.begin(CALLS))


def stored(ledger: FakeLedger, member: Membership) -> Instance:
    record = ledger.read(INSTANCES, member.id)
    assert record is not None
    return instance_of(record.key, record.body)


def test_process_registers_under_the_epoch_of_now_before_it_writes(ledger: FakeLedger, member: Membership) -> None:
    with Writing(begin(member), member.ended) as state:
        assert state == READS
    found = stored(ledger, member)
    assert (found.epoch, found.name, found.region, found.ended) == (3, "shop", "us-east-1", False)
    assert modes.live_instances(ledger, identity()) == [found]


def test_registration_is_refused_while_the_mode_is_changed_and_made_under_the_next(ledger: FakeLedger) -> None:
    write = ledger.write
    done: list[bool] = []

    def changed_in_between(section: str, *words: Any, **more: Any) -> Any:
        if section == INSTANCES and not done:
            done.append(True)
            set_mode(ledger, READS.move(Mode.DUAL_WRITE))
        return write(section, *words, **more)

    ledger.write = changed_in_between  # type: ignore[method-assign]
    member = Membership(lambda: ledger, identity)
    member.join()
    assert stored(ledger, member).epoch == 4
    assert member.state.mode is Mode.DUAL_WRITE
    member.leave()


def test_change_is_acknowledged_when_the_writes_in_flight_have_ended(ledger: FakeLedger, member: Membership) -> None:
    with Writing(begin(member), member.ended):
        set_mode(ledger, READS.move(Mode.DYNAMODB_READS, 50))
        eventually(lambda: member.state.epoch == 4)
        time.sleep(3 * BEAT_S)  # it has had its chances
        assert stored(ledger, member).epoch == 3
        assert modes.unacknowledged(modes.list_instances(ledger), 4)
        with Writing(begin(member), member.ended) as state:
            assert state.percent == 50
    eventually(lambda: stored(ledger, member).epoch == 4)
    left = modes.wait_for_acknowledgements(ledger, identity(), 4, time.monotonic() + 1, threading.Event())
    assert left == []


def test_write_waits_while_it_is_held_and_goes_by_the_new_mode(ledger: FakeLedger, member: Membership) -> None:
    member.join()
    set_mode(ledger, READS.hold(Mode.DYNAMODB_ONLY, int(time.time() * 1000) + 5_000))
    eventually(lambda: member.state.mode is Mode.HOLD)
    begun: list[Any] = []
    waiting = threading.Thread(target=lambda: begun.append(begin(member)))
    waiting.start()
    eventually(lambda: stored(ledger, member).epoch == 4)
    assert not begun
    set_mode(ledger, LEADS)
    waiting.join(timeout=5)
    assert begun[0].state == LEADS
    with Writing(begun[0], member.ended):
        pass
    assert member.tally.counts["held_ms"] > 0


def test_hold_that_does_not_end_is_a_clear_error(
    ledger: FakeLedger, member: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_GRACE_S", 0.1)
    member.join()
    set_mode(ledger, READS.hold(Mode.DYNAMODB_ONLY, int(time.time() * 1000) + 100))
    eventually(lambda: member.state.mode is Mode.HOLD)
    with pytest.raises(WritesHeld, match="HOLD"):
        begin(member)


def test_write_waits_until_the_deadline_of_the_hold_has_passed(
    ledger: FakeLedger, member: Membership, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HOLD_GRACE_S", 0.5)
    member.join()
    began = time.monotonic()
    held = READS.hold(Mode.DYNAMODB_ONLY, int(time.time() * 1000) + 1_500)
    set_mode(ledger, held)
    eventually(lambda: member.state.mode is Mode.HOLD)
    ending = threading.Timer(began + 1.4 - time.monotonic(), lambda: set_mode(ledger, held.go_back()))
    ending.start()
    assert begin_and_end(member).state.mode is Mode.DYNAMODB_READS
    ending.join()


def test_process_without_ledger_goes_on_with_mongodb_alone(ledger: FakeLedger, member: Membership) -> None:
    member.join()
    ledger.faults.fail_always(TimedOut("no ledger"))
    eventually(lambda: begin_and_end(member).alone)
    with pytest.raises(LeaseLost):
        member.check()
    assert isinstance(member.trouble, TimedOut)
    ledger.faults.clear()
    eventually(lambda: not begin_and_end(member).alone)
    member.check()


def test_process_without_ledger_may_not_write_once_dynamodb_leads(ledger: FakeLedger, member: Membership) -> None:
    set_mode(ledger, LEADS)
    member.join()
    assert not begin_and_end(member).alone
    ledger.faults.fail_always(TimedOut("no ledger"))
    eventually(lambda: refuses(member))


def unforeseen(ledger: FakeLedger, error: BaseException) -> None:
    """From now on each question to the ledger ends in an error that is no error of docferry's."""

    def broken(*words: Any, **more: Any) -> Any:
        raise error

    ledger.read = broken  # type: ignore[method-assign]


def test_unforeseen_error_does_not_end_following_and_is_told(ledger: FakeLedger, member: Membership) -> None:
    member.join()
    read = ledger.read
    unforeseen(ledger, ValueError("a bug"))
    eventually(lambda: member.tally.counts.get("membership.failed.ValueError", 0) >= 2)
    assert isinstance(member.trouble, MembershipBroken)
    ledger.read = read  # type: ignore[method-assign]
    set_mode(ledger, READS.move(Mode.DYNAMODB_READS, 50))
    eventually(lambda: member.trouble is None)  # until then the lease may be over, and writes are refused
    eventually(lambda: not broken(member) and begin_and_end(member).state.percent == 50)


@pytest.mark.parametrize("state", [READS, LEADS], ids=["MongoDB leads", "DynamoDB leads"])
def test_process_that_follows_no_mode_for_an_unforeseen_reason_refuses_writes(
    ledger: FakeLedger, member: Membership, state: ModeState
) -> None:
    """It is not cut off: by the ledger that it cannot understand DynamoDB may lead, so it does not go on with MongoDB alone."""
    set_mode(ledger, state)
    member.join()
    begin_and_end(member)
    unforeseen(ledger, ValueError("a bug"))
    eventually(lambda: broken(member))


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_process_whose_follower_was_ended_refuses_writes_at_once(ledger: FakeLedger, member: Membership) -> None:
    member.join()
    unforeseen(ledger, KeyboardInterrupt())
    eventually(lambda: broken(member))


def broken(member: Membership) -> bool:
    try:
        begin_and_end(member)
    except MembershipBroken:
        return True
    return False


def begin_and_end(member: Membership) -> Any:
    begun = begin(member)
    with Writing(begun, member.ended):
        return begun


def refuses(member: Membership) -> bool:
    try:
        begin_and_end(member)
    except LeaderUnknown:
        return True
    return False


def test_frozen_process_may_not_sign_when_it_wakes(ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch) -> None:
    member = Membership(lambda: ledger, identity, lease_s=1.0)
    member.join()
    member.check()
    now = time.monotonic() + 30  # as after a stop signal: time has passed, and the thread has not run
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with pytest.raises(LeaseLost):
        member.check()
    monkeypatch.undo()
    member.leave()


def test_write_of_a_frozen_process_is_not_signed_under_the_lease_that_it_gets_when_it_wakes(
    ledger: FakeLedger, member: Membership
) -> None:
    set_mode(ledger, LEADS)
    begun = begin(member)
    with Writing(begun, member.ended):
        member.check()
        member._deadline = 0.0  # as after a stop signal; meanwhile the leader was changed without it
        set_mode(ledger, ModeState(mode=Mode.MONGO_ONLY, epoch=7))
        eventually(lambda: member.state.epoch == 7 and member._deadline > 0)
        with pytest.raises(LeaseLost):
            member.check()
        assert stored(ledger, member).epoch == LEADS.epoch, "it may still have a request on its way"
        with Writing(begin(member), member.ended):
            member.check()
        with pytest.raises(LeaseLost):
            member.check()
    eventually(lambda: stored(ledger, member).epoch == 7)


def test_lease_that_is_over_begins_anew_only_under_a_mode_that_has_not_changed(
    ledger: FakeLedger, member: Membership
) -> None:
    """Else it could go on by a mode that others took to be unused: they do not wait for a process without a lease."""
    set_mode(ledger, LEADS)
    member.join()
    write = ledger.write
    seen: list[int] = []

    def changed_in_between(section: str, *words: Any, **more: Any) -> Any:
        if section == INSTANCES and more.get("unchanged") and not seen:
            seen.append(member.state.epoch)
            set_mode(ledger, LEADS.hold(Mode.MONGO_ONLY, int(time.time() * 1000) + 60_000))
        return write(section, *words, **more)

    ledger.write = changed_in_between  # type: ignore[method-assign]
    member._deadline = 0.0
    eventually(lambda: member._deadline > 0)
    assert seen == [5]
    assert member.state.mode is Mode.HOLD


def test_instance_that_was_struck_off_registers_as_another(ledger: FakeLedger, member: Membership) -> None:
    member.join()
    first = member.id
    record = ledger.read(INSTANCES, first)
    assert record is not None
    ledger.delete(record)
    eventually(lambda: member.id != first and ledger.read(INSTANCES, member.id) is not None)


def test_end_is_told(ledger: FakeLedger) -> None:
    member = Membership(lambda: ledger, identity)
    member.join()
    member.leave()
    assert stored(ledger, member).ended
    assert modes.live_instances(ledger, identity()) == []


def test_record_of_a_process_goes_by_itself_in_final_and_in_no_other_mode(
    ledger: FakeLedger, member: Membership
) -> None:
    """There no process replicates that could clear it."""
    member.join()
    assert EXPIRES not in body_of(ledger, member)
    set_mode(ledger, ModeState(mode=Mode.FINAL, epoch=9))
    eventually(lambda: body_of(ledger, member)["epoch"] == 9)
    body = body_of(ledger, member)
    assert body[EXPIRES] == body["beat"] // 1000 + KEPT_S
    member.leave()
    assert body_of(ledger, member)[EXPIRES] >= body[EXPIRES]


def body_of(ledger: FakeLedger, member: Membership) -> Any:
    record = ledger.read(INSTANCES, member.id)
    assert record is not None
    return record.body


def test_call_to_a_client_that_is_closed_is_refused(ledger: FakeLedger) -> None:
    member = Membership(lambda: ledger, identity)
    begin_and_end(member)
    member.leave()
    with pytest.raises(CallRefused, match="closed"):
        begin(member)
    assert stored(ledger, member).ended


def test_fork_is_an_instance_of_its_own(ledger: FakeLedger, member: Membership) -> None:
    member.join()
    forgotten: list[bool] = []
    member.on_fork.append(lambda: forgotten.append(True))
    reader, writer = os.pipe()
    with ledger._lock:  # no other thread holds it, in the child neither
        child = os.fork()
    if child == 0:
        begin_and_end(member)
        os.write(writer, f"{member.id} {len(forgotten)} {ledger.read(INSTANCES, member.id) is not None}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as told:
        other, calls, registered = told.read().split()
    os.waitpid(child, 0)
    assert (other != member.id, calls, registered) == (True, "1", "True")
