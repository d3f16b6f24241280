"""A process's lanes of the journal: in its record before use, told with an acknowledgement, left when it is struck off."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from docferry.client.membership import Membership
from docferry.client.ticket import Writing
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.journal import FIRST_LANES, Entry, EntryKind, Lane
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.flows.ledger.modes import instance_in
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeJournal, FakeLedger
from support.backfill.rig import eventually as eventually_said

READS = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
JOURNALED = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5, floor=9, journal=True)


class Waits:
    """Only sleeping is asked of it here."""

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251


CALLS: DynamoCalls = Waits()  # type: ignore[assignment]


def eventually(condition: Callable[[], Any]) -> None:
    eventually_said(condition, "what the member was to do")


def set_mode(ledger: FakeLedger, state: ModeState) -> None:
    ledger.write(*MODE, state.to_body(), expect=ledger.read(*MODE))


@pytest.fixture
def ledger() -> FakeLedger:
    made = FakeLedger()
    set_mode(made, READS)
    return made


@pytest.fixture
def journal() -> FakeJournal:
    return FakeJournal()


@pytest.fixture
def member(ledger: FakeLedger, journal: FakeJournal) -> Iterator[Membership]:
    who = Identity(name="shop", mark="boot/1/2/3", ended=lambda mark: False)
    made = Membership(lambda: ledger, lambda: who, open_journal=lambda: journal, lease_s=1.0)
    yield made
    made.leave()


def begin(member: Membership) -> Any:
    return run(member.begin(CALLS))


def stored(ledger: FakeLedger, member: Membership) -> Instance:
    record = ledger.read(INSTANCES, member.id)
    assert record is not None
    return instance_in(record)


def test_lanes_are_told_with_the_acknowledgement_and_what_is_in_doubt_is_made_impossible_first(
    ledger: FakeLedger, journal: FakeJournal, member: Membership
) -> None:
    set_mode(ledger, JOURNALED)
    with Writing(begin(member), member.ended):
        sure, doubtful = take(member), take(member)
        sure.send("one")
        sure.take()
        doubtful.send("two")
        for lane in (sure, doubtful):
            member.lanes.give_back(lane)  # type: ignore[union-attr]
    set_mode(ledger, JOURNALED.hold(Mode.MONGO_ONLY, int(time.time() * 1000) + 5_000))
    eventually(lambda: stored(ledger, member).epoch == 6)
    assert stored(ledger, member).at == (2, 1)
    (void,) = journal.entries[doubtful.name].values()
    assert void.kind is EntryKind.VOID


def test_process_whose_lane_was_sealed_does_not_acknowledge_but_registers_as_another(
    ledger: FakeLedger, journal: FakeJournal, member: Membership
) -> None:
    set_mode(ledger, JOURNALED)
    with Writing(begin(member), member.ended):
        lane = take(member)
        lane.send("one")
        member.lanes.give_back(lane)  # type: ignore[union-attr]
    first = member.id
    journal.entries[lane.name] = {1: Entry(kind=EntryKind.SEAL, nonce="seal")}
    set_mode(ledger, JOURNALED.hold(Mode.MONGO_ONLY, int(time.time() * 1000) + 5_000))
    eventually(lambda: member.id != first and stored(ledger, member).epoch == 6)
    record = ledger.read(INSTANCES, first)
    assert record is not None
    assert (record.body["struck"], record.body["epoch"]) == (True, 5)


def test_process_that_was_struck_off_registers_as_another_with_lanes_of_its_own(
    ledger: FakeLedger, journal: FakeJournal, member: Membership
) -> None:
    member.join()
    first = member.id
    record = ledger.read(INSTANCES, first)
    assert record is not None
    ledger.write(INSTANCES, first, {**record.body, "struck": True}, expect=record)
    eventually(lambda: member.id != first and ledger.read(INSTANCES, member.id) is not None)
    assert ledger.read(INSTANCES, first).body["struck"]  # type: ignore[union-attr]
    assert stored(ledger, member).lanes == FIRST_LANES


def test_lanes_are_in_the_record_before_they_are_used(
    ledger: FakeLedger, journal: FakeJournal, member: Membership
) -> None:
    set_mode(ledger, JOURNALED)
    with Writing(begin(member), member.ended):
        lanes = member.lanes
        assert lanes is not None
        taken = [take(member) for _ in range(FIRST_LANES)]
        assert lanes.take() is None
        eventually(lambda: lanes.granted == 2 * FIRST_LANES)
        assert stored(ledger, member).lanes == 2 * FIRST_LANES
        taken.append(take(member))
        assert len({lane.name for lane in taken}) == FIRST_LANES + 1
        for lane in taken:
            lanes.give_back(lane)


def test_write_needs_an_entry_only_where_the_mode_says_so(
    ledger: FakeLedger, journal: FakeJournal, member: Membership
) -> None:
    with Writing(begin(member), member.ended):
        assert member.lanes is None
    set_mode(ledger, JOURNALED)
    eventually(lambda: member.state.journal)
    with Writing(begin(member), member.ended):
        assert member.lanes is not None


def test_process_that_ends_makes_impossible_what_may_still_arrive(
    ledger: FakeLedger, journal: FakeJournal, member: Membership
) -> None:
    set_mode(ledger, JOURNALED)
    with Writing(begin(member), member.ended):
        lane = take(member)
        lane.send("one")
        member.lanes.give_back(lane)  # type: ignore[union-attr]
    member.leave()
    assert (stored(ledger, member).ended, stored(ledger, member).at) == (True, (1, 1))
    assert journal.entries[lane.name][1].kind is EntryKind.VOID


def take(member: Membership) -> Lane:
    assert member.lanes is not None
    lane = member.lanes.take()
    assert lane is not None
    return lane
