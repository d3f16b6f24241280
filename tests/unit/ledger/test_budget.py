"""The shared rate: what all tasks together are given is never more than it, and each has its turn. In virtual time."""

from __future__ import annotations

import asyncio
import heapq
import threading
from collections.abc import Callable
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.errors import ConditionFailed, Stopped
from docferry.flows.ledger.budget import (
    BUDGET,
    LONGEST_QUEUE_S,
    READS,
    WRITES,
    LedgerBudget,
    Passing,
    read_budget_of,
)
from docferry.ports.flows import Record
from docferry.testing.fakes import FakeLedger

RATE = 1_000.0
BEGAN_MS = 1_700_000_000_000


class Time:
    """Passes when every task sleeps. A call of the ledger takes 5 ms each way: others come in between."""

    def __init__(self) -> None:
        self.now = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._count = 0

    def passing(self, ahead_s: float = 0.0) -> Passing:
        """For a task whose clock is ahead by so much."""
        return Passing(
            now_ms=lambda: BEGAN_MS + int((self.now + ahead_s) * 1000),
            monotonic=lambda: self.now,
            sleep=self.sleep,
            aside=self.aside,
        )

    async def sleep(self, seconds: float) -> None:
        future = asyncio.get_running_loop().create_future()
        self._count += 1
        heapq.heappush(self._sleepers, (self.now + seconds, self._count, future))
        await future

    async def aside(self, call: Callable[..., Any], *arguments: Any, **_: Any) -> Any:
        await self.sleep(0.005)
        return call(*arguments)

    async def run(self, until: float) -> None:
        while self._sleepers and self._sleepers[0][0] <= until:
            self.now, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            for _ in range(4):  # whoever was woken goes on to where it sleeps again
                await asyncio.sleep(0)
        self.now = until


class CountingLedger(FakeLedger):
    def __init__(self) -> None:
        super().__init__()
        self.writes = self.conflicts = 0

    def write(self, *arguments: Any, **options: Any) -> Record:
        self.writes += 1
        try:
            return super().write(*arguments, **options)
        except ConditionFailed:
            self.conflicts += 1
            raise


class Crowd:
    """Tasks that write as fast as they may."""

    def __init__(self, tasks: int, batch: float, rate: float = RATE) -> None:
        self.time, self.ledger = Time(), CountingLedger()
        self.batch, self.rate = batch, rate
        self.taken: list[tuple[float, int, float]] = []
        self.stop = threading.Event()
        self.tasks = tasks

    async def _task(self, number: int) -> None:
        budget = LedgerBudget(self.ledger, "wcu", self.rate, self.stop, self.time.passing())
        while True:
            await budget.take(self.batch)
            self.taken.append((self.time.now, number, self.batch))

    def run(self, seconds: float) -> Crowd:
        async def all_of_them() -> None:
            tasks = [asyncio.create_task(self._task(number)) for number in range(self.tasks)]
            await asyncio.sleep(0)
            await self.time.run(seconds)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(all_of_them())
        return self

    def units(self, begin: float, end: float) -> float:
        return sum(units for at, _, units in self.taken if begin <= at < end)

    def most_in(self, window_s: float) -> float:
        """The most units that were taken in any window of this length that begins at a taking."""
        return max(self.units(at, at + window_s) for at in {round(at, 1) for at, _, _ in self.taken})


@pytest.fixture(scope="module")
def crowd() -> Crowd:
    """More tasks than have room in the queue with slices of half a second."""
    return Crowd(200, batch=25.0).run(150.0)


def test_two_hundred_tasks_together_get_no_more_than_the_rate(crowd: Crowd) -> None:
    for seconds in (60.0, 100.0, 150.0):
        assert crowd.units(0, seconds) <= RATE * (seconds + LedgerBudget.MOST_S)
    assert crowd.most_in(10.0) <= RATE * 12


def test_two_hundred_tasks_together_get_the_rate_and_each_has_its_turn(crowd: Crowd) -> None:
    assert crowd.units(30, 150) >= 0.9 * RATE * 120
    last = {
        number: max(at for at, one, _ in crowd.taken if one == number) for number in {one for _, one, _ in crowd.taken}
    }
    assert len(last) == 200
    assert min(last.values()) > 150 - 1.5 * LONGEST_QUEUE_S


def test_two_hundred_tasks_that_begin_at_once_do_not_fight_over_the_record(crowd: Crowd) -> None:
    assert crowd.ledger.conflicts < crowd.ledger.writes
    assert crowd.ledger.writes < 150 * 60, "writes a second of one item"


