"""Calls that count, for the process's record in the ledger, what DynamoDB says they have consumed."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from docferry.client.transport.spending import tell_spent
from docferry.client.transport.through import ThroughCalls, units_told
from docferry.core.limits import item_bytes, write_units
from docferry.errors import ConditionFailed
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard

READ_UNITS, WRITE_UNITS = "capacity.read_units", "capacity.write_units"
WRITING = frozenset({"PutItem", "UpdateItem", "DeleteItem", "BatchWriteItem", "TransactWriteItems"})


class CountedCalls(ThroughCalls):
    """The calls of another, counted. What a cache answers does not come by here, and costs nothing."""

    def __init__(self, calls: DynamoCalls, count: Callable[[str, int], None]) -> None:
        """`count` is told a name and whole units."""
        super().__init__(calls)
        self._tell = count
        self._lock = threading.Lock()
        self._rest = {READ_UNITS: 0.0, WRITE_UNITS: 0.0}

    def __repr__(self) -> str:
        return f"CountedCalls({self._calls!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        name = WRITE_UNITS if operation in WRITING else READ_UNITS
        try:
            reply = await self._calls.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"}, guard)
        except ConditionFailed:
            self._count(name, refused_units(operation, request))
            raise
        self._count(name, units_told(reply))
        return reply

    def _count(self, name: str, units: float) -> None:
        """Whole units go to the tally; the rest waits for the next. The call that asks is told at once."""
        tell_spent(units, writes=name == WRITE_UNITS)
        with self._lock:
            whole, self._rest[name] = divmod(self._rest[name] + units, 1.0)
        if whole:
            self._tell(name, int(whole))


def refused_units(operation: str, request: Mapping[str, Any]) -> float:
    """What a refused condition costs, which no reply says: as much as the write, but no index."""
    each = 2.0 if operation == "TransactWriteItems" else 1.0
    return each * sum(write_units(item_bytes(item)) for item in _items(operation, request))


def _items(operation: str, request: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if operation == "TransactWriteItems":
        yield from (one["Put"]["Item"] for one in request["TransactItems"] if "Put" in one)
    else:
        yield dict(request.get("Item", {}))
