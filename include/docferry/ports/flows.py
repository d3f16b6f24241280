"""What flows and client ask of the outside world. `wiring` puts adapters behind these; tests put fakes.

Each protocol is one conversation: `Source` (MongoDB), `Target` (DynamoDB's data plane), on the way back `Streams`
(DynamoDB's changes) and `Sink` (MongoDB, for writing), `Ledger`, `Estate` (AWS's control plane), `Progress` and `StopSignal`
(whoever runs us).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import (
    FenceFacts,
    FencePlan,
    FenceState,
    Grant,
    OpenTransaction,
    RunningOperation,
    StrayWrite,
)
from docferry.core.cutover.mongodb_clients import Look
from docferry.core.estate.values import DaxSpec, DaxState, EstateStep, TableState
from docferry.core.mapping.mapping import Item, ItemKey, KeyFields
from docferry.core.versions import version_of
from docferry.errors import DocumentError

# --- who runs us -----------------------------------------------------------------------------------------------------


class Progress(Protocol):
    """Told what happens while it happens. Never given a document."""

    def say(self, text: str) -> None:
        """One line for a person."""

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        """`done` of about `total` documents (or steps) of `subject` so far."""


class StopSignal(Protocol):
    """Set when whoever runs us wants us to stop; loops look at it at least once a second."""

    def is_set(self) -> bool: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who is working: a name for people, and a mark by which others can tell that this process has ended.

    `ended(mark)` is True only if the process behind a mark has been proved dead (same host, no such process).
    """

    name: str
    mark: str
    ended: Callable[[str], bool]


