"""DynamoDB, its streams, the ledger and MongoDB, in virtual time: late, lost, torn, busy."""

from __future__ import annotations

import asyncio
import copy
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from random import Random
from typing import Any

from docferry.core.cutover.journal import Entry, LaneName, entry_in, entry_item
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.errors import ConditionFailed, RetryExhausted, Unavailable
from docferry.ports.flows import Guard, Record, StreamPage
from docferry.testing.fakes import FakeJournal, FakeLedger, FakeSink, FakeStreams, FakeTarget

from support.journals.virtual import VirtualLoop

SIGNATURE_S, TOKEN_S = 900.0, 600.0
TRIES, ANSWER_S = 3, 1.5
COPIED = 0.03
"""So many requests arrive twice, the second time until their signature has expired."""
JOURNAL = "LedgerJournal"
MIGRATION = "journals"
Pause = Callable[[], None]


class SlowLedger(FakeLedger):
    """Each call takes its time."""

    def __init__(self, loop: VirtualLoop, random: Random) -> None:
        super().__init__()
        self._loop, self._random = loop, random

    def _wait(self) -> None:
        self._loop.block(self._random.expovariate(200))

    def read(self, section: str, key: str) -> Record | None:
        self._wait()
        return super().read(section, key)

    def list(self, section: str, prefix: str = "") -> list[Record]:
        self._wait()
        return super().list(section, prefix)

    def write(self, *words: Any, **more: Any) -> Record:
        self._wait()
        written = super().write(*words, **more)
        self._wait()
        return written


class SlowSink(FakeSink):
    """MongoDB, a majority away."""

    loop: VirtualLoop
    random: Random

    def _wait(self) -> None:
        self.loop.block(self.random.expovariate(200))

    def current(self, collection: str, id: bytes) -> bytes | None:
        self._wait()
        return super().current(collection, id)

    def put(self, collection: str, document: bytes) -> None:
        self._wait()
        super().put(collection, document)
        self._wait()


class LateStreams(FakeStreams):
    """Records show up late, in order of their shard, those of two shards in any; pages are empty although there are some."""

    loop: VirtualLoop
    late_s: Callable[[], float]

    def __init__(self, target: FakeTarget, seed: int) -> None:
        super().__init__(target, seed)
        self._shows: dict[str, float] = {}
        self._last: dict[str, float] = {}

    def write(self, table: str, puts: Any = (), deletes: Any = ()) -> None:
        before = self._sequence
        super().write(table, puts, deletes)
        for shard in self._shards[table].values():
            for one in shard.records:
                if int(one.sequence) > before:
                    last = self._last.get(shard.id, 0.0)
                    self._shows[one.sequence] = self._last[shard.id] = max(last, self.loop.now + self.late_s())

    def records(self, iterator: str, limit: int) -> StreamPage:
        self.loop.block(0.01)
        page = super().records(iterator, limit)
        shown = [one for one in page.records if self._shows[one.sequence] <= self.loop.now]
        if len(shown) == len(page.records):
            return page
        stream, shard, generation, place = iterator.split("|")
        return StreamPage(shown, f"{stream}|{shard}|{generation}|{int(place) + len(shown)}")


class Server:
    """DynamoDB's tables. A transaction is decided at once, and its items show one after the other."""

    def __init__(self, loop: VirtualLoop, random: Random, table: str) -> None:
        self.loop, self.random, self.table = loop, random, table
        self.target = FakeTarget()
        self.target.create_table(table)
        self.streams = LateStreams(self.target, random.randrange(2**31))
        self.streams.loop = loop
        self.streams.late_s = lambda: random.uniform(0, 120) if random.random() < 0.4 else random.random()
        self.streams.empty_share = 0.3
        self.streams.switch_on(table)
        self.journal = SlowJournal(self)
        self.tokens: dict[str, float] = {}
        self.locked: set[tuple[str, ItemKey]] = set()
        self.closed = False
        self.seen: Counter[str] = Counter()

    # --- reading -----------------------------------------------------------------------------------------------------

    def there(self, table: str, key: ItemKey) -> Item | None:
        if table != JOURNAL:
            return self.target.tables[table].get(key)
        lane = lane_of(key)
        entry = self.journal.entries.get(lane, {}).get(int(key[1]))
        return entry_item(key[0], int(key[1]), entry, 0) if entry is not None else None

    # --- writing -----------------------------------------------------------------------------------------------------

    def transact(self, request: Mapping[str, Any], signed: float) -> Exception | None:
        """What arrives, however late. The error that is answered, None for success."""
        if self.loop.now > signed + SIGNATURE_S:
            return Unavailable("the signature has expired", operation="TransactWriteItems")
        token = request["ClientRequestToken"]
        if self.loop.now - self.tokens.get(token, float("-inf")) < TOKEN_S:
            return None
        puts = [one["Put"] for one in request["TransactItems"]]
        places = {(put["TableName"], key_of(put["Item"])) for put in puts}
        if places & self.locked or self.random.random() < 0.1:
            return Unavailable("TransactionConflict", operation="TransactWriteItems")
        if not all(self._holds(put) for put in puts):
            return ConditionFailed("a condition failed", operation="TransactWriteItems")
        self.tokens[token] = self.loop.now
        self.seen["stray"] += self.closed
        self.locked |= places
        self._show(deque(self.random.sample(puts, len(puts))), places)
        return None

    def _show(self, left: deque[dict[str, Any]], places: set[tuple[str, ItemKey]]) -> None:
        while left:
            put = left.popleft()
            self._put(put["TableName"], put["Item"])
            if left and self.random.random() < 0.3:
                self.loop.call_later(self.random.expovariate(5), self._show, left, places)
                return
        self.locked -= places

    def _put(self, table: str, item: Item) -> None:
        if table == JOURNAL:
            slot, entry = entry_in(item)
            self.journal.entries.setdefault(lane_of(key_of(item)), {})[slot] = entry
        else:
            self.streams.write(table, [copy.deepcopy(item)])

    def _holds(self, put: Mapping[str, Any]) -> bool:
        there = self.there(put["TableName"], key_of(put["Item"]))
        condition = put["ConditionExpression"]
        if condition == "attribute_not_exists(PK)":
            return there is None
        assert condition == "#v = :v", condition
        return there is not None and there["_v"] == put["ExpressionAttributeValues"][":v"]


