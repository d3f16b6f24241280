"""Shadow reads: what a read asked for is asked again of both databases, off the application's way, and compared.

A thread of its own does it, with blocking doors. It fetches what was asked every few milliseconds: waking it would cost the
application more than the rest of the hand-over. Lag is no mismatch: what differs is looked at again until it is equal, or has
stayed different for a while. What the thread does not get to is counted, not queued without end.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from docferry.client.context import ClientContext, Plan
from docferry.client.transport.sync_driver import run
from docferry.core.access.read_plan import leads_to
from docferry.core.compare.diff import compare_values
from docferry.core.compare.masking import Masks, shown_id
from docferry.core.mapping.items import Document
from docferry.core.mapping.mapping import DocumentMapping
from docferry.errors import DocumentError

MOST_WAITING = 200
MOST_DOCUMENTS = 20
"""Of one query; a longer list is compared as far as this."""
SETTLE_S = 3.0
"""How long a difference must stay until it is one: replication is hardly ever that late."""
FETCH_S = 0.05
LOOK_S = 0.25
MOST_SUSPECTS = 500


@dataclass(slots=True, kw_only=True)
class ShadowRead:
    """A read to be compared. While it is suspected: since when (monotonic seconds), and how often it was asked meanwhile."""

    collection: str
    filter: Mapping[str, Any] = field(repr=False)
    plan: Plan
    since: float = 0.0
    times: int = 1

    @property
    def name(self) -> tuple[Any, ...]:
        return self.collection, self.plan.where


class Shadow:
    """Compares reads. `parts` are blocking; the thread starts with the first read that is offered."""

    def __init__(self, parts: ClientContext, masked: Masks, settle_s: float = SETTLE_S) -> None:
        self._parts, self._masked, self._settle_s = parts, masked, settle_s
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
        self.__init__(self._parts, self._masked, self._settle_s)  # type: ignore[misc]

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
            yield from list(self._suspects.values())

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
        now = time.monotonic()
        if different is None:
            self._decide(asked, "shadow.equal")
            self._parts.metrics.count("shadow.late", asked.times if asked.since else 0)
        elif not asked.since and len(self._suspects) < MOST_SUSPECTS:
            asked.since = now
            self._suspects[asked.name] = asked
        elif not asked.since:
            self._parts.metrics.count("shadow.skipped")
        elif now - asked.since > self._settle_s:
            self._decide(asked, "shadow.mismatch")
            self._parts.membership.tally.give_example(different)

    def _decide(self, asked: ShadowRead, outcome: str) -> None:
        self._suspects.pop(asked.name, None)
        self._parts.metrics.count(outcome, asked.times)

    async def _compare(self, mapping: DocumentMapping, asked: ShadowRead) -> str | None:
        """What differs, in words without values; None if nothing does."""
        reader = self._parts.reader(mapping, beside=True)
        cursor = self._parts.mongo.find(mapping.collection, asked.filter, limit=MOST_DOCUMENTS)
        seen = False
        try:
            while (expected := await cursor.fetch()) is not None:
                seen = True
                try:
                    key = mapping.root_key(expected)
                except DocumentError:
                    continue  # a dead letter: no flip while one is open
                stored = reader.document(await reader.place(key))
                paths = _paths(expected, stored)
                if paths is None and not leads_to(mapping, asked.plan.where, expected):
                    paths = (
                        f"{asked.plan.where.by} does not lead there: a field of that key is missing, or of another type"
                    )
                if paths is not None:
                    return f"{mapping.collection} {shown_id(mapping.id_text(expected), self._masked)}: {paths}"
        finally:
            await cursor.close()
        if seen or asked.plan.where.query is not None:
            return None
        async for found in reader.find(asked.plan.where):
            document = reader.document(found)
            if document is not None and asked.plan.filter.matches(document):
                return f"{mapping.collection} {shown_id(mapping.id_text(document), self._masked)}: only in DynamoDB"
        return None


def _paths(expected: Document, stored: Document | None) -> str | None:
    if stored is None:
        return "not in DynamoDB"
    paths = [path[1:] for path, _, _ in compare_values(expected, stored, "")]
    return ", ".join(paths[:5]) if paths else None
