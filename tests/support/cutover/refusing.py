"""A migration on fakes that may go on to its next phase: loaded, validated, approved, followed by an application. A test breaks
one thing of it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import bson
from docferry.config import parse_migration
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.journal import LaneName
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.estate.tables import created_table
from docferry.core.versions import snapshot_version
from docferry.errors import MigrationError, TableMissing
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.approvals import FLIP_READS, STOP_MONGO_WRITES, approve, evidence_of
from docferry.flows.ledger.mapping_fingerprint import indexes_digest
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.rooms.reverse_stream import REVERSE
from docferry.flows.ledger.times import now_ms
from docferry.flows.replicate.follower import replicate
from docferry.flows.validate.first_pass import validate
from docferry.ports.flows import Identity, MemberFacts
from docferry.testing.fakes import (
    FakeClients,
    FakeEstate,
    FakeFence,
    FakeJournal,
    FakeLeader,
    FakeLedger,
    FakeSource,
    FakeStreams,
    FakeTarget,
)
from docferry.testing.jobs import Quiet, make_job
from docferry.wiring import desired

MIGRATION = parse_migration(b"""
migration: fake
source: {database: myapp}
tables: {Tab: {}}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{_id}", SK: "DATA"}}
    children: {notes: {entity: NOTE, key: {SK: "N#{index}"}}}
    unique: {mail_1: {key: [mail], sparse: true}}
""")
READS = ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100)
DUAL = ModeState(mode=Mode.DUAL_WRITE, epoch=3, percent=100)
ALONE = ModeState(mode=Mode.MONGO_ONLY, epoch=3)


class Journal(FakeJournal):
    missing = False

    def read(self, lane: LaneName, after: int, limit: int) -> Any:
        if self.missing:
            raise TableMissing("there is no such table")
        return super().read(lane, after, limit)


class Ready:
    """All is well, in this mode."""

    def __init__(self, mode: ModeState) -> None:
        self.mode = mode
        self.ledger, self.leader, self.journal = FakeLedger(), FakeLeader(), Journal()
        self.source = FakeSource({"users": [{"_id": number} for number in range(3)]})
        member = MemberFacts(name="db1:27017", state="PRIMARY", follows=True)
        self.source.facts = replace(self.source.facts, members=(member,), write_majority=1)
        self.source.images["users"] = True
        self.source.indexes["users"] = (
            {"name": "_id_", "key": {"_id": 1}},
            {"name": "mail_1", "key": {"mail": 1}, "unique": True, "sparse": True},
        )
        self.mongo, self.clients = FakeFence(), FakeClients()
        self.target, self.estate = FakeTarget(), FakeEstate()
        self.target.create_table("Tab")
        self.streams = FakeStreams(self.target)
        self.streams.switch_on("Tab")
        for spec in desired(MIGRATION).tables:
            self.estate.tables[spec.name] = created_table(spec)
        self._go_there()

    def job(self, name: str = "operator") -> Job:
        return make_job(
            migration=MIGRATION, ledger=self.ledger, leader=self.leader, journal=self.journal, source=self.source,
            fence=self.mongo, clients=self.clients, estate=self.estate, streams=self.streams, progress=Quiet(),
            identity=Identity(name=name, mark=name, ended=lambda mark: mark == "ended"), stop=threading.Event(),
        )  # fmt: skip

    def _go_there(self) -> None:
        job = self.job("loader")
        asyncio.run(backfill_collection(job, self.target, "users"))
        asyncio.run(replicate(job, self.target, until=self.source.cluster_time()))
        report = asyncio.run(validate(job, self.target))
        assert report.verdict == "EQUAL", report.render()
        for phase in (FLIP_READS, STOP_MONGO_WRITES):
            approve(self.ledger, phase, evidence_of(self.ledger).digest, "me", "a test")
        self.replicator()
        self.set_mode(self.mode)
        if self.mode is not ALONE:
            self.instance()

    def put(self, section: str, key: str, **changes: Any) -> None:
        """Into a record of the ledger, there or not."""
        record = self.ledger.read(section, key)
        self.ledger.write(section, key, {**(record.body if record else {}), **changes}, expect=record)

    def gone(self, section: str, key: str) -> None:
        record = self.ledger.read(section, key)
        assert record is not None
        self.ledger.delete(record)

    def set_mode(self, mode: ModeState) -> None:
        self.ledger.write(*MODE, mode.to_body(), expect=self.ledger.read(*MODE))

    def replicator(self, **changes: Any) -> None:
        """A replicator that ends as soon as it is asked for room, and noted its position a moment ago."""
        position = position_body(self.source.stream_position(self.source.cluster_time()))
        self.put(*REPLICATION, **(position | {"owner": "", "at": now_ms(), "lag_s": 0, "ended": ""} | changes))

    def instance(self, **changes: Any) -> None:
        now = now_ms()
        counts = {"shadow.equal": 300}
        one = Instance(
            id="i1", name="web", mark="alive", epoch=3, registered_ms=now, beat_ms=now, until_ms=now + 600_000, lanes=2,
            counts=counts, indexes=indexes_digest(MIGRATION.collections),
        )  # fmt: skip
        self.put(INSTANCES, "i1", **replace(one, **changes).to_body())

    def changed(self, _id: Any, **fields: Any) -> None:
        self.source.put("users", bson.encode({"_id": _id, **fields}))


def led(**changes: Any) -> Ready:
    """The same once DynamoDB leads, and MongoDB has followed: nobody is asked what happened before."""
    world = Ready(READS)
    floor = snapshot_version(world.source.cluster_time())
    world.set_mode(ModeState(mode=Mode.DYNAMODB_ONLY, epoch=3, floor=floor))
    now = now_ms()
    places: dict[str, Any] = {
        "owner": "",
        "mark": "",
        "until": 0,
        "begun": now,
        "reached": now,
        "at": now,
        "tables": {"Tab": {}},
    }
    world.put(*REVERSE, **(places | changes))
    return world


def verdict(act: Any) -> tuple[str, list[str]]:
    """What somebody is told: the kind of the refusal and its reasons; "yes" if there is none."""
    try:
        act()
    except MigrationError as error:
        problems: Sequence[Any] = getattr(error, "problems", [error])
        return type(error).__name__, [_without_times(str(one)) for one in problems]
    return "yes", []


def _without_times(text: str) -> str:
    """A refusal that names how many seconds or minutes are left says so anew each time."""
    return "".join("#" if one.isdigit() else one for one in text)
