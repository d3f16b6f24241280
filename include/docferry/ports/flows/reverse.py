"""The way back: DynamoDB's streams, and MongoDB for writing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from docferry.core.mapping.items import Item, ItemKey


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

    def through(self, token: int) -> Sink:
        """The same, for one holder of reverse replication's lease: a write happens only while the marker says that DynamoDB
        leads and bears this token, however late it arrives. Its writes raise LeaseLost otherwise."""

    def current(self, collection: str, id: bytes) -> bytes | None:
        """The document that a majority holds."""

    def put(self, collection: str, document: bytes) -> None:
        """Replace the document of this `_id`, or insert it; acknowledged by a majority.

        Raises: DuplicateKey if a unique index holds the same for another document; RefusedByStore if MongoDB does not
                take this document (over 16 MB, against the collection's validator).
        """

    def delete(self, collection: str, id: bytes) -> None:
        """Delete the document, if it is there; acknowledged by a majority."""
