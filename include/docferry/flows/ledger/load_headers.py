"""Which collection is loaded: by which mapping, who writes, from which stream position, and how far each of its chunks is.

A collection has one header in the section `backfill`, and a record for each chunk of its `_id` space in `chunks:<collection>`.
Every reading of them is here. A change is made from what was read: `headers.write(replace(header, state=COMPLETE))`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from bson.timestamp import Timestamp

from docferry.errors import InvariantBroken
from docferry.flows.ledger.dead_letters import fits_record
from docferry.flows.ledger.leases import ORPHANED, TAKEOVER_NEEDS_WAIT, Holder, holder_of
from docferry.flows.ledger.times import decode_time, encode_time, now_ms
from docferry.ports.flows import Ledger, Record

BACKFILL = "backfill"
NEW, LOADING, COMPLETE = "new", "loading", "complete"
"""A header's states: claimed or to be loaded again; its chunks are cut; every chunk is done and counted."""
PENDING, DONE = "pending", "done"
"""A chunk's states."""
BULK, CONDITIONAL = "bulk", "conditional"
"""How a collection is loaded: without conditions while there is no other writer, else each put only over what is older."""

COUNTERS = ("read", "written", "superseded", "dead", "outside", "items", "units")


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What became of documents. `read = written + superseded + dead + outside`, always; items and units are what it took.

    `outside` are those that the collection's filter leaves out.
    """

    read: int = 0
    written: int = 0
    superseded: int = 0
    dead: int = 0
    outside: int = 0
    items: int = 0
    units: int = 0

    @property
    def migrated(self) -> int:
        """Of those that were read, how many are to be stored."""
        return self.read - self.outside

    def __add__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in COUNTERS})

    def __sub__(self, other: Counts) -> Counts:
        return Counts(**{name: getattr(self, name) - getattr(other, name) for name in COUNTERS})

    def check(self, subject: str) -> None:
        """Raises InvariantBroken if a document is unaccounted for."""
        if self.read != self.written + self.superseded + self.dead + self.outside:
            raise InvariantBroken(
                f"{subject}: {self.read} read, but {self.written} written, {self.superseded} superseded, {self.dead} dead, "
                f"{self.outside} outside the filter"
            )

    def to_dict(self) -> dict[str, int]:
        return {name: getattr(self, name) for name in COUNTERS}


@dataclass(frozen=True, slots=True)
class LateWrites:
    """Unconditional writes that were sent and never answered, and when the last of them was signed (ms, 0: none).

    `orphaned_ms`: when a chunk was last taken over from a process that ended without giving it back. What that one had sent is
    not known, but nothing later.
    """

    requests: int = 0
    signed_ms: int = 0
    orphaned_ms: int = 0

    def __add__(self, other: LateWrites) -> LateWrites:
        return LateWrites(
            self.requests + other.requests,
            max(self.signed_ms, other.signed_ms),
            max(self.orphaned_ms, other.orphaned_ms),
        )

    def until_ms(self, lives_s: float) -> int:
        """When none of them can be carried out any more, if a signature lives so long; 0 if there is none."""
        last = max(self.signed_ms, self.orphaned_ms)
        return last + int(lives_s * 1000) if last else 0

    def text(self, lives_s: float) -> str:
        """What is waited for, '' if nothing is any more: "37 requests without an answer; waiting until 02:14:07 UTC"."""
        until = self.until_ms(lives_s)
        if until <= now_ms():
            return ""
        what = f"{self.requests} requests without an answer" if self.requests else ""
        orphaned = "a process that ended while it wrote" if self.orphaned_ms + lives_s * 1000 > now_ms() else ""
        clock = datetime.fromtimestamp(until / 1000, UTC).strftime("%H:%M:%S UTC")
        return f"{' and '.join(one for one in (what, orphaned) if one)}; waiting until {clock}"

    def to_dict(self) -> dict[str, int]:
        """Zeros, too: it is written over what an earlier checkpoint said of requests that were on their way then."""
        return {"unanswered": self.requests, "unanswered_ms": self.signed_ms, ORPHANED: self.orphaned_ms}


NONE_LATE = LateWrites()


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadHeader:
    """One collection's load. `holder` is the run that claimed it; `run` is its name, shared by its tasks. `most_wcu`: no faster
    than that, for the sake of a hot partition; 0: as the budget says.

    `follow_from`: changes before this time are in the load already (`backfill --again`). `taken_over`: a chunk's holder
    vanished without a proof that its process is dead. `late`: what may still be carried out, and undo what others have
    written meanwhile. `record` is what was read; None before the first write.
    """

    collection: str
    mapping: str
    state: str = NEW
    mode: str = BULK
    chunks: int = 0
    started_ms: int = 0
    finished_ms: int = 0
    most_wcu: int = 0
    run: str = ""
    holder: Holder = field(default_factory=Holder)
    taken_over: bool = False
    late: LateWrites = NONE_LATE
    follow_from: Timestamp | None = None
    counts: Counts = field(default_factory=Counts)
    record: Record | None = field(default=None, repr=False, compare=False)

    @property
    def complete(self) -> bool:
        return self.state == COMPLETE

    @property
    def first_load_open(self) -> bool:
        """A load without conditions that has not come to its end: nothing may follow the stream yet."""
        return not self.complete and self.mode == BULK

    @property
    def seconds(self) -> float:
        """From the first claim to the end."""
        return (self.finished_ms - self.started_ms) / 1000


class LoadHeaders:
    """The headers of a migration. Reads raise StoreError."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger

    def read(self, collection: str) -> LoadHeader | None:
        """None if the collection was never claimed."""
        record = self._ledger.read(BACKFILL, collection)
        return header_in(record) if record is not None else None

    def all(self) -> dict[str, LoadHeader]:
        """Those that were ever claimed, by collection."""
        return {record.key: header_in(record) for record in self._ledger.list(BACKFILL)}

    def write(self, header: LoadHeader) -> LoadHeader:
        """Make it the collection's header. Raises ConditionFailed if the stored one is not the one that was read."""
        before = header.record.body if header.record is not None else {}
        body = {**before, **_header_body(header)}
        return header_in(self._ledger.write(BACKFILL, header.collection, body, expect=header.record))


