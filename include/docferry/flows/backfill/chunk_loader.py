"""Loading one chunk: its pages are read ahead in a thread, encoded, written a few at a time, and counted.

The checkpoint moves behind the last page whose items are all acknowledged and whose dead letters are in the ledger.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from docferry.core.limits import ITEM_BYTES
from docferry.core.mapping.change_writes import DecodedChange
from docferry.core.mapping.items import Item, is_guard, key_of, tombstone
from docferry.core.mapping.learnt.transcoder import Transcoder
from docferry.core.mapping.raw import encode_raw, guards_in, id_of, id_text, require_inside
from docferry.core.versions import snapshot_version
from docferry.errors import (
    ConditionFailed,
    DocumentError,
    InvariantBroken,
    LeaseLost,
    MigrationError,
    OutsideFilter,
    Stopped,
    TooManyDeadLetters,
    Unavailable,
)
from docferry.flows.backfill.mended import OpenLetters
from docferry.flows.backfill.pages import (
    PART_DOCUMENTS,
    LoadPage,
    LoadPart,
    refuse_shared_keys,
    superseded,
    without_taken,
)
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.budget import LedgerBudget
from docferry.flows.ledger.dead_letters import open_letter
from docferry.flows.ledger.leases import Lease, held_async
from docferry.flows.ledger.load_headers import (
    BULK,
    Counts,
    LateWrites,
    LoadHeaders,
    chunk_checkpoint,
    chunk_in,
)
from docferry.flows.ledger.positions import recorded_position
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.majority import MajorityWatch
from docferry.ports.flows import (
    Bounds,
    Packed,
    StreamPosition,
    Target,
    Unanswered,
    Written,
)

CHECKPOINT_S = 2.0
PAGES_IN_FLIGHT = 3
MIXED_APART = 32
"""Neighbours in `_id` order are sent at least so many documents apart: more than a batch holds."""
EARLY_DEAD_LETTERS = 100
"""A chunk with more dead letters than this, and than the allowed share of its collection, stops at once."""


class ChunkLoader:
    """Loads one leased chunk: reads ahead, keeps a few pages in flight, checkpoints behind them."""

    def __init__(
        self,
        job: Job,
        target: Target,
        collection: str,
        lease: Lease,
        budget: LedgerBudget,
        mode: str = BULK,
    ) -> None:
        self.job, self.target, self.lease = job, target, lease
        self.conditional = mode != BULK
        self.collection = collection
        self.mapping = job.migration.mapping(collection)
        self.transcoder = Transcoder(self.mapping)
        self.chunk = chunk = chunk_in(lease.record)
        self.bounds = Bounds(chunk.lower, chunk.upper)
        self.counts = self.started_with = chunk.counts
        self.after = chunk.after
        self.unanswered = Unanswered()
        self.pending: deque[LoadPage] = deque()
        self.checkpointed = time.monotonic()
        self.budget = budget
        position = recorded_position(job.ledger)
        if position is None:
            raise InvariantBroken("no stream position is recorded, so nothing may be read yet")
        self.position: StreamPosition = position
        self.majority = MajorityWatch(job.source, job.progress, f"the load of {collection}")
        self.letters: OpenLetters | None = None

    async def run(self) -> Counts:
        """Returns what this attempt did. The lease is given back whatever happens, with all that was acknowledged."""
        async with held_async(self.lease, self.job.stop):
            try:
                await self._load()
            except BaseException:
                await self._abandon()
                self.lease.last = self._checkpoint()
                raise
            if self.chunk.done:  # another process finished it between our look and our lease
                return Counts()
            self.lease.last = self._checkpoint(done=True)
        self._report("done")
        return self.counts - self.started_with

    async def _load(self) -> None:
        if self.chunk.done:
            return
        self.letters = await in_thread(OpenLetters, self.job.ledger, self.collection, stop=self.job.stop)
        reading = self._start_reading(self.after)
        try:
            while True:
                raw, version = await reading
                if not raw:
                    break
                page = LoadPage(raw, version, id_of(raw[-1]))
                reading = self._start_reading(page.last)
                self.pending.append(page)
                await self._send(page)
                await self._settle(PAGES_IN_FLIGHT - 1)
            await self._settle(0)
        finally:
            reading.cancel()

    def _guard(self) -> None:
        if self.job.stop.is_set():
            raise Stopped(
                f"{self.collection}: asked to stop; what was acknowledged is checkpointed, run again to continue"
            )
        self.lease.check()

    def _start_reading(self, after: bytes | None) -> asyncio.Task[tuple[list[bytes], int]]:
        return asyncio.create_task(in_thread(self._read, after, stop=self.job.stop))

    def _read(self, after: bytes | None) -> tuple[list[bytes], int]:
        """The next page and its version. Read again at a newer time if the snapshot cannot be had."""

        def once() -> tuple[list[bytes], int]:
            at = self.job.source.cluster_time()
            if at < self.position.time:
                raise Unavailable(
                    f"MongoDB's time is before the recorded stream position ({at} < {self.position.time})"
                )
            limit = self.job.migration.backfill.page_documents
            return self.job.source.read_page(self.collection, self.bounds, after, limit, at), snapshot_version(at)

        call = f"read a page of {self.collection}"
        return retrying(call, once, self.job.stop, must_wait=self.majority.look)

    async def _send(self, page: LoadPage) -> None:
        """Encode a page part by part, each on its way before the next: what was just made is still in the cache.

        Neighbours in `_id` order may share a partition, and a partition takes 1,000 units a second: they are mixed.
        """
        step = random.randint(MIXED_APART, 2 * MIXED_APART)  # noqa: S311 - spread, not secrecy
        order = [position for first in range(step) for position in range(first, len(page.raw), step)]
        for start in range(0, len(order), PART_DOCUMENTS):
            part = self._encode(page, order[start : start + PART_DOCUMENTS])
            page.parts.append(part)
            page.writes.append(asyncio.create_task(self._write(part)))
            await asyncio.sleep(0)

    def _encode(self, page: LoadPage, positions: Sequence[int]) -> LoadPart:
        part = LoadPart()
        for position in positions:
            data = page.raw[position]
            try:
                items, made = self._pack(data, page)
                refuse_shared_keys(items, page.keys, self.collection)
            except OutsideFilter:
                page.outside += 1
                continue
            except DocumentError as error:
                error.namespace, error.id = self.collection, error.id or id_text(data)
                page.errors[position] = error
                continue
            part.items += items
            if self.conditional:
                part.made += made
            part.owners += [position] * len(items)
        return part

    def _pack(self, data: bytes, page: LoadPage) -> tuple[Sequence[Packed], Sequence[Item]]:
        """A document's items ready to be sent, and as the mapping made them, unless the transcoder did without it."""
        require_inside(self.mapping, data)
        if not self.conditional:
            packed = self.transcoder.pack(data, page.version)
            if packed is not None:
                guards = guards_in(self.mapping, data, page.version) if self.mapping.unique else []
                return (Packed(*packed), *self._packed(guards, page)[0]), ()
        items = encode_raw(self.mapping, data, page.version)
        if (len(items) == 1 or is_guard(items[1])) and len(data) <= ITEM_BYTES:  # a larger one may be compressed
            self.transcoder.learn(data)
        return self._packed(items, page)

    def _packed(self, items: Sequence[Item], page: LoadPage) -> tuple[Sequence[Packed], Sequence[Item]]:
        made = without_taken(items, page.keys)
        return self.target.pack(made, self.mapping.table), made

    async def _write(self, part: LoadPart) -> Written:
        table = self.mapping.table
        if not self.conditional:
            return await self.target.put_all(table, part.items, self.budget, self._guard, self.unanswered)
        # Roots last: a reader trusts one whose digest fits its children.
        whole = Written({}, frozenset(), 0.0)
        for roots in (False, True):
            places = [place for place, item in enumerate(part.made) if self._is_root(item) is roots]
            written = await self.target.put_newer(table, [part.made[at] for at in places], self.budget, self._guard)
            whole = Written(
                {**whole.refused, **{places[at]: error for at, error in written.refused.items()}},
                whole.superseded | {places[at] for at in written.superseded},
                whole.units + written.units,
            )
        return whole

    def _is_root(self, item: Item) -> bool:
        return bool(item["entityType"]["S"] == self.mapping.root.entity)

    async def _settle(self, leave: int) -> None:
        """Wait until at most `leave` pages are in flight; count those that are through, in order."""
        while len(self.pending) > leave:
            page = self.pending[0]
            await self._account(page, [await write for write in page.writes])
            self.pending.popleft()
            if time.monotonic() - self.checkpointed > CHECKPOINT_S:
                await in_thread(self.lease.update, self._checkpoint(), stop=self.job.stop)
                await in_thread(self._keep_run, stop=self.job.stop)
                self.checkpointed = time.monotonic()
                self._report()

    async def _account(self, page: LoadPage, written: Sequence[Written]) -> None:
        dead = dict(page.errors)
        for part, one in zip(page.parts, written, strict=True):
            for index, error in one.refused.items():
                owner = part.owners[index]
                error.namespace, error.id = self.collection, id_text(page.raw[owner])
                dead.setdefault(owner, error)
            await self._bury(page, part, one, dead)
        for position, error in dead.items():
            await asyncio.to_thread(
                open_letter, self.job.ledger, self.collection, error, page.raw[position], page.version
            )
        if self.conditional and dead:
            await self._bury_what_was(page, dead)
        if self.letters:
            await asyncio.to_thread(self.letters.close, page.raw, dead, page.version)
        owners = [owner for part in page.parts for owner in part.owners]
        old = superseded(page, written, dead) if self.conditional else 0
        stored = Counts(
            read=len(page.raw),
            written=len(page.raw) - len(dead) - old - page.outside,
            superseded=old,
            dead=len(dead),
            outside=page.outside,
            items=sum(owner not in dead for owner in owners) if dead else len(owners),
            units=round(sum(one.units for one in written)),
        )
        stored.check(f"a page of {self.collection}")
        self.counts += stored
        self.after = page.last
        self._refuse_too_many_dead()

    async def _bury(self, page: LoadPage, part: LoadPart, written: Written, dead: Mapping[int, DocumentError]) -> None:
        """DynamoDB refused some items of a document and took others: those become tombstones, so none is half there."""
        if not dead:
            return
        half = {
            item.key: owner
            for index, (item, owner) in enumerate(zip(part.items, part.owners, strict=True))
            if owner in dead and index not in written.refused
        }
        if half:
            ttl = self.job.migration.table(self.mapping.table).ttl_attribute
            items = [
                item
                for owner in sorted(set(half.values()))
                for item in encode_raw(self.mapping, page.raw[owner], page.version)
            ]
            graves = [tombstone(item, page.version, ttl) for item in items if key_of(item) in half]
            if self.conditional:
                await self.target.put_newer(self.mapping.table, graves, self.budget, self._guard, or_same=True)
            else:
                packed = self.target.pack(graves, self.mapping.table)
                await self.target.put_all(self.mapping.table, packed, self.budget, self._guard, self.unanswered)

    async def _bury_what_was(self, page: LoadPage, dead: Mapping[int, DocumentError]) -> None:
        """A document that cannot be stored any more may have been once: older items of it become tombstones."""
        table = self.mapping.table
        ttl = self.job.migration.table(table).ttl_attribute
        graves: list[Item] = []
        for position, error in dead.items():
            unstorable = DecodedChange.of(self.mapping, page.raw[position], None, page.version)
            graves += unstorable.burial(ttl, error).first
        await self.target.put_newer(table, graves, self.budget, self._guard)

    def _refuse_too_many_dead(self) -> None:
        allowed = self.job.migration.backfill.dead_letter_share
        expected = self.chunk.expected
        least = self.job.migration.backfill.dead_letter_count
        if self.counts.dead > max(least, EARLY_DEAD_LETTERS, allowed * max(expected, self.counts.read)):
            raise TooManyDeadLetters(self.collection, self.counts.dead, self.counts.read, allowed)

    def _checkpoint(self, *, done: bool = False) -> dict[str, Any]:
        self.counts.check(f"chunk {self.lease.key} of {self.collection}")
        late = self.chunk.late + LateWrites(self.unanswered.requests, self.unanswered.last_signed_ms)
        return chunk_checkpoint(self.after, self.counts, late, done=done)

    def _keep_run(self) -> None:
        """The run's claim on the collection lasts as long as one of its tasks works."""
        headers = LoadHeaders(self.job.ledger)
        header = headers.read(self.collection)
        if header is None or header.run != self.job.run.name:
            raise LeaseLost(f"the backfill of {self.collection}")
        until_ms = now_ms() + int(self.job.migration.backfill.lease_s * 2000)
        try:
            headers.write(replace(header, holder=replace(header.holder, until_ms=until_ms)))
        except ConditionFailed:
            return  # another task of this run has just done the same

    async def _abandon(self) -> None:
        """End what is in flight and wait for it; pages that got through count, in order."""
        writes = [write for page in self.pending for write in page.writes]
        for write in writes:
            write.cancel()
        await asyncio.gather(*writes, return_exceptions=True)
        for page in self.pending:
            if not page.is_written():
                break
            try:
                await self._account(page, [write.result() for write in page.writes])
            except MigrationError:
                break  # not counted: it will be read again
        self.pending.clear()

    def _report(self, note: str = "") -> None:
        subject = f"{self.collection} {self.lease.key}"
        self.job.progress.advance(subject, self.counts.read, self.chunk.expected, note)
