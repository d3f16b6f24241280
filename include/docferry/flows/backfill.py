"""Backfill: every document of a collection, read once at a named snapshot, written, superseded or dead-lettered.

Order of things, and why:

1. `plan_backfill` reads only: how many documents, write units, hours, and how far the oplog reaches back.
2. `prepare` records the stream position, once, before any page is read; then cuts the `_id` space into chunks.
3. `load_range` leases chunks one after the other and loads them page by page. A page is one `find` of one batch at
   a snapshot not before the stream position; that time is the version of everything in it. After a page's items are
   acknowledged and its dead letters are in the ledger, the chunk's checkpoint may move past it. So a killed process
   loses nothing: its pages are read again, and each document is counted once.
4. `finish` adds up the chunks. `read = written + superseded + dead-lettered`, or the run has failed.

The bulk mode writes without conditions, and the ledger allows it only while the collection has no other writer.
A collection that has been loaded stays loaded: a second run says so and changes nothing.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from docferry.config import Migration
from docferry.core.keys import render_value
from docferry.core.limits import ITEM_BYTES, NEW_TABLE_WRU_PER_S, SORT_KEY_BYTES, item_write_units
from docferry.core.mapping import Item, check_size, key_of
from docferry.core.raw import decode_document, encode_raw, id_of, id_text, id_value
from docferry.core.settings import CollectionSettings
from docferry.core.tombstones import tombstone
from docferry.core.versions import snapshot_version
from docferry.errors import (
    ConditionFailed,
    DocumentError,
    InvariantBroken,
    KeyCollision,
    LeaseHeld,
    LeaseLost,
    MigrationError,
    PreflightFailed,
    Problem,
    Stopped,
    TableMissing,
    TooManyDeadLetters,
    Unavailable,
)
from docferry.flows import state
from docferry.flows.check import require_source
from docferry.flows.retry import retrying
from docferry.ports import (
    Bounds,
    Identity,
    Ledger,
    Progress,
    Record,
    Source,
    StopSignal,
    StreamPosition,
    Target,
    Written,
)

CHECKPOINT_S = 2.0
SAMPLES_PER_CHUNK = 20
PLAN_SAMPLE = 300
PAGES_IN_FLIGHT = 3
EARLY_DEAD_LETTERS = 100
"""A chunk with more dead letters than this, and than the allowed share of its collection, stops at once."""

COUNTERS = ("read", "written", "superseded", "dead", "items", "units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """Everything a backfill needs. `run` is one attempt at loading; all its tasks share it.

    `run_mark` is the mark of the process that is the whole run, empty where a run has many processes (Airflow): by it a
    run that was killed is told from one that is alive.
    """

    migration: Migration
    source: Source
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal
    run: str
    run_mark: str = ""


# --- plan ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionPlan:
    """What loading one collection will take, from a sample of its documents."""

    collection: str
    table: str
    documents: int
    items: int
    write_units: int
    chunks: int
    unstorable_in_sample: int
    sample: int
    state: str


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillPlan:
    """The whole load: write units with indexes, hours at the budget, and what the oplog allows."""

    migration: str
    collections: tuple[CollectionPlan, ...]
    budget_wcu: float
    hours: float
    oplog_window_hours: float

    @property
    def write_units(self) -> int:
        return sum(plan.write_units for plan in self.collections)

    @property
    def fits(self) -> bool:
        """The load is over before half of the oplog window has gone by; the other half is for catching up.

        A load of under a minute always fits.
        """
        return self.hours <= max(self.oplog_window_hours / 2, 1 / 60)

    def to_dict(self) -> dict[str, Any]:
        return {
            "migration": self.migration,
            "collections": [
                {name: getattr(plan, name) for name in plan.__dataclass_fields__} for plan in self.collections
            ],
            "write_units": self.write_units,
            "budget_wcu": self.budget_wcu,
            "hours": round(self.hours, 4),
            "oplog_window_hours": round(self.oplog_window_hours, 4),
            "fits": self.fits,
        }


def budget_of(migration: Migration) -> float:
    """Write units a second, indexes included: the file's, or what new tables begin with. 0 is no limit."""
    if migration.backfill.budget_wcu is not None:
        return float(migration.backfill.budget_wcu)
    return float(sum(NEW_TABLE_WRU_PER_S * (1 + len(table.indexes)) for table in migration.tables))