def new_header(collection: str, mapping: str) -> LoadHeader:
    """The header of a collection that no load has claimed."""
    return LoadHeader(collection=collection, mapping=mapping, started_ms=now_ms())


def header_in(record: Record) -> LoadHeader:
    """What a header's record says."""
    body = record.body
    return LoadHeader(
        collection=record.key,
        mapping=body.get("mapping", ""),
        state=body.get("state", NEW),
        mode=body.get("mode", BULK),
        chunks=int(body.get("chunks", 0)),
        started_ms=int(body.get("started", 0)),
        finished_ms=int(body.get("finished", 0)),
        most_wcu=int(body.get("most_wcu", 0)),
        run=body.get("run", ""),
        holder=holder_of(record),
        taken_over=bool(body.get(TAKEOVER_NEEDS_WAIT)),
        late=_late(body),
        follow_from=decode_time(body["follow_from"]) if "follow_from" in body else None,
        counts=_counts(body),
        record=record,
    )


def _header_body(header: LoadHeader) -> dict[str, Any]:
    """What has a value: an older docferry reads it, too."""
    body: dict[str, Any] = {
        "mapping": header.mapping,
        "state": header.state,
        "mode": header.mode,
        "chunks": header.chunks,
        "started": header.started_ms,
        "run": header.run,
        TAKEOVER_NEEDS_WAIT: header.taken_over,
        "owner": header.holder.owner,
        "mark": header.holder.mark,
        "until": header.holder.until_ms,
        **header.counts.to_dict(),
        **header.late.to_dict(),
    }
    if header.most_wcu:
        body["most_wcu"] = header.most_wcu
    if header.finished_ms:
        body["finished"] = header.finished_ms
    if header.follow_from is not None:
        body["follow_from"] = encode_time(header.follow_from)
    return body


