"""Lanes: one part at a time in each, the oldest part of all first, and a lane that waits holds up none but itself."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from docferry.flows.kernel.lane_scheduler import LaneScheduler


@dataclass(eq=False)
class Part:
    name: str
    number: int = 0


class Served:
    """Serves each part when it is let go, one step at a time."""

    def __init__(self, at_once: int = 2) -> None:
        self.begun: list[str] = []
        self.parked: set[str] = set()
        self.let = asyncio.Semaphore(0)
        self.lanes: LaneScheduler[str, Part] = LaneScheduler(self.serve, at_once)

    async def serve(self, lane: str, waiting: deque[Part]) -> bool:
        if lane in self.parked:
            return False
        self.begun.append(waiting[0].name)
        if waiting[0].name == "bad":
            raise ValueError("bad")
        await self.let.acquire()
        waiting.popleft()
        return True

    def put(self, *names: str) -> None:
        """The first letter of a name is its lane."""
        for name in names:
            self.lanes.put(name[0], Part(name))

    async def go_on(self, steps: int) -> None:
        for _ in range(steps):
            self.let.release()
            for _ in range(5):
                await asyncio.sleep(0)


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(5):
            await test()

    asyncio.run(within())


def test_parts_of_a_lane_come_in_their_order_and_the_oldest_of_all_first() -> None:
    async def work() -> None:
        served = Served(at_once=2)
        served.put("a1", "a2", "a3", "b1", "c1")
        await served.go_on(0)
        await asyncio.sleep(0)
        assert served.begun == ["a1", "b1"]
        await served.go_on(10)
        assert [name for name in served.begun if name[0] == "a"] == ["a1", "a2", "a3"]
        assert "a" not in served.lanes
        assert served.lanes.working == 0
        alone = Served(at_once=1)
        alone.put("a1", "b1", "a2", "c1", "a3")
        await alone.go_on(10)
        assert alone.begun == ["a1", "b1", "a2", "c1", "a3"]

    run(work)


def test_a_lane_that_waits_is_served_when_it_is_woken_and_holds_up_no_other() -> None:
    async def work() -> None:
        served = Served()
        served.parked.add("a")
        served.put("a1", "b1")
        await served.go_on(3)
        served.put("a2")
        await served.go_on(3)
        assert served.begun == ["b1"]
        served.parked.clear()
        served.lanes.wake("a")
        await served.go_on(3)
        assert served.begun == ["b1", "a1", "a2"]

    run(work)


def test_an_error_ends_it_and_nothing_more_is_begun() -> None:
    async def work() -> None:
        served = Served(at_once=1)
        served.lanes.put("x", Part("bad"))
        served.put("b1")
        await served.go_on(3)
        assert isinstance(served.lanes.failure, ValueError)
        assert served.begun == ["bad"]
        assert served.lanes.moved.is_set()

    run(work)


@pytest.mark.parametrize("parts", [1, 5])
def test_the_end_leaves_nothing_at_work(parts: int) -> None:
    async def work() -> None:
        served = Served()
        served.put(*(f"{letter}1" for letter in "abcde"[:parts]))
        await asyncio.sleep(0)
        await served.lanes.end()
        assert served.lanes.working == 0
        assert "a" not in served.lanes

    run(work)
