"""Which calls go through a cache in front of DynamoDB, and which past it.

None before DynamoDB leads: until then replication and the backfill write past the cache. From then on every write of an item goes
through it, so that it never serves an item which one of our processes has replaced. It does not hear which lists a write changes:
a list that is not read consistently is asked of it only by those who said that they take what is a while old (`lists`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard


class RoutedCalls:
    """Calls to DynamoDB, or through the cache in front of it. `leads` says whether DynamoDB does, now."""

    def __init__(
        self, plain: DynamoCalls, cache: DynamoCalls, leads: Callable[[], bool], *, lists: bool = False
    ) -> None:
        self._plain, self._cache, self._leads, self._lists = plain, cache, leads, lists

    def __repr__(self) -> str:
        return f"RoutedCalls({self._plain!r}, {self._cache!r})"

    def _way(self, operation: str, request: Mapping[str, Any]) -> DynamoCalls:
        if not self._leads() or operation == "Scan":
            return self._plain
        if operation == "Query" and not request.get("ConsistentRead") and not self._lists:
            return self._plain
        return self._cache

    @property
    def blocking(self) -> bool:
        return self._plain.blocking

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        return await self._way(operation, request).call(operation, request, guard)

    async def sleep(self, seconds: float) -> None:
        await self._plain.sleep(seconds)

    def forked(self) -> None:
        self._plain.forked()
        self._cache.forked()

    async def close(self) -> None:
        await self._plain.close()
        await self._cache.close()
