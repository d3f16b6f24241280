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
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.config import Migration
from docferry.core.codec import HintTree, decode_value
from docferry.core.diff import Difference, Kind, differences_of, is_tombstone
from docferry.core.mapping import Item, ItemKey, key_of
from docferry.core.mapping import Mapping as DocumentMapping
from docferry.core.raw import encode_raw, id_bytes, id_name, id_of, id_text
from docferry.core.versions import snapshot_version
from docferry.errors import DocumentError, Stopped
from docferry.flows import state
from docferry.flows.background import read_aside
from docferry.flows.check import require_source
from docferry.flows.retry import retrying
from docferry.ports import Bounds, Identity, Ledger, Progress, Source, StopSignal, Target

PAGE_DOCUMENTS = 500
PAGES_IN_FLIGHT = 2
SCAN_SEGMENTS = 4
SAMPLE_SEGMENTS = 512
MAX_SUSPECTS = 20_000
SETTLE_S = 1.0
"""Between seeing a difference and looking again: a change on its way has arrived by then, or is late."""

SCANNED = ("PK", "SK", "_id", "_t", "_v", "_deleted", "entityType")


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """Everything a validation needs."""

    migration: Migration
    source: Source
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal


@dataclass(slots=True, kw_only=True)
class CollectionResult:
    """What validating one collection found. `unstorable` documents have a dead letter and rightly no items."""

    collection: str
    documents: int = 0
    items: int = 0
    unstorable: int = 0
    missing: int = 0
    different: int = 0
    extra: int = 0
    unaccounted: int = 0
    seconds: float = 0.0

    @property
    def mismatches(self) -> int:
        return self.missing + self.different + self.extra + self.unaccounted

    def to_dict(self) -> dict[str, Any]:
        found = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return found | {"seconds": round(self.seconds, 3)}


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationReport:
    """The outcome. `differences` are the first ones only; the counts are of all."""

    migration: str
    at_ms: int
    sample: int | None
    collections: tuple[CollectionResult, ...]
    foreign: int
    unchecked: int
    differences: tuple[Difference, ...]
    suspects: Mapping[str, frozenset[bytes]] = field(repr=False)
    extra_keys: Mapping[str, tuple[ItemKey, ...]] = field(repr=False)

    @property
    def ok(self) -> bool:
        """Everything that was compared is equal. A sample says how much that means (`confidence`)."""
        return not self.foreign and not self.unchecked and not any(one.mismatches for one in self.collections)

    @property
    def confidence(self) -> str:
        """What a sample proves: by the rule of three, 0 of n bounds the share of wrong documents at 3/n (95 %)."""
        compared = sum(one.documents for one in self.collections)
        if self.sample is None:
            return "every document and every item was compared"
        if not self.ok or not compared:
            return f"a sample of {compared} documents"
        return (
            f"0 of {compared} sampled documents differ: with 95 % confidence fewer than {min(1.0, 3 / compared):.2%} do"
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "migration": self.migration,
            "at_ms": self.at_ms,
            "ok": self.ok,
            "sample": self.sample,
            "confidence": self.confidence,
            "collections": [one.to_dict() for one in self.collections],
            "foreign": self.foreign,
            "unchecked": self.unchecked,
            "differences": [one.to_dict() for one in self.differences],
        }

    def render(self) -> str:
        """The report for a person."""
        names = ("documents", "items", "unstorable", "missing", "different", "extra", "unaccounted")
        lines = [f"{'collection':<20}" + "".join(f"{name:>13}" for name in names)]
        for one in self.collections:
            lines.append(f"{one.collection:<20}" + "".join(f"{getattr(one, name):>13}" for name in names))
        if self.foreign:
            lines.append(f"{self.foreign} items belong to no collection of this migration")
        if self.unchecked:
            lines.append(
                f"{self.unchecked} more suspects were not looked at again: repair these first, then validate again"
            )
        for found in self.differences:
            where = f"{found.collection} {found.id} {found.path}".rstrip()
            told = f"expected {found.expected or '-'}, found {found.actual or '-'}"
            lines.append(f"  {found.kind.value:<11} {where}: {told}  [{found.pk} / {found.sk}]")
        lines.append(("EQUAL: " if self.ok else "DIFFERENT: ") + self.confidence)
        return "\n".join(lines)