# --- MongoDB (Source) ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberFacts:
    """One member of the set, in MongoDB's own words. `follows`: it bears data, and is up to take writes or follow them."""

    name: str
    state: str
    follows: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerFacts:
    """What kind of MongoDB this is. `write_majority_ok` is False while `w: majority` would hang, which takes `write_majority`
    members that follow. `members` is empty where they may not be seen."""

    version: tuple[int, ...]
    replica_set: str | None
    mongos: bool
    write_majority_ok: bool
    write_majority: int = 1
    members: tuple[MemberFacts, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CollectionFacts:
    """One collection. `kind` is collection, view, timeseries or missing; `unique` the field sets that a full unique index
    keeps unique, `partly_unique` those of partial ones; `images` whether change stream pre- and post-images are on; sizes in
    bytes."""

    name: str
    kind: str
    documents: int
    average_bytes: float
    unique: tuple[frozenset[str], ...]
    partly_unique: tuple[frozenset[str], ...] = ()
    images: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamPosition:
    """A place in the change stream `scope`: behind `token`, with everything before `time` behind it.

    `n` events of `time` itself lie behind it, too: versions count events of one time, also after a resume in their midst.
    Pages are read at the recorded position's `time` or later.
    """

    time: Timestamp
    token: Mapping[str, Any]
    scope: str
    n: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeEvent:
    """One event of the change stream. Ids are BSON of {"": id}, documents BSON; none of them in the repr.

    `after` is the post-image, `before` the key fields of the pre-image. `touched` are the paths that an update names, as
    the server writes them (a dot in a name looks like a step); None means the whole document. `images_lost`: the event
    was too large to come with images, so `after` and perhaps `before` must be fetched.
    """

    collection: str
    operation: str
    id: bytes = field(repr=False)
    time: Timestamp
    n: int
    before: bytes | None = field(default=None, repr=False)
    after: bytes | None = field(default=None, repr=False)
    touched: tuple[str, ...] | None = None
    images_lost: bool = False
    position: StreamPosition

    @property
    def version(self) -> int:
        return version_of(self.time, self.n)


@dataclass(frozen=True, slots=True)
class Batch:
    """Some changes in stream order, perhaps none, and the position behind them: it moves on while nothing happens."""

    changes: Sequence[ChangeEvent]
    position: StreamPosition


class Feed(Protocol):
    """An open change stream. Belongs to one thread at a time."""

    def read(self, wait_s: float) -> Batch:
        """The next changes; waits up to `wait_s` for the first one. Changes of collections without a mapping are counted
        for their time's `n` and not given.

        Raises: StreamEnded (drop, rename, dropDatabase, invalidate, images missing), after all that comes before; the next
                call goes on behind that event, for whoever has loaded its collections anew. ResumeTokenLost, StoreError;
                after a TransientStoreError open a new feed at the last position.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of `_id` in index order: lower included, upper not. Each is BSON of {"": id}, None at the ends."""

    lower: bytes | None
    upper: bytes | None


class Source(Protocol):
    """MongoDB, for reading. Raises StoreError; ids go in and out as BSON of {"": id}, documents as BSON."""

    def server_facts(self) -> ServerFacts: ...

    def collection_facts(self, collection: str) -> CollectionFacts: ...

    def stream_position(self, at: Timestamp | None = None) -> StreamPosition:
        """The position of now, or of a time, in the database's change stream: everything before that time lies behind it.

        Raises: ResumeTokenLost if the oplog no longer reaches back to `at`.
        """

    def follow(self, position: StreamPosition, key_fields: Mapping[str, KeyFields]) -> Feed:
        """The change stream from a position on, for the collections named, with these fields of pre-images.

        Raises: ResumeTokenLost if the oplog no longer holds the position, here or at the first read; StoreError.
        """

    def cluster_time(self) -> Timestamp:
        """The primary's time, never before a time given earlier; snapshots at it can be read."""

    def enable_images(self, collection: str) -> None:
        """Switch on pre- and post-images of the change stream; a collection that is missing is made, empty."""

    def changes_per_s(self) -> float | None:
        """Documents updated and deleted per second, in all databases, since the primary started; None if it may not be seen."""

    def expire_images_after_s(self) -> float | None:
        """After how many seconds the server removes images; None: as long as the oplog holds the change."""

    def oplog_reach(self) -> tuple[Timestamp, Timestamp]:
        """The times of the first and the last entry of the oplog."""

    def oplog_window_s(self) -> float:
        """How far back the oplog reaches, in seconds."""

    def sample_ids(self, collection: str, size: int) -> list[bytes]:
        """Up to `size` random ids in index order."""

    def sample_documents(self, collection: str, size: int) -> list[bytes]:
        """Up to `size` random documents."""

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        """The next up to `limit` documents after id `after`, as they were at `at`. Empty only at the end of the range.

        Holds:  every document of the range is in some page, whatever the BSON types of the ids, MinKey and MaxKey
                included; same arguments, same page, while the snapshot lives (five minutes by default).
        Raises: TimedOut if the member cannot show `at` in time (it lags), Unavailable, AccessDenied.
        """

    def read_ids(self, collection: str, ids: Sequence[bytes], at: Timestamp) -> list[bytes]:
        """The documents of these ids that exist at `at`, in any order."""


# --- MongoDB's fence, and who uses it --------------------------------------------------------------------------------


class Fence(Protocol):
    """MongoDB's refusal of the application's writes, one step at a time: order, deadlines and what is remembered are the
    flow's affair. Nothing is remembered here, so that another process can lift what this one has raised. Raises StoreError.
    """

    def facts(self) -> FenceFacts: ...

    def grants(self, users: Sequence[str]) -> tuple[Grant, ...]:
        """What revocation would take from these users (`<database>.<name>`), exactly. Changes nothing; write it down first."""

    def open_transactions(self) -> Sequence[OpenTransaction]:
        """Every transaction that is open on the primary, docferry's own left out, the oldest first."""

    def kill_transactions(self, found: Sequence[OpenTransaction]) -> None:
        """Kill the sessions of these transactions: whatever runs in them ends with an error."""

    def raise_fence(self, plan: FencePlan) -> None:
        """One attempt, which holds readers up for a second at most. Idempotent.

        Raises: TimedOut if something is in the way, or the answer was lost: the fence may be up or not, and either way it
                can be tried again or lifted.
        """

    def still_writing(self, plan: FencePlan) -> Sequence[RunningOperation | OpenTransaction]:
        """What began before `raise_fence` and may still write: the fence counts once this has been empty."""

    def mark_time(self) -> Timestamp:
        """A cluster time behind every write so far, which a majority has and the change stream passes at once."""

    def lift_fence(self, plan: FencePlan) -> None:
        """Take the fence away: exactly what the plan takes is given back. Idempotent, whatever part of it had been raised."""

    def fence_state(self, plan: FencePlan) -> FenceState:
        """What MongoDB says."""

    def writes_after(self, time: Timestamp, limit: int = 100) -> Sequence[StrayWrite]:
        """The first writes to the migration's collections that are behind `time` in the oplog, and not docferry's own.

        Raises: ResumeTokenLost if the oplog no longer reaches back to `time`.
        """


class Clients(Protocol):
    """Who is connected to MongoDB."""

    def look(self) -> Look:
        """Every connection of now, on each member. Raises StoreError."""


# --- DynamoDB's data plane (Target) ----------------------------------------------------------------------------------


class Budget(Protocol):
    """A share of the one rate that all tasks of a migration keep to."""

    async def take(self, units: float) -> None:
        """Wait until this many write units may be spent."""

    def settle(self, estimated: float, consumed: float) -> None:
        """Tell what a write really cost."""


Guard = Callable[[], None]
"""Called right before each request is signed; raises LeaseLost or Stopped when writing must end."""


class Packed(NamedTuple):
    """An item ready to be sent: its key, and itself as JSON."""

    key: ItemKey
    json: bytes


class Grave(NamedTuple):
    """A tombstone: its key, and its version as stored."""

    key: ItemKey
    version: str


@dataclass(frozen=True, slots=True)
class Written:
    """What became of a list of items, by their position in it. `units` is the consumed capacity, indexes included."""

    refused: Mapping[int, DocumentError]
    superseded: frozenset[int]
    units: float


@dataclass(frozen=True, slots=True)
class TargetPage:
    """Some items and where to go on; `next` is None at the end."""

    items: list[Item]
    next: Item | None


class Target(Protocol):
    """DynamoDB's data plane. Raises StoreError or RetryExhausted; what a single item did is in `Written`."""

    def pack(self, items: Sequence[Item]) -> list[Packed]:
        """A document's items, ready to be sent: done at once, while they are in the processor's cache.

        Raises: DocumentError if one of them cannot be sent; then none of them may be.
        """

    async def put_all(self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard) -> Written:
        """Write all items unconditionally (BatchWriteItem), in any order. Returns when each is acknowledged or refused."""

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        """Write each item if none is stored under its key or the stored `_v` is smaller; with `or_same`, or the same."""

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        """Delete each of these tombstones if it is still the one named; anything else there is `superseded`, and stays."""

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """The items that exist under these keys (consistent reads)."""

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        """One page of a segment (consistent), all attributes or only some."""

    def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        """All items of one partition (consistent)."""

    async def close(self) -> None: ...


# --- the way back (Streams, Sink) ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamFacts:
    """A table's stream. `images`: its records bring both images."""

    arn: str
    images: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A part of a stream. `closed`: it gets no more records; what comes then is in its children, of which it is `parent`.
    A parent that is trimmed is not listed any more."""

    id: str
    parent: str | None
    closed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamRecord:
    """One change of one item. `sequence` is its place in the shard, `created_ms` about when it was made (to the second, ms
    since 1970); `old` and `new` are the item in front of it and behind it, in wire form, None where there is none."""

    sequence: str
    key: ItemKey = field(repr=False)
    created_ms: int
    old: Item | None = field(default=None, repr=False)
    new: Item | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class StreamPage:
    """Some records in order, perhaps none, and the iterator to go on with; None at the end of a closed shard."""

    records: Sequence[StreamRecord]
    next: str | None = field(repr=False)


class Streams(Protocol):
    """DynamoDB Streams. The records of one item key come in order, a parent shard's before its children's. Raises StoreError."""

    def stream_of(self, table: str) -> StreamFacts | None:
        """The stream of a table, None if there is none that is switched on."""

    def shards(self, stream: str) -> list[Shard]:
        """All shards, in any order; closed ones stay for about 24 hours."""

    def iterator(self, stream: str, shard: str, after: str | None) -> str:
        """Where to read on: behind the sequence number `after`, None: at the oldest record that is left.

        Raises: StreamTrimmed if what comes behind `after` is gone, or the shard.
        """

    def latest(self, stream: str, shard: str) -> str:
        """Where to read what is written from now on; good for fifteen minutes. Raises StreamTrimmed if the shard is gone."""

    def records(self, iterator: str, limit: int) -> StreamPage:
        """The next records. None may be given although there are some further on.

        Raises: IteratorExpired, StreamTrimmed.
        """


class Sink(Protocol):
    """MongoDB, for writing, one document at a time. Raises StoreError; ids are BSON of {"": id}, documents BSON."""

    def current(self, collection: str, id: bytes) -> bytes | None:
        """The document that a majority holds."""

    def put(self, collection: str, document: bytes) -> None:
        """Replace the document of this `_id`, or insert it; acknowledged by a majority.

        Raises: DuplicateKey if a unique index holds the same for another document; RefusedByStore if MongoDB does not
                take this document (over 16 MB, against the collection's validator).
        """

    def delete(self, collection: str, id: bytes) -> None:
        """Delete the document, if it is there; acknowledged by a majority."""


# --- what must survive (Ledger) --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Record:
    """One entry of the ledger. `revision` is what a change must have read; `body` holds str, int, bytes, bool, lists."""

    section: str
    key: str
    revision: int
    body: Mapping[str, Any] = field(repr=False)


class Ledger(Protocol):
    """The table that remembers. Every change is conditional on what was read. Keys sort as strings."""

    def read(self, section: str, key: str) -> Record | None: ...

    def list(self, section: str, prefix: str = "") -> list[Record]:
        """All records of a section whose key begins with `prefix`, in key order."""

    def write(
        self,
        section: str,
        key: str,
        body: Mapping[str, Any],
        *,
        expect: Record | None,
        unchanged: Sequence[Record] = (),
    ) -> Record:
        """Create (`expect=None`) or replace the record that was read, if all of `unchanged` are as they were read, too.

        Raises: ConditionFailed if one of them is not as expected.
        """

    def delete(self, record: Record) -> None:
        """Remove the record that was read. Raises ConditionFailed if it has changed."""


# --- AWS's control plane (Estate) ------------------------------------------------------------------------------------


class Estate(Protocol):
    """AWS's control plane: what is there, and one change at a time. Waiting and order are the flow's affair.

    Every method raises StoreError (by type: TransientStoreError may work later).
    """

    def resolve_key(self, key: str) -> str:
        """The ARN of a KMS key given by id, alias or ARN."""

    def fetch_table(self, name: str, region: str | None = None) -> TableState | None:
        """The table as `region` (None: the target's own) has it; None if there is no such table."""

    def fetch_dax(self, spec: DaxSpec) -> DaxState:
        """The cluster that `spec` names, and its groups."""

    def check_dax(self, spec: DaxSpec) -> None:
        """Raises PreflightFailed, with every problem, if something that `spec` names must exist and does not."""

    def apply(self, step: EstateStep) -> None:
        """Ask AWS for one step. Returns when AWS has accepted it, which is not when it is done."""
