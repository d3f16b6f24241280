"""What requests have in common behind their replies."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

T = TypeVar("T")


def consumed_by(reply: dict[str, Any]) -> float | None:
    """Capacity units of all tables, with their indexes; None if the reply does not tell."""
    told = reply.get("ConsumedCapacity")
    if told is None:
        return None
    return sum(float(one["CapacityUnits"]) for one in (told if isinstance(told, list) else [told]))


async def gather_all(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; at the first error the others are ended and awaited, so that nothing writes on behind our back."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return [await task for task in tasks]
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
