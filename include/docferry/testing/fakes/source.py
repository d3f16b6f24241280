"""MongoDB in memory, for reading."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Any

import bson
from bson.timestamp import Timestamp

from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.order import order_key
from docferry.core.mapping.item_plan import elements_of
from docferry.core.mapping.key_templates import lookup
from docferry.core.mapping.mapping import KeyFields
from docferry.core.mapping.raw import id_bytes, id_of
from docferry.core.mql.filters import compile_filter
from docferry.errors import (
    RequestRefused,
    ResumeTokenLost,
    TimedOut,
)
from docferry.ports.flows import (
    Bounds,
    OthersWrite,
    ServerFacts,
    SourceCatalog,
    SourceFacts,
    StreamPosition,
)
from docferry.testing.fakes.faults import Faults
from docferry.testing.fakes.feed import FakeEvent, FakeFeed, FakeOthers


class FakeSource:
    """MongoDB in memory: every change has a time, and pages show the collection as it was at one.

    `history_from` is the oldest time that can still be read; `lag_behind` the time up to which the member has got.
    """

    def __init__(self, collections: Mapping[str, Iterable[Mapping[str, Any]]] | None = None, seed: int = 0) -> None:
        self.faults = Faults()
        self.facts = ServerFacts(version=(6, 0, 5), replica_set="rs0", mongos=False, write_majority_ok=True)
        self.unique: dict[str, tuple[frozenset[str], ...]] = {}
        self.kinds: dict[str, str] = {}
        self.scan_s = 0.0
        self.allowed: tuple[Mapping[str, Any], ...] | None = None
        self.databases: tuple[str, ...] = ()
        self.indexes: dict[str, tuple[Mapping[str, Any], ...]] = {}
        self.options: dict[str, Mapping[str, Any]] = {}
        self.window_s = 86_400.0
        self.page_bytes = 16 * 1024 * 1024
        self.history_from = Timestamp(1, 0)
        self.lag_behind: Timestamp | None = None
        self._random = Random(seed)  # noqa: S311 - repeatable, not secret
        self._now = Timestamp(1, 0)
        self._events: list[FakeEvent] = []
        self.images: dict[str, bool] = {}
        self.expire_s: float | None = None
        self.change_rate: float | None = 0.0
        self.batch_events = 100
        self.others: list[OthersWrite] = []
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

    def write_as_other(self, collection: str, key: Any, document: Mapping[str, Any] | None) -> Timestamp:
        """A write of a client that is not docferry; without a document a delete."""
        history = self._changes.get(collection, {}).get(order_of_id(id_bytes(key)), [])
        before = history[-1][1] if history else None
        at = self.remove(collection, key) if document is None else self.put(collection, document)
        event = self._events[-1]
        after = event.after if document is not None else None
        place = f"{at.time}:{at.inc}"
        self.others.append(
            OthersWrite(
                collection=collection, operation=event.operation, time=at, place=place, id=id_bytes(key), before=before,
                after=after,
            )
        )  # fmt: skip
        return at

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
        self._events.append(FakeEvent(collection, operation, b"", None, None, self._now, self._n(), to=to))
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
        history = self._changes.setdefault(collection, {}).setdefault(order_of_id(key), [])
        before = history[-1][1] if history else None
        history.append((self._now, data))
        if before is None and data is None:
            return self._now  # nothing was there to delete: no event
        operation = "delete" if data is None else "insert" if before is None else "update" if touched else "replace"
        paths = tuple(touched) if touched and operation == "update" else None
        has_images = self.images.get(collection, True)
        event = FakeEvent(
            collection, operation, key, before, data, self._now, self._n(), paths, images_lost, has_images
        )
        self._events.append(event)
        return self._now

    # --- the port

    def server_facts(self) -> ServerFacts:
        self.faults.before()
        return self.facts

    def catalog(self) -> SourceCatalog:
        self.faults.before()
        found = {name: self.kinds.get(name, "collection") for name in {*self._changes, *self.kinds}}
        return SourceCatalog(collections=found, databases=self.databases)

    def privileges(self) -> Sequence[Mapping[str, Any]] | None:
        self.faults.before()
        return self.allowed

    def facts_of(self, collections: Sequence[str]) -> list[SourceFacts]:
        return [self.collection_facts(name) for name in collections]

    def collection_facts(self, collection: str) -> SourceFacts:
        self.faults.before()
        kind = self.kinds.get(collection, "collection" if collection in self._changes else "missing")
        if kind != "collection":
            return SourceFacts(name=collection, kind=kind, documents=0, average_bytes=0.0, unique=())
        found = self._at(collection, self._now)
        size = sum(map(len, found)) / len(found) if found else 0.0
        return SourceFacts(
            name=collection,
            kind=kind,
            documents=len(found),
            average_bytes=size,
            unique=(frozenset({"_id"}), *self.unique.get(collection, ())),
            images=self.images.get(collection, True),
            indexes=self.indexes.get(collection, ()),
            options=self.options.get(collection, {}),
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

    def writes_of_others(self, position: StreamPosition, collections: Sequence[str]) -> FakeOthers:
        self.faults.before()
        if position.time < self.history_from:
            raise ResumeTokenLost("the history no longer holds the stream position")
        return FakeOthers(self, position.time, collections)

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

    def longer_than(
        self, collection: str, arrays: Sequence[str], most: int, for_s: float, only: Mapping[str, Any] | None = None
    ) -> int | None:
        self.faults.before()
        if for_s < self.scan_s:
            return None
        documents = [bson.decode(data, BSON_OPTIONS) for data in self._matching(collection, only)]
        paths = [tuple(path.split(".")) for path in arrays]
        return sum(sum(len(elements_of(lookup(one, path))) for path in paths) > most for one in documents)

    def sample_ids(self, collection: str, size: int) -> list[bytes]:
        self.faults.before()
        return [id_of(document) for document in self._sample(collection, size)]

    def count(self, collection: str, only: Mapping[str, Any], for_s: float) -> int | None:
        self.faults.before()
        return None if for_s < self.scan_s else len(self._matching(collection, only))

    def sample_documents(self, collection: str, size: int, only: Mapping[str, Any] | None = None) -> list[bytes]:
        self.faults.before()
        return self._sample(collection, size, only)

    def read_page(self, collection: str, bounds: Bounds, after: bytes | None, limit: int, at: Timestamp) -> list[bytes]:
        self.faults.before()
        lower = None if bounds.lower is None else order_of_id(bounds.lower)
        upper = None if bounds.upper is None else order_of_id(bounds.upper)
        behind = None if after is None else order_of_id(after)
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
        wanted = {order_of_id(one) for one in ids}
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

    def _matching(self, collection: str, only: Mapping[str, Any] | None) -> list[bytes]:
        found = self._at(collection, self._now)
        wanted = compile_filter(only) if only else None
        if wanted is None:
            return found
        documents: list[dict[str, Any]] = [bson.decode(data, BSON_OPTIONS) for data in found]
        return [data for data, document in zip(found, documents, strict=True) if wanted.matches(document)]

    def _sample(self, collection: str, size: int, only: Mapping[str, Any] | None = None) -> list[bytes]:
        found = self._matching(collection, only)
        picked = self._random.sample(range(len(found)), min(size, len(found)))
        return [found[position] for position in sorted(picked)]


def _order(document: bytes) -> tuple[Any, ...]:
    return order_of_id(id_of(document))


def order_of_id(data: bytes) -> tuple[Any, ...]:
    return order_key(bson.decode(data, BSON_OPTIONS)[""])