async def validate(
    job: Validation, target: Target, only: Sequence[str] = (), sample: int | None = None, record: bool = True
) -> ValidationReport:
    """Compare the collections (all, or `only` these; all documents, or a `sample` of each) and record the report.

    Raises: PreflightFailed, StoreError, RetryExhausted, Stopped. A difference is no error here: look at `ok`.
    """
    await asyncio.to_thread(require_source, job.migration, job.source)
    check = _Check(job, target, only, sample)
    await check.from_mongo()
    await check.from_dynamo()
    report = await check.settle()
    if record:
        await asyncio.to_thread(_record, job.ledger, report)
    return report


def _record(ledger: Ledger, report: ValidationReport) -> None:
    body = report.to_dict()
    text = json.dumps(body).encode()
    summary = {"at": report.at_ms, "ok": report.ok, "report": text, "digest": hashlib.sha256(text).hexdigest()}
    ledger.write("reports", f"validate#{report.at_ms:015d}", summary, expect=None)


def latest_report(ledger: Ledger) -> dict[str, Any] | None:
    """The last validation report with its digest, None if there has been none."""
    records = ledger.list("reports", "validate#")
    if not records:
        return None
    body = records[-1].body
    return {**json.loads(body["report"]), "digest": body["digest"]}


class _Check:
    """One validation under way: counts, suspects, and the sums of keys expected and scanned."""

    def __init__(self, job: Validation, target: Target, only: Sequence[str], sample: int | None) -> None:
        self.job, self.target, self.sample = job, target, sample
        chosen = [job.migration.mapping(name) for name in only] or list(job.migration.mappings.values())
        self.mappings: dict[str, DocumentMapping] = {mapping.collection: mapping for mapping in chosen}
        self.results = {name: CollectionResult(collection=name) for name in self.mappings}
        self.suspects: dict[str, set[bytes]] = {name: set() for name in self.mappings}
        self.suspect_keys: dict[str, dict[ItemKey, bytes]] = {}
        self.foreign_keys: dict[str, dict[ItemKey, Item]] = {}
        self.overflow = 0
        self.expected: dict[str, _KeySum] = {}
        self.time_ms = state.now_ms()

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
        reading = asyncio.create_task(read_aside(self._read, mapping.collection, after, stop=self.job.stop))
        try:
            while True:
                self._continue()
                raw, version = await reading
                if not raw:
                    return
                after = id_of(raw[-1])
                reading = asyncio.create_task(read_aside(self._read, mapping.collection, after, stop=self.job.stop))
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
        sums = self.expected.setdefault(mapping.table, _KeySum())
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
        keys = [key_of(item) for _, items in expected for item in items]
        stored = await self.target.get_all(mapping.table, keys)
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
        sums = _KeySum()
        async for items in self._scan(table):
            for item in items:
                if is_tombstone(item):
                    continue
                mapping = _owner(item, entities)
                if mapping is None:
                    return False
                if mapping.collection in self.mappings:
                    sums.add_all((key_of(item),))
        return sums == self.expected.get(table, _KeySum())

    async def _look_up(self, table: str, entities: Mapping[str, DocumentMapping]) -> None:
        async for items in self._scan(table):
            by_collection: dict[str, dict[bytes, list[ItemKey]]] = {}
            for item in items:
                if is_tombstone(item):
                    continue
                mapping = _owner(item, entities)
                if mapping is None:
                    self._foreign(table, item)
                elif mapping.collection in self.mappings:
                    owners = by_collection.setdefault(mapping.collection, {})
                    owners.setdefault(_item_id(item), []).append(key_of(item))
            for collection, owners in by_collection.items():
                await self._accounted(table, self.mappings[collection], owners)

    async def _accounted(self, table: str, mapping: DocumentMapping, owners: Mapping[bytes, list[ItemKey]]) -> None:
        raw = await asyncio.to_thread(self._read_ids, mapping.collection, list(owners))
        keys = {id_of(data): _keys(mapping, data) for data in raw}
        for id_data, found in owners.items():
            for key in found:
                if key not in keys.get(id_data, ()):
                    if sum(map(len, self.suspect_keys.values())) < MAX_SUSPECTS:
                        self.suspect_keys.setdefault(f"{table}\0{mapping.collection}", {})[key] = id_data
                    else:
                        self.overflow += 1

    def _foreign(self, table: str, item: Item) -> None:
        found = self.foreign_keys.setdefault(table, {})
        if len(found) < MAX_SUSPECTS:
            found[key_of(item)] = item
        else:
            self.overflow += 1

    def _read_ids(self, collection: str, ids: Sequence[bytes]) -> list[bytes]:
        def once() -> list[bytes]:
            return self.job.source.read_ids(collection, ids, self.job.source.cluster_time())

        return retrying(f"read documents of {collection}", once, self.job.stop)

    async def _scan(self, table: str) -> AsyncIterator[list[Item]]:
        segments, total = self._segments()
        seen = 0
        waiting: dict[asyncio.Task[Any], int] = {}
        starts: dict[int, Item | None] = {}
        try:
            for segment in segments:
                waiting[asyncio.create_task(self.target.scan(table, segment, total, None, SCANNED))] = segment
            while waiting:
                self._continue()
                done, _ = await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    segment = waiting.pop(task)
                    page = task.result()
                    if page.next is not None:
                        starts[segment] = page.next
                        again = self.target.scan(table, segment, total, page.next, SCANNED)
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
        if any(self.suspects.values()) or self.suspect_keys:
            await asyncio.sleep(SETTLE_S)
        found: list[Difference] = []
        wrong: dict[str, frozenset[bytes]] = {}
        for collection, ids in self.suspects.items():
            differences, still = await self._recheck(self.mappings[collection], sorted(ids))
            found += differences
            wrong[collection] = still
        extra = await self._recheck_extra(found)
        self._count_extra(extra, found)
        limit = self.job.migration.validate.first_differences
        return ValidationReport(
            migration=self.job.migration.name,
            at_ms=self.time_ms,
            sample=self.sample,
            collections=tuple(self.results.values()),
            foreign=sum(map(len, self.foreign_keys.values())),
            unchecked=self.overflow,
            differences=tuple(found[:limit]),
            suspects=wrong,
            extra_keys={table: tuple(keys) for table, keys in extra.items()},
        )

    async def _recheck(
        self, mapping: DocumentMapping, ids: Sequence[bytes]
    ) -> tuple[list[Difference], frozenset[bytes]]:
        found: list[Difference] = []
        still: set[bytes] = set()
        for start in range(0, len(ids), PAGE_DOCUMENTS):
            self._continue()
            for data in await asyncio.to_thread(
                self._read_ids, mapping.collection, ids[start : start + PAGE_DOCUMENTS]
            ):
                differences = await self._differences(mapping, data)
                if differences:
                    found += differences
                    still.add(id_of(data))
                    self._count(differences)
        return found, frozenset(still)

    async def _differences(self, mapping: DocumentMapping, data: bytes) -> list[Difference]:
        text = id_text(data)
        try:
            items = encode_raw(mapping, data, 0)
        except DocumentError as error:
            letter = await asyncio.to_thread(state.letter_record, self.job.ledger, mapping.collection, text)
            if letter is not None:
                return []
            return [
                Difference(
                    kind=Kind.UNACCOUNTED, collection=mapping.collection, id=text, pk="", sk="", path=error.path,
                    expected="a dead letter", actual=f"none ({error.reason})",
                )
            ]  # fmt: skip
        stored = await self.target.get_all(mapping.table, [key_of(item) for item in items])
        if not any(map(_is_live, stored.values())):
            letter = await asyncio.to_thread(state.letter_record, self.job.ledger, mapping.collection, text)
            if letter is not None:  # it maps, but DynamoDB would not take it
                self.results[mapping.collection].unstorable += 1
                return []
        masked = self.job.migration.validate.masked
        return [one for item in items for one in differences_of(mapping, item, stored.get(key_of(item)), text, masked)]

    def _count(self, differences: Sequence[Difference]) -> None:
        """Items, not fields: an item in which three fields differ is one different item."""
        result = self.results[differences[0].collection]
        result.unaccounted += any(one.kind is Kind.UNACCOUNTED for one in differences)
        result.missing += len({(one.pk, one.sk) for one in differences if one.kind is Kind.MISSING})
        result.different += len({(one.pk, one.sk) for one in differences if one.kind is Kind.DIFFERENT})

    async def _recheck_extra(self, found: list[Difference]) -> dict[str, list[ItemKey]]:
        """Keys that are still there and that still no document accounts for, by table."""
        extra: dict[str, list[ItemKey]] = {}
        for place, keys in self.suspect_keys.items():
            table, _, collection = place.partition("\0")
            mapping = self.mappings[collection]
            raw = await asyncio.to_thread(self._read_ids, collection, sorted(set(keys.values())))
            accounted = {key for data in raw for key in _keys(mapping, data)}
            stored = await self.target.get_all(table, list(keys))
            for key, id_data in keys.items():
                item = stored.get(key)
                if key in accounted or item is None or is_tombstone(item):
                    continue
                extra.setdefault(table, []).append(key)
                found.append(_extra(collection, id_name(id_data), key))
        for table, items in self.foreign_keys.items():
            for key in items:
                extra.setdefault(table, []).append(key)
                found.append(_extra("(no collection)", "", key))
        return extra

    def _count_extra(self, extra: Mapping[str, Sequence[ItemKey]], found: Sequence[Difference]) -> None:
        for one in found:
            if one.kind is Kind.EXTRA and one.collection in self.results:
                self.results[one.collection].extra += 1


