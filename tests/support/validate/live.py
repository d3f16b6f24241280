"""An application that writes a hundred times a second, and a stand-in for replication that follows it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

import bson
from bson import ObjectId
from bson.timestamp import Timestamp
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.mapping.items import key_of, tombstone
from docferry.core.versions import version_of
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.ports.flows import Record, StreamPosition
from pymongo import WriteConcern

from support.backfill.rig import Rig
from support.validate.planting import MAKERS


class Worker:
    """Something that goes on in a thread until the block ends, and whose error is the block's."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.stop = rig, threading.Event()
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Any:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop.set()
        self._thread.join(timeout=30)
        if kind is None and self.error is not None:
            raise self.error

    def _run(self) -> None:
        try:
            self.work()
        except BaseException as error:
            self.error = error

    def work(self) -> None:
        raise NotImplementedError


class Application(Worker):
    """Inserts, updates, replaces, array elements that come and go, keys that move, deletes. Leaves `spared` alone."""

    PER_S = 100.0

    def __init__(self, rig: Rig, spared: frozenset[ObjectId] = frozenset()) -> None:
        super().__init__(rig)
        self.spared, self.writes = spared, 0
        self.random = random.Random(7)
        options = {"write_concern": WriteConcern("majority")}
        self.collections = {name: rig.database.get_collection(name, **options) for name in MAKERS}
        self.ids = {name: self._ids(name) for name in MAKERS}

    def _ids(self, name: str) -> list[ObjectId]:
        return [one["_id"] for one in self.collections[name].find({}, {"_id": 1}) if one["_id"] not in self.spared]

    def work(self) -> None:
        began = time.monotonic()
        while not self.stop.wait(max(0.0, began + self.writes / self.PER_S - time.monotonic())):
            self.write(self.random.choice(list(MAKERS)))
            self.writes += 1

    def write(self, name: str) -> None:
        collection, number = self.collections[name], self.writes
        kind = self.random.random()
        if kind < 0.2 or len(self.ids[name]) < 5:
            document = MAKERS[name](f"new-{number}")
            collection.insert_one(document)
            self.ids[name].append(document["_id"])
            return
        chosen = self.random.choice(self.ids[name])
        if kind < 0.3:
            collection.delete_one({"_id": chosen})
            self.ids[name].remove(chosen)
        elif kind < 0.5 and name == "users":
            collection.update_one({"_id": chosen}, {"$set": {"username": f"moved-{number}", "email": f"{number}@x"}})
        elif kind < 0.5 and name == "orders":
            line = {"productId": ObjectId(), "quantity": number, "name": "Lamp"}
            change = {"$push": {"items": line}} if kind < 0.4 else {"$pop": {"items": 1}}
            collection.update_one({"_id": chosen}, change)
        elif kind < 0.6:
            collection.replace_one({"_id": chosen}, MAKERS[name](f"replaced-{number}") | {"_id": chosen})
        else:
            collection.update_one({"_id": chosen}, {"$set": {"note": f"n{number}", "updatedAt": number}})


def with_images(rig: Rig) -> None:
    """Change events bring both images."""
    for name in MAKERS:
        with suppress(Exception):
            rig.database.create_collection(name)
        rig.database.command("collMod", name, changeStreamPreAndPostImages={"enabled": True})


class Free:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class Replication(Worker):
    """Applies each change at its version and moves the position behind it; `late` says when a change may be applied."""

    def __init__(self, rig: Rig, late_s: float = 0.0) -> None:
        super().__init__(rig)
        self.late_s, self.applied = late_s, 0
        self.paused = threading.Event()
        self.ready = threading.Event()
        self.record: Record | None = rig.ledger.read(*REPLICATION)

    def __enter__(self) -> Any:
        super().__enter__()
        assert self.ready.wait(20)
        return self

    def work(self) -> None:
        asyncio.run(self._follow())

    async def _follow(self) -> None:
        target = self.rig.target()
        database = self.rig.database.with_options(codec_options=BSON_OPTIONS)
        try:
            with database.watch(
                full_document="whenAvailable", full_document_before_change="whenAvailable", max_await_time_ms=50
            ) as stream:
                stream.try_next()
                self._move(stream)
                self.ready.set()
                while not self.stop.is_set():
                    if self.paused.is_set():
                        await asyncio.sleep(0.02)
                        continue
                    await self._apply_some(stream, target)
        finally:
            await target.close()

    async def _apply_some(self, stream: Any, target: Any) -> None:
        n, last = 0, None
        for _ in range(50):
            change = stream.try_next()
            if change is None:
                break
            n = n + 1 if change["clusterTime"] == last else 0
            last = change["clusterTime"]
            await self._not_before(last.time + self.late_s)
            await self._apply(change, n, target)
        self._move(stream)

    async def _not_before(self, at_s: float) -> None:
        while time.time() < at_s and not self.stop.is_set():  # noqa: ASYNC110 - a thread sets it
            await asyncio.sleep(0.02)

    async def _apply(self, change: dict[str, Any], n: int, target: Any) -> None:
        name = change["ns"]["coll"]
        if name not in MAKERS:
            return
        mapping, version = self.rig.migration.mapping(name), version_of(change["clusterTime"], n)
        after, before = change.get("fullDocument"), change.get("fullDocumentBeforeChange")
        items = mapping.encode(after, version) if after is not None else []
        guards = mapping.guard_items(after, version) if after is not None else []
        keys = {key_of(item) for item in (*items, *guards)}
        old = [*mapping.encode(before, version), *mapping.guard_items(before, version)] if before is not None else []
        gone = [tombstone(item, version, "_ttl") for item in old if key_of(item) not in keys]
        for part in (gone, [*guards, *items[1:]], items[:1]):
            await target.put_newer(self.rig.table, part, Free(), lambda: None)
        self.applied += 1

    def _move(self, stream: Any) -> None:
        token = stream.resume_token
        at = Timestamp(int(token["_data"][2:10], 16), int(token["_data"][10:18], 16))
        position = StreamPosition(time=at, token=token, scope="database:live")
        self.record = self.rig.ledger.write(*REPLICATION, position_body(position), expect=self.record)


def eventually_true(condition: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


def decoded(data: bytes) -> dict[str, Any]:
    return bson.decode(data, BSON_OPTIONS)
