"""What DynamoDB takes is counted for the call that it is taken for, in whatever threads and tasks, and stays bounded."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from docferry.client.tally import MOST_SHAPES, Tally
from docferry.client.transport.counted import CountedCalls
from docferry.client.transport.spending import spending, tell_way
from docferry.client.transport.sync_driver import run
from docferry.client.transport.together import together
from docferry.core.cutover.spent_shapes import MOST_KEPT, OTHER, SpentBy
from docferry.errors import ConditionFailed
from docferry.ports.flows import Guard


class DynamoDB:
    """Says what it has consumed: a unit and a half for each request."""

    def __init__(self, *, blocking: bool, refuses: bool = False) -> None:
        self.blocking, self._refuses = blocking, refuses

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        if self._refuses:
            raise ConditionFailed("not as it was read")
        if not self.blocking:
            await asyncio.sleep(0)
        return {"ConsumedCapacity": {"CapacityUnits": 1.5}}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...


def shape(name: str, way: str) -> str:
    return f"{name} by {way}"


async def asks(tally: Tally, calls: CountedCalls, name: str = "find") -> None:
    """One call, which asks twice at once, writes once, and makes another call meanwhile."""
    with spending(tally, partial(shape, name)):
        tell_way("a scan")
        tell_way("the table key")  # by what it finds what it reads afterwards
        await together(calls, [partial(calls.call, "Query", {}), partial(calls.call, "GetItem", {})])
        with spending(tally, partial(shape, "within")):
            await calls.call("PutItem", {"Item": {}})


def spent(tally: Tally) -> Mapping[str, SpentBy]:
    found: Mapping[str, SpentBy] = tally.recorded()["spent"]
    return found


@pytest.mark.parametrize("blocking", [True, False])
def test_all_that_a_call_asks_is_its_own(blocking: bool) -> None:
    tally = Tally()
    calls = CountedCalls(DynamoDB(blocking=blocking), tally.count)
    if blocking:
        run(asks(tally, calls))
    else:
        asyncio.run(asks(tally, calls))
    assert spent(tally) == {"find by a scan": SpentBy(1, 3.0, 1.5)}
    assert tally.recorded()["spent_since_ms"] > 0


def test_calls_of_several_tasks_are_told_apart() -> None:
    tally = Tally()
    calls = CountedCalls(DynamoDB(blocking=False), tally.count)

    async def application() -> None:
        await asyncio.gather(*(asks(tally, calls, name) for name in ("find", "count", "find")))
        await calls.call("GetItem", {})  # for no call of the application's

    asyncio.run(application())
    assert spent(tally) == {"find by a scan": SpentBy(2, 6.0, 3.0), "count by a scan": SpentBy(1, 3.0, 1.5)}


def test_a_call_that_fails_has_cost_what_it_has() -> None:
    tally = Tally()
    calls = CountedCalls(DynamoDB(blocking=True, refuses=True), tally.count)
    with pytest.raises(ConditionFailed), spending(tally, partial(shape, "update_one")):
        run(calls.call("PutItem", {"Item": {"PK": {"S": "x" * 1500}}}))
    assert spent(tally) == {"update_one by ": SpentBy(1, 0.0, 2.0)}


def test_a_call_that_asks_nothing_is_not_counted() -> None:
    tally = Tally()
    with spending(tally, partial(shape, "find")):
        tell_way("the table key")
    assert tally.recorded() == {"counts": {}, "unserved": {}, "examples": (), "spent": {}, "spent_since_ms": 0}


def test_shapes_stay_bounded_and_the_dearest_are_kept() -> None:
    tally = Tally()
    for number in range(2 * MOST_SHAPES):
        tally.count_spent(f"find {number}", number, 0.0)
    found = spent(tally)
    assert len(found) == MOST_KEPT + 1
    assert next(iter(found)) == f"find {MOST_SHAPES - 1}"
    assert (sum(one.calls for one in found.values()), sum(one.read_units for one in found.values())) == (200, 19_900)
    assert found[OTHER].calls == 200 - MOST_KEPT
