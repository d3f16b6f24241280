"""Everything in memory that reverse replication needs."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.mapping.items import Item, key_of, tombstone
from docferry.flows.fence.marker import mark_leader
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.reverse_letters import ReverseLetter, list_reverse_letters
from docferry.flows.reverse.follower import record_stream_start, reverse
from docferry.flows.reverse.proof import Write, wait_until_applied
from docferry.flows.reverse.report import ReverseReport
from docferry.ports.flows import Ledger
from docferry.testing.fakes import FakeLeader, FakeLedger, FakeSink, FakeStreams, FakeTarget
from docferry.testing.jobs import make_job
from docferry.wiring import who

TABLE = "Items"
MIGRATION = parse_migration(b"""
migration: back
source: {database: back}
tables: {Items: {}}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{name}", SK: PROFILE}}
    children:
      addresses: {entity: ADDRESS, key: {SK: "ADDRESS#{index:03d}"}}
  notes:
    item: {entity: NOTE, key: {PK: "NOTE#{_id}", SK: NOTE}}
""")


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Nothing here is far away: waits are short."""
    flows = "docferry.flows.reverse"
    for name, value in {
        "follower.LOOK_S": 0.01,
        "follower.CHECKPOINT_S": 0.02,
        "follower.LETTERS_S": 0.05,
        "shard_readers.POLL_S": 0.01,
        "lanes.DUPLICATE_WAIT_S": 0.0005,
        "lanes.TORN_WAIT_S": 0.0005,
        "proof.LOOK_AGAIN_S": 0.01,
    }.items():
        patch.setattr(f"{flows}.{name}", value)


class Said:
    """What is told, kept."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str) -> None:
        self.lines.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None: ...


def dynamodb_leads(ledger: Ledger) -> None:
    """As the switch leaves it."""
    ledger.write(*MODE, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1).to_body(), expect=ledger.read(*MODE))


class Back:
    """DynamoDB, its stream, and MongoDB. `put` and `remove` are what the application does, each in one transaction."""

    def __init__(self) -> None:
        self.target, self.ledger, self.said = FakeTarget(), FakeLedger(), Said()
        self.target.create_table(TABLE)
        self.leader = FakeLeader()
        self.streams, self.sink = FakeStreams(self.target), FakeSink({"users": [("mail",)]}, self.leader)
        self.streams.switch_on(TABLE)
        self.ledger.write(*MODE, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1).to_body(), expect=None)
        self.stop = threading.Event()
        mark_leader(self.job())
        self.version = 0
        self._items: dict[tuple[str, Any], list[Item]] = {}

    def start(self) -> None:
        dynamodb_leads(self.ledger)
        record_stream_start(self.ledger, self.streams, [TABLE])

    def put(self, collection: str, *documents: dict[str, Any]) -> list[Write]:
        """Insert or replace documents; their items that are no more become tombstones."""
        self.version += 1
        mapping = MIGRATION.mapping(collection)
        items: dict[tuple[str, str], Item] = {}
        for document in documents:
            made = mapping.encode(document, self.version)
            for old in self._items.get((collection, document["_id"]), []):
                items.setdefault(key_of(old), tombstone(old, self.version, "_ttl"))
            self._items[collection, document["_id"]] = made
            items |= {key_of(item): item for item in made}
        self.streams.write(TABLE, items.values())
        return [Write(TABLE, key, self.version) for key in items]

    def remove(self, collection: str, id: Any) -> list[Write]:
        self.version += 1
        graves = [tombstone(item, self.version, "_ttl") for item in self._items.pop((collection, id))]
        self.streams.write(TABLE, graves)
        return [Write(TABLE, key_of(item), self.version) for item in graves]

    def users(self) -> list[dict[str, Any]]:
        return list(self.sink.all_of("users").values())

    def job(self) -> Job:
        return make_job(
            migration=MIGRATION,
            streams=self.streams,
            sink=self.sink,
            leader=self.leader,
            ledger=self.ledger,
            identity=who("back"),
            progress=self.said,
            stop=self.stop,
        )

    def follow(self, for_s: float | None = None) -> ReverseReport:
        """Up to now, unless it is to be for a time."""
        return asyncio.run(reverse(self.job(), self.target, for_s=for_s, until_caught_up=for_s is None))

    def prove(self, writes: Sequence[Write], within_s: float = 0.1) -> None:
        asyncio.run(wait_until_applied(self.job(), self.target, writes, within_s))

    def letters(self) -> list[ReverseLetter]:
        return list_reverse_letters(self.ledger)
