"""Preparing a load: claim the collection, record the stream position, cut the `_id` space into chunks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from docferry.core.cutover.permitted import Flow
from docferry.core.mapping.raw import id_name
from docferry.core.settings import CollectionSettings
from docferry.errors import (
    ConditionFailed,
    LeaseHeld,
    PreflightFailed,
    Problem,
)
from docferry.flows.backfill.plan import chunk_count
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.migrated import hottest_of
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger.budget import budget_of
from docferry.flows.ledger.dead_letters import fits_record
from docferry.flows.ledger.leases import Holder
from docferry.flows.ledger.load_headers import (
    BULK,
    CONDITIONAL,
    LOADING,
    NEW,
    Chunk,
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
    read_replication,
    record_position,
)
from docferry.flows.ledger.rooms.owners import claim_tables
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import (
    Ledger,
)

SAMPLES_PER_CHUNK = 20


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


def prepare(job: Job, collection: str, *, imported: bool = False) -> PreparedLoad:
    """Claim the collection for this run, record the stream position, and cut chunks. Repeating it changes nothing.

    Raises: LeaseHeld if another run is at it, PreflightFailed unless MongoDB leads and the tables are the migration's,
            InvariantBroken, StoreError.
    """
    settings = job.migration.mapping(collection).settings
    if job.migration.backfill.strategy == "import" and not imported:
        what = "is import, which is made by `docferry backfill`, in one process"
        raise PreflightFailed(collection, [Problem(where="backfill.strategy", what=what, suggestion="batch")])
    claim_tables(job.migration, job.ledger, lambda table: job.estate.fetch_table(table))
    header = _claim(job, settings)
    if header.complete:
        return PreparedLoad(collection=collection, complete=True, ranges=(), chunks=header.chunks)
    retrying("record the stream position", lambda: record_position(job.ledger, job.source), job.stop)
    chunks = list_chunks(job.ledger, collection)
    if header.state == NEW:
        chunks = _cut(job, settings, chunks)
        paced = _most_wcu(job, collection)
        LoadHeaders(job.ledger).write(replace(header, state=LOADING, chunks=len(chunks), most_wcu=paced))
    ranges = _ranges(collection, [chunk for chunk in chunks if not chunk.done], job.migration.backfill.max_tasks)
    return PreparedLoad(collection=collection, complete=False, ranges=ranges, chunks=len(chunks))


def _most_wcu(job: Job, collection: str) -> int:
    """The rate at which the collection's hottest partition has what it takes; 0 where the budget keeps below that."""
    rate = budget_of(job.migration)
    found = hottest_of(job.source, job.migration.mapping(collection)) if rate else None
    if found is None or not found.is_hot(rate):
        return 0
    job.progress.say(f"{collection} is loaded at {found.most_wcu:,.0f} WCU/s: {found.text(rate)}")
    return max(1, int(found.most_wcu))


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
            continue  # another process claimed it first: look which
        require_permitted(job.ledger, Flow.LOAD, f"the backfill of {settings.name}")
        if header.state == NEW and header.mode == BULK and is_followed(job.ledger):
            # Looked at after the claim, as replication looks at the claims after it has said that it follows.
            return headers.write(replace(claimed, mode=CONDITIONAL))
        return claimed


def is_followed(ledger: Ledger) -> bool:
    """Whether replication has ever begun: then nothing is written without conditions any more."""
    return read_replication(ledger).opened


def _holder(job: Job) -> Holder:
    until_ms = now_ms() + int(job.migration.backfill.lease_s * 2000)
    return Holder(owner=job.identity.name, mark=job.run.mark, until_ms=until_ms)


def _cut(job: Job, settings: CollectionSettings, have: Sequence[Chunk]) -> list[Chunk]:
    """Write the chunk records. Left-overs of an attempt that died in here are replaced: nothing was loaded by them."""
    drop_chunks(job.ledger, have)
    facts = job.source.collection_facts(settings.name)
    wanted = chunk_count(facts.documents, job.migration)
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
