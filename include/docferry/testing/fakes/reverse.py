"""In-memory stand-ins for the way back: DynamoDB Streams over a FakeTarget's tables, and MongoDB for writing.

Shards split, iterators expire, records are trimmed when a test says so. A contract suite runs against the real ones, too.
"""

from __future__ import annotations

import copy
import time
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import bson

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.order import order_key
from docferry.core.cutover.marker import Leads
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.core.mapping.key_templates import MISSING, lookup
from docferry.core.mapping.raw import id_bytes, id_name, id_of
from docferry.errors import DuplicateKey, IteratorExpired, LeaseLost, RefusedByStore, StreamTrimmed
from docferry.ports.flows import Shard, StreamFacts, StreamPage, StreamRecord
from docferry.testing.fakes.faults import Faults
from docferry.testing.fakes.leader import FakeLeader
from docferry.testing.fakes.target import FakeTarget

ALL_KEYS = 1 << 32


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


@dataclass(eq=False)
class _Shard:
    """Takes the changes of keys whose hash is in [low, high), until it is closed."""

    id: str
    parent: str | None
    low: int
    high: int
    closed: bool = False
    trimmed: int = 0
    records: list[StreamRecord] = field(default_factory=list)


class FakeStreams:
    """Streams over the tables of a FakeTarget; `write` is how an application changes them.

    `page_records` is how many come at once; `empty_share` of the answers give none although there are some.
    """

    def __init__(self, target: FakeTarget, seed: int = 0) -> None:
        self.target, self.faults = target, Faults()
        self.page_records, self.empty_share = 10, 0.0
        self.images = True
        self.clock_ms: Callable[[], int] = _now_ms
        self._random = Random(seed)  # noqa: S311 - repeatable, not secret
        self._shards: dict[str, dict[str, _Shard]] = {}
        self._on: set[str] = set()
        self._generation = self._sequence = self._named = 0

    def __repr__(self) -> str:
        return f"FakeStreams({', '.join(self._shards)})"

    # --- what happens to a table

    def switch_on(self, table: str) -> None:
        """Begin a stream with one shard; one that was there is forgotten."""
        self._shards[table] = {}
        self._on.add(table)
        self._generation += 1
        self._add(table, None, 0, ALL_KEYS)

    def switch_off(self, table: str) -> None:
        """The stream ends; its records can still be read by its name."""
        self._on.discard(table)
        for shard in self._shards[table].values():
            shard.closed = True

    def write(self, table: str, puts: Iterable[Item] = (), deletes: Iterable[ItemKey] = ()) -> None:
        """One transaction. What changes nothing makes no record."""
        stored = self.target.tables[table]
        for key, new in [*((key_of(item), item) for item in puts), *((key, None) for key in deletes)]:
            old = stored.pop(key, None) if new is None else stored.get(key)
            if new is not None:
                stored[key] = copy.deepcopy(new)
            if old != new and table in self._on:
                self._record(table, key, old, new)

    def split(self, table: str, shard: str | None = None) -> None:
        """Close an open shard; two others take its keys."""
        still_open = [one for one in self._shards[table].values() if not one.closed]
        parent = self._shards[table][shard] if shard else self._random.choice(still_open)
        parent.closed = True
        middle = (parent.low + parent.high) // 2
        for low, high in ((parent.low, middle), (middle, parent.high)):
            self._add(table, parent.id, low, high)

    def trim(self, table: str) -> None:
        """All records so far are gone, as a day later, and with them the shards that were closed."""
        for shard in list(self._shards[table].values()):
            shard.trimmed += len(shard.records)
            shard.records.clear()
            if shard.closed:
                del self._shards[table][shard.id]

    def expire_iterators(self) -> None:
        """All iterators given so far are too old."""
        self._generation += 1

    def _add(self, table: str, parent: str | None, low: int, high: int) -> None:
        self._named += 1
        shard = _Shard(f"shardId-{self._named:020d}", parent, low, high)
        self._shards[table][shard.id] = shard

    def _record(self, table: str, key: ItemKey, old: Item | None, new: Item | None) -> None:
        self._sequence += 1
        place = zlib.crc32(repr(key).encode())
        shard = next(one for one in self._shards[table].values() if not one.closed and one.low <= place < one.high)
        shard.records.append(
            StreamRecord(
                sequence=f"{self._sequence:021d}",
                key=key,
                created_ms=self.clock_ms() // 1000 * 1000,
                old=copy.deepcopy(old),
                new=copy.deepcopy(new),
            )
        )

    # --- the port

    def stream_of(self, table: str) -> StreamFacts | None:
        self.faults.before()
        return StreamFacts(arn=f"arn:fake:{table}", images=self.images) if table in self._on else None

    def shards(self, stream: str) -> list[Shard]:
        self.faults.before()
        return [Shard(id=one.id, parent=one.parent, closed=one.closed) for one in self._of(stream).values()]

    def iterator(self, stream: str, shard: str, after: str | None) -> str:
        self.faults.before()
        found = self._of(stream).get(shard)
        if found is None:
            raise StreamTrimmed(f"the stream has no shard {shard}", operation="GetShardIterator")
        behind = sum(after is not None and record.sequence <= after for record in found.records)
        if after is not None and found.trimmed and not behind:
            raise StreamTrimmed(f"shard {shard} is trimmed", operation="GetShardIterator")
        return self._name(stream, found, found.trimmed + behind)

    def latest(self, stream: str, shard: str) -> str:
        self.faults.before()
        found = self._of(stream).get(shard)
        if found is None:
            raise StreamTrimmed(f"the stream has no shard {shard}", operation="GetShardIterator")
        return self._name(stream, found, found.trimmed + len(found.records))

    def records(self, iterator: str, limit: int) -> StreamPage:
        self.faults.before()
        stream, name, generation, place = iterator.split("|")
        if int(generation) != self._generation:
            raise IteratorExpired("the iterator is older than 15 minutes", operation="GetRecords")
        shard = self._of(stream).get(name)
        if shard is None or int(place) < shard.trimmed:
            raise StreamTrimmed(f"shard {name} is trimmed", operation="GetRecords")
        begin = int(place) - shard.trimmed
        most = 0 if self._random.random() < self.empty_share else min(limit, self.page_records)
        found = copy.deepcopy(shard.records[begin : begin + most])
        behind = begin + len(found)
        at_end = shard.closed and behind == len(shard.records)
        return StreamPage(found, None if at_end else self._name(stream, shard, shard.trimmed + behind))

    def _name(self, stream: str, shard: _Shard, place: int) -> str:
        return f"{stream}|{shard.id}|{self._generation}|{place}"

    def _of(self, stream: str) -> dict[str, _Shard]:
        return self._shards[stream.rsplit(":", 1)[-1]]


