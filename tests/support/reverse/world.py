"""Random interleavings of an application that writes to DynamoDB and of what makes MongoDB follow, over docferry's own lanes.

One run is one seed. Documents pass keys and unique values between them, alone or in one transaction; children come and go;
deletes leave tombstones or nothing, and tombstones expire. Shards split, iterators expire, answers are empty. Every item that
is read and every call of MongoDB waits at a gate, and the run opens the gates in random order; now and then the process
dies, and another one goes on from a position saved some time ago.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from random import Random
from typing import Any, TypeVar

import bson
from docferry.config import parse_migration
from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import Item, ItemKey, key_of, tombstone
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.mapping.raw import id_name, id_of
from docferry.errors import IteratorExpired
from docferry.flows.reverse.lanes import Returning, ReverseLanes
from docferry.flows.reverse.shards import ShardPosition, begin, decode_stream, encode_stream
from docferry.testing.fakes import FakeLedger, FakeSink, FakeStreams, FakeTarget

T = TypeVar("T")
Document = dict[str, Any]
TABLE = "Returning"
MIGRATION = parse_migration(b"""
migration: return
source: {database: returning}
tables: {Returning: {}}
collections:
  docs:   # MongoDB is to have its fields in their order, too
    order: keep
    item: {entity: DOC, key: {PK: "DOC#{name}", SK: ROOT}}
    children:
      parts: {entity: PART, key: {SK: "PART#{kind}#{index:03d}"}}
    unique: {mail_1: [mail]}
  rows:
    item: {entity: ROW, key: {PK: "ROW#{name}", SK: ROW}}
""")
IDS, NAMES, MAILS = (1, 2, 3), "abcd", "wxyz"
UNIQUE = {name: [("name",), ("mail",)] for name in MIGRATION.mappings}
TTL = "_ttl"
STEPS = {
    "write": 16, "swap": 10, "delete": 4, "expire_tombstone": 2, "read": 14, "open_gates": 30, "split": 1,
    "expire_iterators": 1, "save": 4, "crash": 1,
}  # fmt: skip


class Diverged(AssertionError):
    """MongoDB is not what DynamoDB is, or was what no client wrote."""


def _same(collection: str, one: Document, other: Document) -> bool:
    return one == other and (not MIGRATION.mapping(collection).keeps_order or bson.encode(one) == bson.encode(other))


def _items(mapping: DocumentMapping, document: Document, version: int) -> list[Item]:
    """With its guards, of which the stream tells, too."""
    return [*mapping.encode(document, version), *mapping.guard_items(document, version)]


class Gates:
    """A task that waits here goes on when the run says so."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._waiting: list[asyncio.Future[None]] = []
        self.open = False

    async def wait(self) -> None:
        if not self.open:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._waiting.append(future)
            await future

    def open_one(self) -> None:
        self._waiting = [one for one in self._waiting if not one.done()]
        if self._waiting:
            self._waiting.pop(self._random.randrange(len(self._waiting))).set_result(None)

    def open_all(self) -> None:
        self.open = True
        while self._waiting:
            self.open_one()


class GatedTarget(FakeTarget):
    """A query that takes its time: what it gives last may be newer than what it gave first."""

    gates: Gates

    async def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        keys = sorted({key for key in self.tables[table] if key[0] == partition_key} | {(partition_key, "ROOT")})
        for key in keys:
            await self.gates.wait()
            found = await super().get_all(table, [key])
            for item in found.values():
                yield item

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        await self.gates.wait()
        return await super().get_all(table, keys)


class WatchedSink(FakeSink):
    """Takes nothing that no client has written."""

    def __init__(self, written: dict[str, list[Document]]) -> None:
        super().__init__(UNIQUE)
        self.written = written

    def put(self, collection: str, document: bytes) -> None:
        if not any(_same(collection, bson.decode(document), one) for one in self.written[collection]):
            raise Diverged(f"MongoDB is given what no client wrote: {collection} {bson.decode(document)}")
        super().put(collection, document)


