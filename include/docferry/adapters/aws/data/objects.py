"""Parts of items that are objects beside their table, for a process with an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import orjson

from docferry.core.mapping.items import Item, ItemKey
from docferry.core.mapping.large.parts import name_of
from docferry.errors import InvariantBroken
from docferry.ports.flows import Guard, Packed, PartObjects

_AFTER = "after"


class ObjectParts:
    """`objects` None: no table of the file keeps parts so. Requests share `slots` with those to DynamoDB."""

    def __init__(
        self,
        objects: PartObjects | None,
        slots: asyncio.Semaphore,
        away: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        """`away` carries a blocking call out."""
        self._given, self._slots, self._away = objects, slots, away

    @property
    def _objects(self) -> PartObjects:
        if self._given is None:
            raise InvariantBroken("parts are objects, and it is not said where they are")
        return self._given

    async def put(self, table: str, part: Packed, guard: Guard) -> None:
        async with self._slots:
            guard()
            await self._away(self._objects.put, table, name_of(part.key[0]), orjson.loads(part.json))

    async def get(self, table: str, names: Sequence[str]) -> list[Item]:
        """Those that are there."""
        found = [await self._away(self._objects.get, table, name) for name in names]
        return [part for part in found if part is not None]

    async def delete(self, table: str, key: ItemKey, guard: Guard) -> None:
        async with self._slots:
            guard()
            await self._away(self._objects.delete, table, name_of(key[0]))

    async def heads(self, table: str, segment: int, start: Item | None) -> tuple[list[Item], Item | None]:
        """A page of a table's parts, without their content: objects are in no segment, and the first one has all."""
        if segment != 0:
            return [], None
        after = start[_AFTER]["S"] if start is not None else ""
        found, more = await self._away(self._objects.heads, table, after)
        return found, {_AFTER: {"S": more}} if more else None
