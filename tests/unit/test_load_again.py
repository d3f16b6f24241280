"""A load under live traffic, while replication is behind: what was deleted in between does not stay."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from docferry.config import parse_migration
from docferry.flows import backfill
from docferry.flows.loading import Backfill
from docferry.flows.replicate import Replication, ReplicationReport, replicate
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.wiring import who

FILE = b"migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n"
MIGRATION = parse_migration(FILE, "file")


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


class World:
    def __init__(self) -> None:
        self.source = FakeSource({"docs": [{"_id": number, "x": 1} for number in range(5)]})
        self.source.images["docs"] = True
        self.ledger, self.target = FakeLedger(), FakeTarget()
        self.target.create_table("Items")
        self.common: dict[str, Any] = {
            "migration": MIGRATION,
            "source": self.source,
            "ledger": self.ledger,
            "identity": who(),
            "progress": Quiet(),
            "stop": threading.Event(),
        }

    def load(self, *, again: bool = False) -> None:
        job = Backfill(**self.common, run="again" if again else "first")
        if again:
            backfill.begin_again(job)
        asyncio.run(backfill.backfill_collection(job, self.target, "docs"))

    def replicate(self) -> ReplicationReport:
        job = Replication(**self.common)
        return asyncio.run(replicate(job, self.target, until=self.source.cluster_time()))

    def alive(self) -> set[str]:
        items = self.target.tables["Items"].values()
        return {item["PK"]["S"] for item in items if "_deleted" not in item}


def test_what_was_deleted_while_replication_was_behind_is_gone_after_a_new_load() -> None:
    world = World()
    world.load()
    world.replicate()
    world.source.remove("docs", 3)  # nobody follows at this time
    world.source.put("docs", {"_id": 5})
    world.load(again=True)
    assert "DOCS#~i3" in world.alive(), "a load alone knows nothing of what is gone"
    report = world.replicate()
    assert report.lag_s == 0
    assert (report.events, report.passed) == (2, 0)
    assert world.alive() == {f"DOCS#~i{number}" for number in (0, 1, 2, 4, 5)}
