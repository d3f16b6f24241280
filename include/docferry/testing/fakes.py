"""In-memory stand-ins for MongoDB and DynamoDB behind docferry's ports, and ways to make them misbehave.

They keep the rules that the real ones keep, as far as the ports promise them: a contract suite runs against both.
What they do not have is a network: nothing here is slow, lost or late unless a test asks for it.
"""

from __future__ import annotations

import asyncio
import json
import threading
import zlib
from bisect import bisect_left
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from random import Random
from typing import Any

import bson
from bson.timestamp import Timestamp

from docferry.core.bson_codec.codec import BSON_OPTIONS, AttributeValue, from_plain, plain_number, to_plain
from docferry.core.bson_codec.order import order_key
from docferry.core.bson_codec.raw import id_bytes, id_of
from docferry.core.limits import BATCH_GET_KEYS, BATCH_ITEMS, NUMBER_MAX_ADJUSTED, NUMBER_MIN_ADJUSTED, item_write_units
from docferry.core.mapping.key_templates import MISSING, lookup
from docferry.core.mapping.mapping import Item, ItemKey, KeyFields, check_size, key_of
from docferry.errors import (
    ConditionFailed,
    DocumentError,
    MigrationError,
    RefusedByStore,
    RequestRefused,
    ResumeTokenLost,
    StreamEnded,
    TableMissing,
    TimedOut,
)
from docferry.ports.flows import (
    Batch,
    Bounds,
    Budget,
    ChangeEvent,
    CollectionFacts,
    Grave,
    Guard,
    Packed,
    Record,
    ServerFacts,
    StreamPosition,
    TargetPage,
    Written,
)

NESTING_OF_ATTRIBUTES = 32
NUMBER_DIGITS = 38
ENDING = frozenset({"drop", "rename", "dropDatabase", "invalidate"})