def test_more_tasks_than_the_queue_holds_get_no_more_than_the_rate() -> None:
    crowd = Crowd(350, batch=25.0).run(70.0)
    assert crowd.units(0, 70) <= RATE * (70 + LedgerBudget.MOST_S)


def test_one_task_alone_gets_the_whole_rate() -> None:
    crowd = Crowd(1, batch=25.0).run(30.0)
    assert 0.9 * RATE * 30 <= crowd.units(0, 30) <= RATE * 30.5


def test_a_clock_that_is_an_hour_ahead_makes_nobody_wait_an_hour() -> None:
    time, ledger = Time(), FakeLedger()
    got: list[float] = []

    async def both() -> None:
        for ahead_s in (3_600.0, 0.0):
            budget = LedgerBudget(ledger, "wcu", RATE, threading.Event(), time.passing(ahead_s))
            task = asyncio.create_task(budget.take(500.0))
            await asyncio.sleep(0)
            await time.run(time.now + 5.0)
            assert task.done()
            got.append(time.now)

    asyncio.run(both())
    assert len(got) == 2


def test_what_the_version_before_reserved_is_waited_for_a_minute_at_most() -> None:
    time, ledger = Time(), FakeLedger()
    ledger.write(BUDGET, "wcu", {"free_at": BEGAN_MS + 10**9, "rate": 1}, expect=None)

    async def one() -> bool:
        budget = LedgerBudget(ledger, "wcu", RATE, threading.Event(), time.passing())
        task = asyncio.create_task(budget.take(1.0))
        await asyncio.sleep(0)
        await time.run(LONGEST_QUEUE_S + 1)
        return task.done()

    assert asyncio.run(one())


def test_who_waits_for_its_share_ends_when_asked_to_stop() -> None:
    time, ledger, stop = Time(), FakeLedger(), threading.Event()
    ledger.write(BUDGET, "wcu", {"free_at": BEGAN_MS + 50_000, "at": BEGAN_MS, "rate": 1}, expect=None)

    async def one() -> None:
        budget = LedgerBudget(ledger, "wcu", RATE, stop, time.passing())
        task = asyncio.create_task(budget.take(1.0))
        await asyncio.sleep(0)
        await time.run(5.0)
        stop.set()
        await time.run(6.0)
        with pytest.raises(Stopped):
            await task

    asyncio.run(one())


@pytest.mark.parametrize(
    ("tables", "more", "rate"),
    [
        ("{T: {}}", "", 3_000),
        ("{T: {}, U: {billing: provisioned, capacity: {read_units: 40, write_units: 1}}}", "", 10),
        (
            "{T: {billing: provisioned, capacity: {read_units: 40, write_units: 1, max_read_units: 400}}}",
            "",
            100,
        ),
        ("{T: {billing: provisioned, capacity: {read_units: 1, write_units: 1}}}", "", 1),
        ("{T: {}}", "validate: {budget_rcu: 500}", 500),
        ("{T: {}}", "validate: {budget_rcu: 0}", 0),
    ],
)
def test_reads_leave_three_quarters_of_the_smallest_table_to_the_application(
    tables: str, more: str, rate: float
) -> None:
    text = f"migration: m\nsource: {{database: d}}\ntables: {tables}\ncollections: {{docs: {{table: Tab}}}}\n{more}\n"
    text = text.replace("T: {", "Tab: {").replace("U: {", "Use: {")
    assert read_budget_of(parse_migration(text.encode(), "file")) == rate


def test_tasks_that_read_share_one_rate_apart_from_that_of_writes() -> None:
    """Each page is as large as a scan's may be, and is known to be so afterwards only."""
    time, ledger = Time(), FakeLedger()
    read: list[float] = []

    async def task() -> None:
        budget = LedgerBudget(ledger, READS, RATE, threading.Event(), time.passing())
        while True:
            await budget.take(1.0)
            budget.settle(1.0, 256.0)
            read.append(256.0)

    async def all_of_them() -> None:
        tasks = [asyncio.create_task(task()) for _ in range(8)]
        await asyncio.sleep(0)
        await time.run(60.0)
        for one in tasks:
            one.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(all_of_them())
    assert 0.8 * RATE * 60 <= sum(read) <= RATE * 60 + 8 * 256 + RATE
    assert ledger.read(BUDGET, READS) is not None
    assert ledger.read(BUDGET, WRITES) is None
