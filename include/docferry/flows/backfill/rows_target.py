"""The load's target where a table is imported: what would be put becomes rows in S3. Everything else is the real target's."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence

from docferry.core.imports.rows import encode_rows
from docferry.core.mapping.items import Item, ItemKey
from docferry.errors import InvariantBroken
from docferry.ports.flows import (
    Budget,
    Grave,
    Guard,
    ImportRows,
    ItemPart,
    Packed,
    PartsPage,
    SpentUnits,
    Target,
    TargetPage,
    Unanswered,
    Written,
)

TOGETHER_S = 0.05
TOGETHER_BYTES = 16 * 1024 * 1024
"""Rows that are put within so short a time, or up to so many bytes, make one object: an import takes 50,000."""


class RowsTarget:
    """`put_all` returns when the object that has its rows is there. A page that is read again makes rows once more, of a later
    version perhaps: whichever of the two DynamoDB takes, replication begins before both."""

    def __init__(self, target: Target, rows: ImportRows) -> None:
        self._target, self._rows = target, rows
        self._open: dict[str, _Object] = {}

    @property
    def spent(self) -> SpentUnits:
        return self._target.spent

    def limit_reads(self, budget: Budget) -> None:
        self._target.limit_reads(budget)

    def pack(self, items: Sequence[Item], table: str = "") -> list[Packed]:
        return self._target.pack(items, table)

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        guard()
        lines = [line for one in items for line in (*(part for _, part in one.parts), one.json)]
        if lines:
            await self._object(table).add(lines)
        return Written({}, frozenset(), 0.0)

    def _object(self, table: str) -> _Object:
        found = self._open.get(table)
        if found is None or found.closed:
            found = self._open[table] = _Object(self._rows, table)
        return found

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        raise InvariantBroken("an import knows no conditions")

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        raise InvariantBroken("an import deletes nothing")

    async def delete_parts(self, table: str, parts: Sequence[ItemPart], budget: Budget, guard: Guard) -> float:
        raise InvariantBroken("an import deletes nothing")

    async def parts(self, table: str, segment: int, segments: int, start: Item | None) -> PartsPage:
        return await self._target.parts(table, segment, segments, start)

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        return await self._target.get_all(table, keys)

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        return await self._target.scan(table, segment, segments, start, attributes)

    def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        return self._target.partition(table, partition_key)

    async def close(self) -> None:
        await self._target.close()


class _Object:
    """Rows of one object, which is written a moment after the first of them came."""

    def __init__(self, rows: ImportRows, table: str) -> None:
        self._rows, self._table = rows, table
        self._lines: list[bytes] = []
        self._bytes, self.closed = 0, False
        self._written: asyncio.Task[None] | None = None

    async def add(self, lines: Sequence[bytes]) -> None:
        self._lines += lines
        self._bytes += sum(map(len, lines))
        self.closed = self._bytes >= TOGETHER_BYTES
        if self._written is None:
            self._written = asyncio.create_task(self._write())
        await asyncio.shield(self._written)

    async def _write(self) -> None:
        await asyncio.sleep(0 if self.closed else TOGETHER_S)
        self.closed = True
        name = f"{uuid.uuid4().hex}.json.gz"
        await asyncio.to_thread(lambda: self._rows.write(self._table, name, encode_rows(self._lines)))
