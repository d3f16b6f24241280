"""Backfill: every document of a collection, read once at a named snapshot, written, superseded or dead-lettered.

Order of things, and why:

1. `plan_backfill` reads only: how many documents, write units, hours, and how far the oplog reaches back.
2. `prepare` records the stream position, once, before any page is read; then cuts the `_id` space into chunks.
3. `load_range` leases chunks one after the other and loads them page by page. A page is one `find` of one batch at
   a snapshot not before the stream position; that time is the version of everything in it. After a page's items are
   acknowledged and its dead letters are in the ledger, the chunk's checkpoint may move past it. So a killed process
   loses nothing: its pages are read again, and each document is counted once.
4. `finish` adds up the chunks. `read = written + superseded + dead-lettered`, or the run has failed.

The bulk mode writes without conditions, and the ledger allows it only while the collection has no other writer: once
replication has begun, every load is conditional (a put wins only where nothing newer is stored).
A collection that has been loaded stays loaded: a second run says so and changes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from bson.timestamp import Timestamp

from docferry.config import Migration
from docferry.core.cutover.permitted import Flow
from docferry.core.limits import item_write_units
from docferry.core.mapping.raw import decode_document, id_name
from docferry.core.settings import CollectionSettings
from docferry.errors import (
    ConditionFailed,
    DocumentError,
    InvariantBroken,
    LeaseHeld,
    PreflightFailed,
    Problem,
    StoreError,
    TableMissing,
    TooManyDeadLetters,
)
from docferry.flows.backfill.load import GIVE_BACK_S, budget_of, load_range
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.dead_letters import fits_record
from docferry.flows.ledger.leases import Holder, take_or_create
from docferry.flows.ledger.load_headers import (
    BULK,
    COMPLETE,
    CONDITIONAL,
    LOADING,
    NEW,
    Chunk,
    Counts,
    LoadHeader,
    LoadHeaders,
    create_chunk,
    drop_chunks,
    list_chunks,
    new_header,
)
from docferry.flows.ledger.mapping_fingerprint import fingerprint_of, fits, mapping_changed
from docferry.flows.ledger.modes import require_permitted
from docferry.flows.ledger.positions import (
    REPLICATION,
    read_replication,
    record_position,
    replication_in,
    replication_moved,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.mongodb import check_source, require_source, without_images
from docferry.ports.flows import (
    Ledger,
    Target,
)

SAMPLES_PER_CHUNK = 20
PLAN_SAMPLE = 300


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


def plan_backfill(job: Job, only: Sequence[str] = ()) -> BackfillPlan:
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


def _plan_collection(job: Job, settings: CollectionSettings) -> CollectionPlan:
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
        header = LoadHeaders(ledger).read(collection)
    except TableMissing:
        return "not provisioned"
    return header.state if header else NEW


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
class PreparedLoad:
    """A collection that is ready to be loaded, or was loaded before (then `ranges` is empty)."""

    collection: str
    complete: bool
    ranges: tuple[ChunkRange, ...]
    chunks: int


def prepare(job: Job, collection: str) -> PreparedLoad:
    """Claim the collection for this run, record the stream position, and cut chunks. Repeating it changes nothing.

    Raises: LeaseHeld if another run is at it, PreflightFailed unless MongoDB leads, InvariantBroken, StoreError.
    """
    settings = job.migration.mapping(collection).settings
    header = _claim(job, settings)
    if header.complete:
        return PreparedLoad(collection=collection, complete=True, ranges=(), chunks=header.chunks)
    retrying("record the stream position", lambda: record_position(job.ledger, job.source), job.stop)
    chunks = list_chunks(job.ledger, collection)
    if header.state == NEW:
        chunks = _cut(job, settings, chunks)
        LoadHeaders(job.ledger).write(replace(header, state=LOADING, chunks=len(chunks)))
    ranges = _ranges(collection, [chunk for chunk in chunks if not chunk.done], job.migration.backfill.max_tasks)
    return PreparedLoad(collection=collection, complete=False, ranges=ranges, chunks=len(chunks))


def _claim(job: Job, settings: CollectionSettings) -> LoadHeader:
    """The collection's header, held by this run. Another run that is alive wins; its name is told."""
    made, headers = fingerprint_of(settings), LoadHeaders(job.ledger)
    while True:
        header = headers.read(settings.name) or new_header(settings.name, made)
        if not fits(header.mapping, settings):
            raise PreflightFailed(job.migration.name, [mapping_changed(settings.name)])
        header = replace(header, mapping=made)
        if header.complete:
            return header
        if header.run != job.run.name and not header.holder.expired(job.identity):
            raise LeaseHeld(f"the backfill of {settings.name}", header.holder.owner, header.holder.left_s)
        try:
            claimed = headers.write(replace(header, run=job.run.name, holder=_holder(job)))
        except ConditionFailed:
            continue  # somebody else claimed it first: look who
        require_permitted(job.ledger, Flow.LOAD, f"the backfill of {settings.name}")
        if header.state == NEW and header.mode == BULK and is_followed(job.ledger):
            # Looked at after the claim, as replication looks at the claims after it has said that it follows.
            return headers.write(replace(claimed, mode=CONDITIONAL))
        return claimed


