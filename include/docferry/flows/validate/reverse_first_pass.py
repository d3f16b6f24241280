"""Validation while DynamoDB leads: does MongoDB hold what DynamoDB does, field by field, while the application writes?

This is the first generation. From DynamoDB: every item is scanned, put together to documents, and compared with MongoDB's
copies. A page of a scan may hold only some items of a document, and knows no transactions: where they do not fit together by
the root's digest, its partition is read. From MongoDB: every document must have its live root in DynamoDB.

Whatever is found is only suspected: `reverse_judging` looks at it again until it is proved different, or not. Memory does not
grow with the collections. Nothing is written but the report, so nothing is leased, and a killed one begins anew.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from contextlib import aclosing
from typing import Any

from docferry.core.compare.diff import Difference, is_tombstone
from docferry.core.cutover.modes import Mode
from docferry.core.cutover.permitted import Flow
from docferry.core.mapping.items import Item, ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_name, id_of
from docferry.errors import PreflightFailed, Problem, Stopped
from docferry.flows.kernel.collector import raised_gc_threshold
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import cancel_all, in_thread, unless_stopped
from docferry.flows.ledger.modes import not_permitted, read_mode
from docferry.flows.ledger.reports import CollectionResult, Direction, ValidationReport, record_report
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.mongodb import require_source
from docferry.flows.reverse.places import Place, is_of, place_of, root_key_of
from docferry.flows.validate.common import PAGE_DOCUMENTS, read_ids
from docferry.flows.validate.recheck import Judged, aged
from docferry.flows.validate.reverse_looks import (
    Held,
    by_id,
    differences_of_copy,
    entity_of,
    held_at,
    held_in,
    named_by,
)
from docferry.flows.validate.reverse_recheck import ReverseGenerations, add_document, add_item
from docferry.flows.validate.suspects import Suspect, Suspects
from docferry.ports.flows import Bounds, Target, TargetPage

SCAN_SEGMENTS = 4
SAMPLE_SEGMENTS = 512
"""A sample looks for what MongoDB lacks in SCAN_SEGMENTS of so many."""


async def validate_mongodb(
    job: Job, target: Target, only: Sequence[str] = (), sample: int | None = None, record: bool = True
) -> ValidationReport:
    """Compare MongoDB with DynamoDB, which leads, and record the report. As `validate`, in the other direction.

    Raises: PreflightFailed (MongoDB is not kept up to date any more, or the leader has changed meanwhile), StoreError,
            RetryExhausted, Stopped (within five seconds).
    """
    check = _Check(job, target, only, sample)
    return await unless_stopped(check.run(record), job.stop)


class _Check:
    """One validation under way."""

    def __init__(self, job: Job, target: Target, only: Sequence[str], sample: int | None) -> None:
        self.job, self.target, self.only, self.sample = job, target, tuple(only), sample
        chosen = [job.migration.mapping(name) for name in only] or list(job.migration.mappings.values())
        self.mappings: dict[str, DocumentMapping] = {mapping.collection: mapping for mapping in chosen}
        self.results = {name: CollectionResult(collection=name) for name in self.mappings}
        self.began_ms = now_ms()
        self.suspects = Suspects()

    async def run(self, record: bool) -> ValidationReport:
        led_since = await self._leading()
        await self._aside(require_source, self.job.migration, self.job.source)
        with raised_gc_threshold():
            for table in sorted({mapping.table for mapping in self.mappings.values()}):
                await self._from_dynamo(table)
            for mapping in self.mappings.values():
                await self._from_mongo(mapping)
            later = ReverseGenerations(self.job, self.target, self.suspects)
            judged = await later.run()
        if await self._leading() != led_since:
            raise _refused("has changed meanwhile: what was compared means nothing", "validate again")
        for one in judged.pending:
            one.found = [[later.pending_difference(one)]]
        report = self._report(judged)
        if record:
            await self._aside(record_report, self.job.ledger, report)
        return report

    async def _leading(self) -> int:
        """Since when DynamoDB leads: no write of it has an earlier version. Raises PreflightFailed if MongoDB does not follow."""
        mode = await self._aside(read_mode, self.job.ledger)
        if (refused := not_permitted(mode, Flow.VALIDATE)) is not None:
            raise PreflightFailed(Flow.VALIDATE, [refused])
        if mode.leader is not Mode.DYNAMODB_ONLY:
            raise _refused(f"is {mode}: MongoDB leads again", "validate again")
        return int(mode.floor)

    def _continue(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; nothing was changed, validate again")

    async def _aside(self, call: Callable[..., Any], *arguments: object) -> Any:
        return await in_thread(call, *arguments, stop=self.job.stop)

    # --- DynamoDB -> MongoDB -----------------------------------------------------------------------------------------

    async def _from_dynamo(self, table: str) -> None:
        entities = self.job.migration.entities(table)
        began = asyncio.get_running_loop().time()
        async with aclosing(self._scan(table)) as pages:
            async for items in pages:
                places = self._places(table, items, entities)
                seen = [held_in(place, found) for place, found in places.values()]
                unsure = [one.place for one in seen if one.error is not None]
                held = [one for one in seen if one.error is None] + await held_at(self.target, unsure)
                await self._compare(held)
        seconds = asyncio.get_running_loop().time() - began
        for mapping in self.mappings.values():
            self.results[mapping.collection].seconds += seconds if mapping.table == table else 0.0

    def _places(
        self, table: str, items: Sequence[Item], entities: Mapping[str, DocumentMapping]
    ) -> dict[tuple[Any, ...], tuple[Place, list[Item]]]:
        """The documents that live items of a page name, each with its items there. What names none is suspected at once."""
        places: dict[tuple[Any, ...], tuple[Place, list[Item]]] = {}
        for item in items:
            if is_tombstone(item):
                continue
            named = named_by(item, entities)
            if not isinstance(named, Place):
                if named is None or named.namespace in self.mappings:
                    add_item(self.suspects, table, named.namespace if named else "", item)
                continue
            if named.mapping.collection not in self.mappings:
                continue
            self._count(named, item)
            places.setdefault((named.document, named.pk, named.sk), (named, []))[1].append(item)
        return places

    def _count(self, place: Place, item: Item) -> None:
        result = self.results[place.mapping.collection]
        result.items += 1
        if self.sample is None:
            result.documents += entity_of(item) == place.mapping.root.entity

    async def _compare(self, held: Sequence[Held]) -> None:
        """Suspect every document whose copy is not what DynamoDB holds at one of these places."""
        by_collection: dict[str, list[Held]] = {}
        for one in held:
            if one.is_live:
                by_collection.setdefault(one.place.mapping.collection, []).append(one)
        for collection, found in by_collection.items():
            for start in range(0, len(found), PAGE_DOCUMENTS):
                await self._compare_some(self.mappings[collection], found[start : start + PAGE_DOCUMENTS])

    async def _compare_some(self, mapping: DocumentMapping, held: Sequence[Held]) -> None:
        copies = by_id(await self._aside(read_ids, self.job, mapping.collection, [one.place.id for one in held]))
        for one in held:
            if differences_of_copy(mapping, one.place.id, [one], copies.get(one.place.name), ()):
                add_document(self.suspects, mapping, one.place.id, one.place)

    async def _scan(self, table: str) -> AsyncGenerator[list[Item], None]:
        """The pages of all segments (of a sample: of some), read ahead by one each."""
        segments, total = self._segments()
        waiting: dict[asyncio.Task[TargetPage], int] = {}

        def ask(segment: int, start: Item | None) -> None:
            waiting[asyncio.create_task(self.target.scan(table, segment, total, start))] = segment

        seen = 0
        try:
            for segment in segments:
                ask(segment, None)
            while waiting:
                self._continue()
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    segment, page = waiting.pop(task), task.result()
                    if page.next is not None:
                        ask(segment, page.next)
                    seen += len(page.items)
                    self.job.progress.advance(f"scan {table}", seen, seen)
                    yield page.items
        finally:
            await cancel_all(waiting)

    def _segments(self) -> tuple[Iterable[int], int]:
        if self.sample is None:
            return range(SCAN_SEGMENTS), SCAN_SEGMENTS
        step = max(1, SAMPLE_SEGMENTS // SCAN_SEGMENTS)
        return range(now_ms() % step, SAMPLE_SEGMENTS, step), SAMPLE_SEGMENTS

    # --- MongoDB -> DynamoDB -----------------------------------------------------------------------------------------

    async def _from_mongo(self, mapping: DocumentMapping) -> None:
        result = self.results[mapping.collection]
        began = asyncio.get_running_loop().time()
        total = (await self._aside(self.job.source.collection_facts, mapping.collection)).documents
        done = 0
        async with aclosing(self._pages(mapping)) as pages:
            async for page in pages:
                done += len(page)
                self.job.progress.advance(f"validate {mapping.collection}", done, total)
                if self.sample is None:
                    await self._require_roots(mapping, page)
                else:
                    result.documents += len(page)
                    await self._compare_sampled(mapping, page)
        result.seconds += asyncio.get_running_loop().time() - began

    async def _pages(self, mapping: DocumentMapping) -> AsyncGenerator[list[bytes], None]:
        if self.sample is not None:
            sampled = await self._aside(self.job.source.sample_documents, mapping.collection, self.sample)
            for start in range(0, len(sampled), PAGE_DOCUMENTS):
                yield sampled[start : start + PAGE_DOCUMENTS]
            return
        after: bytes | None = None
        while page := await self._aside(self._read, mapping.collection, after):
            self._continue()
            yield page
            after = id_of(page[-1])

    def _read(self, collection: str, after: bytes | None) -> list[bytes]:
        def once() -> list[bytes]:
            at = self.job.source.cluster_time()
            return self.job.source.read_page(collection, Bounds(None, None), after, PAGE_DOCUMENTS, at)

        return retrying(f"read a page of {collection}", once, self.job.stop)

    async def _require_roots(self, mapping: DocumentMapping, page: Sequence[bytes]) -> None:
        """Suspect every document that has no live root item where it maps to. What that one holds, the scan has compared."""
        keys = {id_of(data): root_key_of(mapping, data) for data in page}
        wanted = dict.fromkeys(key for key in keys.values() if key is not None)
        stored = await self.target.get_all(mapping.table, list(wanted))
        for id_data, key in keys.items():
            item = stored.get(key) if key is not None else None
            if key is None or item is None or not _is_root(item, place_of(mapping, id_data, key)):
                add_document(self.suspects, mapping, id_data)

    async def _compare_sampled(self, mapping: DocumentMapping, page: Sequence[bytes]) -> None:
        keys = {id_of(data): root_key_of(mapping, data) for data in page}
        places = [place_of(mapping, id_data, key) for id_data, key in keys.items() if key is not None]
        held = await held_at(self.target, places)
        await self._compare(held)
        live = {one.place.name for one in held if one.is_live}
        for id_data in keys:
            if id_name(id_data) not in live:
                add_document(self.suspects, mapping, id_data)

    # --- the report --------------------------------------------------------------------------------------------------

    def _report(self, judged: Judged) -> ValidationReport:
        foreign: dict[str, list[ItemKey]] = {}
        found: list[Difference] = []
        pending_keys = 0
        for one in judged.mismatches:
            found += _aged(one)
            if one.collection:
                self.results[one.collection].count(differences[0].kind for differences in one.found)
            elif one.key is not None:
                foreign.setdefault(one.table, []).append(one.key)
        for one in judged.pending:
            found += _aged(one)
            if one.collection:
                self.results[one.collection].pending += 1
            pending_keys += not one.collection
        return ValidationReport(
            migration=self.job.migration.name,
            at_ms=self.began_ms,
            direction=Direction.REVERSE,
            looked_ms=(self.began_ms, now_ms()),
            sample=self.sample,
            only=self.only,
            collections=tuple(self.results.values()),
            unchecked=self.suspects.overflow,
            differences=tuple(found[: self.job.migration.validate.first_differences]),
            suspects={},
            extra_keys={},
            foreign_keys={table: tuple(keys) for table, keys in foreign.items()},
            versions=frozenset(),
            pending_keys=pending_keys,
            why_pending=judged.why,
            largest_age_s=max((difference.age_s for difference in found), default=0.0),
            generations=1 + judged.generations,
            rechecked=judged.rechecked,
        )


def _aged(one: Suspect) -> list[Difference]:
    return [aged(difference, one) for differences in one.found for difference in differences]


def _is_root(item: Item, place: Place) -> bool:
    return not is_tombstone(item) and is_of(item, place) and entity_of(item) == place.mapping.root.entity


def _refused(what: str, suggestion: str = "") -> PreflightFailed:
    return PreflightFailed("validation", [Problem(where="mode", what=what, suggestion=suggestion)])
