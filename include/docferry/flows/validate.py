"""Validation: are the two databases equal, field by field, in both directions?

From MongoDB: every document, read page by page at a named snapshot, is mapped, its items fetched and compared.
From DynamoDB: every item is scanned. If the keys scanned are exactly the keys expected (their number and the sum of
their 128-bit hashes are the same), nothing is extra, and MongoDB is not asked again; else the documents of the items
are fetched, and an item that none of them accounts for is extra.

Whatever is found is looked at again before it is reported: a difference that was only a change on its way is none.
Memory does not grow with the collections; past MAX_SUSPECTS suspects only their number is kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bson.regex import Regex
from bson.timestamp import Timestamp

from docferry.config import Migration
from docferry.core.codec import HintTree, decode_value
from docferry.core.diff import Difference, Kind, differences_of, is_tombstone, is_version
from docferry.core.keysum import KeySum
from docferry.core.mapping import Item, ItemKey, key_of
from docferry.core.mapping import Mapping as DocumentMapping
from docferry.core.masking import Masks, shown_id, shown_key, shown_strange_key
from docferry.core.raw import encode_raw, id_bytes, id_name, id_of, id_text
from docferry.core.versions import snapshot_version
from docferry.errors import DocumentError, Stopped
from docferry.flows import state
from docferry.flows.background import aside
from docferry.flows.check import require_source
from docferry.flows.loading import calm_collector
from docferry.flows.retry import retrying
from docferry.flows.validation_report import CollectionResult, ValidationReport, latest_report, record_report
from docferry.ports import Bounds, Identity, Ledger, Progress, Source, StopSignal, Target

__all__ = ["CollectionResult", "Validation", "ValidationReport", "latest_report", "validate"]

PAGE_DOCUMENTS = 500
PAGES_IN_FLIGHT = 3
SCAN_SEGMENTS = 4
SAMPLE_SEGMENTS = 512
MAX_SUSPECTS = 20_000
SETTLE_S = 1.0
"""Between seeing a difference and looking again: a change on its way has arrived by then, or is late."""

KEYS = ("PK", "SK", "_id", "_v", "_deleted", "entityType")
"""What the first scan asks for: whether an item is alive, and whose."""
OWNERS = (*KEYS, "_t")
"""What naming its document takes: the hints say of which type its id is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Everything a validation needs."""

    migration: Migration
    source: Source
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal


async def validate(
    job: Validation, target: Target, only: Sequence[str] = (), sample: int | None = None, record: bool = True
) -> ValidationReport:
    """Compare the collections (all, or `only` these; all documents, or a `sample` of each) and record the report.

    Raises: PreflightFailed, StoreError, RetryExhausted, Stopped. A difference is no error here: look at `ok`.
    """
    await asyncio.to_thread(require_source, job.migration, job.source)
    check = _Check(job, target, only, sample)
    with calm_collector():
        await check.from_mongo()
        await check.from_dynamo()
        report = await check.settle()
    if record:
        await asyncio.to_thread(record_report, job.ledger, report)
    return report


class _Check:
    """One validation under way: counts, suspects, and the sums of keys expected and scanned."""

    def __init__(self, job: Validation, target: Target, only: Sequence[str], sample: int | None) -> None:
        self.job, self.target, self.sample = job, target, sample
        chosen = [job.migration.mapping(name) for name in only] or list(job.migration.mappings.values())
        self.mappings: dict[str, DocumentMapping] = {mapping.collection: mapping for mapping in chosen}
        self.results = {name: CollectionResult(collection=name) for name in self.mappings}
        self.suspects: dict[str, set[bytes]] = {name: set() for name in self.mappings}
        self.suspect_keys: dict[str, dict[ItemKey, bytes]] = {}
        self.foreign_keys: dict[str, set[ItemKey]] = {}
        self.wrong_keys: set[tuple[str, ItemKey]] = set()
        self.versions: set[str] = set()
        self.overflow = 0
        self.expected: dict[str, KeySum] = {}
        self.time_ms = state.now_ms()
        self.masked: Masks = job.migration.validate.masked

    def _continue(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop; nothing was changed, validate again")

    # --- MongoDB -> DynamoDB -----------------------------------------------------------------------------------------

    async def from_mongo(self) -> None:
        for mapping in self.mappings.values():
            started = time.monotonic()
            total = (await asyncio.to_thread(self.job.source.collection_facts, mapping.collection)).documents
            async for pages in _in_flight(self._pages(mapping), lambda page, m=mapping: self._compare_page(m, *page)):
                del pages
                self.job.progress.advance(
                    f"validate {mapping.collection}", self.results[mapping.collection].documents, total
                )
            self.results[mapping.collection].seconds += time.monotonic() - started

    async def _pages(self, mapping: DocumentMapping) -> AsyncIterator[tuple[list[bytes], int]]:
        if self.sample is not None:
            sampled = await asyncio.to_thread(self.job.source.sample_documents, mapping.collection, self.sample)
            version = snapshot_version(await asyncio.to_thread(self.job.source.cluster_time))
            for start in range(0, len(sampled), PAGE_DOCUMENTS):
                yield sampled[start : start + PAGE_DOCUMENTS], version
            return
        after: bytes | None = None
        reading = asyncio.create_task(aside(self._read, mapping.collection, after, stop=self.job.stop))
        try:
            while True:
                self._continue()
                raw, version = await reading
                if not raw:
                    return
                after = id_of(raw[-1])
                reading = asyncio.create_task(aside(self._read, mapping.collection, after, stop=self.job.stop))
                yield raw, version
        finally:
            reading.cancel()

    def _read(self, collection: str, after: bytes | None) -> tuple[list[bytes], int]:
        def once() -> tuple[list[bytes], int]:
            at = self.job.source.cluster_time()
            page = self.job.source.read_page(collection, Bounds(None, None), after, PAGE_DOCUMENTS, at)
            return page, snapshot_version(at)

        return retrying(f"read a page of {collection}", once, self.job.stop)

    async def _compare_page(self, mapping: DocumentMapping, raw: list[bytes], version: int) -> None:
        result = self.results[mapping.collection]
        expected: list[tuple[bytes, list[Item]]] = []
        sums = self.expected.setdefault(mapping.table, KeySum())
        for data in raw:
            result.documents += 1
            try:
                items = encode_raw(mapping, data, version)
            except DocumentError:
                await self._unstorable(mapping, data)
                continue
            expected.append((data, items))
            result.items += len(items)
            sums.add_all(key_of(item) for item in items)
        keys = {key_of(item): None for _, items in expected for item in items}  # a request may not name one twice
        stored = await self.target.get_all(mapping.table, list(keys))
        for data, items in expected:
            for item in items:
                if differences_of(mapping, item, stored.get(key_of(item)), "", ()):
                    self._suspect(mapping.collection, id_of(data))
                    break

    async def _unstorable(self, mapping: DocumentMapping, data: bytes) -> None:
        self.results[mapping.collection].unstorable += 1
        text = id_text(data)
        letter = await asyncio.to_thread(state.letter_record, self.job.ledger, mapping.collection, text)
        if letter is None:
            self._suspect(mapping.collection, id_of(data))

    def _suspect(self, collection: str, id_data: bytes) -> None:
        if sum(map(len, self.suspects.values())) < MAX_SUSPECTS:
            self.suspects[collection].add(id_data)
        elif id_data not in self.suspects[collection]:
            self.overflow += 1

    # --- DynamoDB -> MongoDB -----------------------------------------------------------------------------------------

    async def from_dynamo(self) -> None:
        for table in {mapping.table for mapping in self.mappings.values()}:
            entities = self.job.migration.entities(table)
            if self.sample is None and await self._keys_agree(table, entities):
                continue
            await self._look_up(table, entities)

    async def _keys_agree(self, table: str, entities: Mapping[str, DocumentMapping]) -> bool:
        """True if the keys in the table are exactly those that MongoDB's documents have."""
        sums = KeySum()
        async for items in self._scan(table, KEYS):
            for item in items:
                if is_tombstone(item):
                    continue
                mapping = _owner(item, entities)
                if mapping is None:
                    return False
                if mapping.collection in self.mappings:
                    sums.add_all((key_of(item),))
        return sums == self.expected.get(table, KeySum())

    async def _look_up(self, table: str, entities: Mapping[str, DocumentMapping]) -> None:
        async for items in self._scan(table, OWNERS):
            by_collection: dict[str, dict[bytes, list[ItemKey]]] = {}
            for item in items:
                if is_tombstone(item):
                    continue
                mapping, id_data = _owner(item, entities), item_id(item)
                if mapping is None or id_data is None:
                    self._foreign(table, item)
                elif mapping.collection in self.mappings:
                    by_collection.setdefault(mapping.collection, {}).setdefault(id_data, []).append(key_of(item))
            for collection, owners in by_collection.items():
                await self._accounted(table, self.mappings[collection], owners)

    async def _accounted(self, table: str, mapping: DocumentMapping, owners: Mapping[bytes, list[ItemKey]]) -> None:
        raw = await asyncio.to_thread(_read_ids, self.job, mapping.collection, list(owners))
        keys = {id_of(data): _keys(mapping, data) for data in raw}
        for id_data, found in owners.items():
            for key in found:
                if key not in keys.get(id_data, ()):
                    if sum(map(len, self.suspect_keys.values())) < MAX_SUSPECTS:
                        self.suspect_keys.setdefault(f"{table}\0{mapping.collection}", {})[key] = id_data
                    else:
                        self.overflow += 1

    def _foreign(self, table: str, item: Item) -> None:
        found = self.foreign_keys.setdefault(table, set())
        if len(found) < MAX_SUSPECTS:
            found.add(key_of(item))
        else:
            self.overflow += 1

    async def _scan(self, table: str, attributes: Sequence[str]) -> AsyncIterator[list[Item]]:
        segments, total = self._segments()
        seen = 0
        waiting: dict[asyncio.Task[Any], int] = {}
        try:
            for segment in segments:
                waiting[asyncio.create_task(self.target.scan(table, segment, total, None, attributes))] = segment
            while waiting:
                self._continue()
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    segment = waiting.pop(task)
                    page = task.result()
                    if page.next is not None:
                        again = self.target.scan(table, segment, total, page.next, attributes)
                        waiting[asyncio.create_task(again)] = segment
                    seen += len(page.items)
                    self.job.progress.advance(f"scan {table}", seen, seen)
                    yield page.items
        finally:
            for task in waiting:
                task.cancel()

    def _segments(self) -> tuple[Iterable[int], int]:
        if self.sample is None:
            return range(SCAN_SEGMENTS), SCAN_SEGMENTS
        step = max(1, SAMPLE_SEGMENTS // SCAN_SEGMENTS)
        offset = state.now_ms() % step
        return range(offset, SAMPLE_SEGMENTS, step), SAMPLE_SEGMENTS

    # --- looking again -----------------------------------------------------------------------------------------------

    async def settle(self) -> ValidationReport:
        """Look at every suspect again, and report what is still wrong."""
        if any(self.suspects.values()) or self.suspect_keys or self.foreign_keys:
            await asyncio.sleep(SETTLE_S)
        found: list[Difference] = []
        wrong: dict[str, frozenset[bytes]] = {}
        for collection, ids in self.suspects.items():
            differences, still = await self._recheck(self.mappings[collection], sorted(ids))
            found += differences
            wrong[collection] = still
        extra: dict[str, list[ItemKey]] = {}
        for place, keys in self.suspect_keys.items():
            table, _, collection = place.partition("\0")
            extra.setdefault(table, []).extend(await self._recheck_extra(table, collection, keys, found))
        foreign = {table: await self._recheck_foreign(table, keys, found) for table, keys in self.foreign_keys.items()}
        limit = self.job.migration.validate.first_differences
        return ValidationReport(
            migration=self.job.migration.name,
            at_ms=self.time_ms,
            sample=self.sample,
            collections=tuple(self.results.values()),
            unchecked=self.overflow,
            differences=tuple(found[:limit]),
            suspects=wrong,
            extra_keys={table: tuple(keys) for table, keys in extra.items()},
            foreign_keys={table: tuple(keys) for table, keys in foreign.items() if keys},
            versions=frozenset(self.versions),
        )

    async def _recheck(
        self, mapping: DocumentMapping, ids: Sequence[bytes]
    ) -> tuple[list[Difference], frozenset[bytes]]:
        found: list[Difference] = []
        still: set[bytes] = set()
        for start in range(0, len(ids), PAGE_DOCUMENTS):
            self._continue()
            page = ids[start : start + PAGE_DOCUMENTS]
            for data in await asyncio.to_thread(_read_ids, self.job, mapping.collection, page):
                differences = await self._differences(mapping, data)
                if differences:
                    found += differences
                    still.add(id_of(data))
        return found, frozenset(still)

    async def _differences(self, mapping: DocumentMapping, data: bytes) -> list[Difference]:
        text = id_text(data)
        try:
            items = encode_raw(mapping, data, 0)
        except DocumentError as error:
            letter = await asyncio.to_thread(state.letter_record, self.job.ledger, mapping.collection, text)
            if letter is not None:
                return []
            self._count(mapping.collection, Kind.UNACCOUNTED)
            return [_unaccounted(mapping.collection, shown_id(text, self.masked), error)]
        stored = await self.target.get_all(mapping.table, [key_of(item) for item in items])
        if not any(_is_of(item, items[0]["_id"]) for item in stored.values()):
            letter = await asyncio.to_thread(state.letter_record, self.job.ledger, mapping.collection, text)
            if letter is not None:  # it maps, but DynamoDB would not take it
                self.results[mapping.collection].unstorable += 1
                return []
        found: list[Difference] = []
        self._see_versions(stored.values())
        for item in items:
            wrong = differences_of(mapping, item, stored.get(key_of(item)), text, self.masked)
            if wrong:
                self.wrong_keys.add((mapping.table, key_of(item)))
                self._count(mapping.collection, wrong[0].kind)
                found += wrong
        return found

    def _see_versions(self, items: Iterable[Item]) -> None:
        self.versions |= {item["_v"]["S"] for item in items if "_v" in item and is_version(item["_v"])}

    def _count(self, collection: str, kind: Kind) -> None:
        """Items, not fields: an item in which three fields differ is one different item."""
        result = self.results[collection]
        setattr(result, kind.value, getattr(result, kind.value) + 1)

    async def _recheck_extra(
        self, table: str, collection: str, keys: Mapping[ItemKey, bytes], found: list[Difference]
    ) -> list[ItemKey]:
        """Keys that are still there and that still no document accounts for."""
        mapping, extra = self.mappings[collection], []
        for key, item in (await self._still_strange(table, list(keys))).items():
            plan = mapping.children.get(item.get("entityType", {}).get("S", ""), mapping.root)
            text = shown_id(id_name(keys[key]), self.masked)
            found.append(_extra(collection, text, shown_key(plan, key, self.masked)))
            self._count(collection, Kind.EXTRA)
            extra.append(key)
        return extra

    async def _recheck_foreign(self, table: str, keys: Iterable[ItemKey], found: list[Difference]) -> list[ItemKey]:
        mappings = [mapping for mapping in self.job.migration.mappings.values() if mapping.table == table]
        foreign = list(await self._still_strange(table, sorted(keys)))
        found += [_extra("(no collection)", "", shown_strange_key(mappings, key, self.masked)) for key in foreign]
        return foreign

    async def _still_strange(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """Those of these items that are alive, that no document has, and that are not already reported as different."""
        strange: dict[ItemKey, Item] = {}
        for start in range(0, len(keys), PAGE_DOCUMENTS):
            self._continue()
            stored = await self.target.get_all(table, keys[start : start + PAGE_DOCUMENTS])
            live = [item for item in stored.values() if not is_tombstone(item)]
            self._see_versions(live)
            accounted = await asyncio.to_thread(keys_accounted_for, self.job, table, live)
            strange |= {
                key: item
                for key, item in ((key_of(item), item) for item in live)
                if key not in accounted and (table, key) not in self.wrong_keys
            }
        return strange


def keys_accounted_for(job: Validation, table: str, items: Sequence[Item], at: Timestamp | None = None) -> set[ItemKey]:
    """The keys of the documents that these items name, in whichever collection of the table they are. At `at`, or now."""
    ids = sorted({data for item in items if (data := item_id(item)) is not None})
    mappings = [mapping for mapping in job.migration.mappings.values() if mapping.table == table and ids]
    return {
        key
        for mapping in mappings
        for data in _read_ids(job, mapping.collection, ids, at)
        for key in _keys(mapping, data)
    }


def _read_ids(job: Validation, collection: str, ids: Sequence[bytes], at: Timestamp | None = None) -> list[bytes]:
    def once() -> list[bytes]:
        return job.source.read_ids(collection, ids, at or job.source.cluster_time())

    return retrying(f"read documents of {collection}", once, job.stop)


def _extra(collection: str, id_text: str, key: ItemKey) -> Difference:
    return Difference(
        kind=Kind.EXTRA, collection=collection, id=id_text, pk=key[0], sk=key[1], expected="no item", actual="an item"
    )


def _unaccounted(collection: str, id_text: str, error: DocumentError) -> Difference:
    return Difference(
        kind=Kind.UNACCOUNTED, collection=collection, id=id_text, pk="", sk="", path=error.path,
        expected="a dead letter", actual=f"none ({error.reason})",
    )  # fmt: skip


def _is_of(item: Item, id_value: Any) -> bool:
    """Alive, and this document's: where two documents would share a key, it is the other one's."""
    return not is_tombstone(item) and item.get("_id", id_value) == id_value


def _owner(item: Item, entities: Mapping[str, DocumentMapping]) -> DocumentMapping | None:
    """Which collection an item says it is of; None for an item that docferry cannot have written."""
    if "_id" not in item or "_v" not in item:
        return None
    return entities.get(item.get("entityType", {}).get("S", ""))


def item_id(item: Item) -> bytes | None:
    """The id of the document that an item names, as BSON of {"": id}; None if it names none that MongoDB could hold."""
    if "_id" not in item:
        return None
    hints: dict[str, Any] = item.get("_t", {}).get("M", {})
    tree = HintTree({name: hint["S"] for name, hint in hints.items() if name.startswith("/_id") and "S" in hint})
    value = decode_value(item["_id"], tree.root.get("_id"), tree, "oid")
    if isinstance(value, list | Regex) or (isinstance(value, dict) and any(name[:1] == "$" for name in value)):
        return None
    return id_bytes(value)


def _keys(mapping: DocumentMapping, data: bytes) -> frozenset[ItemKey]:
    """The keys a document accounts for: none if it cannot be stored."""
    try:
        return frozenset(key_of(item) for item in encode_raw(mapping, data, 0))
    except DocumentError:
        return frozenset()


async def _in_flight(pages: AsyncIterator[Any], work: Any) -> AsyncIterator[None]:
    """Run `work` on each page, a few at a time, in order."""
    running: list[asyncio.Task[None]] = []
    try:
        async for page in pages:
            running.append(asyncio.create_task(work(page)))
            if len(running) >= PAGES_IN_FLIGHT:
                await running.pop(0)
                yield
        while running:
            await running.pop(0)
            yield
    finally:
        for task in running:
            task.cancel()