class Faults:
    """What goes wrong next, in the order in which it was asked for. Shared by all fakes; safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._before: list[MigrationError] = []
        self._after: list[MigrationError] = []
        self._always: MigrationError | None = None

    def fail_next(self, *errors: MigrationError) -> None:
        """The next calls raise these, one each, and do nothing."""
        with self._lock:
            self._before += errors

    def lose_next_answers(self, *errors: MigrationError) -> None:
        """The next changes are made, and then these are raised, one each: the caller cannot know."""
        with self._lock:
            self._after += errors

    def fail_always(self, error: MigrationError) -> None:
        """Every call raises this and does nothing, until `clear`."""
        self._always = error

    def clear(self) -> None:
        """Nothing goes wrong any more."""
        with self._lock:
            self._before, self._after, self._always = [], [], None

    def before(self) -> None:
        if self._always is not None:
            raise self._always
        self._raise_first(self._before)

    def after(self) -> None:
        self._raise_first(self._after)

    def _raise_first(self, errors: list[MigrationError]) -> None:
        with self._lock:
            error = errors.pop(0) if errors else None
        if error is not None:
            raise error


# --- Ledger ----------------------------------------------------------------------------------------------------------


class FakeLedger:
    """Ledger in memory. A revision is never given twice for one key, not even after a delete."""

    def __init__(self) -> None:
        self.faults = Faults()
        self._lock = threading.Lock()
        self._records: dict[tuple[str, str], Record] = {}
        self._last: dict[tuple[str, str], int] = {}

    def __repr__(self) -> str:
        return f"FakeLedger({len(self._records)} records)"

    def read(self, section: str, key: str) -> Record | None:
        self.faults.before()
        with self._lock:
            return _copy(self._records.get((section, key)))

    def list(self, section: str, prefix: str = "") -> list[Record]:
        self.faults.before()
        with self._lock:
            found = [record for record in self._records.values() if record.section == section]
        matching = [copied for record in found if record.key.startswith(prefix) and (copied := _copy(record))]
        return sorted(matching, key=lambda record: record.key.encode())

    def write(
        self,
        section: str,
        key: str,
        body: Mapping[str, Any],
        *,
        expect: Record | None,
        unchanged: Sequence[Record] = (),
    ) -> Record:
        self.faults.before()
        place = (section, key)
        with self._lock:
            self._require(place, expect)
            for one in unchanged:
                self._require((one.section, one.key), one)
            self._last[place] = self._last.get(place, 0) + 1
            record = Record(section, key, self._last[place], _stored(body))
            self._records[place] = record
        self.faults.after()
        return Record(section, key, record.revision, dict(body))

    def delete(self, record: Record) -> None:
        self.faults.before()
        place = (record.section, record.key)
        with self._lock:
            self._require(place, record)
            del self._records[place]
        self.faults.after()

    def _require(self, place: tuple[str, str], expect: Record | None) -> None:
        current = self._records.get(place)
        if (current and current.revision) != (expect and expect.revision):
            text = f"the record {'/'.join(place)} is not as expected"
            raise ConditionFailed(text, operation="write", code="ConditionalCheckFailedException")


def _copy(record: Record | None) -> Record | None:
    return Record(record.section, record.key, record.revision, _stored(record.body)) if record else None


def _stored(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """The body as DynamoDB gives it back: a copy, tuples as lists, whole numbers as int; floats are refused."""
    found: Mapping[str, Any] = _whole(to_plain(from_plain(dict(body))))
    return found


def _whole(value: Any) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _whole(inner) for name, inner in value.items()}
    return [_whole(inner) for inner in value] if isinstance(value, list) else value


# --- Target ----------------------------------------------------------------------------------------------------------


@dataclass
class FakeTarget:
    """DynamoDB's data plane in memory.

    Numbers come back in DynamoDB's spelling; items that it would refuse are refused (size, nesting, numbers, keys).
    `refuses` says which others are; `unprocessed` is the share of a batch that comes back to be sent again;
    `hang` keeps every request waiting until `resume`; `faults` makes requests raise. `requests` counts them by name.
    """

    tables: dict[str, dict[ItemKey, Item]] = field(default_factory=dict)
    refuses: Callable[[Item], bool] = lambda item: False
    unprocessed: float = 0.0
    page_items: int = 100
    seed: int = 0
    faults: Faults = field(default_factory=Faults)
    requests: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)  # noqa: S311 - repeatable, not secret
        self._running = asyncio.Event()
        self._running.set()

    def create_table(self, name: str) -> None:
        self.tables.setdefault(name, {})

    def hang(self) -> None:
        """From now on no request is answered."""
        self._running.clear()

    def resume(self) -> None:
        """Answer again, those that wait included."""
        self._running.set()

    def pack(self, items: Sequence[Item]) -> list[Packed]:
        try:
            packed = [Packed(key_of(item), json.dumps(item, ensure_ascii=False).encode()) for item in items]
            for item in items:
                check_size(item)
            return packed
        except (TypeError, UnicodeEncodeError) as error:
            raise RefusedByStore("cannot be written as JSON", path=items[0]["SK"]["S"]) from error

    async def put_all(self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard) -> Written:
        return await self._put_all(table, [json.loads(item.json) for item in items], budget, guard)

    async def _put_all(self, table: str, items: Sequence[Item], budget: Budget, guard: Guard) -> Written:
        refused: dict[int, DocumentError] = {}
        left = list(range(len(items)))
        self._random.shuffle(left)
        units = 0.0
        while left:
            batch, left = left[:BATCH_ITEMS], left[BATCH_ITEMS:]
            await budget.take(estimate := sum(item_write_units(items[position]) for position in batch))
            guard()
            stored = await self._request("BatchWriteItem", table)
            for position in batch:
                if self._random.random() < self.unprocessed:
                    left.append(position)
                    estimate -= item_write_units(items[position])
                elif (error := self._reason(items[position])) is not None:
                    refused[position] = error
                else:
                    stored[key_of(items[position])] = _normalised(items[position])
            units += estimate
            budget.settle(estimate, estimate)
            self.faults.after()
        return Written(refused, frozenset(), units)

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        refused = _too_large(items)
        superseded: set[int] = set()
        units = 0.0
        for position, item in enumerate(items):
            if position in refused:
                continue
            await budget.take(estimate := float(item_write_units(item)))
            guard()
            stored = await self._request("PutItem", table)
            error = self._reason(item)
            if error is not None:
                refused[position] = error
                continue
            units += estimate
            if _is_newer(item, stored.get(key_of(item)), or_same):
                stored[key_of(item)] = _normalised(item)
            else:
                superseded.add(position)
            self.faults.after()
        return Written(refused, frozenset(superseded), units)

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        superseded: set[int] = set()
        for position, grave in enumerate(graves):
            await budget.take(1.0)
            guard()
            stored = await self._request("DeleteItem", table)
            there = stored.get(grave.key, {})
            if there.get("_deleted") == {"BOOL": True} and there.get("_v") == {"S": grave.version}:
                del stored[grave.key]
                budget.settle(1.0, 1.0)
            else:
                superseded.add(position)
            self.faults.after()
        return Written({}, frozenset(superseded), float(len(graves)))

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        found: dict[ItemKey, Item] = {}
        for start in range(0, len(keys), BATCH_GET_KEYS):
            batch = keys[start : start + BATCH_GET_KEYS]
            stored = await self._request("BatchGetItem", table)
            if len(set(batch)) != len(batch):
                text = "BatchGetItem: the keys contain duplicates"
                raise RequestRefused(text, operation="BatchGetItem", code="ValidationException")
            found.update({key: _normalised(stored[key]) for key in batch if key in stored})
        return found

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        stored = await self._request("Scan", table)
        keys = sorted((key for key in stored if _hash(key) % segments == segment), key=_scan_order)
        begin = 0 if start is None else bisect_left(keys, _scan_order(key_of(start)), key=_scan_order)
        begin += start is not None and begin < len(keys) and keys[begin] == key_of(start)
        page = keys[begin : begin + self.page_items]
        items = [_normalised(stored[key]) for key in page]
        if attributes:
            items = [{name: value for name, value in item.items() if name in attributes} for item in items]
        more = begin + len(page) < len(keys)
        return TargetPage(items, {"PK": {"S": page[-1][0]}, "SK": {"S": page[-1][1]}} if more else None)

    async def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        stored = await self._request("Query", table)
        for key in sorted((key for key in stored if key[0] == partition_key), key=lambda key: key[1].encode()):
            yield _normalised(stored[key])

    async def close(self) -> None:
        """Nothing to give back."""

    async def _request(self, operation: str, table: str) -> dict[ItemKey, Item]:
        self.requests[operation] = self.requests.get(operation, 0) + 1
        await self._running.wait()
        self.faults.before()
        if table not in self.tables:
            raise TableMissing(f"{operation}: no table {table}", operation=operation, code="ResourceNotFoundException")
        return self.tables[table]

    def _reason(self, item: Item) -> DocumentError | None:
        path = item["SK"]["S"]
        if self.refuses(item):
            return RefusedByStore("the test refuses this item", path=path)
        if not item["PK"]["S"] or not item["SK"]["S"]:
            return RefusedByStore("DynamoDB refused the item: an empty key", path=path)
        if not all(_is_valid(value, NESTING_OF_ATTRIBUTES) for value in item.values()):
            return RefusedByStore("DynamoDB refused the item: a number or the nesting", path=path)
        return None


def _too_large(items: Sequence[Item]) -> dict[int, DocumentError]:
    refused: dict[int, DocumentError] = {}
    for position, item in enumerate(items):
        try:
            check_size(item)
        except DocumentError as error:
            refused[position] = error
    return refused


def _is_newer(item: Item, stored: Item | None, or_same: bool) -> bool:
    if stored is None or "_v" not in stored:
        return True
    return bool(stored["_v"]["S"] < item["_v"]["S"] or (or_same and stored["_v"]["S"] == item["_v"]["S"]))


def _normalised(item: Item) -> Item:
    return {name: _normalised_value(value) for name, value in item.items()}


def _normalised_value(value: AttributeValue) -> AttributeValue:
    ((tag, content),) = value.items()
    if tag == "N":
        return {"N": plain_number(Decimal(content))}
    if tag == "M":
        return {"M": _normalised(content)}
    return {"L": [_normalised_value(inner) for inner in content]} if tag == "L" else {tag: content}


def _is_valid(value: AttributeValue, levels: int) -> bool:
    ((tag, content),) = value.items()
    if tag == "N":
        number = Decimal(content)
        digits = len("".join(map(str, number.as_tuple().digits)).strip("0"))
        return not number or (
            NUMBER_MIN_ADJUSTED <= number.adjusted() <= NUMBER_MAX_ADJUSTED and digits <= NUMBER_DIGITS
        )
    if tag in ("M", "L"):
        inner = content.values() if tag == "M" else content
        return levels > 1 and all(_is_valid(one, levels - 1) for one in inner)
    return True


def _hash(key: ItemKey) -> int:
    return zlib.crc32(key[0].encode())


def _scan_order(key: ItemKey) -> tuple[int, bytes, bytes]:
    return _hash(key), key[0].encode(), key[1].encode()


# --- Feed ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Event:
    """One event of FakeSource; `n` is its place among those of its time."""

    collection: str
    operation: str
    id: bytes
    before: bytes | None
    after: bytes | None
    time: Timestamp
    n: int
    touched: tuple[str, ...] | None = None
    images_lost: bool = False
    has_images: bool = True
    to: str = ""


class FakeFeed:
    """Feed over a FakeSource's events."""

    def __init__(self, source: FakeSource, behind: int, key_fields: Mapping[str, KeyFields]) -> None:
        self._source, self._behind, self._key_fields = source, behind, key_fields

    def close(self) -> None:
        """Nothing to give back."""

    def read(self, wait_s: float) -> Batch:
        source = self._source
        source.faults.before()
        changes: list[ChangeEvent] = []
        while self._behind < len(source._events) and len(changes) < source.batch_events:
            event = source._events[self._behind]
            position = source._position(event.time, self._behind + 1)
            ended = self._ended(event, position)
            if ended is not None and changes:
                break  # what was read before is given first
            self._behind += 1
            if ended is not None:
                raise ended
            if event.collection in self._key_fields and event.operation not in ENDING:
                changes.append(self._change(event, position))
        time = source._now if self._behind == len(source._events) else source._events[self._behind - 1].time
        return Batch(changes, source._position(time, self._behind))

    def _ended(self, event: _Event, position: StreamPosition) -> StreamEnded | None:
        """What an event that cannot be followed over is told as."""
        named = tuple(name for name in (event.collection, event.to) if name in self._key_fields)
        whole = event.operation in ("dropDatabase", "invalidate")
        lost = not event.has_images and event.operation != "insert"
        if not whole and not (named and (event.operation in ENDING or lost)):
            return None
        reason = event.operation if event.operation in ENDING else "images_missing"
        text = f"{', '.join(named) or 'all'}: {reason}; it needs a new load"
        return StreamEnded(text, reason=reason, collections=named, position=position)

    def _change(self, event: _Event, position: StreamPosition) -> ChangeEvent:
        fields = self._key_fields[event.collection]
        return ChangeEvent(
            collection=event.collection,
            operation=event.operation,
            id=event.id,
            time=event.time,
            n=event.n,
            before=None if event.before is None else _reduced(event.before, fields),
            after=None if event.images_lost else event.after,
            touched=None if event.images_lost else event.touched,
            images_lost=event.images_lost,
            position=position,
        )


