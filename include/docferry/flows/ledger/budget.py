"""One rate of writing, and one of reading, for all tasks of a migration, given out by a record of the ledger each."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from docferry.config import Migration
from docferry.core.limits import NEW_TABLE_RRU_PER_S, NEW_TABLE_WRU_PER_S
from docferry.core.settings import TableSettings
from docferry.errors import ConditionFailed, Stopped
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, Record, StopSignal, Target

BUDGET = "budget"
WRITES, READS = "wcu", "rcu"
"""The two rates."""
READ_SHARE = 0.25
"""Of a table's read capacity: the application has the rest, so that a scan of all items does not throttle it."""
LONGEST_QUEUE_S = 60.0
"""Nothing is reserved further ahead: a task that finds such a queue asks again later."""
CLOCKS_S = 5.0
"""By so much another task's clock may be ahead of ours before its reservation is read by its own clock."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Passing:
    """How time passes, and calls are made beside the event loop. Tests have a time of their own."""

    now_ms: Callable[[], int] = now_ms
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    aside: Callable[..., Awaitable[Any]] = in_thread


class _Share(NamedTuple):
    """So many units, from then on; 0 units: ask again then."""

    units: float
    begins_ms: float


def budget_of(migration: Migration) -> float:
    """Write units a second, indexes included: the file's, or what new tables begin with. 0 is no limit."""
    if migration.backfill.budget_wcu is not None:
        return float(migration.backfill.budget_wcu)
    return float(sum(NEW_TABLE_WRU_PER_S * (1 + len(table.indexes)) for table in migration.tables))


def read_budget_of(migration: Migration) -> float:
    """Read units a second: the file's, or a share of what the smallest table has, because tables are scanned one after the other.
    0 is no limit."""
    if migration.validate.budget_rcu is not None:
        return float(migration.validate.budget_rcu)
    return max(1.0, READ_SHARE * min(map(_read_capacity, migration.tables)))


def _read_capacity(table: TableSettings) -> float:
    """Read units a second that a table has: a new one on demand, or as it is provisioned, up to where autoscaling takes it."""
    capacity = table.capacity
    if capacity is None:
        return NEW_TABLE_RRU_PER_S
    return float(capacity.max_read_units or capacity.read_units)


def limit_reads(job: Job, target: Target) -> None:
    """From now on the target's reads wait for their share of the rate that all tasks have together."""
    target.limit_reads(LedgerBudget(job.ledger, READS, read_budget_of(job.migration), job.stop))


class LedgerBudget:
    """A share of one rate, in units a second, that every task of a migration takes from the same record.

    The record holds the time up to which the rate has been given out. A task reserves a slice and waits until it begins.
    Slices grow from a fiftieth to half a second's worth while one follows close upon the other, so that a task with little
    to write does not hoard what others need; while many wait they are small again, so that each has its turn within
    `LONGEST_QUEUE_S`. What is given out is never more than the rate. `units_per_s` 0 means no limit.
    """

    FIRST_S, MOST_S = 0.02, 0.5
    AGAIN_S, AGAIN_MOST_S = 0.01, 2.0
    """After another task took its share first; twice as long each time, by chance between nothing and that."""

    def __init__(
        self, ledger: Ledger, name: str, units_per_s: float, stop: StopSignal, passing: Passing | None = None
    ) -> None:
        self._ledger, self._name, self._rate, self._stop = ledger, name, units_per_s, stop
        self._passing = passing or Passing()
        self._tokens = 0.0
        self._slice_s = self.FIRST_S
        self._reserved = float("-inf")
        self._lock = asyncio.Lock()

    async def take(self, units: float) -> None:
        if not self._rate:
            return
        if self._tokens >= units and not self._lock.locked():
            self._tokens -= units
            return
        async with self._lock:
            slice_s = self._next_slice_s()
            while self._tokens < units:
                share = await self._reserve(max(units - self._tokens, 0.0), slice_s)
                await self._wait_until(share.begins_ms)
                self._tokens += share.units
            self._tokens -= units

    def _next_slice_s(self) -> float:
        now = self._passing.monotonic()
        busy = now - self._reserved < 2 * self.MOST_S
        self._slice_s = min(self.MOST_S, self._slice_s * 2) if busy else self.FIRST_S
        return self._slice_s

    def settle(self, estimated: float, consumed: float) -> None:
        if self._rate:
            self._tokens += estimated - consumed

    async def _wait_until(self, begins_ms: float) -> None:
        """By the monotonic clock: the other one may jump meanwhile."""
        begins = self._passing.monotonic() + (begins_ms - self._passing.now_ms()) / 1000
        while (left := begins - self._passing.monotonic()) > 0:
            if self._stop.is_set():
                raise Stopped("asked to stop while waiting for capacity; run again to continue")
            await self._passing.sleep(min(left, 0.5))
        self._reserved = self._passing.monotonic()

    async def _reserve(self, needed: float, slice_s: float) -> _Share:
        """A share of at least `needed` units, and of a slice; or none yet, where the queue is as long as it may be."""
        again_s = self.AGAIN_S
        while True:
            record = await self._passing.aside(self._ledger.read, BUDGET, self._name, stop=self._stop)
            now = self._passing.now_ms()
            free = max(float(now), _free_at(record, now))
            queue_s = (free - now) / 1000
            if queue_s > LONGEST_QUEUE_S:
                return _Share(0.0, now + 1000 * (queue_s - LONGEST_QUEUE_S + random.uniform(0.1, 1.0)))  # noqa: S311
            if queue_s > LONGEST_QUEUE_S / 4:
                slice_s = self.FIRST_S
            units = max(needed, self._rate * slice_s)
            # Rounded up: a thousand tasks would else get a thousand milliseconds for nothing.
            body = {"free_at": int(free + -(-units * 1000 // self._rate)), "at": now, "rate": int(self._rate)}
            try:
                await self._passing.aside(self._write, body, record, stop=self._stop)
            except ConditionFailed:  # another task took its share first
                await self._passing.sleep(random.uniform(0, again_s))  # noqa: S311 - spread, not secrecy
                again_s = min(self.AGAIN_MOST_S, again_s * 2)
                continue
            return _Share(units, free)

    def _write(self, body: dict[str, Any], record: Record | None) -> None:
        self._ledger.write(BUDGET, self._name, body, expect=record)


def _free_at(record: Record | None, now: int) -> float:
    """Up to when the rate is given out. By a clock that is far ahead of ours it is read as a queue from now on: else all would
    wait for that clock's time."""
    if record is None:
        return 0.0
    free_at, at = int(record.body["free_at"]), int(record.body.get("at", 0))
    if at > now + CLOCKS_S * 1000:
        return now + max(0, free_at - at)
    if not at:  # of the version before, which reserved at most a minute ahead by its own clock
        return min(free_at, now + LONGEST_QUEUE_S * 1000)
    return free_at
