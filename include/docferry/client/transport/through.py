"""What the calls that wrap another's have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.ports.client import DynamoCalls


class ThroughCalls:
    """Everything but `call` is the other's."""

    def __init__(self, calls: DynamoCalls) -> None:
        self._calls = calls

    @property
    def blocking(self) -> bool:
        return self._calls.blocking

    async def sleep(self, seconds: float) -> None:
        await self._calls.sleep(seconds)

    def forked(self) -> None:
        self._calls.forked()

    async def close(self) -> None:
        await self._calls.close()


def units_told(reply: Mapping[str, Any]) -> float:
    """The capacity units that a reply says its request has consumed, of one table or of several; 0 if it does not say."""
    told = reply.get("ConsumedCapacity") or []
    return sum(float(one["CapacityUnits"]) for one in (told if isinstance(told, list) else [told]) if one)
