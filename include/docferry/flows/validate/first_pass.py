"""Validation: are the two databases equal, field by field, in both directions, while both are being written?

This is the first generation, which compares everything. From MongoDB: every document, read page by page at a named
snapshot, is mapped, its items fetched and compared. From DynamoDB: every item is scanned. If the keys scanned are exactly
the keys expected (their number and the sum of their 128-bit hashes are the same), nothing is extra, and MongoDB is not
asked again; else the documents of the items are fetched, and an item that none of them accounts for is extra. Where documents
have changed meanwhile the keys would hardly agree: a scan for the sum alone would be paid for in vain.

Whatever is found is only suspected: `generations` looks at it again until it is proved different, or not. Memory does not
grow with the collections; past MAX_SUSPECTS suspects only their number is kept. A full validation goes on where it was
killed (`validation_progress`).
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.compare.diff import Difference, differences_of, is_tombstone
from docferry.core.compare.keysum import KeySum
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import encode_raw, id_of, id_text, item_id
from docferry.core.versions import snapshot_version
from docferry.errors import DocumentError, Stopped
from docferry.flows.kernel.collector import raised_gc_threshold
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import cancel_all, in_thread, unless_stopped
from docferry.flows.ledger.dead_letters import read_letter
from docferry.flows.ledger.mapping_fingerprint import require_mapping
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.positions import changes_applied
from docferry.flows.ledger.reports import CollectionResult, ValidationReport, latest_report, record_report
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.mongodb import require_source
from docferry.flows.validate.common import (
    PAGE_DOCUMENTS,
    keys_accounted_for,
    keys_of,
    mark_of,
    owner_of,
    read_ids,
)
from docferry.flows.validate.progress import Keeper, Scan, SoFar, open_keeper
from docferry.flows.validate.recheck import Generations, Judged, aged
from docferry.flows.validate.reverse_first_pass import validate_mongodb
from docferry.flows.validate.suspects import Suspect, Suspects
from docferry.ports.flows import Bounds, Target

__all__ = ["CollectionResult", "ValidationReport", "keys_accounted_for", "latest_report", "validate"]

PAGES_IN_FLIGHT = 3
SCAN_SEGMENTS = 4
SAMPLE_SEGMENTS = 512
SETTLE_S = 1.0
"""Between seeing a difference and looking again: a change on its way has arrived by then, or is late."""

KEYS = ("PK", "SK", "_id", "_v", "_deleted", "entityType")
"""What the first scan asks for: whether an item is alive, and whose."""
OWNERS = (*KEYS, "_t")
"""What naming its document takes: the hints say of which type its id is."""


async def validate(
    job: Job, target: Target, only: Sequence[str] = (), sample: int | None = None, record: bool = True
) -> ValidationReport:
    """Compare the collections (all, or `only` these; all documents, or a `sample` of each) and record the report.

    Whoever leads is right, and the other one is judged: while DynamoDB leads, that is `reverse_validate`'s affair.

    A full and recorded validation is leased and goes on where an earlier one was ended.

    Raises: PreflightFailed, StoreError, RetryExhausted, LeaseHeld, LeaseLost, Stopped (within five seconds). A difference
            is no error here: look at `ok`.
    """
    await in_thread(require_mapping, job.migration, job.ledger, only, stop=job.stop)
    mode = await in_thread(read_mode, job.ledger, stop=job.stop)
    if mode.leader.dynamodb_leads:
        return await validate_mongodb(job, target, only, sample, record)
    check = _Check(job, target, only, sample)
    return await unless_stopped(check.run(record), job.stop)


@dataclass(slots=True)
class _Page:
    """A page of documents, and what comparing it found. Counted when all pages before it have been."""

    raw: list[bytes]
    at: Timestamp
    items: int = 0
    unstorable: int = 0
    sums: KeySum = field(default_factory=KeySum)
    suspects: list[Suspect] = field(default_factory=list)


class _Check:
    """One validation under way."""

    def __init__(self, job: Job, target: Target, only: Sequence[str], sample: int | None) -> None:
        self.job, self.target, self.only, self.sample = job, target, tuple(only), sample
        chosen = [job.migration.mapping(name) for name in only] or list(job.migration.mappings.values())
        self.mappings: dict[str, DocumentMapping] = {mapping.collection: mapping for mapping in chosen}
        results = {name: CollectionResult(collection=name) for name in self.mappings}
        self.so_far = SoFar(started_ms=now_ms(), results=results)
        self.suspects = Suspects()
        self.keeper: Keeper | None = None
        self.changes = 0

    async def run(self, record: bool) -> ValidationReport:
        self._continue()
        await self._aside(require_source, self.job.migration, self.job.source)
        if record and not self.only and self.sample is None:
            self.keeper, self.so_far, self.suspects = await open_keeper(self.job, self.so_far)
        self.changes = await self._aside(changes_applied, self.job.ledger)
        try:
            with raised_gc_threshold():
                await self.from_mongo()
                await self.from_dynamo()
                report = await self.settle()
            if record:
                await self._aside(record_report, self.job.ledger, report)
        except BaseException as error:
            if self.keeper is not None:
                await self.keeper.give_back(error, self.so_far, self.suspects)
            raise
        if self.keeper is not None:
            await self.keeper.finish()
        return report

    def _continue(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; nothing was changed, validate again")

    async def _aside(self, call: Callable[..., Any], *arguments: object) -> Any:
        return await in_thread(call, *arguments, stop=self.job.stop)

    async def _checkpoint(self) -> None:
        if self.keeper is not None:
            await self.keeper.save(self.so_far, self.suspects)

    # --- MongoDB -> DynamoDB -----------------------------------------------------------------------------------------

    async def from_mongo(self) -> None:
        for mapping in self.mappings.values():
            if mapping.collection in self.so_far.complete:
                continue
            started = time.monotonic()
            result = self.so_far.results[mapping.collection]
            total = (await self._aside(self.job.source.collection_facts, mapping.collection)).documents
            compared = _in_flight(self._pages(mapping), partial(self._compare, mapping))
            async with aclosing(compared) as done:
                async for page in done:
                    self._count(mapping, page)
                    self.job.progress.advance(f"validate {mapping.collection}", result.documents, total)
                    await self._checkpoint()
            result.seconds += time.monotonic() - started
            self.so_far.complete.append(mapping.collection)
            self.so_far.after = None

    def _count(self, mapping: DocumentMapping, page: _Page) -> None:
        result = self.so_far.results[mapping.collection]
        result.documents += len(page.raw)
        result.items += page.items
        result.unstorable += page.unstorable
        self.so_far.expected.setdefault(mapping.table, KeySum()).add_sum(page.sums)
        self.so_far.see(page.at)
        for suspect in page.suspects:
            self.suspects.add(suspect)
        if page.raw:
            self.so_far.after = id_of(page.raw[-1])

    async def _pages(self, mapping: DocumentMapping) -> AsyncGenerator[_Page, None]:
        """The last one is empty: that there is nothing behind its predecessor is a fact of its own snapshot."""
        if self.sample is not None:
            sampled = await self._aside(self.job.source.sample_documents, mapping.collection, self.sample)
            at = await self._aside(self.job.source.cluster_time)
            for start in range(0, len(sampled), PAGE_DOCUMENTS):
                yield _Page(sampled[start : start + PAGE_DOCUMENTS], at)
            return
        reading = asyncio.create_task(self._aside(self._read, mapping.collection, self.so_far.after))
        try:
            while True:
                self._continue()
                page: _Page = await reading
                if page.raw:
                    reading = asyncio.create_task(self._aside(self._read, mapping.collection, id_of(page.raw[-1])))
                yield page
                if not page.raw:
                    return
        finally:
            await cancel_all([reading])

    def _read(self, collection: str, after: bytes | None) -> _Page:
        def once() -> _Page:
            at = self.job.source.cluster_time()
            return _Page(self.job.source.read_page(collection, Bounds(None, None), after, PAGE_DOCUMENTS, at), at)

        return retrying(f"read a page of {collection}", once, self.job.stop)

    async def _compare(self, mapping: DocumentMapping, page: _Page) -> _Page:
        expected: list[tuple[bytes, list[Item]]] = []
        version = snapshot_version(page.at)
        for data in page.raw:
            try:
                items = encode_raw(mapping, data, version)
            except DocumentError:
                await self._unstorable(mapping, data, page)
                continue
            expected.append((data, items))
            page.items += len(items)
            page.sums.add_all(key_of(item) for item in items)
        keys = {key_of(item): None for _, items in expected for item in items}  # a request may not name one twice
        stored = await self.target.get_all(mapping.table, list(keys))
        for data, items in expected:
            if any(differences_of(mapping, item, stored.get(key_of(item)), "", ()) for item in items):
                mine = tuple(map(key_of, items))
                page.suspects.append(_suspect(mapping, data, [stored.get(key) for key in mine], mine))
        return page

    async def _unstorable(self, mapping: DocumentMapping, data: bytes, page: _Page) -> None:
        page.unstorable += 1
        letter = await self._aside(read_letter, self.job.ledger, mapping.collection, id_text(data))
        if letter is None:
            page.suspects.append(_suspect(mapping, data, (), ()))

    # --- DynamoDB -> MongoDB -----------------------------------------------------------------------------------------

    async def from_dynamo(self) -> None:
        for table in sorted({mapping.table for mapping in self.mappings.values()}):
            if table in self.so_far.scanned:
                continue
            entities = self.job.migration.entities(table)
            if self.so_far.scan is None:
                self.so_far.scan = self._new_scan(table, owners=self.sample is not None or await self._have_changed())
            if not self.so_far.scan.owners and not await self._keys_agree(self.so_far.scan, entities):
                self.so_far.scan = self._new_scan(table, owners=True)
            if self.so_far.scan.owners:
                await self._look_up(self.so_far.scan, entities)
            self.so_far.scanned.append(table)
            self.so_far.scan = None

    async def _have_changed(self) -> bool:
        """Whether documents have changed since the beginning, as far as replication has seen."""
        return bool(await self._aside(changes_applied, self.job.ledger) != self.changes)

    def _new_scan(self, table: str, owners: bool) -> Scan:
        segments, total = self._segments()
        return Scan(table, owners, total, dict.fromkeys(segments))

    async def _keys_agree(self, scan: Scan, entities: Mapping[str, DocumentMapping]) -> bool:
        """True if the keys in the table are exactly those that MongoDB's documents have."""
        async with aclosing(self._scan(scan, KEYS)) as pages:
            async for items in pages:
                mine: list[ItemKey] = []
                for item in items:
                    if is_tombstone(item):
                        continue
                    mapping = owner_of(item, entities)
                    if mapping is None:
                        return False
                    if mapping.collection in self.mappings:
                        mine.append(key_of(item))
                scan.sums.add_all(mine)
        return scan.sums == self.so_far.expected.get(scan.table, KeySum())

    async def _look_up(self, scan: Scan, entities: Mapping[str, DocumentMapping]) -> None:
        async with aclosing(self._scan(scan, OWNERS)) as pages:
            async for items in pages:
                by_collection: dict[str, dict[bytes, list[Item]]] = {}
                for item in items:
                    if is_tombstone(item):
                        continue
                    mapping, id_data = owner_of(item, entities), item_id(item)
                    if mapping is None or id_data is None:
                        self.suspects.add(_strange(scan.table, "", b"", item))
                    elif mapping.collection in self.mappings:
                        by_collection.setdefault(mapping.collection, {}).setdefault(id_data, []).append(item)
                for collection, owners in by_collection.items():
                    await self._accounted(self.mappings[collection], owners)

    async def _accounted(self, mapping: DocumentMapping, owners: Mapping[bytes, list[Item]]) -> None:
        raw = await self._aside(read_ids, self.job, mapping.collection, list(owners))
        keys = {id_of(data): keys_of(mapping, data) for data in raw}
        for id_data, found in owners.items():
            for item in found:
                if key_of(item) not in keys.get(id_data, ()):
                    self.suspects.add(_strange(mapping.table, mapping.collection, id_data, item))

    async def _scan(self, scan: Scan, attributes: Sequence[str]) -> AsyncGenerator[list[Item], None]:
        """Pages of the segments that are left. What a checkpoint holds is behind the pages that have been dealt with."""
        seen = 0
        waiting: dict[asyncio.Task[Any], int] = {}

        def ask(segment: int, start: Item | None) -> None:
            page = self.target.scan(scan.table, segment, scan.total, start, attributes)
            waiting[asyncio.create_task(page)] = segment

        try:
            for segment, start in scan.starts.items():
                ask(segment, start)
            while waiting:
                self._continue()
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    segment = waiting.pop(task)
                    page = task.result()
                    if page.next is not None:
                        ask(segment, page.next)
                    seen += len(page.items)
                    self.job.progress.advance(f"scan {scan.table}", seen, seen)
                    yield page.items
                    if page.next is None:
                        del scan.starts[segment]
                    else:
                        scan.starts[segment] = page.next
                    await self._checkpoint()
        finally:
            await cancel_all(waiting)

    def _segments(self) -> tuple[Iterable[int], int]:
        if self.sample is None:
            return range(SCAN_SEGMENTS), SCAN_SEGMENTS
        step = max(1, SAMPLE_SEGMENTS // SCAN_SEGMENTS)
        offset = now_ms() % step
        return range(offset, SAMPLE_SEGMENTS, step), SAMPLE_SEGMENTS

    # --- the report --------------------------------------------------------------------------------------------------

    async def settle(self) -> ValidationReport:
        """Look at every suspect again until it is judged, and report."""
        later = Generations(self.job, self.target, self.suspects, self.job.migration.validate.settle_s, SETTLE_S)
        judged = await later.run(self.so_far.results)
        for one in judged.pending:
            one.found = [[later.pending_difference(one)]]
        return self._report(judged)

    def _report(self, judged: Judged) -> ValidationReport:
        wrong: dict[str, set[bytes]] = {name: set() for name in self.mappings}
        extra: dict[str, list[ItemKey]] = {}
        foreign: dict[str, list[ItemKey]] = {}
        found: list[Difference] = []
        pending_keys = 0
        differing = judged.mismatches + judged.pending
        told = {(one.table, key) for one in differing if one.key is None for key in one.wrong_keys}
        reported = [one for one in differing if one.key is None or (one.table, one.key) not in told]
        settled = set(map(id, judged.mismatches))
        for one in reported:
            found += [aged(difference, one) for differences in one.found for difference in differences]
            result = self.so_far.results.get(one.collection)
            if id(one) not in settled:
                pending_keys += result is None
                if result is not None:
                    result.pending += 1
            elif one.key is None:
                wrong[one.collection].add(one.id)
            else:
                (extra if result is not None else foreign).setdefault(one.table, []).append(one.key)
            if id(one) in settled and result is not None:
                result.count(differences[0].kind for differences in one.found)
        return ValidationReport(
            migration=self.job.migration.name,
            at_ms=self.so_far.started_ms,
            sample=self.sample,
            only=self.only,
            collections=tuple(self.so_far.results.values()),
            unchecked=self.suspects.overflow,
            differences=tuple(found[: self.job.migration.validate.first_differences]),
            suspects={name: frozenset(ids) for name, ids in wrong.items()},
            extra_keys={table: tuple(keys) for table, keys in extra.items()},
            foreign_keys={table: tuple(keys) for table, keys in foreign.items()},
            versions=frozenset(judged.versions),
            pending_keys=pending_keys,
            why_pending=judged.why,
            read_from=self.so_far.since,
            largest_age_s=max((difference.age_s for difference in found), default=0.0),
            generations=1 + judged.generations,
            rechecked=judged.rechecked,
        )


def _suspect(
    mapping: DocumentMapping, data: bytes, stored: Sequence[Item | None], keys: tuple[ItemKey, ...]
) -> Suspect:
    return Suspect(
        table=mapping.table, collection=mapping.collection, id=id_of(data), keys=keys, first_seen_ms=now_ms(),
        mark=mark_of(data, stored),
    )  # fmt: skip


def _strange(table: str, collection: str, id_data: bytes, item: Item) -> Suspect:
    return Suspect(
        table=table, collection=collection, id=id_data, key=key_of(item), first_seen_ms=now_ms(),
        mark=mark_of(b"", [item.get("_v")]),
    )  # fmt: skip


async def _in_flight(
    pages: AsyncGenerator[_Page, None], work: Callable[[_Page], Coroutine[Any, Any, _Page]]
) -> AsyncGenerator[_Page, None]:
    """Run `work` on each page, a few at a time; the results in order."""
    running: list[asyncio.Task[_Page]] = []
    try:
        async for page in pages:
            running.append(asyncio.create_task(work(page)))
            if len(running) >= PAGES_IN_FLIGHT:
                yield await running.pop(0)
        while running:
            yield await running.pop(0)
    finally:
        await cancel_all(running)
