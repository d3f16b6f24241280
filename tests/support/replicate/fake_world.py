"""Everything in memory that a load and replication need, for tests of what they do one after the other."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

from bson.timestamp import Timestamp
from docferry.config import parse_migration
from docferry.flows.backfill.again import begin_again
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.replicate.follower import replicate
from docferry.flows.replicate.report import ReplicationReport
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.backfill.rig import Quiet

FILE = b"migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n"
FILE += b"backfill: {dead_letter_share: 0.9}\n"
MIGRATION = parse_migration(FILE, "file")


class World:
    """A collection `docs`, and the table `Items`."""

    def __init__(self, documents: int) -> None:
        self.source = FakeSource({"docs": [{"_id": number, "x": 1} for number in range(documents)]})
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
        job = make_job(**self.common, run="again" if again else "first")
        if again:
            begin_again(job)
        asyncio.run(backfill_collection(job, self.target, "docs"))

    def replicate(self, until: Timestamp | None = None) -> ReplicationReport:
        """Up to now, unless something else is asked for."""
        job = make_job(**self.common)
        return asyncio.run(replicate(job, self.target, until=until or self.source.cluster_time()))

    def alive(self) -> set[str]:
        items = self.target.tables["Items"].values()
        return {item["PK"]["S"] for item in items if "_deleted" not in item}
