"""The skeleton of a validation, for both directions: pages of documents, scans of tables, then judging, then the report.

A direction says in which order MongoDB and DynamoDB are gone through, what comparing a page or scanning a table means, and how
suspects are judged. Whatever it finds is only suspected, until it is proved different, or not. Memory does not grow with the
collections; past MAX_SUSPECTS suspects only their number is kept.
"""

from __future__ import annotations

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, ClassVar

from bson.timestamp import Timestamp

from docferry.core.compare.diff import Difference
from docferry.core.compare.keysum import KeySum
from docferry.core.compare.ownership import Neighbours
from docferry.core.mapping.items import GUARD, Item, ItemKey
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_of
from docferry.errors import PreflightFailed, Problem, Stopped
from docferry.flows.kernel.collector import raised_gc_threshold
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import cancel_all, in_thread
from docferry.flows.ledger.reports import CollectionResult, Direction, ValidationReport, record_report
from docferry.flows.ledger.rooms.owners import read_neighbours
from docferry.flows.ledger.times import now_ms
from docferry.flows.validate.common import PAGE_DOCUMENTS
from docferry.flows.validate.judging import Judged, Judging, aged
from docferry.flows.validate.progress import Keeper, Scan, SoFar, open_keeper
from docferry.flows.validate.suspects import Suspect, Suspects
from docferry.ports.flows import Bounds, Target, TargetPage
from docferry.ports.tracing import span

PAGES_IN_FLIGHT = 3
SCAN_SEGMENTS = 4
SAMPLE_SEGMENTS = 512
"""A sample scans SCAN_SEGMENTS of so many."""


@dataclass(slots=True)
class DocumentPage:
    """A page of documents, and what comparing it found. Counted when all pages before it have been."""

    raw: list[bytes]
    at: Timestamp
    items: int = 0
    unstorable: int = 0
    outside: int = 0
    sums: KeySum = field(default_factory=KeySum)
    suspects: list[Suspect] = field(default_factory=list)


