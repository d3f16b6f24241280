"""Several calls at once, for either kind of application: in threads where calls block, in the event loop where they do not."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from docferry.client.transport.sync_driver import run
from docferry.ports.client import DynamoCalls

T = TypeVar("T")

MOST = 8
"""At once, of one call of the application's."""


async def together(calls: DynamoCalls, asked: Sequence[Callable[[], Coroutine[Any, Any, T]]]) -> list[T]:
    """The results of all, in their order; the first error is raised once all that were begun have ended. They ask `calls`."""
    if len(asked) < 2:
        return [await one() for one in asked]
    if calls.blocking:
        contexts = [contextvars.copy_context() for _ in asked]
        with ThreadPoolExecutor(max_workers=min(MOST, len(asked)), thread_name_prefix="docferry reads") as pool:
            return list(pool.map(lambda context, one: context.run(lambda: run(one())), contexts, asked))
    room = asyncio.Semaphore(MOST)

    async def limited(one: Callable[[], Coroutine[Any, Any, T]]) -> T:
        async with room:
            return await one()

    found = await asyncio.gather(*(limited(one) for one in asked), return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException):
            raise one
    return [one for one in found if not isinstance(one, BaseException)]
