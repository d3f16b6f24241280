"""Reading the shards of all streams, each by a task of its own, into the lanes."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import Any, Protocol, TypeVar

from docferry.errors import IteratorExpired, Stopped, StreamTrimmed, TransientStoreError
from docferry.flows.kernel.books import Books
from docferry.flows.kernel.threads import cancel_all, in_thread
from docferry.flows.ledger.times import now_ms
from docferry.flows.reverse.shards import Pending, ShardOutcome, ShardPosition, TableStream
from docferry.ports.flows import Progress, StopSignal, StreamPage, StreamRecord, Streams

T = TypeVar("T")

PAGE_RECORDS = 1_000
"""The most that one answer brings. Source: AWS, "GetRecords" (DynamoDB Streams API), from memory."""
MOST_PARTS = 4_000
CALLS_AT_ONCE = 16
POLL_S, HURRIED_POLL_S = 0.5, 0.2
"""Between two questions that were answered with nothing: a shard takes five a second. Hurried: writes wait meanwhile."""
DISCOVER_S = 10.0
ANSWER_S = 45.0
EARLY = "written before the start"


class Taker(Protocol):
    """Where records are put. `parts` counts what is on its way; `moved` is set when something has come of it."""

    parts: int
    moved: asyncio.Event

    @property
    def failure(self) -> BaseException | None: ...

    def put(self, table: str, record: StreamRecord, pending: Pending) -> Iterator[str]:
        """Take a record; gives the reasons why it is (also) passed over."""


class ShardReaders:
    """Belongs to one event loop. `failure` is the error that ended a reader; `books` say what became of the records,
    `passed` why records were passed over."""

    def __init__(
        self,
        streams: Streams,
        lanes: Taker,
        tables: Mapping[str, TableStream],
        progress: Progress,
        stop: StopSignal,
        hurried: bool,
        books: Books[ShardOutcome],
    ) -> None:
        self.streams, self.lanes, self.tables = streams, lanes, tables
        self.progress, self.stop, self.hurried = progress, stop, hurried
        self.failure: BaseException | None = None
        self.books = books
        self.passed: Counter[str] = Counter()
        self._tasks: dict[tuple[str, str], asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(CALLS_AT_ONCE)
        self._discovered = float("-inf")

    # --- which shards ------------------------------------------------------------------------------------------------

    async def look(self) -> None:
        """Take note of what has been applied and which shards there are, and begin to read those that may be read."""
        self.advance()
        lacking = any(stream.lacks_children() for stream in self.tables.values())
        if time.monotonic() - self._discovered > (POLL_S if lacking else DISCOVER_S):
            await self._discover()
        for stream in self.tables.values():
            for shard in stream.readable():
                name = (stream.table, shard.id)
                if name not in self._tasks:
                    self._tasks[name] = asyncio.create_task(self._read(stream, shard))

    async def _discover(self) -> None:
        for stream in self.tables.values():
            facts = await self._ask(self.streams.stream_of, stream.table)
            if facts is None or facts.arn != stream.arn:
                what = "switched off" if facts is None else "switched off and on again"
                raise StreamTrimmed(f"{stream.table}: the stream was {what}; later changes are not in it")
            stream.learn(await self._ask(self.streams.shards, stream.arn))
        self._discovered = time.monotonic()

    def advance(self) -> None:
        """Move all positions behind what is applied."""
        for stream in self.tables.values():
            for shard in stream.shards.values():
                for pending in shard.advance():
                    self.books.enter(pending.outcome)

    def have_caught_up(self, asked_ms: int) -> bool:
        """Whether all that had been written by then, as far as a stream can tell, is applied."""
        return all(stream.has_caught_up(asked_ms) for stream in self.tables.values())

    def reached_ms(self, at_ms: int) -> int:
        """Up to when everything is applied."""
        return min([at_ms, *(stream.reached_ms(at_ms) for stream in self.tables.values())])

    def unapplied(self) -> int:
        """Records that were read, and are to be read again if it ends now."""
        return sum(len(shard.window) for stream in self.tables.values() for shard in stream.shards.values())

    # --- reading one -------------------------------------------------------------------------------------------------

    async def _read(self, stream: TableStream, shard: ShardPosition) -> None:
        try:
            await self._read_to_its_end(stream, shard)
        except (asyncio.CancelledError, Stopped):
            return
        except BaseException as error:  # noqa: BLE001 - raised by the loop that keeps the books
            self.failure = self.failure or error
        finally:
            self._tasks.pop((stream.table, shard.id), None)
            self.lanes.moved.set()

    async def _read_to_its_end(self, stream: TableStream, shard: ShardPosition) -> None:
        iterator: str | None = shard.latest if shard.read is None and shard.latest else None
        while not shard.ended:
            try:
                if iterator is None:
                    iterator = await self._ask(self.streams.iterator, stream.arn, shard.id, shard.read)
                asked_ms = now_ms()
                page: StreamPage = await self._ask(self.streams.records, iterator, PAGE_RECORDS)
            except IteratorExpired:
                iterator = None
                continue
            except TransientStoreError as error:
                self.progress.say(f"reverse replication waits: {error}")
                await asyncio.sleep(POLL_S)
                continue
            await self._take(stream, shard, page)
            iterator = page.next
            shard.ended = iterator is None
            if not page.records and not shard.ended:
                shard.asked_ms = asked_ms
                if self.hurried:
                    self.lanes.moved.set()
                await asyncio.sleep(HURRIED_POLL_S if self.hurried else POLL_S)

    async def _ask(self, call: Callable[..., T], *arguments: Any) -> T:
        async with self._slots:
            return await in_thread(call, *arguments, stop=self.stop, within_s=ANSWER_S)

    async def _take(self, stream: TableStream, shard: ShardPosition, page: StreamPage) -> None:
        for record in page.records:
            while self.lanes.parts >= MOST_PARTS and self.lanes.failure is None:
                await wait_for_a_move(self.lanes, 1.0)
            self.books.take()
            self.passed.update(self._reasons(stream, record, shard.take(record)))

    def _reasons(self, stream: TableStream, record: StreamRecord, pending: Pending) -> list[str]:
        return [EARLY] if stream.is_early(record) else list(self.lanes.put(stream.table, record, pending))

    async def end(self) -> None:
        """End all readers."""
        await cancel_all(self._tasks.values())


async def wait_for_a_move(lanes: Taker, most_s: float) -> None:
    """Until a lane has done something, or so long."""
    lanes.moved.clear()
    with suppress(TimeoutError):
        async with asyncio.timeout(most_s):
            await lanes.moved.wait()