def _extra(collection: str, id_text: str, key: ItemKey) -> Difference:
    return Difference(
        kind=Kind.EXTRA, collection=collection, id=id_text, pk=key[0], sk=key[1], expected="no item", actual="an item"
    )


@dataclass(slots=True)
class _KeySum:
    """The number of some keys and the sum of their hashes: equal sums of distinct keys mean equal sets (1 in 2^128)."""

    count: int = 0
    total: int = 0

    def add_all(self, keys: Iterable[ItemKey]) -> None:
        for pk, sk in keys:
            data = f"{len(pk)}#{pk}{sk}".encode()
            self.total = (self.total + int.from_bytes(hashlib.blake2b(data, digest_size=16).digest())) % (1 << 128)
            self.count += 1


def _is_live(item: Item) -> bool:
    return not is_tombstone(item)


def _owner(item: Item, entities: Mapping[str, DocumentMapping]) -> DocumentMapping | None:
    """Which collection an item says it is of; None for an item that docferry cannot have written."""
    if "_id" not in item or "_v" not in item or "S" not in item.get("entityType", {}):
        return None
    return entities.get(item["entityType"]["S"])


def _item_id(item: Item) -> bytes:
    """The id of the document that an item belongs to, as BSON of {"": id}."""
    hints = {
        pointer: hint["S"] for pointer, hint in item.get("_t", {}).get("M", {}).items() if pointer.startswith("/_id")
    }
    tree = HintTree(hints)
    return id_bytes(decode_value(item["_id"], tree.root.get("_id"), tree, "oid"))


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
