"""Work in lanes, for both directions of replication: one part of a lane at a time, those of different lanes side by side.

Of the lanes that have something to do, those with the oldest part come first. A position can only move behind the oldest part, so
whatever is done far ahead of it is done again by the next process if this one is killed: were all lanes served alike, the one
with the most parts would hold the position back until the backlog is gone.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar


class Numbered(Protocol):
    """A part of the work; `number` is set when it is taken, and says how old it is."""

    number: int


K = TypeVar("K", bound=Any)
N = TypeVar("N", bound=Numbered)


@dataclass(slots=True, eq=False)
class _Lane(Generic[N]):
    """`queued`: it is among the ready ones, is being worked at, or waits until it is woken."""

    waiting: deque[N] = field(default_factory=deque)
    queued: bool = False


class LaneScheduler(Generic[K, N]):
    """Belongs to one event loop.

    `serve(lane, waiting)` works at `waiting[0]`, takes out of `waiting` what is done, and returns True; or False if the lane is
    to wait until `wake`. `failure` is the error that ended a worker: then nothing more is begun. `moved` is set at each step.
    """

    def __init__(self, serve: Callable[[K, deque[N]], Awaitable[bool]], at_once: int) -> None:
        self._serve, self._at_once = serve, at_once
        self.failure: BaseException | None = None
        self.moved = asyncio.Event()
        self._lanes: dict[K, _Lane[N]] = {}
        self._ready: list[tuple[int, K]] = []
        """A heap of (number of a lane's first part, lane)."""
        self._workers: set[asyncio.Task[None] | None] = set()
        self._taken = 0

    def __contains__(self, lane: K) -> bool:
        """Whether a lane has something to do."""
        return lane in self._lanes

    @property
    def working(self) -> int:
        """How many lanes are worked at."""
        return len(self._workers)

    def waiting(self, lane: K) -> deque[N]:
        """What a lane has to do, the part that is worked at first."""
        return self._lanes[lane].waiting

    def put(self, lane: K, part: N) -> None:
        """Queue a part behind the others of its lane."""
        part.number = self._taken
        self._taken += 1
        found = self._lanes.get(lane)
        if found is None:
            found = self._lanes[lane] = _Lane()
        found.waiting.append(part)
        if not found.queued:
            found.queued = True
            self.wake(lane)

    def wake(self, lane: K) -> None:
        """Serve a lane that was to wait."""
        heapq.heappush(self._ready, (self._lanes[lane].waiting[0].number, lane))
        if len(self._workers) < self._at_once and self.failure is None:
            self._workers.add(asyncio.create_task(self._work()))

    async def end(self) -> None:
        """End all that is worked at; what waits is forgotten."""
        workers = [one for one in self._workers if one is not None]
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        self._workers.clear()
        self._lanes.clear()
        self._ready.clear()

    async def _work(self) -> None:
        """Serve the lane with the oldest part that is free, until there is none."""
        try:
            while self._ready and self.failure is None:
                _, name = heapq.heappop(self._ready)
                lane = self._lanes[name]
                if not await self._serve(name, lane.waiting):
                    continue
                if lane.waiting:
                    heapq.heappush(self._ready, (lane.waiting[0].number, name))
                else:
                    del self._lanes[name]
                self.moved.set()
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by the loop that reads
            self.failure = self.failure or error
        finally:
            self._workers.discard(asyncio.current_task())  # at once: `wake` counts on those that are there
            self.moved.set()
