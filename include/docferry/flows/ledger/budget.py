"""One rate of writing for all tasks of a migration, given out by a record of the ledger."""

from __future__ import annotations

import asyncio
import time

from docferry.errors import ConditionFailed, Stopped
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Ledger, StopSignal


class LedgerBudget:
    """A share of one rate, in write units a second, that every task of a migration takes from the same record.

    The record holds the time up to which the rate has been given out. A task reserves a slice and waits until it
    begins; slices grow from a fiftieth to half a second's worth while one follows close upon the other, so that a
    task with little to write does not hoard what others need. `units_per_s` 0 means no limit.
    """

    FIRST_S, MOST_S = 0.02, 0.5

    def __init__(self, ledger: Ledger, name: str, units_per_s: float, stop: StopSignal) -> None:
        self._ledger, self._name, self._rate, self._stop = ledger, name, units_per_s, stop
        self._tokens = 0.0
        self._slice_s = self.FIRST_S
        self._reserved = 0.0
        self._lock = asyncio.Lock()

    async def take(self, units: float) -> None:
        if not self._rate:
            return
        if self._tokens >= units and not self._lock.locked():
            self._tokens -= units
            return
        async with self._lock:
            while self._tokens < units:
                wanted = max(units - self._tokens, self._rate * self._next_slice_s())
                begins_ms = await in_thread(self._reserve, wanted, stop=self._stop)
                await self._wait_until(begins_ms)
                self._tokens += wanted
            self._tokens -= units

    def _next_slice_s(self) -> float:
        now = time.monotonic()
        busy = now - self._reserved < 2 * self.MOST_S
        self._slice_s = min(self.MOST_S, self._slice_s * 2) if busy else self.FIRST_S
        self._reserved = now
        return self._slice_s

    def settle(self, estimated: float, consumed: float) -> None:
        if self._rate:
            self._tokens += estimated - consumed

    async def _wait_until(self, begins_ms: int) -> None:
        """By the monotonic clock: the other one may jump meanwhile."""
        begins = time.monotonic() + (begins_ms - now_ms()) / 1000
        while (left := begins - time.monotonic()) > 0:
            if self._stop.is_set():
                raise Stopped("asked to stop while waiting for write capacity; run again to continue")
            await asyncio.sleep(min(left, 0.5))

    def _reserve(self, units: float) -> int:
        """When this share begins, in ms."""
        while True:
            record = self._ledger.read("budget", self._name)
            now = now_ms()
            free = max(now, min(int(record.body["free_at"]), now + 60_000)) if record else now
            body = {"free_at": free + int(units / self._rate * 1000), "rate": int(self._rate)}
            try:
                self._ledger.write("budget", self._name, body, expect=record)
                return free
            except ConditionFailed:
                continue  # another task took its share first
