"""DynamoDB, after a way back: whatever its streams tell of that is not MongoDB's, from where reverse replication has ended.

A suspicious record names a document. If DynamoDB and MongoDB hold the same of it, it was in time. If they differ, though
replication has brought all that MongoDB held when it was asked, the write came late. One that replication has overwritten
meanwhile is late if its time is behind the switch. Nothing is put right here, as in MongoDB.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import bson
from bson.timestamp import Timestamp

from docferry.core.compare.diff import compare_item, is_tombstone
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, id_name
from docferry.core.versions import version_in
from docferry.errors import ConditionFailed, DocumentError, ItemsUnreadable, StreamTrimmed, TransientStoreError
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import cancel_all, in_thread
from docferry.flows.ledger.positions import applied_position
from docferry.flows.ledger.rooms.reverse_stream import read_reverse
from docferry.flows.ledger.rooms.strays import Stray, open_stray
from docferry.flows.ledger.rooms.watch import Old, Watch, begin_watch, end_watch, note_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse.places import Place, document_in, items_at, places_of
from docferry.flows.reverse.report import ReverseReport
from docferry.flows.reverse.shard_readers import ShardReaders
from docferry.flows.reverse.shards import Pending, decode_stream, encode_stream
from docferry.flows.watch.late_records import Reigned, is_surely_late, why_no_stray
from docferry.ports.flows import StreamRecord, Target

NOTE_MS = 5_000
LOOK_AGAIN_S = 0.5
AT_ONCE = 16


def open_dynamodb_watch(job: Job, reigned: Reigned) -> None:
    """Called by the way back, before MongoDB leads: DynamoDB is watched from where reverse replication has ended.

    Raises: StoreError.
    """
    tables = read_reverse(job.ledger).tables
    begin_watch(
        job.ledger,
        Watch(
            old=Old.DYNAMODB,
            begun_ms=reigned.silent_ms,
            least_s=job.migration.cutover.watch_s,
            tables={table.name: tables[table.name] for table in job.migration.tables if table.name in tables},
            floor=reigned.floor,
            end=reigned.end,
        ),
    )


class DynamoWatch:
    """One open watch. Belongs to one event loop."""

    def __init__(self, job: Job, target: Target, watch: Watch) -> None:
        self.job, self.watch = job, watch
        self.tables = {name: decode_stream(name, body) for name, body in watch.tables.items()}
        self.judge = Judge(job, target, Reigned(floor=watch.floor, end=watch.end, silent_ms=watch.begun_ms))
        books = ReverseReport().books
        self.readers = ShardReaders(job.streams, self.judge, self.tables, job.progress, job.stop, False, books)
        self._noted_ms = 0

    async def look(self) -> bool:
        """Read on, and write down how far; whether it goes on. Raises StoreError; what ended a reader; Stopped."""
        try:
            await self.readers.look()
            if (failure := self.readers.failure or self.judge.failure) is not None:
                raise failure
        except StreamTrimmed as error:
            await in_thread(self._give_up, error, stop=self.job.stop)
            return False
        return await self._write_down()

    async def _write_down(self) -> bool:
        self.readers.advance()
        now = now_ms()
        seen_ms = max(self.watch.seen_ms, self.readers.reached_ms(now))
        ends = not self.judge.parts and self.readers.have_caught_up(self.watch.until_ms)
        if not ends and now - self._noted_ms < NOTE_MS:
            return True
        tables = {name: encode_stream(stream) for name, stream in self.tables.items()}
        watch = replace(self.watch, tables=tables, seen_ms=seen_ms)
        if ends:
            watch = replace(
                watch, seen_ms=max(seen_ms, watch.until_ms), ended_ms=now, how=f"watched for {watch.least_s:.0f} s"
            )
        try:
            self.watch = await in_thread(note_watch, self.job.ledger, watch, stop=self.job.stop)
        except ConditionFailed:
            return False  # another process watches, too, or another watch has begun: on from there
        self._noted_ms = now
        if ends:
            self.job.progress.say(f"the watch of DynamoDB has ended: {watch.how}")
        return not ends

    def _give_up(self, error: StreamTrimmed) -> None:
        """What was written cannot be told: that is told."""
        stray = Stray(
            old=Old.DYNAMODB, place=f"trimmed-{self.watch.begun_ms}", collection="*", id="*", operation="not known", at="",
            remark=f"{error}: validate",
        )  # fmt: skip
        if open_stray(self.job.ledger, stray):
            self.job.progress.say(f"ALARM: DynamoDB is not watched to the end: {error}")
        end_watch(self.job.ledger, Old.DYNAMODB, f"not watched to the end: {error}")

    async def close(self) -> None:
        await self.readers.end()
        await self.judge.end()


@dataclass(slots=True)
class _Copies:
    """What both databases hold of a document: `written` is DynamoDB's, or the item alone where it makes no document."""

    written: bytes | None
    held: bytes | None
    at: Timestamp
    overwritten: bool
    same: bool = False
    """The item is what MongoDB's document makes it."""
    place: str = ""
    """By which the letter is known: of one that lasts, what is stored, so that it has one however many records tell of it."""