def late_of(header: LoadHeader, chunks: Iterable[Chunk]) -> LateWrites:
    """Of all chunks of a load, if its writes have no condition: a late one that has loses."""
    return header.late if header.mode != BULK else sum((chunk.late for chunk in chunks), NONE_LATE)


# --- chunks ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Chunk:
    """A part of a collection's `_id` space: from `lower` (included) to `upper`, loaded up to `after`; ids as BSON, None is open.

    `expected` is a guess at how many documents it holds, made when the chunks were cut.
    """

    key: str
    state: str = PENDING
    label: str = ""
    lower: bytes | None = None
    upper: bytes | None = None
    after: bytes | None = None
    expected: int = 0
    counts: Counts = field(default_factory=Counts)
    holder: Holder = field(default_factory=Holder)
    taken_over: bool = False
    late: LateWrites = NONE_LATE
    record: Record | None = field(default=None, repr=False, compare=False)

    @property
    def done(self) -> bool:
        return self.state == DONE


def chunk_section(collection: str) -> str:
    return f"chunks:{collection}"


def list_chunks(ledger: Ledger, collection: str) -> list[Chunk]:
    """All chunks, in the order of their ids."""
    return [chunk_in(record) for record in ledger.list(chunk_section(collection))]


def read_chunk(ledger: Ledger, collection: str, key: str) -> Chunk:
    """Raises InvariantBroken if it is not there."""
    record = ledger.read(chunk_section(collection), key)
    if record is None:
        raise InvariantBroken(f"chunk {key} of {collection} is not in the ledger")
    return chunk_in(record)


def create_chunk(ledger: Ledger, collection: str, chunk: Chunk) -> Chunk:
    """Raises ConditionFailed if there is one of this key."""
    body: dict[str, Any] = {"state": chunk.state, "label": chunk.label, "owner": "", "mark": "", "until": 0}
    body |= chunk.counts.to_dict() | {"expected": chunk.expected}
    body |= {name: edge for name, edge in (("lower", chunk.lower), ("upper", chunk.upper)) if edge is not None}
    return chunk_in(ledger.write(chunk_section(collection), chunk.key, body, expect=None))


def drop_chunks(ledger: Ledger, chunks: Iterable[Chunk]) -> None:
    """Remove these. Raises ConditionFailed if one has changed since it was read."""
    for chunk in chunks:
        if chunk.record is not None:
            ledger.delete(chunk.record)


def chunk_in(record: Record) -> Chunk:
    """What a chunk's record says; `chunk_in(lease.record)` of one that is leased."""
    body = record.body
    return Chunk(
        key=record.key,
        state=body.get("state", PENDING),
        label=body.get("label", ""),
        lower=body.get("lower"),
        upper=body.get("upper"),
        after=body.get("after"),
        expected=int(body.get("expected", 0)),
        counts=_counts(body),
        holder=holder_of(record),
        taken_over=bool(body.get(TAKEOVER_NEEDS_WAIT)),
        late=_late(body),
        record=record,
    )


def chunk_checkpoint(
    after: bytes | None, counts: Counts, late: LateWrites = NONE_LATE, *, done: bool = False
) -> dict[str, Any]:
    """What a chunk's lease writes: everything up to `after` is acknowledged and counted.

    Where `after` is too long for a record and the chunk is not done, the place and the counts before it stay.
    """
    if not done and not fits_record(after):
        return late.to_dict()
    body: dict[str, Any] = {"after": after} if after is not None and not done else {}
    return body | counts.to_dict() | late.to_dict() | ({"state": DONE} if done else {})


def _late(body: Mapping[str, Any]) -> LateWrites:
    # A header of earlier has no time at which a chunk was taken over: it was before the end.
    orphaned = int(body.get("finished", 0)) if body.get(TAKEOVER_NEEDS_WAIT) else 0
    return LateWrites(
        int(body.get("unanswered", 0)), int(body.get("unanswered_ms", 0)), int(body.get(ORPHANED, orphaned))
    )


def _counts(body: Mapping[str, Any]) -> Counts:
    return Counts(**{name: int(body.get(name, 0)) for name in COUNTERS})