def plan_backfill(job: Backfill, only: Sequence[str] = ()) -> BackfillPlan:
    """The plan, from samples. Reads only. Raises PreflightFailed if the servers cannot do it."""
    require_source(job.migration, job.source)
    plans = tuple(_plan_collection(job, settings) for settings in _chosen(job.migration, only))
    budget = budget_of(job.migration)
    units = sum(plan.write_units for plan in plans if plan.state != "complete")
    hours = units / budget / 3600 if budget else 0.0
    return BackfillPlan(
        migration=job.migration.name,
        collections=plans,
        budget_wcu=budget,
        hours=hours,
        oplog_window_hours=job.source.oplog_window_s() / 3600,
    )


def require_window(plan: BackfillPlan, waived: bool) -> None:
    """Raises PreflightFailed for a load that is longer than half of the oplog window, unless that is waived."""
    if plan.fits or waived:
        return
    needed, reach = f"{plan.hours:.2f} h at {plan.budget_wcu:.0f} WCU/s", f"{plan.oplog_window_hours:.2f} h"
    what = f"would take {needed}, and the oplog reaches back {reach}: the load must fit into half of that"
    suggestion = "enlarge the oplog (replSetResizeOplog), raise backfill.budget_wcu, or waive it (--waive-oplog-window)"
    raise PreflightFailed("the load", [Problem(where="backfill", what=what, suggestion=suggestion)])


def _chosen(migration: Migration, only: Sequence[str]) -> list[CollectionSettings]:
    for name in only:
        migration.mapping(name)
    return [settings for settings in migration.collections if not only or settings.name in only]


def _plan_collection(job: Backfill, settings: CollectionSettings) -> CollectionPlan:
    facts = job.source.collection_facts(settings.name)
    mapping = job.migration.mapping(settings.name)
    sample = job.source.sample_documents(settings.name, PLAN_SAMPLE) if facts.documents else []
    units = items = refused = 0
    for raw in sample:
        try:
            encoded = mapping.encode(decode_document(raw), 0)
        except DocumentError:
            refused += 1
            continue
        items += len(encoded)
        units += sum(item_write_units(item) for item in encoded)
    scale = facts.documents / len(sample) if sample else 0.0
    return CollectionPlan(
        collection=settings.name,
        table=settings.table,
        documents=facts.documents,
        items=round(items * scale),
        write_units=round(units * scale),
        chunks=_chunk_count(facts.documents, job.migration),
        unstorable_in_sample=refused,
        sample=len(sample),
        state=_state_of(job.ledger, settings.name),
    )


def _state_of(ledger: Ledger, collection: str) -> str:
    """How far a collection is; a plan may be asked for before there is a ledger."""
    try:
        header = ledger.read("backfill", collection)
    except TableMissing:
        return "not provisioned"
    return str(header.body.get("state", "new")) if header else "new"