def _reduced(document: bytes, fields: KeyFields) -> bytes:
    """What a server leaves of a pre-image: the fields of keys."""
    whole = bson.decode(document, BSON_OPTIONS)
    kept: dict[str, Any] = {"_id": whole["_id"]}
    for path in fields.root:
        _keep(kept, whole, path.split("."))
    for path, inner in fields.children.items():
        elements = lookup(whole, tuple(path.split(".")))
        if isinstance(elements, list):
            _put(kept, path.split("."), [_kept_of(element, inner) for element in elements])
    return bson.encode(kept)


def _kept_of(element: Any, names: Sequence[str]) -> Any:
    if not isinstance(element, dict):
        return 0
    kept: dict[str, Any] = {}
    for name in names:
        _keep(kept, element, name.split("."))
    return kept


def _keep(kept: dict[str, Any], whole: Mapping[str, Any], path: Sequence[str]) -> None:
    value = lookup(whole, tuple(path))
    if value is not MISSING:
        _put(kept, path, value)


def _put(kept: dict[str, Any], path: Sequence[str], value: Any) -> None:
    for step in path[:-1]:
        kept = kept.setdefault(step, {})
    kept[path[-1]] = value


# --- Source ----------------------------------------------------------------------------------------------------------


class FakeSource:
    """MongoDB in memory: every change has a time, and pages show the collection as it was at one.

    `history_from` is the oldest time that can still be read; `lag_behind` the time up to which the member has got.
    """

    def __init__(self, collections: Mapping[str, Iterable[Mapping[str, Any]]] | None = None, seed: int = 0) -> None:
        self.faults = Faults()
        self.facts = ServerFacts(version=(6, 0, 5), replica_set="rs0", mongos=False, write_majority_ok=True)
        self.unique: dict[str, tuple[frozenset[str], ...]] = {}
        self.kinds: dict[str, str] = {}
        self.window_s = 86_400.0
        self.page_bytes = 16 * 1024 * 1024
        self.history_from = Timestamp(1, 0)
        self.lag_behind: Timestamp | None = None
        self._random = Random(seed)  # noqa: S311 - repeatable, not secret
        self._now = Timestamp(1, 0)
        self._events: list[_Event] = []
        self.images: dict[str, bool] = {}
        self.expire_s: float | None = None
        self.change_rate: float | None = 0.0
        self.batch_events = 100
        self._changes: dict[str, dict[tuple[Any, ...], list[tuple[Timestamp, bytes | None]]]] = {}
        for name, documents in (collections or {}).items():
            self._changes[name] = {}
            for document in documents:
                self.put(name, document)

    def __repr__(self) -> str:
        return f"FakeSource({', '.join(self._changes)})"

    # --- what the application does

    def put(
        self,
        collection: str,
        document: Mapping[str, Any] | bytes,
        touched: Sequence[str] | None = None,
        images_lost: bool = False,
    ) -> Timestamp:
        """Insert or replace a document, or update the paths `touched`; the time of the change.

        `images_lost`: the change comes without images, as one does that is too large.
        """
        data = document if isinstance(document, bytes) else bson.encode(document)
        self._tick()
        return self._change(collection, id_of(data), data, touched, images_lost)

    def remove(self, collection: str, key: Any) -> Timestamp:
        """Delete the document of this id; the time of the change."""
        self._tick()
        return self._change(collection, id_bytes(key), None)

    def transaction(self, *changes: tuple[str, Mapping[str, Any] | None, Any]) -> Timestamp:
        """Several changes of one time: (collection, document or None, paths touched or, for a delete, the id)."""
        self._tick()
        for collection, document, detail in changes:
            if document is None:
                self._change(collection, id_bytes(detail), None)
            else:
                data = bson.encode(document)
                self._change(collection, id_of(data), data, detail)
        return self._now

    def drop(self, collection: str) -> Timestamp:
        """Drop a collection, without an event for each document."""
        self._tick()
        for history in self._changes.pop(collection, {}).values():
            history.append((self._now, None))
        return self._end(collection, "drop")

    def rename(self, collection: str, to: str) -> Timestamp:
        """Rename a collection; one that is called so already goes."""
        self._tick()
        self._changes[to] = self._changes.pop(collection, {})
        return self._end(collection, "rename", to)

    def drop_database(self) -> Timestamp:
        """Drop everything, as a server tells it: each collection, then the database, then that the stream is void."""
        for collection in list(self._changes):
            self.drop(collection)
        self._tick()
        self._end("", "dropDatabase")
        return self._end("", "invalidate")

    def _end(self, collection: str, operation: str, to: str = "") -> Timestamp:
        self._events.append(_Event(collection, operation, b"", None, None, self._now, self._n(), to=to))
        return self._now

    def _tick(self) -> None:
        self._now = Timestamp(self._now.time, self._now.inc + 1)

    def _n(self) -> int:
        last = self._events[-1] if self._events else None
        return last.n + 1 if last is not None and last.time == self._now else 0

    def _change(
        self,
        collection: str,
        key: bytes,
        data: bytes | None,
        touched: Sequence[str] | None = None,
        images_lost: bool = False,
    ) -> Timestamp:
        history = self._changes.setdefault(collection, {}).setdefault(_order_of_id(key), [])
        before = history[-1][1] if history else None
        history.append((self._now, data))
        if before is None and data is None:
            return self._now  # nothing was there to delete: no event
        operation = "delete" if data is None else "insert" if before is None else "update" if touched else "replace"
        paths = tuple(touched) if touched and operation == "update" else None
        has_images = self.images.get(collection, True)
        event = _Event(collection, operation, key, before, data, self._now, self._n(), paths, images_lost, has_images)
        self._events.append(event)
        return self._now

    # --- the port

    def server_facts(self) -> ServerFacts:
        self.faults.before()
        return self.facts

    def collection_facts(self, collection: str) -> CollectionFacts:
        self.faults.before()
        kind = self.kinds.get(collection, "collection" if collection in self._changes else "missing")
        if kind != "collection":
            return CollectionFacts(name=collection, kind=kind, documents=0, average_bytes=0.0, unique=())
        found = self._at(collection, self._now)
        size = sum(map(len, found)) / len(found) if found else 0.0
        return CollectionFacts(
            name=collection,
            kind=kind,
            documents=len(found),
            average_bytes=size,
            unique=(frozenset({"_id"}), *self.unique.get(collection, ())),
            images=self.images.get(collection, True),
        )

    def stream_position(self, at: Timestamp | None = None) -> StreamPosition:
        self.faults.before()
        if at is None:
            return self._position(self._now, len(self._events))
        if at < self.history_from:
            raise ResumeTokenLost("the history no longer reaches back to that time")
        return self._position(at, sum(event.time < at for event in self._events))

    def _position(self, time: Timestamp, behind: int) -> StreamPosition:
        """Behind so many events."""
        last = self._events[behind - 1] if behind else None
        n = last.n + 1 if last is not None and last.time == time else 0
        token = {"_data": f"82{time.time:08X}{time.inc:08X}{behind:08X}"}
        return StreamPosition(time=time, token=token, scope="database:fake", n=n)

    def follow(self, position: StreamPosition, key_fields: Mapping[str, KeyFields]) -> FakeFeed:
        self.faults.before()
        if position.time < self.history_from:
            raise ResumeTokenLost("the history no longer holds the stream position")
        return FakeFeed(self, int(position.token["_data"][18:], 16), key_fields)

    def enable_images(self, collection: str) -> None:
        self.faults.before()
        self.images[collection] = True
        self._changes.setdefault(collection, {})

    def changes_per_s(self) -> float | None:
        self.faults.before()
        return self.change_rate

    def expire_images_after_s(self) -> float | None:
        return self.expire_s

    def oplog_reach(self) -> tuple[Timestamp, Timestamp]:
        return self.history_from, self._now

    def cluster_time(self) -> Timestamp:
        self.faults.before()
        return self._now

    def oplog_window_s(self) -> float:
        self.faults.before()
        return self.window_s

    def sample_ids(self, collection: str, size: int) -> list[bytes]:
        self.faults.before()
        return [id_of(document) for document in self._sample(collection, size)]

    def sample_documents(self, collection: str, size: int) -> list[bytes]:
        self.faults.before()
        return self._sample(collection, size)

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        self.faults.before()
        lower = None if bounds.lower is None else _order_of_id(bounds.lower)
        upper = None if bounds.upper is None else _order_of_id(bounds.upper)
        behind = None if after is None else _order_of_id(after)
        page: list[bytes] = []
        room = self.page_bytes
        for document in self._at(collection, at):
            key = _order(document)
            if (lower is not None and key < lower) or (behind is not None and key <= behind):
                continue
            if (upper is not None and key >= upper) or len(page) == limit or (page and len(document) > room):
                break
            page.append(document)
            room -= len(document)
        return page

    def read_ids(self, collection: str, ids: Sequence[bytes], at: Timestamp) -> list[bytes]:
        self.faults.before()
        wanted = {_order_of_id(one) for one in ids}
        return [document for document in self._at(collection, at) if _order(document) in wanted]

    def _at(self, collection: str, at: Timestamp) -> list[bytes]:
        """The documents at a time, in index order."""
        if at > self._now:
            raise RequestRefused("no snapshot of a time to come", operation="find", code="72 InvalidOptions")
        if at < self.history_from or (self.lag_behind is not None and at > self.lag_behind):
            raise TimedOut("the member cannot show this time", operation="find", code="246 SnapshotUnavailable")
        found: list[bytes] = []
        for changes in self._changes.get(collection, {}).values():
            last = [data for time, data in changes if time <= at][-1:]
            found += [data for data in last if data is not None]
        return sorted(found, key=_order)

    def _sample(self, collection: str, size: int) -> list[bytes]:
        found = self._at(collection, self._now)
        picked = self._random.sample(range(len(found)), min(size, len(found)))
        return [found[position] for position in sorted(picked)]


def _order(document: bytes) -> tuple[Any, ...]:
    return _order_of_id(id_of(document))


def _order_of_id(data: bytes) -> tuple[Any, ...]:
    return order_key(bson.decode(data, BSON_OPTIONS)[""])
