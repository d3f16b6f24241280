"""Orders of which those of one region are migrated, on fakes."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import bson
from bson.timestamp import Timestamp
from docferry.config import Migration, parse_migration
from docferry.core.mapping.items import Item
from docferry.core.mapping.mapping import DocumentMapping
from docferry.flows.backfill.again import begin_again
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.ledger.positions import REPLICATION, position_body, read_replication
from docferry.flows.replicate.follower import replicate
from docferry.flows.replicate.report import ReplicationReport
from docferry.flows.validate.first_pass import ValidationReport, validate
from docferry.flows.validate.repair import RepairReport, repair
from docferry.flows.validate.replay import ReplayReport, replay_letters
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job

MIGRATION = parse_migration(b"""
migration: part
source: {database: part}
tables: {Part: {}}
backfill: {budget_wcu: 0}
validate: {settle_s: 0}
collections:
  orders:
    filter: {region: eu}
    item: {entity: ORDER, key: {PK: "ORDER#{_id}", SK: META}}
    children: {lines: {entity: LINE, key: {SK: "LINE#{index}"}}}
""")
LINES = [{"sku": "a"}, {"sku": "b"}]


class Orders:
    """Even ones are of the region eu, and migrated; odd ones of us, and MongoDB's alone."""

    def __init__(self, orders: int = 6) -> None:
        self.migration = MIGRATION
        self.source, self.target, self.ledger = FakeSource({"orders": []}), FakeTarget(), FakeLedger()
        self.target.create_table("Part")
        for number in range(orders):
            self.put(number, "us" if number % 2 else "eu")

    def job(self) -> Job:
        return make_job(migration=self.migration, source=self.source, ledger=self.ledger)

    def put(self, number: int, region: Any, touched: list[str] | None = None, **more: Any) -> None:
        body = {"_id": number, "region": region, "lines": LINES, **more}
        self.source.put("orders", bson.encode(body), touched)

    def load(self) -> CollectionReport:
        return asyncio.run(backfill_collection(self.job(), self.target, "orders"))

    def load_again(self) -> CollectionReport:
        begin_again(self.job())
        return self.load()

    def follow(self) -> ReplicationReport:
        """And a moment further: of its own time a position does not say that all has been applied."""
        report = asyncio.run(replicate(self.job(), self.target, until=self.source.cluster_time()))
        record, position = self.ledger.read(*REPLICATION), read_replication(self.ledger).position
        assert record is not None
        assert position is not None
        later = replace(position, time=Timestamp(position.time.time, position.time.inc + 1))
        self.ledger.write(*REPLICATION, {**record.body, **position_body(later)}, expect=record)
        return report

    def pass_time(self) -> None:
        """A version wins over earlier ones only."""
        self.source.put("others", bson.encode({"_id": 0}))
        self.follow()

    def validate(self) -> ValidationReport:
        return asyncio.run(validate(self.job(), self.target))

    def repair(self) -> RepairReport:
        self.pass_time()
        return asyncio.run(repair(self.job(), self.target))

    def replay(self) -> ReplayReport:
        self.pass_time()
        return asyncio.run(replay_letters(self.job(), self.target, "orders"))

    def letters(self) -> dict[str, str]:
        """Reasons, by documents."""
        return {one.id: one.reason for one in list_letters(self.ledger, "orders")}

    @property
    def table(self) -> dict[Any, Item]:
        return self.target.tables["Part"]

    def stored(self) -> list[int]:
        """The orders that have a live root."""
        roots = [item for item in self.table.values() if item["SK"]["S"] == "META" and "_deleted" not in item]
        return sorted(int(item["_id"]["N"]) for item in roots)

    def live(self, number: int) -> int:
        """How many items of an order are alive."""
        mine = [item for item in self.table.values() if item["_id"]["N"] == str(number)]
        return sum("_deleted" not in item for item in mine)


def with_filter(migration: Migration, collection: str, said: dict[str, Any]) -> Migration:
    """The migration, of a part of a collection."""
    settings = tuple(replace(one, filter=said) if one.name == collection else one for one in migration.collections)
    mappings = {**migration.mappings, **{one.name: DocumentMapping(one) for one in settings if one.name == collection}}
    return replace(migration, collections=settings, mappings=mappings)
