"""All documents of one collection, by a scan of its table, in read units that are bounded.

The items of other collections of the table, tombstones and children pass by: they cost as much, and are not returned.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Generic, TypeVar

from docferry.client.transport.metered import MeasuredCalls
from docferry.client.transport.together import together
from docferry.core.mapping.items import Item
from docferry.core.mapping.mapping import DocumentMapping
from docferry.errors import ScanTooLarge
from docferry.ports.client import DynamoCalls

T = TypeVar("T")

SEGMENTS = 4
"""Read at once."""
FIRST_ITEMS = 100
"""Of each segment, whatever they cost: how much items cost is known then."""
MOST_ITEMS = 1_000


def affordable(read_units: float, spent: float, items: int, first: int = FIRST_ITEMS) -> int:
    """For how many items what is left of `read_units` will pay, by what `items` have cost so far (none: `first`)."""
    if not items:
        return first
    return max(1, min(MOST_ITEMS, int((read_units - spent) / max(spent / items, 0.01))))


class TableScan(Generic[T]):
    """One scan of one collection. `whole` makes of a root item what is wanted, by calls that are counted."""

    def __init__(
        self,
        mapping: DocumentMapping,
        calls: DynamoCalls,
        most_read_units: float,
        whole: Callable[[DynamoCalls, Item], Awaitable[T]],
        *,
        consistent: bool,
    ) -> None:
        self._mapping, self._calls, self._most, self._consistent = mapping, calls, most_read_units, consistent
        self._whole = whole
        self._segments = [MeasuredCalls(calls) for _ in range(SEGMENTS)]  # each is one thread's
        self._items = [0] * SEGMENTS

    def __repr__(self) -> str:
        return f"TableScan({self._mapping!r}, {self.read_units:.1f} of {self._most} read units)"

    @property
    def read_units(self) -> float:
        """Consumed so far, those of children included."""
        return sum(one.read_units for one in self._segments)

    async def all(self) -> list[T]:
        """Of every root item, in no order. Raises: ScanTooLarge, before the request that would begin past the bound."""
        parts = await together(self._calls, [partial(self._segment, one) for one in range(SEGMENTS)])
        return [found for part in parts for found in part]

    async def _segment(self, segment: int) -> list[T]:
        calls, layout, request = self._segments[segment], self._mapping.layout, self._request(segment)
        found: list[T] = []
        while True:
            self._require_units()
            items = affordable(self._most, self.read_units, sum(self._items))
            reply = await calls.call("Scan", {**request, "Limit": max(1, items // SEGMENTS)})
            self._items[segment] += reply["ScannedCount"]
            for item in reply["Items"]:
                self._require_units()
                found.append(await self._whole(calls, layout.read(item)))
            if "LastEvaluatedKey" not in reply:
                return found
            request = {**request, "ExclusiveStartKey": reply["LastEvaluatedKey"]}

    def _require_units(self) -> None:
        if self.read_units >= self._most:
            raise ScanTooLarge(
                what=f"a scan of {self._mapping.collection} has used up its {self._most:g} read units, and is not at its end",
                suggestion="declare an index and an access pattern for what is asked; or let the file allow it more "
                "(scan: most_read_units), and pay for that at every such call",
            )

    def _request(self, segment: int) -> dict[str, Any]:
        return {
            "TableName": self._mapping.table,
            "ConsistentRead": self._consistent,
            "FilterExpression": "entityType = :e AND attribute_not_exists(#d)",
            "ExpressionAttributeNames": {"#d": "_deleted"},
            "ExpressionAttributeValues": {":e": {"S": self._mapping.root.entity}},
            "Segment": segment,
            "TotalSegments": SEGMENTS,
        }
