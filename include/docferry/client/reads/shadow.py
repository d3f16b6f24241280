"""Shadow reads: what a read asked for is asked again of both databases, off the application's way, and compared.

A thread of its own does it, with blocking calls. It fetches what was asked every few milliseconds: waking it would cost the
application more than the rest of the hand-over. Lag is no mismatch: what differs is looked at again until it is equal, or has
stayed different although replication has applied what MongoDB shows (`suspicion`). What the thread does not get to is
counted, not queued without end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from bson.timestamp import Timestamp

from docferry.client.context import ClientContext, Plan
from docferry.client.reads.suspicion import NOTHING, Suspicion
from docferry.client.transport.sync_driver import run
from docferry.core.access.read_plan import leads_to
from docferry.core.compare.diff import FieldsInOrder, compare_values
from docferry.core.compare.masking import Masks, shown_id
from docferry.core.mapping.items import Document
from docferry.core.mapping.mapping import DocumentMapping
from docferry.errors import DocumentError, MigrationError

MOST_WAITING = 200
MOST_DOCUMENTS = 20
"""Of one query; a longer list is compared as far as this."""
SETTLE_S = 3.0
"""How long a difference must stay until it is asked whether replication is only late."""
FETCH_S = 0.05
LOOK_S = 0.25
MOST_SUSPECTS = 500
MOST_PATHS = 5


@dataclass(slots=True, kw_only=True)
class ShadowRead:
    """A read to be compared. While it is suspected: what was seen of it, and how often it was asked meanwhile."""

    collection: str
    filter: Mapping[str, Any] = field(repr=False)
    plan: Plan
    suspicion: Suspicion | None = None
    times: int = 1

    @property
    def name(self) -> tuple[Any, ...]:
        return self.collection, self.plan.where


class Shadow:
    """Compares reads. `parts` are blocking, and so is `replicated`: the time before which replication has applied all, None if it
    has never run. The thread starts with the first read that is offered."""

    def __init__(
        self,
        parts: ClientContext,
        masked: Masks,
        replicated: Callable[[], Timestamp | None],
        settle_s: float = SETTLE_S,
    ) -> None:
        self._parts, self._masked, self._replicated, self._settle_s = parts, masked, replicated, settle_s
        self._applied: Timestamp | None = NOTHING
        self._waiting: deque[tuple[str, Mapping[str, Any]]] = deque()
        self._suspects: dict[tuple[Any, ...], ShadowRead] = {}
        self._looked = 0.0
        self._closing = threading.Event()
        self._starting = threading.Lock()
        self._thread: threading.Thread | None = None

    def __repr__(self) -> str:
        return f"Shadow({len(self._waiting)} waiting, {len(self._suspects)} suspects)"

    def offer(self, collection: str, query: Mapping[str, Any]) -> None:
        """Compare this read some time soon; DynamoDB must be able to answer it. Never waits."""
        if self._thread is None:
            self._start()
        if len(self._waiting) < MOST_WAITING:
            self._waiting.append((collection, query))
        else:
            self._parts.metrics.count("shadow.skipped")

    def _start(self) -> None:
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="docferry shadow reads", daemon=True)
                self._thread.start()

    def forked(self) -> None:
        """This process is a fork: the thread stayed behind, and what was open is the other's."""
        self._parts.mongo.forked()
        self._parts.calls.forked()
        self._parts.beside.forked()
        self.__init__(self._parts, self._masked, self._replicated, self._settle_s)  # type: ignore[misc]

    def close(self) -> None:
        self._closing.set()
        if self._thread is not None:
            self._thread.join(timeout=5)

    def _work(self) -> None:
        closing = self._closing
        while not closing.is_set():
            for asked in self._due():
                try:
                    self._look(asked)
                except Exception as error:  # noqa: BLE001 - also a driver's: the read is not compared, and that is counted
                    self._suspects.pop(asked.name, None)
                    self._parts.metrics.count(f"shadow.failed.{type(error).__name__}")

    def _due(self) -> Iterator[ShadowRead]:
        """The next read; and the suspects, every now and then, however many reads are waiting."""
        if not self._waiting:
            self._closing.wait(FETCH_S)
        else:
            asked = self._planned(*self._waiting.popleft())
            if asked is not None and (suspect := self._suspects.get(asked.name)) is not None:
                suspect.times += 1
            elif asked is not None:
                yield asked
        if time.monotonic() - self._looked >= LOOK_S:
            self._looked = time.monotonic()
            self._ask_how_far()
            yield from list(self._suspects.values())

    def _ask_how_far(self) -> None:
        """Before DynamoDB is looked at: what was applied by then shows there."""
        now = time.monotonic()
        if not any(one.suspicion and one.suspicion.is_old(now) for one in self._suspects.values()):
            return
        try:
            self._applied = self._replicated()
        except MigrationError as error:  # not known: nothing that is suspected is decided
            self._applied = NOTHING
            self._parts.metrics.count(f"shadow.failed.{type(error).__name__}")

    def _planned(self, collection: str, query: Mapping[str, Any]) -> ShadowRead | None:
        """Planned here, off the application's way. None, and counted: the application has changed its query since."""
        try:
            plan = self._parts.plan(self._parts.mappings[collection], query)
        except Exception as error:  # noqa: BLE001 - also bson's
            self._parts.metrics.count(f"shadow.failed.{type(error).__name__}")
            return None
        return ShadowRead(collection=collection, filter=query, plan=plan)

    def _look(self, asked: ShadowRead) -> None:
        different = run(self._compare(self._parts.mappings[asked.collection], asked))
        if different is None:
            self._decide(asked, "shadow.equal")
            self._parts.metrics.count("shadow.late", asked.times if asked.suspicion else 0)
            return
        if asked.suspicion is None and len(self._suspects) >= MOST_SUSPECTS:
            self._parts.metrics.count("shadow.skipped")
            return
        asked.suspicion = asked.suspicion or Suspicion(time.monotonic(), self._settle_s)
        self._suspects[asked.name] = asked
        if asked.suspicion.is_proved(different.values, time.monotonic(), different.at, self._applied):
            self._decide(asked, "shadow.mismatch")
            self._parts.membership.tally.give_example(different.text)

    def _decide(self, asked: ShadowRead, outcome: str) -> None:
        self._suspects.pop(asked.name, None)
        self._parts.metrics.count(outcome, asked.times)

    async def _compare(self, mapping: DocumentMapping, asked: ShadowRead) -> _Different | None:
        """What differs, of the first document that does; None if nothing does."""
        found = await self._first_difference(mapping, asked)
        if found is not None:  # by any reply that is heard MongoDB's time is known: it is not before what was read
            await self._parts.mongo.run(mapping.collection, "find_one", {"_id": found.id}, {"_id": 1})
            found.at = self._parts.mongo.seen_time()
        return found

    async def _first_difference(self, mapping: DocumentMapping, asked: ShadowRead) -> _Different | None:
        reader = self._parts.reader(mapping, beside=True)
        cursor = self._parts.mongo.find(mapping.collection, asked.filter, limit=MOST_DOCUMENTS)
        seen = False
        try:
            while (expected := await cursor.fetch()) is not None:
                seen = True
                try:
                    if mapping.filter is not None and not mapping.filter.holds(expected):
                        continue
                    key = mapping.root_key(expected)
                except DocumentError:
                    continue  # a dead letter: no flip while one is open
                stored = reader.document(await reader.place(key))
                values = _differing(expected, stored, ordered=mapping.keeps_order)
                if not values and not leads_to(mapping, asked.plan.where, expected):
                    what = "a field of that key is missing, or of another type"
                    values = {f"{asked.plan.where.by} does not lead there: {what}": 0}
                if values:
                    return self._different(mapping, expected, values)
        finally:
            await cursor.close()
        if seen or asked.plan.where.query is not None or asked.plan.where.scan:
            return None
        async for found in reader.find(asked.plan.where):
            document = reader.document(found)
            if document is not None and asked.plan.filter.matches(document):
                return self._different(mapping, document, {"only in DynamoDB": 0})
        return None

    def _different(self, mapping: DocumentMapping, document: Document, values: Mapping[str, int]) -> _Different:
        name = mapping.id_text(document)
        text = f"{mapping.collection} {shown_id(name, self._masked)}: {', '.join(list(values)[:MOST_PATHS])}"
        return _Different(document["_id"], text, {(name, path): value for path, value in values.items()})


@dataclass(slots=True)
class _Different:
    """A document that differs: in words without values, and a hash of what MongoDB has at each path that differs, as of `at`."""

    id: Any = field(repr=False)
    text: str
    values: Mapping[tuple[str, str], int] = field(repr=False)
    at: Timestamp | None = None


def _differing(expected: Document, stored: Document | None, *, ordered: bool) -> dict[str, int]:
    """Each path that differs, with a hash of MongoDB's value there. `ordered`: and where only the order of fields does."""
    if stored is None:
        return {"not in DynamoDB": 0}
    different = compare_values(expected, stored, "", ordered=ordered)
    return {_told(path[1:], mine): hash(repr(mine)) for path, mine, _ in different}


def _told(path: str, value: Any) -> str:
    return f"the order of fields of {path or 'the document'}" if isinstance(value, FieldsInOrder) else path