class FakeSink:
    """MongoDB for writing, in memory, with the unique indexes that a test names: {collection: [(field, ...), ...]}.

    A document without any of an index's fields counts as null there, as in MongoDB. `refuses` says which documents MongoDB
    does not take. `leader` is the marker by which writes `through` a token are let in; without one all are.
    """

    def __init__(
        self, unique: Mapping[str, Sequence[tuple[str, ...]]] | None = None, leader: FakeLeader | None = None
    ) -> None:
        self.leader, self.token = leader, 0
        self.faults = Faults()
        self.unique = dict(unique or {})
        self.refuses: Callable[[dict[str, Any]], bool] = lambda document: False
        self.documents: dict[str, dict[tuple[Any, ...], bytes]] = {}
        self._written: list[str] = []

    def __repr__(self) -> str:
        return f"FakeSink({', '.join(self.documents)})"

    @property
    def writes(self) -> int:
        """How many were made, through gates and without."""
        return len(self._written)

    def through(self, token: int) -> FakeSink:
        if self.leader is None:
            return self
        gated = copy.copy(self)
        gated.token = token
        return gated

    def _require_gate(self) -> None:
        if self.token and self.leader is not None:
            found = self.leader.stored
            if found is None or found.leader is not Leads.DYNAMODB or found.token != self.token:
                raise LeaseLost("reverse replication: the marker names another holder, or another leader")

    def current(self, collection: str, id: bytes) -> bytes | None:
        self.faults.before()
        return self.documents.get(collection, {}).get(_order(id))

    def put(self, collection: str, document: bytes) -> None:
        self.faults.before()
        self._require_gate()
        decoded = bson.decode(document, BSON_OPTIONS)
        if self.refuses(decoded):
            raise RefusedByStore("MongoDB refused the document: the test says so")
        there = self.documents.setdefault(collection, {})
        place = _order(id_of(document))
        for fields in self.unique.get(collection, ()):
            self._require_unique(there, place, decoded, fields)
        there[place] = document
        self._written.append(collection)
        self.faults.after()

    def delete(self, collection: str, id: bytes) -> None:
        self.faults.before()
        self._require_gate()
        self.documents.get(collection, {}).pop(_order(id), None)
        self._written.append(collection)
        self.faults.after()

    def all_of(self, collection: str) -> dict[str, dict[str, Any]]:
        """The documents by id, as key text."""
        found = self.documents.get(collection, {}).values()
        return {id_name(id_of(data)): bson.decode(data, BSON_OPTIONS) for data in found}

    @staticmethod
    def _require_unique(
        there: Mapping[tuple[Any, ...], bytes],
        place: tuple[Any, ...],
        document: Mapping[str, Any],
        fields: Sequence[str],
    ) -> None:
        mine = _values(document, fields)
        for other, data in list(there.items()):  # a gate's writes come from many threads
            if other != place and _values(held := bson.decode(data, BSON_OPTIONS), fields) == mine:
                error = DuplicateKey(f"the unique index on {', '.join(fields)} holds the same for another document")
                error.path, error.holder = ", ".join(fields), id_bytes(held["_id"])
                raise error


def _values(document: Mapping[str, Any], fields: Sequence[str]) -> list[tuple[Any, ...]]:
    found = [lookup(document, tuple(name.split("."))) for name in fields]
    return [order_key(None if value is MISSING else value) for value in found]


def _order(id_data: bytes) -> tuple[Any, ...]:
    return order_key(bson.decode(id_data, BSON_OPTIONS)[""])
