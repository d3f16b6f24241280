"""A bulk load whose connections break behind its requests, and replication behind it, in virtual time: what was sent and not
answered arrives until its signature has expired, a quarter of an hour later."""

from __future__ import annotations

import asyncio
import json
import threading
from collections import Counter
from collections.abc import Sequence
from random import Random
from typing import Any

import bson
from docferry.config import parse_migration
from docferry.core.mapping.items import Item, key_of
from docferry.errors import MigrationError, Unavailable
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.ledger.positions import record_position
from docferry.flows.ledger.times import now_ms
from docferry.flows.replicate.follower import replicate
from docferry.ports.flows import Batch, Bounds, Budget, Guard, Identity, Packed, Unanswered, Written
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import Quiet, make_job

from support.journals.servers import SIGNATURE_S
from support.journals.virtual import VirtualLoop, virtual_time

DOCUMENTS = 40
FILE = parse_migration(b"""
migration: late
source: {database: d}
tables: {Items: {}}
collections: {docs: {}}
backfill: {dead_letter_share: 0.9, page_documents: 5, chunk_documents: 10}
""")
LOST = 0.3
"""So many requests are sent, not answered, and sent again."""


class LateTarget(FakeTarget):
    """Requests arrive at once, and some of them once more, long after."""

    loop: VirtualLoop
    random: Random
    seen: Counter[str]
    lost = LOST

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        while self.random.random() < self.lost:
            guard()
            if unanswered is not None:
                unanswered.sent(now_ms())
            self.loop.call_later(self.random.uniform(0, SIGNATURE_S), self._arrive_again, table, items)
            await asyncio.sleep(self.random.expovariate(1))
        await asyncio.sleep(self.random.expovariate(2))
        return await super().put_all(table, items, budget, guard, unanswered)

    def _arrive_again(self, table: str, items: Sequence[Packed]) -> None:
        self.seen["late batch"] += 1
        for item in items:
            self.tables[table][item.key] = json.loads(item.json)

    @staticmethod
    def is_newer(item: Item, there: Item) -> bool:
        return bool(there["_v"]["S"] < item["_v"]["S"])

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        if self.random.random() < LOST:
            self.loop.call_later(self.random.uniform(0, SIGNATURE_S), self._put_again, table, items)
        await asyncio.sleep(self.random.expovariate(20))
        return await super().put_newer(table, items, budget, guard, or_same=or_same)

    def _put_again(self, table: str, items: Sequence[Item]) -> None:
        self.seen["late put"] += 1
        for item in items:
            there = self.tables[table].get(key_of(item))
            if there is None or self.is_newer(item, there):
                self.tables[table][key_of(item)] = item


class _Feed:
    """Waits where there is nothing to read, as MongoDB does."""

    def __init__(self, feed: Any, loop: VirtualLoop) -> None:
        self._feed, self._loop = feed, loop

    def read(self, wait_s: float) -> Batch:
        batch: Batch = self._feed.read(wait_s)
        if not batch.changes:
            self._loop.block(max(wait_s, 0.05))
        return batch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._feed, name)


class BusySource(FakeSource):
    """An application that writes all the while."""

    loop: VirtualLoop

    def follow(self, *words: Any, **more: Any) -> Any:
        return _Feed(super().follow(*words, **more), self.loop)


class Mortal:
    """The ledger as one process reaches it, until that is dead: it takes nothing back, and says nothing of what it has sent."""

    def __init__(self, ledger: FakeLedger) -> None:
        self._ledger, self.dead = ledger, False

    def __getattr__(self, name: str) -> Any:
        if self.dead:
            raise Unavailable("the process is dead", operation=name)
        return getattr(self._ledger, name)


class World:
    """`seen` counts what happened in a run."""

    def __init__(self, seed: int, loop: VirtualLoop) -> None:
        self.random, self.loop = Random(seed), loop
        self.seen: Counter[str] = Counter()
        self.source = BusySource({"docs": [{"_id": number, "x": 0} for number in range(DOCUMENTS)]})
        self.source.images["docs"], self.source.loop = True, loop
        self.ledger = FakeLedger()
        self.target = LateTarget()
        self.target.loop, self.target.random, self.target.seen = loop, self.random, self.seen
        self.target.create_table("Items")
        self.writes = 0

    def job(self, name: str, ledger: Any = None) -> Any:
        return make_job(
            migration=FILE, source=self.source, ledger=ledger or self.ledger, progress=Quiet(), stop=threading.Event(), run=name,
            identity=Identity(name=name, mark=name, ended=lambda mark: mark.startswith("dead")),
        )  # fmt: skip

    async def run(self) -> None:
        writing = asyncio.create_task(self._write())
        await self._load()
        following = asyncio.create_task(replicate(self.job("replicator"), self.target, for_s=1_500.0))
        await asyncio.sleep(self.random.uniform(900, 1_300))
        writing.cancel()
        await asyncio.wait([writing])
        await following
        await asyncio.sleep(2 * SIGNATURE_S)
        self.seen["stale"] = len(self._stale())

    async def _load(self) -> None:
        """The first process may be killed in the middle of it; another goes on."""
        await asyncio.to_thread(record_position, self.ledger, self.source)
        if self.random.random() < 0.5:
            ledger = Mortal(self.ledger)
            first = asyncio.create_task(backfill_collection(self.job("dead loader", ledger), self.target, "docs"))
            await asyncio.sleep(self.random.uniform(0.3, 2.5))
            self.seen["killed"] += not first.done()
            ledger.dead = True
            first.cancel()
            await asyncio.wait([first])
            if self.random.random() < 0.5:
                self.target.lost = 0.0  # its network alone was broken
            if not first.cancelled():
                first.exception()
        refused: MigrationError | None = None
        for _ in range(60):
            try:
                await backfill_collection(self.job("loader"), self.target, "docs")
            except MigrationError as error:  # the lease of the dead one is waited for
                refused = error
                await asyncio.sleep(5)
            else:
                return
        raise AssertionError("it was never loaded") from refused

    async def _write(self) -> None:
        while True:
            await asyncio.sleep(self.random.expovariate(0.3))
            self.writes += 1
            retired = min(
                DOCUMENTS - 1, int(self.loop.now / 1_000 * DOCUMENTS)
            )  # no later write would mend what is stale
            self.source.put("docs", {"_id": self.random.randrange(retired, DOCUMENTS), "x": self.writes})

    def _stale(self) -> list[Any]:
        """Documents of which DynamoDB does not hold what MongoDB does."""
        mapping, now = FILE.mapping("docs"), self.source.cluster_time()
        page = self.source.read_page("docs", Bounds(None, None), None, 1_000, now)
        found = []
        for document in map(bson.decode, page):
            (item,) = mapping.encode(document, 0)
            there = self.target.tables["Items"].get(key_of(item), {})
            if there.get("x") != item["x"]:
                found.append(document["_id"])
        return found


def run(seed: int) -> Counter[str]:
    """What happened: `stale` documents there must not be."""
    with virtual_time(seed) as loop:
        world = World(seed, loop)
        loop.run_until_complete(world.run())
        for task in asyncio.all_tasks(loop):
            task.cancel()
        return world.seen