class World:
    """One run. `seen` counts what happened in it."""

    def __init__(self, seed: int, lanes: type[ReverseLanes] = ReverseLanes, ahead: bool = False) -> None:
        self.random, self.lanes_of, self.ahead = Random(seed), lanes, ahead
        self.orders = Random(f"orders {seed}")
        self.seen: Counter[str] = Counter()
        self.gates = Gates(self.random)
        self.target = GatedTarget()
        self.target.gates = self.gates
        self.target.create_table(TABLE)
        self.streams = FakeStreams(self.target, seed)
        self.streams.switch_on(TABLE)
        self.streams.page_records, self.streams.empty_share = 3, 0.2
        self.written: dict[str, list[Document]] = {name: [] for name in MIGRATION.mappings}
        self.sink, self.ledger = WatchedSink(self.written), FakeLedger()
        self.version = 0
        self.live: dict[tuple[str, int], Document] = {}
        self.positions = begin(TABLE, f"arn:fake:{TABLE}", self.streams.shards(TABLE), 0)
        self.saved = encode_stream(self.positions)
        self.iterators: dict[str, str] = {}
        self.lanes = self._new_lanes()

    def _new_lanes(self) -> ReverseLanes:
        work = Returning(
            entities={TABLE: MIGRATION.entities(TABLE)},
            target=self.target,
            sink=self.sink,
            ledger=self.ledger,
            guard=lambda: None,
            stop=threading.Event(),
        )
        lanes = self.lanes_of(work)
        lanes.seen = self.seen  # type: ignore[attr-defined]
        lanes.look_for_letters()
        return lanes

    # --- the application ---------------------------------------------------------------------------------------------

    def _mapping(self, collection: str) -> DocumentMapping:
        return MIGRATION.mapping(collection)

    def _free(self, collection: str, field: str, values: str, besides: int) -> list[str]:
        used = {one[field] for (name, key), one in self.live.items() if name == collection and key != besides}
        return [value for value in values if value not in used]

    def _commit(self, collection: str, changes: dict[int, Document | None]) -> None:
        """One transaction: the items of these documents, and tombstones, or nothing, where items are no more."""
        mapping = self._mapping(collection)
        self.version += 1
        before = [
            item for key in changes if (one := self.live.get((collection, key))) for item in _items(mapping, one, 1)
        ]
        puts: dict[ItemKey, Item] = {}
        for key, document in changes.items():
            self.live.pop((collection, key), None)
            if document is not None:
                self.live[collection, key] = document
                self.written[collection].append(document)
                puts |= {key_of(item): item for item in _items(mapping, document, self.version)}
        gone = [item for item in before if key_of(item) not in puts]
        if self.random.random() < 0.8:
            graves = [tombstone(item, self.version, TTL) for item in gone]
            self.streams.write(TABLE, [*puts.values(), *graves])
        else:
            self.streams.write(TABLE, puts.values(), [key_of(item) for item in gone])

    def _document(self, collection: str, key: int) -> Document | None:
        names = self._free(collection, "name", NAMES, key)
        mails = self._free(collection, "mail", MAILS, key)
        if not names or not mails:
            return None
        document = dict(self.live.get((collection, key), {"_id": key}))
        document |= {"x": self.version, "name": self.random.choice(names), "mail": self.random.choice(mails)}
        if collection == "docs":
            kinds = self.random.choices("pq", k=self.random.randrange(3))
            document["parts"] = [{"kind": kind, "of": self.version} for kind in kinds]
            return self._reordered(document)
        return document

    def _reordered(self, document: Document) -> Document:
        """In any order of fields; now and then nothing but that has changed."""
        live, orders = self.live.get(("docs", document["_id"])), self.orders
        fields = live if live is not None and orders.random() < 0.2 else document
        names = orders.sample([name for name in fields if name != "_id"], len(fields) - 1)
        found = {"_id": fields["_id"], **{name: fields[name] for name in names}}
        found["parts"] = [dict(orders.sample(list(part.items()), len(part))) for part in found["parts"]]
        return found

    def write(self) -> None:
        collection, key = self.random.choice(list(self.written)), self.random.choice(IDS)
        document = self._document(collection, key)
        if document is not None:
            self._commit(collection, {key: document})

    def swap(self) -> None:
        """Two documents take each other's name, or mail, at once."""
        collection, field = self.random.choice(list(self.written)), self.random.choice(("name", "mail", "mail", "mail"))
        both = [key for (name, key) in self.live if name == collection]
        if len(both) < 2:
            return
        one, other = (self.live[collection, key] for key in self.random.sample(both, 2))
        changed: dict[int, Document | None] = {
            one["_id"]: one | {field: other[field], "x": self.version},
            other["_id"]: other | {field: one[field], "x": self.version},
        }
        self._commit(collection, changed)

    def delete(self) -> None:
        if self.live:
            collection, key = self.random.choice(list(self.live))
            self._commit(collection, {key: None})

    def expire_tombstone(self) -> None:
        graves = [key for key, item in self.target.tables[TABLE].items() if is_tombstone(item)]
        if graves:
            self.streams.write(TABLE, deletes=[self.random.choice(graves)])

    # --- the stream --------------------------------------------------------------------------------------------------

    def split(self) -> None:
        self.streams.split(TABLE)

    def expire_iterators(self) -> None:
        self.streams.expire_iterators()

    def read(self) -> None:
        self.positions.learn(self.streams.shards(TABLE))
        readable = self.positions.readable()
        if readable:
            self._read(self.random.choice(readable))
        self.advance()

    def _read(self, shard: ShardPosition) -> None:
        try:
            iterator = self.iterators.get(shard.id) or self.streams.iterator(TABLE, shard.id, shard.read)
            page = self.streams.records(iterator, 10)
        except IteratorExpired:
            self.seen["iterator expired"] += 1
            del self.iterators[shard.id]
            return
        for record in page.records:
            pending = shard.take(record)
            for reason in self.lanes.put(TABLE, record, pending):
                self.seen[f"passed: {reason}"] += 1
        shard.ended = page.next is None
        self.iterators[shard.id] = page.next or ""

    def advance(self) -> None:
        for shard in self.positions.shards.values():
            for pending in shard.advance():
                self.seen[pending.outcome.name] += 1
            if self.ahead:
                shard.after = shard.read

    def save(self) -> None:
        self.advance()
        self.saved = encode_stream(self.positions)

    async def crash(self) -> None:
        """Everything that is on its way is gone, at whichever gate it waits."""
        self.seen["crash"] += 1
        self.seen["crash at work"] += bool(self.lanes.parts)
        await self.lanes.end()
        self.iterators.clear()
        self.positions = decode_stream(TABLE, self.saved)
        self.lanes = self._new_lanes()

    # --- the run -----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        names, weights = list(STEPS), list(STEPS.values())
        for _ in range(self.random.randrange(40, 160)):
            step = self.random.choices(names, weights)[0]
            if step == "open_gates":
                await self.open_gates()
            elif step == "crash":
                await self.crash()
            else:
                getattr(self, step)()
            await self.settle()
        await self.finish()
        await self.lanes.end()

    async def open_gates(self) -> None:
        for _ in range(self.random.choice((1, 2, 4, 8, 16))):
            self.gates.open_one()
            await self.settle()

    async def settle(self) -> None:
        """Let everybody go on as far as the next gate."""
        for _ in range(4):
            await asyncio.sleep(0)
        if self.lanes.failure is not None:
            raise self.lanes.failure

    async def finish(self) -> None:
        """All that there is is read and applied; then both sides are compared."""
        self.gates.open_all()
        self.streams.empty_share = 0.0
        for _ in range(400):
            self.read()
            await self.settle()
            ended = all(
                one.finished or (not one.window and self._is_at_end(one)) for one in self.positions.shards.values()
            )
            if ended and not self.lanes.parts:
                break
        else:
            raise Diverged("it does not come to an end")
        for _ in range(40):
            self.lanes.retry_letters()
            await self.settle()
        self.seen["healed"] += self.lanes.healed
        self.compare()

    def _is_at_end(self, shard: ShardPosition) -> bool:
        page = self.streams.records(self.streams.iterator(TABLE, shard.id, shard.read), 1)
        return not page.records and page.next is not None

    def compare(self) -> None:
        if self.lanes.letters:
            raise Diverged(f"dead letters: {[letter.message for letter in self.lanes.letters.values()]}")
        for collection in self.written:
            mongo = self.sink.all_of(collection)
            dynamo = {id_name(id_of(bson.encode(one))): one for one in self._decoded(collection)}
            if mongo.keys() != dynamo.keys() or not all(
                _same(collection, one, dynamo[id]) for id, one in mongo.items()
            ):
                raise Diverged(f"{collection}: MongoDB {mongo}, DynamoDB {dynamo}")

    def _decoded(self, collection: str) -> list[Document]:
        """What the live items make, by id."""
        mapping = self._mapping(collection)
        kinds = {mapping.root.entity, *mapping.children}
        items: dict[str, list[Item]] = {}
        for item in self.target.tables[TABLE].values():
            if not is_tombstone(item) and item["entityType"]["S"] in kinds:
                items.setdefault(repr(item["_id"]), []).append(item)
        return [mapping.decode(found).document for found in items.values()]
