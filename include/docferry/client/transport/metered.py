"""Calls that add up what DynamoDB says they have cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.errors import InvariantBroken
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard


class MeasuredCalls:
    """Reads through the calls of another."""

    def __init__(self, calls: DynamoCalls) -> None:
        self._calls = calls
        self.read_units = 0.0

    def __repr__(self) -> str:
        return f"MeasuredCalls({self._calls!r}, {self.read_units} read units)"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        reply = await self._calls.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"}, guard)
        cost = reply.get("ConsumedCapacity")
        if cost is None:
            raise InvariantBroken(f"the reply to {operation} does not say what it has cost")
        self.read_units += sum(one["CapacityUnits"] for one in (cost if isinstance(cost, list) else [cost]))
        return reply

    async def sleep(self, seconds: float) -> None:
        await self._calls.sleep(seconds)

    def forked(self) -> None:
        self._calls.forked()

    async def close(self) -> None:
        await self._calls.close()