@dataclass(slots=True)
class Judge:
    """Where the readers put their records: suspicious ones are judged, each by a task of its own."""

    job: Job
    target: Target
    reigned: Reigned
    parts: int = 0
    failure: BaseException | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    _slots: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))

    def put(self, table: str, record: StreamRecord, pending: Pending) -> Iterator[str]:
        """Queue a record that may tell of a late write; gives why it is passed over."""
        entities = self.job.migration.entities(table)
        ttl_attribute = self.job.migration.table(table).ttl_attribute
        if reason := why_no_stray(record, self.reigned, entities, ttl_attribute):
            yield reason
            return
        self.parts += 1
        pending.left += 1
        task = asyncio.create_task(self._serve(table, record, pending, entities))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def end(self) -> None:
        await cancel_all(list(self._tasks))

    async def _serve(
        self, table: str, record: StreamRecord, pending: Pending, entities: Mapping[str, DocumentMapping]
    ) -> None:
        try:
            for found in places_of(record, entities):
                if isinstance(found, Place):
                    await self._judge(table, record, found)
                elif isinstance(found, ItemsUnreadable):
                    await self._note(table, record, found.namespace, "*", (_as_bson(record.new), None), str(found))
            pending.left -= 1
            self.parts -= 1
        except asyncio.CancelledError:
            raise
        except BaseException as error:  # noqa: BLE001 - raised by who looks
            self.failure = self.failure or error
        finally:
            self.moved.set()

    async def _judge(self, table: str, record: StreamRecord, place: Place) -> None:
        """The databases differ, and so they still do once replication is behind the time at which MongoDB was asked first: then
        it does not bring what is missing."""
        first: _Copies | None = None
        while True:
            try:
                brought = first is not None and await self._has_applied(first.at)  # before DynamoDB is read
                async with self._slots:
                    copies = await self._copies(record, place)
                if copies is None or (copies.overwritten and not is_surely_late(record, self.reigned)):
                    return
                if copies.overwritten:
                    break
                if copies.same:
                    return
                if first is None or first.held != copies.held:
                    first = copies
                elif brought:
                    break
            except TransientStoreError as error:
                self.job.progress.say(f"the watch waits: {error}")
            await asyncio.sleep(LOOK_AGAIN_S)
        remark = "replication has written over it: the copy is of the item alone" if copies.overwritten else ""
        name = id_name(place.id)
        both = (copies.written, copies.held)
        await self._note(table, record, place.mapping.collection, name, both, remark, copies.place)

    async def _copies(self, record: StreamRecord, place: Place) -> _Copies | None:
        """None where a later record, which is judged itself, has taken this one's place. MongoDB's time is asked last: once
        replication is behind it, what MongoDB has been seen to hold is in DynamoDB."""
        items = await items_at(self.target, place)
        stored = next((item for item in items if (item["PK"]["S"], item["SK"]["S"]) == record.key), None)
        held = await in_thread(self.job.sink.current, place.mapping.collection, place.id, stop=self.job.stop)
        at = await in_thread(self.job.source.cluster_time, stop=self.job.stop)
        if _version_of(stored) != _version_of(record.new):
            by_mongodb = stored is not None and self.reigned.is_by_mongodb(version_in(stored))
            return _Copies(_as_bson(record.new), held, at, overwritten=True) if by_mongodb else None
        try:
            written = document_in(place, items)
        except DocumentError:
            written = _as_bson(record.new)
        told = json.dumps(stored, sort_keys=True, default=str) if stored is not None else "nothing"
        place_of_it = f"{record.key[0]}/{record.key[1]}/{hashlib.sha256(told.encode()).hexdigest()}"
        same = _is_expected(place.mapping, record.key, stored, held)
        return _Copies(written, held, at, overwritten=False, same=same, place=place_of_it)

    async def _has_applied(self, at: Timestamp) -> bool:
        position = await in_thread(applied_position, self.job.ledger, stop=self.job.stop)
        return position is not None and position.time > at

    async def _note(
        self,
        table: str,
        record: StreamRecord,
        collection: str,
        name: str,
        copies: tuple[bytes | None, bytes | None],
        remark: str,
        place: str = "",
    ) -> None:
        operation = "delete" if record.new is None else "insert" if record.old is None else "change"
        stray = Stray(
            old=Old.DYNAMODB,
            place=f"{table}/{place or record.sequence}",
            collection=collection,
            id=name,
            operation=operation,
            at=f"{record.created_ms} ms since 1970",
            remark=remark,
            copies=copies,
        )
        if await in_thread(open_stray, self.job.ledger, stray, stop=self.job.stop):
            self.job.progress.say(
                f"ALARM: {operation} of {collection} {name[:60]} in DynamoDB, while MongoDB leads, and not by "
                "replication: both copies are kept (docferry strays)"
            )


def _version_of(item: Item | None) -> int | None:
    return None if item is None else version_in(item)


def _is_expected(mapping: DocumentMapping, key: ItemKey, stored: Item | None, held: bytes | None) -> bool:
    """Whether the stored item of this key is the one that MongoDB's document makes."""
    live = None if stored is None or is_tombstone(stored) else stored
    try:
        made = encode_raw(mapping, held, 0) if held is not None else []
    except DocumentError:
        made = []  # one that DynamoDB cannot hold has none
    expected = next((item for item in made if key_of(item) == key), None)
    if expected is None or live is None:
        return expected is live
    return not list(compare_item(mapping, expected, live))


def _as_bson(item: Mapping[str, Any] | None) -> bytes | None:
    """An item in wire form, where it makes no document of its own."""
    return bson.encode({"item": dict(item)}) if item is not None else None
