"""Calls that add up what DynamoDB says they have cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from docferry.client.transport.through import ThroughCalls, units_told
from docferry.errors import InvariantBroken
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard


class MeasuredCalls(ThroughCalls):
    """Reads through the calls of another."""

    def __init__(self, calls: DynamoCalls) -> None:
        super().__init__(calls)
        self.read_units = 0.0

    def __repr__(self) -> str:
        return f"MeasuredCalls({self._calls!r}, {self.read_units} read units)"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        reply = await self._calls.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"}, guard)
        if reply.get("ConsumedCapacity") is None:
            raise InvariantBroken(f"the reply to {operation} does not say what it has cost")
        self.read_units += units_told(reply)
        return reply
