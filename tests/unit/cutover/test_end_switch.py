"""How a change of leader ends: what it began is over, and a cancellation is not swallowed."""

from __future__ import annotations

import asyncio

import pytest
from docferry.flows.cutover.hold import end_switch
from docferry.flows.ledger.modes import replication_yield_request, request_replication_yield
from docferry.testing.fakes import FakeFence, FakeLedger
from support.cutover.jobs import job_of


def test_cancellation_of_a_switch_goes_on_and_others_may_replicate_again() -> None:
    ledger = FakeLedger()
    job = job_of(FakeFence(), ledger, "switch")
    request_replication_yield(ledger, "switch", 120)

    async def switch() -> None:
        following = asyncio.create_task(asyncio.sleep(0.2))
        try:
            await asyncio.sleep(60)
        finally:
            await end_switch(job, following)

    async def cancelled() -> None:
        task = asyncio.create_task(switch())
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.sleep(0)  # it waits for its replication to end by now
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert replication_yield_request(ledger) is None


def test_what_ended_replication_is_not_raised_a_second_time() -> None:
    job = job_of(FakeFence(), FakeLedger(), "switch")

    async def work() -> None:
        async def fail() -> None:
            raise OSError("told already")

        await end_switch(job, asyncio.create_task(fail()))

    asyncio.run(work())
