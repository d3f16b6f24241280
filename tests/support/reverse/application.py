"""An application of the shop on real servers, once DynamoDB leads: it writes there alone, each document in one transaction."""

from __future__ import annotations

import copy
import threading
from collections.abc import Iterable
from random import Random
from typing import Any

from docferry.adapters.aws.boto_values import to_boto
from docferry.adapters.aws.streams import DynamoStreams
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.adapters.mongodb.sink import MongoSink
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.mapping.items import Item, key_of, tombstone
from docferry.core.mapping.large.parts import name_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import snapshot_version
from docferry.flows.fence.marker import mark_leader
from docferry.flows.kernel.job import Job
from docferry.flows.reverse.follower import record_stream_start, reverse
from docferry.flows.reverse.proof import Write
from docferry.flows.reverse.report import ReverseReport
from docferry.ports.flows import StopSignal
from docferry.rehearsal.independent import judge
from docferry.testing.jobs import make_job
from docferry.wiring import who

from support.backfill.rig import Rig, eventually
from support.replicate.rig import Said
from support.reverse.rig import dynamodb_leads
from support.validate.planting import MAKERS, with_target

Document = dict[str, Any]


class Application:
    """Begins with what MongoDB holds. `writes` are the documents' items that it has written, with their versions; `guards` is how
    many guards beside them."""

    def __init__(self, rig: Rig, seed: int) -> None:
        self.rig, self.random = rig, Random(seed)
        source = MongoSource(rig.env["DOCFERRY_MONGO_URI"], rig.migration.namespaces)
        self.version = snapshot_version(source.cluster_time())
        source.close()
        self.live = {
            (name, document["_id"]): document
            for name in MAKERS
            for document in judge.read_documents(rig.database, name)
        }
        self.writes: list[Write] = []
        self.guards = 0
        self._made = 0

    def change(self, collection: str, before: Document | None, after: Document | None) -> None:
        """One transaction: puts, and tombstones for what is no more."""
        mapping = self.rig.migration.mapping(collection)
        self.version += 1
        items = {key_of(item): item for item in (mapping.encode(after, self.version) if after else [])}
        for old in mapping.encode(before, 0) if before else []:
            items.setdefault(key_of(old), tombstone(old, self.version, "_ttl"))
        guards = self._guards(mapping, before, after)
        self.guards += len(guards)
        cut = [mapping.layout.cut(mapping.layout.stored(one)) for one in [*items.values(), *guards]]
        put_parts(self.rig, mapping, [part for _, parts in cut for part in parts])
        puts = [{"Put": {"TableName": self.rig.table, "Item": _boto(item)}} for item, _ in cut]
        self.rig.dynamodb.transact_write_items(TransactItems=puts)
        self.writes += [Write(self.rig.table, key, self.version) for key in items]
        if before is not None:
            self.live.pop((collection, before["_id"]), None)
        if after is not None:
            self.live[collection, after["_id"]] = after

    def _guards(self, mapping: DocumentMapping, before: Document | None, after: Document | None) -> list[Item]:
        """Those that a change gains, and tombstones for those that it gives up."""
        old, new = (
            {key_of(one): one for one in mapping.guard_items(document, self.version)} if document is not None else {}
            for document in (before, after)
        )
        gone = [tombstone(one, self.version, "_ttl") for key, one in old.items() if key not in new]
        return [*gone, *(one for key, one in new.items() if key not in old)]

    def step(self) -> None:
        """Some change of some document."""
        collection = self.random.choice(list(MAKERS))
        mine = [document for (name, _), document in self.live.items() if name == collection]
        kind = self.random.random()
        self._made += 1
        if kind < 0.2 or not mine:
            self.change(collection, None, MAKERS[collection](f"{collection}-made-{self.random.random()}"))
            return
        before = self.random.choice(mine)
        if kind < 0.3:
            self.change(collection, before, None)
            return
        after = copy.deepcopy(before) | {"changed": self._made}
        if collection == "users" and kind < 0.6:
            after["username"] = f"renamed-{self.random.randrange(10**6)}-{self._made}"
        if collection == "users":
            after["addresses"] = after.get("addresses", [])[: self.random.randrange(3)]
        self.change(collection, before, after)


def _boto(item: Item) -> dict[str, Any]:
    return {name: to_boto(value) for name, value in item.items()}


def switch_stream_on(rig: Rig) -> DynamoStreams:
    """As provision does, where a rig made bare tables."""
    rig.dynamodb.update_table(
        TableName=rig.table, StreamSpecification={"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    )
    streams = rig.streams()
    eventually(lambda: streams.stream_of(rig.table), "the stream to be there")
    return streams


def begin_here(rig: Rig) -> DynamoStreams:
    """DynamoDB leads from here on."""
    streams = switch_stream_on(rig)
    dynamodb_leads(rig.ledger)
    record_stream_start(rig.ledger, streams, [rig.table])
    leads = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1).to_body()
    rig.ledger.write(*MODE, leads, expect=rig.ledger.read(*MODE))
    mark_leader(job_of(rig, streams, threading.Event()))
    return streams


def job_of(rig: Rig, streams: DynamoStreams, stop: StopSignal) -> Job:
    return make_job(
        migration=rig.migration,
        streams=streams,
        journal=rig.journal,
        sink=MongoSink(rig.env["DOCFERRY_MONGO_URI"], rig.migration.namespaces, rig.migration.name),
        leader=MongoLeader(rig.env["DOCFERRY_MONGO_URI"], rig.migration.source.database, rig.migration.name),
        ledger=rig.ledger,
        identity=who("back"),
        progress=Said(),
        stop=stop,
    )


def follow_back(rig: Rig) -> ReverseReport:
    """MongoDB follows what DynamoDB's stream has by now, by a job of its own."""
    job = job_of(rig, rig.streams(), threading.Event())
    try:
        report: ReverseReport = with_target(rig, lambda target: reverse(job, target, until_caught_up=True))
    finally:
        job.sink.close()  # type: ignore[attr-defined]
    return report


def put_parts(rig: Rig, mapping: DocumentMapping, parts: Iterable[Item]) -> None:
    """As a writer puts them, before their item."""
    objects = rig.objects()
    for part in parts:
        if objects is None:
            rig.dynamodb.put_item(TableName=rig.table, Item=_boto(part))
        else:
            objects.put(rig.table, name_of(mapping.layout.key_of(part)[0]), part)
