"""Replication up to a time applies every event of that time."""

from __future__ import annotations

import asyncio
import threading

from docferry.config import parse_migration
from docferry.flows import backfill
from docferry.flows.loading import Backfill
from docferry.flows.replicate import Replication, replicate
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.wiring import who

FILE = b"migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n"
MIGRATION = parse_migration(FILE, "file")
EVENTS = 9


class Quiet:
    def say(self, text: str) -> None: ...

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def test_transaction_that_comes_in_several_batches_is_applied_whole() -> None:
    source, ledger, target = FakeSource({"docs": []}), FakeLedger(), FakeTarget()
    source.images["docs"] = True
    source.batch_events = 4
    target.create_table("Items")
    common = {"migration": MIGRATION, "source": source, "ledger": ledger, "identity": who(), "progress": Quiet()}
    stop = threading.Event()
    asyncio.run(backfill.backfill_collection(Backfill(**common, stop=stop, run="first"), target, "docs"))
    until = source.transaction(*(("docs", {"_id": number}, None) for number in range(EVENTS)))
    report = asyncio.run(replicate(Replication(**common, stop=stop), target, until=until))
    assert report.events == report.written == EVENTS
    assert len(target.tables["Items"]) == EVENTS