def _chunk_count(documents: int, migration: Migration) -> int:
    return max(1, -(-documents // migration.backfill.chunk_documents))


# --- prepare ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class ChunkRange:
    """Neighbouring chunks that one task will load, named after the ids they cover."""

    collection: str
    label: str
    chunks: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A collection that is ready to be loaded, or was loaded before (then `ranges` is empty)."""

    collection: str
    complete: bool
    ranges: tuple[ChunkRange, ...]
    chunks: int


def prepare(job: Backfill, collection: str) -> Prepared:
    """Claim the collection for this run, record the stream position, and cut chunks. Repeating it changes nothing.

    Raises: LeaseHeld if another run is at it, InvariantBroken, StoreError.
    """
    settings = job.migration.mapping(collection).settings
    header = _claim(job, settings)
    if header.body["state"] == "complete":
        return Prepared(collection=collection, complete=True, ranges=(), chunks=int(header.body["chunks"]))
    retrying("record the stream position", lambda: state.record_position(job.ledger, job.source), job.stop)
    chunks = job.ledger.list(f"chunks:{collection}")
    if header.body["state"] == "new":
        chunks = _cut(job, settings, chunks)
        _set_header(job, header, {"state": "loading", "chunks": len(chunks)})
    ranges = _ranges(
        collection, [chunk for chunk in chunks if chunk.body["state"] != "done"], job.migration.backfill.max_tasks
    )
    return Prepared(collection=collection, complete=False, ranges=ranges, chunks=len(chunks))


def _claim(job: Backfill, settings: CollectionSettings) -> Record:
    """The collection's header, held by this run. Another run that is alive wins; its name is told."""
    digest = hashlib.sha256(repr(settings).encode()).hexdigest()[:16]
    fresh: dict[str, Any] = {"state": "new", "mode": "bulk", "mapping": digest, "chunks": 0, "started": state.now_ms()}
    while True:
        header = job.ledger.read("backfill", settings.name)
        body = dict(header.body) if header else fresh
        if body["mapping"] != digest:
            what = "the mapping has changed since this load began; what is loaded would not fit what follows"
            hint = "put the mapping back, or start over with new tables and a new migration name"
            raise PreflightFailed(
                settings.name, [Problem(where=f"collections.{settings.name}", what=what, suggestion=hint)]
            )
        if header is not None and body["state"] == "complete":
            return header
        if body.get("run") != job.run and not state.lease_expired(body, job.identity):
            left = (int(body["until"]) - state.now_ms()) / 1000
            raise LeaseHeld(f"the backfill of {settings.name}", str(body["owner"]), left)
        try:
            return job.ledger.write("backfill", settings.name, body | _holder(job), expect=header)
        except ConditionFailed:
            continue  # somebody else claimed it first: look who


def _holder(job: Backfill) -> dict[str, Any]:
    until = state.now_ms() + int(job.migration.backfill.lease_s * 2000)
    return {"run": job.run, "owner": job.identity.name, "mark": job.run_mark, "until": until}


def _set_header(job: Backfill, header: Record, changes: Mapping[str, Any]) -> Record:
    return job.ledger.write("backfill", header.key, {**header.body, **changes}, expect=header)


def _cut(job: Backfill, settings: CollectionSettings, have: Sequence[Record]) -> list[Record]:
    """Write the chunk records. Left-overs of an attempt that died in here are replaced: nothing was loaded by them."""
    for record in have:
        job.ledger.delete(record)
    facts = job.source.collection_facts(settings.name)
    wanted = _chunk_count(facts.documents, job.migration)
    bounds = _boundaries(job.source.sample_ids(settings.name, wanted * SAMPLES_PER_CHUNK) if wanted > 1 else [], wanted)
    edges: list[bytes | None] = [None, *bounds, None]
    chunks: list[Record] = []
    for index, (lower, upper) in enumerate(pairwise(edges)):
        body: dict[str, Any] = {"state": "pending", "label": _label(lower, upper), "owner": "", "mark": "", "until": 0}
        body |= {name: 0 for name in COUNTERS} | {"expected": facts.documents // (len(bounds) + 1)}
        body |= {name: edge for name, edge in (("lower", lower), ("upper", upper)) if edge is not None}
        chunks.append(job.ledger.write(f"chunks:{settings.name}", f"{index:05d}", body, expect=None))
    return chunks


def _boundaries(ids: Sequence[bytes], chunks: int) -> list[bytes]:
    """Quantiles of a sorted sample: `chunks - 1` boundaries, fewer where ids repeat."""
    bounds: list[bytes] = []
    for index in range(1, chunks):
        position = index * len(ids) // chunks
        if position < len(ids) and ids[position] not in bounds:
            bounds.append(ids[position])
    return bounds


def _label(lower: bytes | None, upper: bytes | None) -> str:
    if lower is None and upper is None:
        return "all ids"
    if lower is None:
        return f"ids before {_short(upper)}"
    return f"ids from {_short(lower)}" + (f" to {_short(upper)}" if upper is not None else "")


def _short(edge: bytes | None) -> str:
    text = render_value(id_value(edge)) if edge is not None else ""
    return text if len(text) <= 24 else text[:23] + "…"


def _ranges(collection: str, chunks: Sequence[Record], most: int) -> tuple[ChunkRange, ...]:
    """Neighbouring chunks in at most `most` ranges of about equal size."""
    count = min(most, len(chunks))
    ranges: list[ChunkRange] = []
    for index in range(count):
        part = chunks[index * len(chunks) // count : (index + 1) * len(chunks) // count]
        label = str(part[0].body["label"])
        if len(part) > 1:
            label = _label(part[0].body.get("lower"), part[-1].body.get("upper"))
        name = f"{collection}: {label}" + (f" ({len(part)} chunks)" if len(part) > 1 else "")
        ranges.append(ChunkRange(collection=collection, label=name, chunks=tuple(chunk.key for chunk in part)))
    return tuple(ranges)


# --- load ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of documents. `read = written + superseded + dead`, always; items and units are what it took."""

    read: int = 0
    written: int = 0
    superseded: int = 0
    dead: int = 0
    items: int = 0
    units: int = 0

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in COUNTERS})

    def check(self, subject: str) -> None:
        """Raises InvariantBroken if a document is unaccounted for."""
        if self.read != self.written + self.superseded + self.dead:
            raise InvariantBroken(
                f"{subject}: {self.read} read, but {self.written} written, {self.superseded} superseded, {self.dead} dead"
            )

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in COUNTERS}


def counts_of(body: Mapping[str, Any]) -> Counts:
    """The counters in a chunk's or a collection's record."""
    return Counts(**{name: int(body.get(name, 0)) for name in COUNTERS})


@dataclass(slots=True)
class _Page:
    """A page on its way: its documents' items, and where the checkpoint may move when all are acknowledged."""

    last: bytes
    read: int
    items: list[Item]
    owners: list[int]
    raw: list[bytes]
    version: int
    errors: list[tuple[int, DocumentError]]


async def load_range(job: Backfill, target: Target, collection: str, chunks: Sequence[str]) -> Counts:
    """Load these chunks; those that somebody else holds or has finished are passed over.

    Raises: Stopped (checkpointed), LeaseLost, LeaseHeld if a chunk is still held when all others are done, RetryExhausted,
            TooManyDeadLetters, StoreError. Whatever it raises, a later run continues.
    """
    with calm_collector():
        return await _load_chunks(job, target, collection, chunks)


@contextmanager
def calm_collector() -> Iterator[None]:
    """Encoding makes no reference cycles, but many containers: Python's collector would look at them every 700.

    That is a quarter of the loader's time. Cycles elsewhere are still found, every 100,000.
    """
    before = gc.get_threshold()
    gc.set_threshold(100_000, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


async def _load_chunks(job: Backfill, target: Target, collection: str, chunks: Sequence[str]) -> Counts:
    done = Counts()
    held: LeaseHeld | None = None
    for key in chunks:
        if job.stop.is_set():
            raise Stopped(f"{collection}: asked to stop; run again to continue")
        record = job.ledger.read(f"chunks:{collection}", key)
        if record is None:
            raise InvariantBroken(f"chunk {key} of {collection} is not in the ledger")
        if record.body["state"] == "done":
            continue
        try:
            lease = await _lease_chunk(job, record)
        except LeaseHeld as error:
            held = error
            continue
        done += await _Loader(job, target, collection, lease).run()
    if held is not None:
        raise held
    return done


async def _lease_chunk(job: Backfill, record: Record) -> state.Lease:
    """Lease a chunk; if its holder may be dead, wait for the lease to run out rather than fail the task."""
    waited = time.monotonic() + job.migration.backfill.lease_s * 1.5
    while True:
        try:
            lease = await asyncio.to_thread(
                state.take_or_create,
                job.ledger,
                record.section,
                record.key,
                job.identity,
                job.migration.backfill.lease_s,
            )
        except LeaseHeld:
            if time.monotonic() > waited:
                raise
            if job.stop.is_set():
                raise Stopped("asked to stop while waiting for a chunk's lease") from None
            await asyncio.sleep(0.5)
            continue
        return lease


class _Loader:
    """Loads one leased chunk: reads ahead, keeps a few pages in flight, checkpoints behind them."""

    def __init__(self, job: Backfill, target: Target, collection: str, lease: state.Lease) -> None:
        self.job, self.target, self.lease = job, target, lease
        self.collection = collection
        self.mapping = job.migration.mapping(collection)
        self.bounds = Bounds(lease.body.get("lower"), lease.body.get("upper"))
        self.counts = counts_of(lease.body)
        self.after: bytes | None = lease.body.get("after")
        self.started_with = self.counts
        self.pending: deque[tuple[_Page, asyncio.Task[Written]]] = deque()
        self.checkpointed = time.monotonic()
        self.budget = state.LedgerBudget(job.ledger, "wcu", budget_of(job.migration), job.stop)
        position = state.recorded_position(job.ledger)
        if position is None:
            raise InvariantBroken("no stream position is recorded, so nothing may be read yet")
        self.position: StreamPosition = position

    async def run(self) -> Counts:
        """Returns what this attempt did. The lease is given back whatever happens, with all that was acknowledged."""
        try:
            await self._load()
        except LeaseLost:
            await self._abandon()
            raise
        except BaseException as error:
            await self._abandon()
            await asyncio.to_thread(self._give_back, error)
            raise
        if self.lease.body["state"] == "done":
            return self.counts
        await asyncio.to_thread(self.lease.release, self._checkpoint() | {"state": "done"})
        done = Counts(**{name: getattr(self.counts, name) - getattr(self.started_with, name) for name in COUNTERS})
        self._report("done")
        return done

    async def _load(self) -> None:
        if self.lease.body["state"] == "done":
            return
        reading = asyncio.create_task(asyncio.to_thread(self._read, self.after))
        try:
            while True:
                raw, version = await reading
                if not raw:
                    break
                page = self._encode(raw, version)
                reading = asyncio.create_task(asyncio.to_thread(self._read, page.last))
                self.pending.append((page, asyncio.create_task(self._write(page))))
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

        return retrying(f"read a page of {self.collection}", once, self.job.stop)

    def _encode(self, raw: list[bytes], version: int) -> _Page:
        page = _Page(id_of(raw[-1]), len(raw), [], [], raw, version, [])
        keys: set[tuple[str, str]] = set()
        for position, data in enumerate(raw):
            try:
                items = encode_raw(self.mapping, data, version)
                _refuse_too_large(items, len(data))
                _refuse_shared_keys(items, keys, self.mapping.collection)
            except DocumentError as error:
                error.namespace, error.id = self.collection, error.id or id_text(data)
                page.errors.append((position, error))
                continue
            page.items += items
            page.owners += [position] * len(items)
        return page

    async def _write(self, page: _Page) -> Written:
        return await self.target.put_all(self.mapping.table, page.items, self.budget, self._guard, page.owners)

    async def _settle(self, leave: int) -> None:
        """Wait until at most `leave` pages are in flight; count those that are through, in order."""
        while len(self.pending) > leave:
            page, task = self.pending[0]
            written = await task
            await self._account(page, written)
            self.pending.popleft()
            if time.monotonic() - self.checkpointed > CHECKPOINT_S:
                await asyncio.to_thread(self.lease.update, self._checkpoint())
                await asyncio.to_thread(self._keep_run)
                self.checkpointed = time.monotonic()
                self._report()

    async def _account(self, page: _Page, written: Written) -> None:
        dead = dict(page.errors)
        for index, error in written.refused.items():
            error.namespace, error.id = self.collection, id_text(page.raw[page.owners[index]])
            dead.setdefault(page.owners[index], error)
        await self._bury(page, written, dead)
        for position, error in dead.items():
            await asyncio.to_thread(
                state.open_letter, self.job.ledger, self.collection, error, page.raw[position], page.version
            )
        stored = Counts(
            read=page.read,
            written=page.read - len(dead),
            dead=len(dead),
            items=sum(owner not in dead for owner in page.owners) if dead else len(page.items),
            units=round(written.units),
        )
        stored.check(f"a page of {self.collection}")
        self.counts += stored
        self.after = page.last
        self._refuse_too_many_dead()

    async def _bury(self, page: _Page, written: Written, dead: Mapping[int, DocumentError]) -> None:
        """DynamoDB refused some items of a document and took others: those become tombstones, so that none is half there."""
        half = [
            item for index, item in enumerate(page.items) if page.owners[index] in dead and index not in written.refused
        ]
        if half:
            ttl = self.job.migration.table(self.mapping.table).ttl_attribute
            graves = [tombstone(item, page.version, ttl) for item in half]
            await self.target.put_all(self.mapping.table, graves, self.budget, self._guard)

    def _refuse_too_many_dead(self) -> None:
        allowed = self.job.migration.backfill.dead_letter_share
        expected = int(self.lease.body.get("expected", 0))
        least = self.job.migration.backfill.dead_letter_count
        if self.counts.dead > max(least, EARLY_DEAD_LETTERS, allowed * max(expected, self.counts.read)):
            raise TooManyDeadLetters(self.collection, self.counts.dead, self.counts.read, allowed)

    def _checkpoint(self) -> dict[str, Any]:
        self.counts.check(f"chunk {self.lease.key} of {self.collection}")
        after = {"after": self.after} if self.after is not None else {}
        return after | self.counts.to_dict()

    def _keep_run(self) -> None:
        """The run's claim on the collection lasts as long as one of its tasks works."""
        header = self.job.ledger.read("backfill", self.collection)
        if header is None or header.body.get("run") != self.job.run:
            raise LeaseLost(f"the backfill of {self.collection}")
        try:
            _set_header(self.job, header, {"until": state.now_ms() + int(self.job.migration.backfill.lease_s * 2000)})
        except ConditionFailed:
            return  # another task of this run has just done the same

    async def _abandon(self) -> None:
        """End what is in flight and wait for it; pages that got through count, in order."""
        for _, task in self.pending:
            task.cancel()
        results = await asyncio.gather(*(task for _, task in self.pending), return_exceptions=True)
        for (page, _), result in zip(self.pending, results, strict=True):
            if isinstance(result, BaseException):
                break
            try:
                await self._account(page, result)
            except MigrationError:
                break  # not counted: it will be read again
        self.pending.clear()

    def _give_back(self, error: BaseException) -> None:
        try:
            self.lease.release(self._checkpoint())
        except Exception as lost:  # noqa: BLE001 - `error` is what matters; the lease then runs out by itself
            self.lease.abandon()
            error.add_note(f"(and the chunk's lease could not be given back: {lost})")

    def _report(self, note: str = "") -> None:
        total = int(self.lease.body.get("expected", 0))
        self.job.progress.advance(f"{self.collection} {self.lease.key}", self.counts.read, total, note)


def _refuse_too_large(items: Sequence[Item], document_bytes: int) -> None:
    """Before anything is written: a document of which one item is too large must not leave its other items behind."""
    for item in items:
        hints = item["_t"]["M"] if "_t" in item else ()
        # Outside the hints an item is never three times as long as its document; most need no closer look.
        if document_bytes * 3 + sum(map(len, hints)) + 16 * len(hints) > ITEM_BYTES - SORT_KEY_BYTES * 8:
            check_size(item)


def _refuse_shared_keys(items: Sequence[Item], keys: set[tuple[str, str]], collection: str) -> None:
    """Two documents of a page with one key: the second would silently replace the first."""
    mine = [key_of(item) for item in items]
    for key in mine:
        if key in keys:
            raise KeyCollision(f"another document of {collection} has the same key", path=f"{key[0]} / {key[1]}")
    keys.update(mine)


# --- finish ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionReport:
    """How a collection's load ended. `seconds` is from the first claim to the end."""

    collection: str
    counts: Counts
    chunks: int
    seconds: float
    already_complete: bool = False

    @property
    def rate(self) -> float:
        """Documents a second, over all attempts."""
        return self.counts.read / self.seconds if self.seconds > 0 else 0.0

    def to_dict(self) -> dict[str, Any]:
        counts = self.counts.to_dict()
        return {
            "collection": self.collection,
            **counts,
            "chunks": self.chunks,
            "seconds": round(self.seconds, 3),
            "rate": round(self.rate, 1),
            "already_complete": self.already_complete,
        }


def finish(job: Backfill, collection: str) -> CollectionReport:
    """Add up a collection's chunks and mark it complete.

    Raises: InvariantBroken if a sum is wrong or a chunk is not done; TooManyDeadLetters past the allowed share.
    """
    header = job.ledger.read("backfill", collection)
    if header is None:
        raise InvariantBroken(f"{collection} was never prepared")
    if header.body["state"] == "complete":
        return _report_of(header, already=True)
    chunks = job.ledger.list(f"chunks:{collection}")
    undone = [chunk.key for chunk in chunks if chunk.body["state"] != "done"]
    if undone or len(chunks) != int(header.body["chunks"]):
        raise InvariantBroken(f"{collection}: chunks {undone} of {header.body['chunks']} are not done")
    total = sum((counts_of(chunk.body) for chunk in chunks), Counts())
    total.check(collection)
    allowed = job.migration.backfill.dead_letter_share
    if total.dead > max(allowed * total.read, job.migration.backfill.dead_letter_count):
        release_run(job, collection)
        raise TooManyDeadLetters(collection, total.dead, total.read, allowed)
    taken_over = any(chunk.body.get(state.TAKEOVER_NEEDS_WAIT) for chunk in chunks)
    finished = {"state": "complete", "finished": state.now_ms(), "owner": "", "taken_over": taken_over}
    return _report_of(_set_header(job, header, finished | total.to_dict()), already=False)


def _report_of(header: Record, already: bool) -> CollectionReport:
    seconds = (int(header.body["finished"]) - int(header.body["started"])) / 1000
    return CollectionReport(
        collection=header.key,
        counts=counts_of(header.body),
        chunks=int(header.body["chunks"]),
        seconds=seconds,
        already_complete=already,
    )


def release_run(job: Backfill, collection: str) -> None:
    """Give up this run's claim, so that the next run need not wait for it to expire."""
    header = job.ledger.read("backfill", collection)
    if header is not None and header.body.get("run") == job.run and header.body["state"] != "complete":
        try:
            _set_header(job, header, {"owner": ""})
        except ConditionFailed:
            return  # somebody has claimed it already


async def backfill_collection(job: Backfill, target: Target, collection: str) -> CollectionReport:
    """Prepare, load and finish one collection in this process: what the CLI does."""
    prepared = await asyncio.to_thread(prepare, job, collection)
    if not prepared.complete:
        try:
            for one in prepared.ranges:
                await load_range(job, target, collection, one.chunks)
        except BaseException:
            await asyncio.to_thread(release_run, job, collection)
            raise
    return await asyncio.to_thread(finish, job, collection)
