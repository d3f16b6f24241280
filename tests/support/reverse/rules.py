"""The rules of the way back, each of which a run can break, and what of docferry stands in the way of a run.

Nothing of the product is changed: a broken rule is a subclass, or a function put in the place of another for one run.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import bson
from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import ItemKey
from docferry.core.mapping.raw import id_bytes
from docferry.errors import DuplicateKey, TornDocument
from docferry.flows.reverse import places as reverse_reading
from docferry.flows.reverse.lanes import Lane, ReverseLanes, _Part
from docferry.flows.reverse.places import Place
from docferry.flows.reverse.shards import Pending, ShardOutcome
from docferry.ports.flows import StreamRecord

from support.reverse.world import World

_SERIAL = itertools.count()


class SeenLanes(ReverseLanes):
    """Counts what it meets."""

    seen: Any = None

    async def _make_way(self, part: _Part, error: DuplicateKey) -> None:
        self.seen["duplicate"] += 1
        was = part.set_aside
        await super()._make_way(part, error)
        self.seen["set aside"] += part.set_aside and not was

    async def _read_whole(self, place: Place) -> bytes | None:
        try:
            return await reverse_reading.read_document(self.work.target, place)
        except TornDocument:
            self.seen["torn read"] += 1
        return await super()._read_whole(place)


class Images(SeenLanes):
    """Takes the image for the document, where a document is one item."""

    def put(self, table: str, record: StreamRecord, pending: Pending) -> Iterator[str]:
        item = record.new if record.new is not None and not is_tombstone(record.new) else record.old
        if item is None or item["entityType"] != {"S": "ROW"} or is_tombstone(item):
            yield from super().put(table, record, pending)
            return
        mapping = self.work.entities[table]["ROW"]
        document = mapping.decode([item]).document

        async def look() -> ShardOutcome:
            if item is record.old:
                self.work.sink.delete("rows", id_bytes(document["_id"]))
            else:
                self.work.sink.put("rows", bson.encode(document))
            return ShardOutcome.APPLIED

        part = _Part(("rows", repr(document["_id"])), table, record.key, id_bytes(document["_id"]), look, pending)
        self._put(part)


class Parallel(SeenLanes):
    """Reads and writes of one document run into each other."""

    def _part_of(self, place: Place, key: ItemKey, pending: Pending | None) -> _Part:
        part = super()._part_of(place, key, pending)
        part.lane = (part.lane[0], f"{part.lane[1]} {next(_SERIAL)}")
        part.place = None
        return part


class AnyKey(SeenLanes):
    """Deletes without looking at the key that MongoDB's copy maps to."""

    @staticmethod
    def _maps_to(current: bytes, place: Place) -> bool:
        return True


class NoWay(SeenLanes):
    """Waits for a unique index without doing anything about the document that is in the way."""

    async def _make_way(self, part: _Part, error: DuplicateKey) -> None: ...


class ServedTooMany(SeenLanes):
    """Takes a look for the answer to what came after it, too."""

    async def _serve(self, name: Lane, waiting: deque[_Part]) -> bool:
        part = waiting[0]
        if part.tries:
            return await super()._serve(name, waiting)
        first = part.look

        async def look() -> ShardOutcome:
            known = list(waiting)
            outcome = await first()
            for late in [one for one in waiting if one not in known and one.place == part.place]:
                waiting.remove(late)
                self._finish(late, ShardOutcome.SAME)
            return outcome

        part.look = look
        return await super()._serve(name, waiting)


class NewOnly(SeenLanes):
    """Follows the document of the new image alone."""

    def put(self, table: str, record: StreamRecord, pending: Pending) -> Iterator[str]:
        if record.new is not None and not is_tombstone(record.new):
            record = StreamRecord(
                sequence=record.sequence, key=record.key, created_ms=record.created_ms, new=record.new
            )
        yield from super().put(table, record, pending)


LANES_OF: Mapping[str, type[SeenLanes]] = {
    "images": Images,
    "parallel re-reads": Parallel,
    "REMOVE without the key check": AnyKey,
    "no document makes way": NoWay,
    "a look counts for what came later": ServedTooMany,
    "the new image alone": NewOnly,
}
BROKEN = (*LANES_OF, "position ahead of what is applied", "torn documents are taken")


def world_of(seed: int, broken: str = "") -> World:
    return World(seed, LANES_OF.get(broken, SeenLanes), ahead=broken == "position ahead of what is applied")


@contextlib.contextmanager
def rule_broken(patch: Any, broken: str) -> Iterator[None]:
    """The patches that every run needs, and those of a broken rule; undone at the end."""
    with patch.context() as inner:
        inner.setattr("docferry.flows.reverse.lanes.DUPLICATE_WAIT_S", 0.0)
        inner.setattr("docferry.flows.reverse.lanes.TORN_WAIT_S", 0.0)
        inner.setattr("docferry.flows.reverse.lanes.in_thread", _beside)
        inner.setattr("docferry.flows.reverse.lanes.to_its_end", _beside)
        if broken == "torn documents are taken":
            inner.setattr(reverse_reading, "_is_torn", lambda root, children: False)
        yield


async def _beside(call: Any, *arguments: Any, **options: Any) -> Any:
    """What stands for a thread: the call is made some time, and its answer comes some time later."""
    gates = _CURRENT[0].gates
    await gates.wait()
    result = call(*arguments)
    await gates.wait()
    return result


_CURRENT: list[World] = []


async def one_run(seed: int, broken: str = "") -> Any:
    """What was seen in it. Raises Diverged; any error names the seed."""
    world = world_of(seed, broken)
    _CURRENT[:] = [world]
    try:
        async with asyncio.timeout(30):
            await world.run()
    except BaseException as error:
        error.add_note(f"seed {seed}")
        raise
    finally:
        await world.lanes.end()
    return world.seen