def is_followed(ledger: Ledger) -> bool:
    """Whether replication has ever begun: then nothing is written without conditions any more."""
    return read_replication(ledger).opened


def begin_again(job: Job, only: Sequence[str] = ()) -> list[str]:
    """Make ready to load collections anew under live traffic, every put conditional; returns their names.

    For when replication has lost its position (then all collections, from a new position), or a collection was dropped,
    renamed or lost its images. What was deleted while the stream could not be followed stays until `repair` buries it; where
    replication still has its position, it goes on from there, and applies what this load has read once more: deletes in
    between would be lost otherwise.

    Raises: LeaseHeld if replication or a load is running, PreflightFailed if the position is lost and not all are named, if a
            collection has no change stream images, and unless MongoDB leads.
    """
    names = [settings.name for settings in _chosen(job.migration, only)]
    require_permitted(job.ledger, Flow.LOAD, "loading again")
    if problems := [*check_source(job.migration, job.source), *_without_images(job, names)]:
        raise PreflightFailed("load again", problems)
    lease = take_or_create(job.ledger, *REPLICATION, job.identity, job.migration.backfill.lease_s)
    changes: dict[str, Any] = {}
    try:
        lost = replication_in(lease.record).lost
        if lost and len(names) < len(job.migration.collections):
            what = "the stream position is lost, and with it the changes of all collections"
            raise PreflightFailed("load again", [Problem(where="backfill", what=what, suggestion="leave out --only")])
        position = retrying("record the stream position", job.source.stream_position, job.stop)
        for name in names:
            _begin_collection_again(job, name, position.time)
        if lost:
            changes = replication_moved(position)
    finally:
        lease.release(changes)
    return names


def _without_images(job: Job, names: Sequence[str]) -> list[Problem]:
    """What was dropped and made anew has lost its images: the changes after the load could not be followed either."""
    return [problem for name in names for problem in without_images(name, job.source)]


def _begin_collection_again(job: Job, name: str, follow_from: Timestamp) -> None:
    headers = LoadHeaders(job.ledger)
    header = headers.read(name)
    if header is None:
        return  # never loaded: the usual way will do
    if not header.complete and not header.holder.expired(job.identity):
        raise LeaseHeld(f"the backfill of {name}", header.holder.owner, header.holder.left_s)
    if header.first_load_open:
        return  # a first load that has not come to its end goes on as it is
    headers.write(
        replace(
            header,
            mapping=fingerprint_of(job.migration.mapping(name).settings),
            state=NEW,
            mode=CONDITIONAL,
            started_ms=now_ms(),
            holder=replace(header.holder, owner=""),
            taken_over=False,
            follow_from=follow_from,
        )
    )


def _holder(job: Job) -> Holder:
    until_ms = now_ms() + int(job.migration.backfill.lease_s * 2000)
    return Holder(owner=job.identity.name, mark=job.run.mark, until_ms=until_ms)