class Validation(ABC):
    """One validation under way. `resumable`: a full and recorded one is leased, and goes on where an earlier one was ended."""

    direction: ClassVar[Direction]
    resumable: ClassVar[bool]

    def __init__(self, job: Job, target: Target, only: Sequence[str], sample: int | None) -> None:
        self.job, self.target, self.only, self.sample = job, target, tuple(only), sample
        chosen = [job.migration.mapping(name) for name in only] or list(job.migration.mappings.values())
        self.mappings: dict[str, DocumentMapping] = {mapping.collection: mapping for mapping in chosen}
        results = {name: CollectionResult(collection=name) for name in self.mappings}
        self.so_far = SoFar(started_ms=now_ms(), results=results)
        self.suspects = Suspects()
        self.keeper: Keeper | None = None
        self.neighbours = Neighbours()

    # --- what a direction says ---------------------------------------------------------------------------------------

    @abstractmethod
    async def begin(self) -> None:
        """Look whether it may be done at all, and note what must be the same at its end."""

    @abstractmethod
    async def first_pass(self) -> None:
        """Compare everything: `from_mongo` and `from_dynamo`, in this direction's order."""

    @abstractmethod
    async def compare(self, mapping: DocumentMapping, page: DocumentPage) -> DocumentPage:
        """Compare a page of MongoDB's documents."""

    @abstractmethod
    def count(self, mapping: DocumentMapping, page: DocumentPage) -> None:
        """A page was compared, and all before it."""

    @abstractmethod
    async def scan_table(self, table: str) -> None:
        """Compare what DynamoDB holds in a table."""

    @abstractmethod
    def judging(self) -> Judging:
        """Who looks at the suspects again."""

    @abstractmethod
    async def end(self) -> None:
        """Raises PreflightFailed if the leader has changed since the beginning: what was compared means nothing then."""

    # --- the way of all ----------------------------------------------------------------------------------------------

    async def run(self, record: bool) -> ValidationReport:
        self.go_on()
        await self.begin()
        self.neighbours = await self.aside(read_neighbours, self.job.migration, self.job.ledger)
        if self.resumable and record and not self.only and self.sample is None:
            self.keeper, self.so_far, self.suspects = await open_keeper(self.job, self.so_far)
        try:
            with raised_gc_threshold():
                await self.first_pass()
                report = await self._settle()
            await self.end()
            if record:
                await self.aside(record_report, self.job.ledger, report)
        except BaseException as error:
            if self.keeper is not None:
                await self.keeper.give_back(error, self.so_far, self.suspects)
            raise
        if self.keeper is not None:
            await self.keeper.finish()
        return report

    def go_on(self) -> None:
        """Raises Stopped if asked to stop."""
        if self.job.stop.is_set():
            raise Stopped("asked to stop; nothing was changed, validate again")

    async def aside(self, call: Callable[..., Any], *arguments: object) -> Any:
        return await in_thread(call, *arguments, stop=self.job.stop)

    async def _checkpoint(self) -> None:
        if self.keeper is not None:
            await self.keeper.save(self.so_far, self.suspects)

    # --- MongoDB's documents -----------------------------------------------------------------------------------------

    async def from_mongo(self) -> None:
        for mapping in self.mappings.values():
            if mapping.collection in self.so_far.complete:
                continue
            started = time.monotonic()
            result = self.so_far.results[mapping.collection]
            total = (await self.aside(self.job.source.collection_facts, mapping.collection)).documents
            read = result.documents + result.outside if self.so_far.after is not None else 0

            async def work(page: DocumentPage, mapping: DocumentMapping = mapping) -> DocumentPage:
                with span("page", subject=mapping.collection):
                    return await self.compare(mapping, page)

            async with aclosing(_in_flight(self._pages(mapping), work)) as done:
                async for page in done:
                    self.count(mapping, page)
                    for suspect in page.suspects:
                        self.suspects.add(suspect)
                    if page.raw:
                        self.so_far.after = id_of(page.raw[-1])
                    read += len(page.raw)
                    self.job.progress.advance(f"validate {mapping.collection}", read, total)
                    await self._checkpoint()
            result.seconds += time.monotonic() - started
            self.so_far.complete.append(mapping.collection)
            self.so_far.after = None

    async def _pages(self, mapping: DocumentMapping) -> AsyncGenerator[DocumentPage, None]:
        """The last one is empty: that there is nothing behind its predecessor is a fact of its own snapshot."""
        if self.sample is not None:
            sampled = await self.aside(self.job.source.sample_documents, mapping.collection, self.sample)
            at = await self.aside(self.job.source.cluster_time)
            for start in range(0, len(sampled), PAGE_DOCUMENTS):
                yield DocumentPage(sampled[start : start + PAGE_DOCUMENTS], at)
            return
        reading = asyncio.create_task(self.aside(self._read, mapping.collection, self.so_far.after))
        try:
            while True:
                self.go_on()
                page: DocumentPage = await reading
                if page.raw:
                    reading = asyncio.create_task(self.aside(self._read, mapping.collection, id_of(page.raw[-1])))
                yield page
                if not page.raw:
                    return
        finally:
            await cancel_all([reading])

    def _read(self, collection: str, after: bytes | None) -> DocumentPage:
        def once() -> DocumentPage:
            at = self.job.source.cluster_time()
            return DocumentPage(
                self.job.source.read_page(collection, Bounds(None, None), after, PAGE_DOCUMENTS, at), at
            )

        return retrying(f"read a page of {collection}", once, self.job.stop)

    # --- DynamoDB's items --------------------------------------------------------------------------------------------

    async def from_dynamo(self) -> None:
        for table in sorted({mapping.table for mapping in self.mappings.values()}):
            if table in self.so_far.scanned:
                continue
            await self.scan_table(table)
            self.so_far.scanned.append(table)
            self.so_far.scan = None

    def new_scan(self, table: str, owners: bool) -> Scan:
        segments, total = self._segments()
        return Scan(table, owners, total, dict.fromkeys(segments))

    def _segments(self) -> tuple[Iterable[int], int]:
        if self.sample is None:
            return range(SCAN_SEGMENTS), SCAN_SEGMENTS
        step = max(1, SAMPLE_SEGMENTS // SCAN_SEGMENTS)
        return range(now_ms() % step, SAMPLE_SEGMENTS, step), SAMPLE_SEGMENTS

    async def scan(self, scan: Scan, attributes: Sequence[str] = ()) -> AsyncGenerator[list[Item], None]:
        """Pages of the segments that are left, each read ahead by one, without the items of migrations that share the table.
        What a checkpoint holds is behind the pages that have been dealt with."""
        seen = 0
        waiting: dict[asyncio.Task[TargetPage], int] = {}

        def ask(segment: int, start: Item | None) -> None:
            page = self.target.scan(scan.table, segment, scan.total, start, attributes)
            waiting[asyncio.create_task(page)] = segment

        try:
            for segment, start in scan.starts.items():
                ask(segment, start)
            while waiting:
                self.go_on()
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    segment, page = waiting.pop(task), task.result()
                    if page.next is not None:
                        ask(segment, page.next)
                    seen += len(page.items)
                    self.job.progress.advance(f"scan {scan.table}", seen, seen)
                    yield self.neighbours.without(scan.table, page.items)
                    if page.next is None:
                        del scan.starts[segment]
                    else:
                        scan.starts[segment] = page.next
                    await self._checkpoint()
        finally:
            await cancel_all(waiting)

    # --- the report --------------------------------------------------------------------------------------------------

    async def _settle(self) -> ValidationReport:
        """Look at every suspect again until it is judged, and report."""
        later = self.judging()
        judged = await later.run()
        for one in judged.pending:
            one.found = [[later.pending_difference(one)]]
        return self._report(judged)

    def _report(self, judged: Judged) -> ValidationReport:
        """What repair works on is told only where DynamoDB is judged, and of guards: MongoDB's copies follow by themselves."""
        wrong: dict[str, set[bytes]] = {name: set() for name in self.mappings}
        extra: dict[str, list[ItemKey]] = {}
        foreign: dict[str, list[ItemKey]] = {}
        guards: dict[str, list[tuple[bytes, ItemKey]]] = {}
        found: list[Difference] = []
        pending_keys = led = 0
        differing = judged.mismatches + judged.pending
        told = {(one.table, key) for one in differing if one.key is None for key in one.wrong_keys}
        settled = set(map(id, judged.mismatches))
        for one in differing:
            if one.key is not None and (one.table, one.key) in told:
                continue
            found += [aged(difference, one) for differences in one.found for difference in differences]
            result = self.so_far.results.get(one.collection)
            if id(one) not in settled:
                pending_keys += result is None
                if result is not None:
                    result.pending += 1
                continue
            if result is not None:
                result.count(differences[0].kind for differences in one.found)
            led += one.led
            if one.led:
                continue
            if one.key is not None and one.key[0].startswith(f"{GUARD}#") and result is not None:
                guards.setdefault(one.collection, []).append((one.id, one.key))
            if one.key is None:
                wrong[one.collection].add(one.id)
            else:
                (extra if result is not None else foreign).setdefault(one.table, []).append(one.key)
        forward = self.direction is Direction.FORWARD
        return ValidationReport(
            migration=self.job.migration.name,
            at_ms=self.so_far.started_ms,
            direction=self.direction,
            looked_ms=(0, 0) if forward else (self.so_far.started_ms, now_ms()),
            sample=self.sample,
            only=self.only,
            collections=tuple(self.so_far.results.values()),
            unchecked=self.suspects.overflow,
            differences=tuple(found[: self.job.migration.validate.first_differences]),
            suspects={name: frozenset(ids) for name, ids in wrong.items()} if forward else {},
            extra_keys={table: tuple(keys) for table, keys in extra.items()} if forward else {},
            guards={} if forward else guards,
            foreign_keys={table: tuple(keys) for table, keys in foreign.items()},
            led=led,
            versions=frozenset(judged.versions),
            pending_keys=pending_keys,
            why_pending=judged.why,
            read_from=self.so_far.since,
            largest_age_s=max((difference.age_s for difference in found), default=0.0),
            generations=1 + judged.generations,
            rechecked=judged.rechecked,
        )


def refused(what: str, suggestion: str = "validate again") -> PreflightFailed:
    """Who leads, or led, is in the way."""
    return PreflightFailed("validation", [Problem(where="mode", what=what, suggestion=suggestion)])


def leader_changed() -> PreflightFailed:
    return refused("has changed meanwhile: what was compared means nothing")


async def _in_flight(
    pages: AsyncGenerator[DocumentPage, None], work: Callable[[DocumentPage], Coroutine[Any, Any, DocumentPage]]
) -> AsyncGenerator[DocumentPage, None]:
    """Run `work` on each page, a few at a time; the results in order."""
    running: list[asyncio.Task[DocumentPage]] = []
    try:
        async for page in pages:
            running.append(asyncio.create_task(work(page)))
            if len(running) >= PAGES_IN_FLIGHT:
                yield await running.pop(0)
        while running:
            yield await running.pop(0)
    finally:
        await cancel_all(running)
