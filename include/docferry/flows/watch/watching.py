"""Around replication, in either direction: the database that does not lead is watched meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any, TypeVar

from docferry.core.cutover.modes import Mode
from docferry.errors import RetryExhausted, Stopped, TransientStoreError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.watch import Old, read_watch
from docferry.flows.watch.in_dynamodb import DynamoWatch
from docferry.flows.watch.in_mongodb import MongoWatch
from docferry.ports.flows import Target

T = TypeVar("T")
LOOK_S = 1.0
ASK_S = 10.0


async def watched(job: Job, target: Target, replication: Coroutine[Any, Any, T], look_s: float = LOOK_S) -> T:
    """What `replication` returns; the watch goes on beside it, and ends with it.

    What cannot be asked at the moment is asked again. Raises what replication does; else, behind it, what ended the watch.
    """
    watching = asyncio.create_task(_watch(job, target, look_s))
    try:
        result = await replication
    finally:
        if not watching.done():
            watching.cancel()
        await asyncio.wait({watching})
        trouble = None if watching.cancelled() else watching.exception()
    if trouble is not None:
        raise trouble
    return result


async def _watch(job: Job, target: Target, look_s: float) -> None:
    watch = _Watches(job, target)
    try:
        with suppress(Stopped):
            while not job.stop.is_set():
                try:
                    await watch.look(look_s)
                except (TransientStoreError, RetryExhausted) as error:
                    job.progress.say(f"the watch waits: {error}")
                    await watch.close()
                await asyncio.sleep(look_s)
    except BaseException as error:
        if not isinstance(error, asyncio.CancelledError):
            told = f"{type(error).__name__}: {error}"
            job.progress.say(f"ALARM: the database that led before is not watched any more: {told}")
        raise
    finally:
        await watch.close()


class _Watches:
    """The watch of the database that does not lead, whichever it is."""

    def __init__(self, job: Job, target: Target) -> None:
        self.job, self.target = job, target
        self.in_mongodb = MongoWatch(job, target)
        self.in_dynamodb: DynamoWatch | None = None
        self._looked = float("-inf")

    async def look(self, wait_s: float) -> None:
        mode = await in_thread(read_mode, self.job.ledger, stop=self.job.stop)
        if mode.mode is Mode.DYNAMODB_ONLY:
            await self._end_dynamodb()
            await self.in_mongodb.look(mode, wait_s)
        elif not mode.leader.dynamodb_leads:
            await self.in_mongodb.close()
            await self._look_at_dynamodb(wait_s)

    async def _look_at_dynamodb(self, wait_s: float) -> None:
        """Whether one has been opened is asked about rarely: it is opened by another process, which this one makes room for."""
        if self.in_dynamodb is None:
            if time.monotonic() - self._looked < min(ASK_S, 10 * wait_s):
                return
            self._looked = time.monotonic()
            watch = await in_thread(read_watch, self.job.ledger, Old.DYNAMODB, stop=self.job.stop)
            if watch is None or not watch.is_open:
                return
            self.in_dynamodb = DynamoWatch(self.job, self.target, watch)
        if not await self.in_dynamodb.look():
            await self._end_dynamodb()

    async def _end_dynamodb(self) -> None:
        ended, self.in_dynamodb = self.in_dynamodb, None
        if ended is not None:
            await ended.close()

    async def close(self) -> None:
        await self.in_mongodb.close()
        await self._end_dynamodb()