def _cut(job: Job, settings: CollectionSettings, have: Sequence[Chunk]) -> list[Chunk]:
    """Write the chunk records. Left-overs of an attempt that died in here are replaced: nothing was loaded by them."""
    drop_chunks(job.ledger, have)
    facts = job.source.collection_facts(settings.name)
    wanted = _chunk_count(facts.documents, job.migration)
    bounds = _boundaries(job.source.sample_ids(settings.name, wanted * SAMPLES_PER_CHUNK) if wanted > 1 else [], wanted)
    expected = facts.documents // (len(bounds) + 1)
    edges: list[bytes | None] = [None, *bounds, None]
    return [
        create_chunk(
            job.ledger,
            settings.name,
            Chunk(key=f"{index:05d}", label=_label(lower, upper), lower=lower, upper=upper, expected=expected),
        )
        for index, (lower, upper) in enumerate(pairwise(edges))
    ]


def _boundaries(ids: Sequence[bytes], chunks: int) -> list[bytes]:
    """Quantiles of a sorted sample: `chunks - 1` boundaries, fewer where ids repeat or are too long for a record."""
    bounds: list[bytes] = []
    ids = [one for one in ids if fits_record(one)]
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
    text = id_name(edge) if edge is not None else ""
    return text if len(text) <= 24 else text[:23] + "…"


def _ranges(collection: str, chunks: Sequence[Chunk], most: int) -> tuple[ChunkRange, ...]:
    """Neighbouring chunks in at most `most` ranges of about equal size."""
    count = min(most, len(chunks))
    ranges: list[ChunkRange] = []
    for index in range(count):
        part = chunks[index * len(chunks) // count : (index + 1) * len(chunks) // count]
        label = part[0].label if len(part) == 1 else _label(part[0].lower, part[-1].upper)
        name = f"{collection}: {label}" + (f" ({len(part)} chunks)" if len(part) > 1 else "")
        ranges.append(ChunkRange(collection=collection, label=name, chunks=tuple(chunk.key for chunk in part)))
    return tuple(ranges)


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


def finish(job: Job, collection: str) -> CollectionReport:
    """Add up a collection's chunks and mark it complete.

    Raises: InvariantBroken if a sum is wrong or a chunk is not done; TooManyDeadLetters past the allowed share.
    """
    headers = LoadHeaders(job.ledger)
    header = headers.read(collection)
    if header is None:
        raise InvariantBroken(f"{collection} was never prepared")
    if header.complete:
        return _report_of(header, already=True)
    chunks = list_chunks(job.ledger, collection)
    undone = [chunk.key for chunk in chunks if not chunk.done]
    if undone or len(chunks) != header.chunks:
        raise InvariantBroken(f"{collection}: chunks {undone} of {header.chunks} are not done")
    total = sum((chunk.counts for chunk in chunks), Counts())
    total.check(collection)
    allowed = job.migration.backfill.dead_letter_share
    if total.dead > max(allowed * total.read, job.migration.backfill.dead_letter_count):
        release_run(job, collection)
        raise TooManyDeadLetters(collection, total.dead, total.read, allowed)
    finished = replace(
        header,
        state=COMPLETE,
        finished_ms=now_ms(),
        holder=replace(header.holder, owner=""),
        taken_over=any(chunk.taken_over for chunk in chunks),
        counts=total,
    )
    try:
        return _report_of(headers.write(finished), already=False)
    except ConditionFailed:
        return finish(job, collection)  # another task of this run wrote the header: look again


def _report_of(header: LoadHeader, already: bool) -> CollectionReport:
    return CollectionReport(
        collection=header.collection,
        counts=header.counts,
        chunks=header.chunks,
        seconds=header.seconds,
        already_complete=already,
    )


def release_run(job: Job, collection: str) -> None:
    """Give up this run's claim, so that the next run need not wait for it to expire."""
    headers = LoadHeaders(job.ledger)
    header = headers.read(collection)
    if header is not None and header.run == job.run.name and not header.complete:
        try:
            headers.write(replace(header, holder=replace(header.holder, owner="")))
        except ConditionFailed:
            return  # somebody has claimed it already


async def backfill_collection(job: Job, target: Target, collection: str) -> CollectionReport:
    """Prepare, load and finish one collection in this process: what the CLI does."""
    prepared = await asyncio.to_thread(prepare, job, collection)
    if not prepared.complete:
        try:
            for one in prepared.ranges:
                await load_range(job, target, collection, one.chunks)
        except BaseException:
            with suppress(StoreError):  # the claim then runs out by itself
                await in_thread(release_run, job, collection, within_s=GIVE_BACK_S)
            raise
    return await asyncio.to_thread(finish, job, collection)
