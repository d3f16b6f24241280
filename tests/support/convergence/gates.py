"""Every single put waits at a gate; the run opens the gates in random order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from random import Random

from docferry.core.mapping.items import Item, ItemKey, is_guard, key_of
from docferry.errors import DocumentError
from docferry.ports.flows import (
    Budget,
    Grave,
    Guard,
    ItemPart,
    Packed,
    PartsPage,
    SpentUnits,
    TargetPage,
    Unanswered,
    Written,
)

from support.convergence.sides import Side

GUARDS_WITHOUT_VERSIONS = ("guards as they come, whatever their versions", "guards by their owner")


class Gates:
    """Everybody who wants to put something waits here until the run lets them; some for very long."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waiting: list[asyncio.Future[None]] = []
        self._frozen: list[asyncio.Future[None]] = []

    def __len__(self) -> int:
        return len(self._waiting) + len(self._frozen)

    async def wait(self) -> None:
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        gates = self._frozen if self._random.random() < 0.12 else self._waiting
        gates.append(gate)
        try:
            await gate
        except asyncio.CancelledError:
            if gate in gates:  # else it was opened while the end of this work was on its way
                gates.remove(gate)
            raise

    def open_one(self) -> None:
        if not len(self):
            return
        frozen = not self._waiting or (bool(self._frozen) and self._random.random() < 0.03)
        gates = self._frozen if frozen else self._waiting
        gate = gates.pop(self._random.randrange(len(gates)))
        if not gate.done():  # cancelled, and its work has not heard of it yet
            gate.set_result(None)


class GatedTarget:
    """A target of which each put waits for its gate. `broken` is a rule that it does not keep."""

    def __init__(self, side: Side, gates: Gates, random: Random, seen: Counter[str], broken: str) -> None:
        self.side, self.gates, self.random, self.seen, self.broken = side, gates, random, seen, broken
        self.copies: list[Callable[[], Awaitable[object]]] = []

    def twice(self, request: Callable[[], Awaitable[object]]) -> None:
        """Some requests arrive once more, later: a connection broke, or a client sent them again."""
        if self.random.random() < 0.1:
            self.copies.append(request)

    async def arrive_again(self, all_of_them: bool = False) -> None:
        while self.copies and (all_of_them or self.random.random() < 0.2):
            self.seen["request that arrived twice"] += 1
            await self.copies.pop(self.random.randrange(len(self.copies)))()

    @property
    def spent(self) -> SpentUnits:
        return self.side.target.spent

    def limit_reads(self, budget: Budget) -> None:
        self.side.target.limit_reads(budget)

    def pack(self, items: Sequence[Item], table: str = "") -> list[Packed]:
        return self.side.target.pack(items, table)

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        refused: dict[int, DocumentError] = {}
        superseded: set[int] = set()
        for at in self.random.sample(range(len(items)), len(items)):
            await self.gates.wait()
            if self._is_deleted_outright(items[at]):
                await self.side.delete_older(items[at])
                continue
            if is_guard(items[at]) and self.broken in GUARDS_WITHOUT_VERSIONS:
                if self.broken != "guards by their owner" or await self._is_its_own(table, items[at]):
                    await self.side.target.put_all(table, self.pack([items[at]]), budget, guard)
                continue
            written = await self.side.target.put_newer(table, [items[at]], budget, guard, or_same=or_same)
            sent = partial(self.side.target.put_newer, table, [items[at]], budget, _signed, or_same=or_same)
            self.twice(sent)
            await self.arrive_again()
            if written.refused:
                refused[at] = written.refused[0]
            if written.superseded:
                superseded.add(at)
        self.seen["superseded put"] += len(superseded)
        return Written(refused, frozenset(superseded), 0.0)

    def _is_deleted_outright(self, item: Item) -> bool:
        kinds = {"no tombstones": True, "no tombstones of guards": is_guard(item)}
        return "_deleted" in item and kinds.get(self.broken, False)

    async def _is_its_own(self, table: str, item: Item) -> bool:
        """What a guard would be if it knew owners and no versions: free, or the same document's."""
        there = (await self.side.target.get_all(table, [key_of(item)])).get(key_of(item))
        return there is None or "_deleted" in there or there["_id"] == item["_id"]

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        refused: dict[int, DocumentError] = {}
        for at in self.random.sample(range(len(items)), len(items)):
            await self.gates.wait()
            written = await self.side.target.put_all(table, [items[at]], budget, guard, unanswered)
            if written.refused:
                refused[at] = written.refused[0]
        return Written(refused, frozenset(), 0.0)

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        await self.gates.wait()
        return await self.side.target.delete_exact(table, graves, budget, guard)

    async def parts(self, table: str, segment: int, segments: int, start: Item | None) -> PartsPage:
        await self.gates.wait()
        return await self.side.target.parts(table, segment, segments, start)

    async def delete_parts(self, table: str, parts: Sequence[ItemPart], budget: Budget, guard: Guard) -> float:
        await self.gates.wait()
        return await self.side.target.delete_parts(table, parts, budget, guard)

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        await self.gates.wait()  # what is read may be newer than the time at which it is judged
        return await self.side.target.get_all(table, keys)

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        return await self.side.target.scan(table, segment, segments, start, attributes)

    def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        return self.side.target.partition(table, partition_key)

    async def close(self) -> None:
        """The side's own is closed by its maker."""


def _signed() -> None:
    """A copy is not asked once more whether it may be sent."""
