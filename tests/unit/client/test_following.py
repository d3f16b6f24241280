"""Following the mode costs little: measured on a ledger that counts what DynamoDB would charge, in virtual time."""

from __future__ import annotations

import heapq
import random
from dataclasses import replace

import pytest
from docferry.client.following import BEAT_S, CONSISTENT_S, ModeReader, pause_of
from docferry.core.cutover.modes import CROWD, MODE, Mode, ModeState, state_of
from docferry.ports.flows import Record
from docferry.testing.fakes import FakeLedger

PARTITION_RCU_PER_S = 3_000


class ChargingLedger(FakeLedger):
    """A consistent read of a small record is one unit, an eventually consistent one half. Those may be `behind` by a record."""

    def __init__(self) -> None:
        super().__init__()
        self.units = 0.0
        self.behind: Record | None = None

    def read(self, section: str, key: str) -> Record | None:
        self.units += 1.0
        return super().read(section, key)

    def glance(self, section: str, key: str) -> Record | None:
        self.units -= 0.5  # `read` below charges a whole one
        found = super().glance(section, key)
        return self.behind if (section, key) == MODE and self.behind is not None else found


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def make(mode: Mode, live: int) -> ChargingLedger:
    ledger = ChargingLedger()
    ledger.write(*MODE, replace(ModeState(), mode=mode, epoch=1).to_body(), expect=None)
    ledger.write(*CROWD, {"live": live}, expect=None)
    return ledger


def set_mode(ledger: ChargingLedger, mode: Mode, epoch: int) -> Record:
    before = FakeLedger.read(ledger, *MODE)
    return ledger.write(*MODE, replace(ModeState(), mode=mode, epoch=epoch).to_body(), expect=before)


def follow(ledger: ChargingLedger, clock: Clock, readers: list[ModeReader], mode: Mode, seconds: float) -> list[float]:
    """All processes follow for so long. Returns when each saw an epoch above 1 first."""
    seen: dict[int, float] = {}
    due = [(clock.now + random.uniform(0, pause_of(mode, 0)), number) for number in range(len(readers))]
    heapq.heapify(due)
    ends = clock.now + seconds
    while due[0][0] < ends:
        clock.now, number = heapq.heappop(due)
        record = readers[number].look(ledger, mode)
        assert record is not None
        if state_of(record.body).epoch > 1:
            seen.setdefault(number, clock.now)
        heapq.heappush(due, (clock.now + readers[number].pause_s(mode), number))
    clock.now = ends
    return sorted(seen.values())


@pytest.mark.parametrize("mode", [Mode.DUAL_WRITE, Mode.HOLD, Mode.DYNAMODB_ONLY])
@pytest.mark.parametrize("processes", [50, 750, 2_000])
def test_all_processes_together_stay_within_what_a_partition_gives(mode: Mode, processes: int) -> None:
    ledger, clock = make(mode, processes), Clock()
    readers = [ModeReader(clock) for _ in range(processes)]
    follow(ledger, clock, readers, mode, 3.0)  # each has counted how many there are
    before = ledger.units
    follow(ledger, clock, readers, mode, 10.0)
    assert (ledger.units - before) / 10 < 0.67 * PARTITION_RCU_PER_S


def test_two_thousand_processes_learn_of_a_change_within_a_second() -> None:
    ledger, clock = make(Mode.DYNAMODB_READS, 2_000), Clock()
    readers = [ModeReader(clock) for _ in range(2_000)]
    follow(ledger, clock, readers, Mode.DYNAMODB_READS, 3.0)
    set_mode(ledger, Mode.HOLD, 2)
    changed = clock.now
    seen = follow(ledger, clock, readers, Mode.DYNAMODB_READS, 3.0)
    assert len(seen) == 2_000
    assert seen[-1] - changed < 1.0


def test_one_process_alone_learns_of_it_within_its_beat_and_asks_for_half_the_price() -> None:
    ledger, clock = make(Mode.DUAL_WRITE, 1), Clock()
    reader = ModeReader(clock)
    follow(ledger, clock, [reader], Mode.DUAL_WRITE, 60.0)
    assert ledger.units < 60 / BEAT_S * 0.65
    set_mode(ledger, Mode.DYNAMODB_READS, 2)
    (seen,) = follow(ledger, clock, [reader], Mode.DUAL_WRITE, 1.0)
    assert seen - 60.0 < 1.3 * BEAT_S


def test_a_change_is_confirmed_by_a_consistent_read() -> None:
    ledger, clock = make(Mode.DUAL_WRITE, 1), Clock()
    reader = ModeReader(clock)
    first = reader.look(ledger, Mode.DUAL_WRITE)
    second, third = set_mode(ledger, Mode.DYNAMODB_READS, 2), set_mode(ledger, Mode.HOLD, 3)
    ledger.behind = second
    assert reader.look(ledger, Mode.DUAL_WRITE) == third, "an old look does not hide what came after it"
    ledger.behind = first
    assert reader.look(ledger, Mode.DUAL_WRITE) == third, "nor does a look that is older than what was seen"


def test_a_look_that_stays_behind_hides_a_change_for_a_few_seconds_at_most() -> None:
    ledger, clock = make(Mode.DUAL_WRITE, 1), Clock()
    reader = ModeReader(clock)
    ledger.behind = reader.look(ledger, Mode.DUAL_WRITE)
    set_mode(ledger, Mode.DYNAMODB_READS, 2)
    (seen,) = follow(ledger, clock, [reader], Mode.DUAL_WRITE, 5.0)
    assert seen <= CONSISTENT_S + 2 * BEAT_S


def test_processes_that_begin_together_do_not_stay_together() -> None:
    readers = [ModeReader(Clock()) for _ in range(50)]
    assert len({round(reader.pause_s(Mode.DUAL_WRITE), 3) for reader in readers}) > 25


@pytest.mark.parametrize(("live", "renewal_s"), [(1, 2.5), (1_000, 2.5), (1_400, 3.5), (2_000, 4.0), (5_000, 4.0)])
def test_leases_are_renewed_more_rarely_where_many_live_and_always_well_before_they_end(
    live: int, renewal_s: float
) -> None:
    reader = ModeReader(Clock())
    reader.look(make(Mode.DUAL_WRITE, live), Mode.DUAL_WRITE)
    assert reader.renewal_s(10.0) == renewal_s < 0.8 * 10.0 - 2 * pause_of(Mode.DUAL_WRITE, min(live, 2_000))
