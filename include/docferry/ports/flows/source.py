"""MongoDB for reading: facts, snapshots and the change stream."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from bson.timestamp import Timestamp

from docferry.core.mapping.mapping import KeyFields
from docferry.core.versions import version_of
from docferry.errors import DocumentError


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
class SourceFacts:
    """One collection. `kind` is collection, view, timeseries or missing; `unique` the field sets that a full unique index
    keeps unique, `partly_unique` those of partial ones; `images` whether change stream pre- and post-images are on; `capped`
    whether it is a capped one; sizes in bytes; `indexes` and `options` as the server has them."""

    name: str
    kind: str
    documents: int
    average_bytes: float
    unique: tuple[frozenset[str], ...]
    partly_unique: tuple[frozenset[str], ...] = ()
    images: bool = False
    capped: bool = False
    indexes: tuple[Mapping[str, Any], ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceCatalog:
    """What there is: a database's collections by name, with their kinds, MongoDB's own (`system.`) left out; and the server's
    databases, as far as they may be seen."""

    collections: Mapping[str, str]
    databases: tuple[str, ...]


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
    came without images, so `after` and perhaps `before` must be fetched: it was too large for them, or `error` says why.
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
    error: DocumentError | None = None
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
                call goes on behind that event, for a caller that has loaded its collections anew. ResumeTokenLost, StoreError;
                after a TransientStoreError open a new feed at the last position.
        """

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class OthersWrite:
    """One write to MongoDB that docferry did not make, by the change stream. `id` is BSON of {"": id}, b"" where it is no write
    of a document (a drop). `before` and `after` are the whole images, None where there is none, or it was too large to be told.
    `place` is the same whenever the write is read again."""

    collection: str
    operation: str
    time: Timestamp
    place: str
    id: bytes = field(default=b"", repr=False)
    before: bytes | None = field(default=None, repr=False)
    after: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class OthersBatch:
    """Some writes of others in order, perhaps none, and the position behind them: it moves on while nothing is written."""

    writes: Sequence[OthersWrite]
    position: StreamPosition


class OthersFeed(Protocol):
    """What others write. Belongs to one thread at a time."""

    def read(self, wait_s: float) -> OthersBatch:
        """The next ones; waits up to `wait_s` for the first. Raises ResumeTokenLost, StoreError."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Bounds:
    """A range of `_id` in index order: lower included, upper not. Each is BSON of {"": id}, None at the ends."""

    lower: bytes | None
    upper: bytes | None


class Source(Protocol):
    """MongoDB, for reading. Raises StoreError; ids go in and out as BSON of {"": id}, documents as BSON."""

    def server_facts(self) -> ServerFacts: ...

    def catalog(self) -> SourceCatalog: ...

    def privileges(self) -> Sequence[Mapping[str, Any]] | None:
        """What our user may do, as `connectionStatus` has it; None if the connection has no user."""

    def collection_facts(self, collection: str) -> SourceFacts: ...

    def facts_of(self, collections: Sequence[str]) -> list[SourceFacts]:
        """The facts of many, in the same order, with fewer questions than one by one."""

    def stream_position(self, at: Timestamp | None = None) -> StreamPosition:
        """The position of now, or of a time, in the database's change stream: everything before that time lies behind it.

        Raises: ResumeTokenLost if the oplog no longer reaches back to `at`.
        """

    def follow(self, position: StreamPosition, key_fields: Mapping[str, KeyFields]) -> Feed:
        """The change stream from a position on, for the collections named, with these fields of pre-images.

        Raises: ResumeTokenLost if the oplog no longer holds the position, here or at the first read; StoreError.
        """

    def writes_of_others(self, position: StreamPosition, collections: Sequence[str]) -> OthersFeed:
        """What is written to these collections from a position on, but for what docferry's own user writes in transactions, as
        reverse replication does. Raises: ResumeTokenLost, here or at the first read; StoreError.
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

    def longer_than(
        self, collection: str, arrays: Sequence[str], most: int, for_s: float, only: Mapping[str, Any] | None = None
    ) -> int | None:
        """How many documents (that match `only`, compared binary) hold more than `most` subdocuments in these arrays together,
        of arrays of nothing else. None if that could not be counted in so many seconds."""

    def count(self, collection: str, only: Mapping[str, Any], for_s: float) -> int | None:
        """How many documents match, compared binary; None if that could not be counted in so many seconds."""

    def sample_ids(self, collection: str, size: int) -> list[bytes]:
        """Up to `size` random ids in index order."""

    def sample_documents(self, collection: str, size: int, only: Mapping[str, Any] | None = None) -> list[bytes]:
        """Up to `size` random documents (that match `only`, compared binary). Raises TimedOut if that takes too long."""

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        """The next up to `limit` documents after id `after`, as they were at `at`. Empty only at the end of the range.

        Holds:  every document of the range is in some page, whatever the BSON types of the ids, MinKey and MaxKey
                included; same arguments, same page, while the snapshot lives (five minutes by default).
        Raises: TimedOut if the member cannot show `at` in time (it lags), Unavailable, AccessDenied.
        """

    def read_ids(self, collection: str, ids: Sequence[bytes], at: Timestamp) -> list[bytes]:
        """The documents of these ids that exist at `at`, in any order."""
