"""Both databases in memory, with a replication that goes exactly as far as a test says."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Callable, Mapping
from typing import Any

from bson.timestamp import Timestamp
from docferry.core.mapping.items import Item, ItemKey, key_of, tombstone
from docferry.core.versions import snapshot_version, version_of
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.validate import first_pass as checking
from docferry.flows.validate.first_pass import ValidationReport
from docferry.ports.flows import Identity, Record, StreamPosition
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import change_job, make_job

from support.backfill.rig import Quiet
from support.shop_indexes import shop_without_guards

SHOP = shop_without_guards()
"""A document is one item and its children, so that tests count by hand; `test_guards_validated` looks at guards."""
TABLE = "Shop"


class Free:
    """A budget without limits."""

    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class WatchedLedger(FakeLedger):
    """Calls `on_look` each time it is asked how far replication is, with how often that has been.

    Whether documents have changed while all was compared is asked before, at its beginning and at its end.
    """

    def __init__(self) -> None:
        super().__init__()
        self.looks = -2
        self.on_look: Callable[[int], object] = lambda look: None

    def read(self, section: str, key: str) -> Record | None:
        if (section, key) == REPLICATION:
            self.looks += 1
            if self.looks > 0:
                self.on_look(self.looks)
        return super().read(section, key)


class World:
    """`write` and `delete` are the application; `replicate` brings DynamoDB up to now and moves the position."""

    def __init__(self, settle_s: float = 0.0) -> None:
        self.source = FakeSource({name: () for name in SHOP.mappings})
        self.source.unique["users"] = (frozenset({"username"}),)
        self.target = FakeTarget()
        self.target.create_table(TABLE)
        self.ledger = WatchedLedger()
        self.migration = dataclasses.replace(
            SHOP, validate=dataclasses.replace(SHOP.validate, settle_s=settle_s, first_differences=1_000)
        )
        self.log: list[tuple[Timestamp, str, Mapping[str, Any] | None, Mapping[str, Any] | None]] = []
        self.now: dict[tuple[str, Any], Mapping[str, Any]] = {}
        self.time = Timestamp(1, 0)

    # --- the application

    def write(self, collection: str, document: Mapping[str, Any]) -> Timestamp:
        before = self.now.get((collection, document["_id"]))
        self.now[collection, document["_id"]] = document
        self.time = self.source.put(collection, document)
        self.log.append((self.time, collection, before, document))
        return self.time

    def delete(self, collection: str, document: Mapping[str, Any]) -> Timestamp:
        self.time = self.source.remove(collection, document["_id"])
        self.log.append((self.time, collection, self.now.pop((collection, document["_id"])), None))
        return self.time

    def load(self) -> None:
        """As a backfill would: everything, at a snapshot of now, and no replication."""
        for (collection, _), document in self.now.items():
            self._put(self.migration.mapping(collection).encode(dict(document), snapshot_version(self.time)))
        self.log.clear()

    # --- replication

    def replicate(self) -> None:
        while self.log:
            self.apply_next()
        self.set_position(Timestamp(self.time.time, self.time.inc + 1))

    def apply_next(self) -> None:
        """One change, as replication would apply it; the position stays."""
        time, collection, before, after = self.log.pop(0)
        mapping, version = self.migration.mapping(collection), version_of(time, 0)
        items = mapping.encode(dict(after), version) if after is not None else []
        keys = {key_of(item) for item in items}
        old = mapping.encode(dict(before), version) if before is not None else []
        self._put([*items, *(tombstone(item, version, "_ttl") for item in old if key_of(item) not in keys)])

    def set_position(self, at: Timestamp) -> None:
        position = StreamPosition(time=at, token={"_data": "x"}, scope="database:fake")
        known = FakeLedger.read(self.ledger, *REPLICATION)
        self.ledger.write(*REPLICATION, position_body(position), expect=known)

    def _put(self, items: list[Item]) -> None:
        asyncio.run(self.target.put_newer(TABLE, items, Free(), lambda: None))

    # --- looking

    @property
    def items(self) -> dict[ItemKey, Item]:
        return self.target.tables[TABLE]

    def plant(self, key: ItemKey, **attributes: Any) -> None:
        """Change an item behind docferry's back."""
        self.items[key] = {**self.items[key], **attributes}

    def job(self, name: str = "somebody", **changes: Any) -> Job:
        job = make_job(
            migration=self.migration,
            source=self.source,
            ledger=self.ledger,
            identity=Identity(name=name, mark=name, ended=lambda mark: False),
            progress=Quiet(),
            stop=threading.Event(),
        )
        return change_job(job, **changes)

    def validate(self, *only: str, sample: int | None = None, job: Job | None = None) -> ValidationReport:
        return asyncio.run(checking.validate(job or self.job(), self.target, only, sample))