def lane_of(key: ItemKey) -> LaneName:
    _, instance, number = key[0].split("#")
    return LaneName(instance, int(number))


class SlowJournal(FakeJournal):
    """For whoever puts voids and seals, and reads. A slot that a transaction holds is asked again, as the adapter does."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    def put(self, lane: LaneName, slot: int, entry: Entry) -> Entry | None:
        server = self._server
        if server.random.random() < COPIED:
            server.seen[f"copied {entry.kind.value}"] += 1
            server.loop.call_later(server.random.uniform(0, SIGNATURE_S), super().put, lane, slot, entry)
        server.loop.block(server.random.expovariate(200))
        key = (lane.partition(MIGRATION), f"{slot:012d}")
        while (JOURNAL, key) in server.locked:
            server.loop.block(0.05)
        found = super().put(lane, slot, entry)
        server.seen[entry.kind.value] += found is None
        server.loop.block(server.random.expovariate(200))
        return found

    def read(self, lane: LaneName, after: int, limit: int) -> Sequence[tuple[int, Entry]]:
        self._server.loop.block(self._server.random.expovariate(200))
        return super().read(lane, after, limit)


class SlowTarget:
    """What reverse replication reads, through the same tables."""

    def __init__(self, server: Server) -> None:
        self._server = server

    async def _wait(self) -> None:
        await asyncio.sleep(self._server.random.expovariate(200))

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        await self._wait()
        return await self._server.target.get_all(table, keys)

    async def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        await self._wait()
        async for item in self._server.target.partition(table, partition_key):
            yield item


class ClientCalls:
    """DynamoDB as one process reaches it: requests and answers are lost or late, and tried again three times."""

    blocking = False

    def __init__(self, server: Server, pause: Callable[[], float], stall: Callable[[], float]) -> None:
        """`pause`: how much longer the process is frozen; `stall`: the same of a stall that begins behind a signature."""
        self._server, self._pause, self._stall = server, pause, stall

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        server, random = self._server, self._server.random
        if operation != "TransactWriteItems":
            await self._sleep(random.expovariate(100))
            return self._read(operation, request)
        for _ in range(TRIES):
            if guard is not None:
                guard()
            answer: asyncio.Future[Exception | None] = server.loop.create_future()
            signed, stalled = server.loop.now, self._stall()
            late = random.uniform(0, 60) if random.random() < 0.05 else random.expovariate(20)
            if random.random() < 0.005:
                late = random.uniform(60, SIGNATURE_S)
            if random.random() > 0.05:  # else it is lost on the way
                server.loop.call_later(late + stalled, self._arrive, copy.deepcopy(request), signed, answer)
            if random.random() < COPIED:
                server.seen["copied transaction"] += 1
                server.loop.call_later(
                    stalled + random.uniform(0, SIGNATURE_S), self._arrive, copy.deepcopy(request), signed, answer
                )
            await self._sleep(stalled)
            await asyncio.wait([answer], timeout=ANSWER_S)
            await self._sleep(0)
            if answer.done():
                error = answer.result()
                if error is None:
                    return {}
                if isinstance(error, ConditionFailed):
                    raise error
            server.seen["unanswered"] += 1
        raise RetryExhausted(operation, TRIES, TRIES * ANSWER_S, "no answer")

    def _arrive(self, request: Mapping[str, Any], signed: float, answer: asyncio.Future[Exception | None]) -> None:
        error = self._server.transact(request, signed)
        if self._server.random.random() < 0.8 and not answer.done():
            self._server.loop.call_later(self._server.random.expovariate(20), _answer, answer, error)

    def _read(self, operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        if operation == "GetItem":
            key = request["Key"]["PK"]["S"], request["Key"]["SK"]["S"]
            found = self._server.there(request["TableName"], key)
            return {"Item": copy.deepcopy(found)} if found is not None else {}
        assert operation == "BatchGetItem", operation
        ((table, asked),) = request["RequestItems"].items()
        keys = [(key["PK"]["S"], key["SK"]["S"]) for key in asked["Keys"]]
        several = [item for key in keys if (item := self._server.there(table, key)) is not None]
        return {"Responses": {table: copy.deepcopy(several)}, "UnprocessedKeys": {}}

    async def sleep(self, seconds: float) -> None:
        await self._sleep(seconds)

    async def _sleep(self, seconds: float) -> None:
        while True:
            await asyncio.sleep(seconds)
            if (seconds := self._pause()) <= 0:
                return

    def forked(self) -> None: ...

    async def close(self) -> None: ...


def _answer(answer: asyncio.Future[Exception | None], error: Exception | None) -> None:
    if not answer.done():
        answer.set_result(error)
