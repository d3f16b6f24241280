"""DynamoDB's data plane behind the Target port: the fast writer, batch reads, scans."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from docferry.adapters.aws.dynamodb_http import BACKOFF, DynamoHttp
from docferry.adapters.aws.errors import TOO_LARGE
from docferry.core.limits import BATCH_BYTES, BATCH_GET_KEYS, BATCH_ITEMS, item_bytes, write_units
from docferry.core.mapping.items import Item, ItemKey, check_size, key_of
from docferry.core.mapping.table_layout import PLAIN, TableLayout
from docferry.errors import ConditionFailed, DocumentError, RefusedByStore, RequestRefused
from docferry.ports.flows import Budget, Grave, Guard, Packed, SpentUnits, TargetPage, Unanswered, Written

T = TypeVar("T")

_NEWER, _NEWER_OR_SAME = (
    b'"ConditionExpression":"attribute_not_exists(#v) OR #v '
    + comparison
    + b' :v","ExpressionAttributeNames":{"#v":"_v"},'
    b'"ReturnConsumedCapacity":"TOTAL","ExpressionAttributeValues":{":v":'
    for comparison in (b"<", b"<=")
)

_EXACT = (
    b'"ConditionExpression":"#d = :d AND #v = :v","ExpressionAttributeNames":{"#d":"_deleted","#v":"_v"},'
    b'"ReturnConsumedCapacity":"TOTAL","ExpressionAttributeValues":{":d":{"BOOL":true},":v":'
)


MOST_FACTOR = 21.0
"""A put is billed once for the table and once for each of at most 20 indexes."""


def _pack(item: Item, layout: TableLayout = PLAIN) -> Packed:
    stored = item if layout.plain else layout.named(item)
    try:
        body = orjson.dumps(stored)
        if len(body) > layout.most_bytes:  # JSON is never shorter than the item, so this is rarely needed
            stored = layout.stored(item)
            check_size(stored, item["SK"]["S"])
            body = orjson.dumps(stored)
    except (TypeError, UnicodeEncodeError) as error:
        raise RefusedByStore(f"cannot be written as JSON: {type(error).__name__}", path=item["SK"]["S"]) from error
    return Packed((item["PK"]["S"], item["SK"]["S"]), body)


class _Puts:
    """The items of one `put_all` or `put_newer`, and what became of each."""

    __slots__ = ("items", "longest_s", "refused", "superseded", "unanswered", "units")

    def __init__(self, items: Sequence[Packed], unanswered: Unanswered | None = None) -> None:
        self.items, self.unanswered = items, unanswered
        self.refused: dict[int, DocumentError] = {}
        self.superseded: set[int] = set()
        self.units = 0.0
        self.longest_s = 0.0
        """Of the requests of this round, the one that took longest."""

    def batches(self, positions: Sequence[int]) -> Iterator[Sequence[int]]:
        """As many as a BatchWriteItem takes, by number, and halved until it takes them by bytes."""
        parts = [positions[start : start + BATCH_ITEMS] for start in range(0, len(positions), BATCH_ITEMS)]
        while parts:
            part = parts.pop()
            if len(part) > 1 and sum([len(self.items[position].json) for position in part]) > BATCH_BYTES:
                parts += part[: len(part) // 2], part[len(part) // 2 :]
            else:
                yield part

    def estimate(self, positions: Sequence[int]) -> float:
        """Write units of the table's own puts, from the JSON's length; what indexes add is learnt from the replies."""
        items = self.items
        return sum([1 + len(items[position].json) * 3 // 4096 for position in positions])

    def result(self) -> Written:
        return Written(self.refused, frozenset(self.superseded), self.units)


class DynamoTarget:
    """Target over DynamoHttp. At most `concurrency` requests are in flight, from all callers together."""

    def __init__(
        self, http: DynamoHttp, concurrency: int = 24, layouts: Mapping[str, TableLayout] | None = None
    ) -> None:
        """`layouts` are those of tables that are not plain."""
        self._http, self._layouts = http, layouts or {}
        self._slots = asyncio.Semaphore(concurrency)
        self._indexes = 1.0
        self._spent = SpentUnits()
        self._reads: Budget | None = None
        self._cost: dict[str, float] = {}
        """What a read of each kind has cost of late: an estimate of the next one."""

    def __repr__(self) -> str:
        return f"DynamoTarget({self._http!r})"

    @property
    def spent(self) -> SpentUnits:
        return self._spent

    async def close(self) -> None:
        await self._http.close()

    # --- writing -----------------------------------------------------------------------------------------------------

    def _layout(self, table: str) -> TableLayout:
        return self._layouts.get(table, PLAIN)

    def pack(self, items: Sequence[Item], table: str = "") -> list[Packed]:
        layout = self._layout(table)
        return [_pack(item, layout) for item in items]

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        puts = _Puts(items, unanswered)
        left = list(range(len(items)))
        attempts = BACKOFF.attempts("BatchWriteItem")
        while left:
            began, puts.longest_s = time.monotonic(), 0.0
            found = await _gather([self._batch(table, one, puts, budget, guard) for one in puts.batches(left)])
            unprocessed = [position for positions in found for position in positions]
            if unprocessed:
                # Only what requests took counts: at a small budget the waiting for it takes longer than any patience.
                attempts.discount(time.monotonic() - began - puts.longest_s)
                stuck = len(unprocessed) == len(left)
                wait_s = attempts.failed("items stay unprocessed") if stuck else attempts.excused()
                if len(unprocessed) * 10 > len(left):  # a few left over is routine; many means that we are too fast
                    await asyncio.sleep(wait_s)
            left = unprocessed
        return puts.result()

    async def _batch(self, table: str, batch: Sequence[int], puts: _Puts, budget: Budget, guard: Guard) -> list[int]:
        """Send one batch; the positions that came back unprocessed."""
        base = puts.estimate(batch)
        estimate = base * self._indexes
        await budget.take(estimate)
        async with self._slots:
            guard()
            began = time.monotonic()
            body = b"".join((
                b'{"ReturnConsumedCapacity":"TOTAL","RequestItems":{', orjson.dumps(table), b':[{"PutRequest":{"Item":',
                b'}},{"PutRequest":{"Item":'.join([puts.items[position].json for position in batch]), b"}}]}}",
            ))  # fmt: skip
            try:
                reply = orjson.loads(
                    await self._http.call("BatchWriteItem", body, guard, puts.unanswered, one_of_many=True)
                )
            except RequestRefused:
                reply = None
        puts.longest_s = max(puts.longest_s, time.monotonic() - began)
        if reply is None:
            await self._one_by_one(table, batch, puts, budget, guard)
            return []
        consumed = self._wrote(reply)
        puts.units += consumed
        self._settle(budget, base, estimate, consumed)
        unprocessed = reply.get("UnprocessedItems")
        return self._positions(unprocessed[table], batch, puts, self._layout(table)) if unprocessed else []

    def _settle(self, budget: Budget, base: float, estimate: float, consumed: float) -> None:
        """Tell the budget, and learn what indexes add to `base`, the table's own units."""
        if consumed > 0:  # a server that does not tell costs what was estimated
            budget.settle(estimate, consumed)
            self._indexes += (min(MOST_FACTOR, max(1.0, consumed / base)) - self._indexes) * 0.1

    @staticmethod
    def _positions(unprocessed: Sequence[Any], batch: Sequence[int], puts: _Puts, layout: TableLayout) -> list[int]:
        by_key = {puts.items[position].key: position for position in batch}
        return [by_key[layout.key_of(request["PutRequest"]["Item"])] for request in unprocessed]

    async def _one_by_one(self, table: str, batch: Sequence[int], puts: _Puts, budget: Budget, guard: Guard) -> None:
        """One bad item refuses its whole batch: find it, and let the others through."""
        bodies = [self._put_body(table, puts.items[position].json) for position in batch]
        await _gather(
            [self._put(body, position, puts, budget, guard) for body, position in zip(bodies, batch, strict=True)]
        )

    async def put_newer(
        self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, *, or_same: bool = False
    ) -> Written:
        condition = _NEWER_OR_SAME if or_same else _NEWER
        refused: dict[int, DocumentError] = {}
        packed: list[Packed] = []
        layout = self._layout(table)
        for position, item in enumerate(items):
            try:
                packed.append(_pack(item, layout))
            except DocumentError as error:
                refused[position] = error
                packed.append(Packed(key_of(item), b""))
        puts = _Puts(packed)
        puts.refused = refused
        positions = [position for position in range(len(items)) if position not in refused]
        random.shuffle(positions)
        await _gather([
            self._put(
                self._put_body(table, packed[position].json, condition + orjson.dumps(items[position]["_v"]) + b"},"),
                position, puts, budget, guard,
            ) for position in positions
        ])  # fmt: skip
        return puts.result()

    @staticmethod
    def _put_body(table: str, item: bytes, condition: bytes = b'"ReturnConsumedCapacity":"TOTAL",') -> bytes:
        return b"".join((b"{", condition, b'"TableName":', orjson.dumps(table), b',"Item":', item, b"}"))

    async def _put(self, body: bytes, position: int, puts: _Puts, budget: Budget, guard: Guard) -> None:
        base = puts.estimate([position])
        estimate = base * self._indexes
        await budget.take(estimate)
        try:
            async with self._slots:
                reply = orjson.loads(await self._http.call("PutItem", body, guard, puts.unanswered, one_of_many=True))
        except ConditionFailed:
            puts.superseded.add(position)
            # A refused condition is billed like a write of the table, and touches no index; the reply does not say so.
            units = write_units(item_bytes(orjson.loads(puts.items[position].json)))
            puts.units += units
            self._spent.write_units += units
            return
        except RequestRefused as error:
            if error.code != "ValidationException" and error.code not in TOO_LARGE:
                raise
            puts.refused[position] = RefusedByStore(
                f"DynamoDB refused the item: {error}", path=puts.items[position].key[1]
            )
            return
        consumed = self._wrote(reply)
        puts.units += consumed
        self._settle(budget, base, estimate, consumed)

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        deleted = await _gather([self._delete(table, grave, budget, guard) for grave in graves])
        superseded = frozenset(place for place, units in enumerate(deleted) if units is None)
        return Written({}, superseded, sum(1.0 if units is None else units for units in deleted))

    async def _delete(self, table: str, grave: Grave, budget: Budget, guard: Guard) -> float | None:
        """The units it took; None if something else is there, or nothing. A tombstone is in no index."""
        body = b"".join((
            b"{", _EXACT, orjson.dumps({"S": grave.version}), b'},"TableName":', orjson.dumps(table), b',"Key":',
            orjson.dumps(self._layout(table).wire_key(grave.key)), b"}",
        ))  # fmt: skip
        await budget.take(1.0)
        try:
            async with self._slots:
                reply = orjson.loads(await self._http.call("DeleteItem", body, guard))
        except ConditionFailed:
            self._spent.write_units += 1.0
            return None
        consumed = self._wrote(reply) or 1.0
        budget.settle(1.0, consumed)
        return consumed

    def _wrote(self, reply: dict[str, Any]) -> float:
        """The write units that a reply tells, counted; 0 where it does not."""
        consumed = _consumed(reply)
        self._spent.write_units += consumed or 0.0
        self._spent.untold += consumed is None
        return consumed or 0.0

    # --- reading -----------------------------------------------------------------------------------------------------

    def limit_reads(self, budget: Budget) -> None:
        """See the port."""
        self._reads = budget

    async def _read(self, operation: str, request: dict[str, Any]) -> dict[str, Any]:
        """The reply; what it tells of capacity is counted. A page costs more than was taken: the next ones wait for that."""
        reads, estimate = self._reads, self._cost.get(operation, 1.0)
        if reads is not None:
            await reads.take(estimate)
        async with self._slots:
            body = orjson.dumps({**request, "ReturnConsumedCapacity": "TOTAL"})
            reply: dict[str, Any] = orjson.loads(await self._http.call(operation, body))
        consumed = _consumed(reply)
        self._spent.read_units += consumed or 0.0
        self._spent.untold += consumed is None
        if reads is not None and consumed is not None:
            reads.settle(estimate, consumed)
            self._cost[operation] = estimate + (consumed - estimate) * 0.2
        return reply

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        batches = [keys[start : start + BATCH_GET_KEYS] for start in range(0, len(keys), BATCH_GET_KEYS)]
        found: dict[ItemKey, Item] = {}
        for part in await _gather([self._get_batch(table, list(batch)) for batch in batches]):
            found.update(part)
        return found

    async def _get_batch(self, table: str, keys: list[ItemKey]) -> dict[ItemKey, Item]:
        layout = self._layout(table)
        left: list[Any] = [layout.wire_key(key) for key in keys]
        found: dict[ItemKey, Item] = {}
        attempts = BACKOFF.attempts("BatchGetItem")
        while left:
            reply = await self._read("BatchGetItem", {"RequestItems": {table: {"Keys": left, "ConsistentRead": True}}})
            items = map(layout.read, reply["Responses"].get(table, ()))
            found.update((key_of(item), item) for item in items)
            left = reply.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if left:
                await asyncio.sleep(attempts.failed("keys stay unprocessed"))
        return found

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        layout = self._layout(table)
        attributes = [name for one in attributes if (name := layout.name_of(one)) is not None]
        request: dict[str, Any] = {
            "TableName": table,
            "Segment": segment,
            "TotalSegments": segments,
            "ConsistentRead": True,
        }
        if start is not None:
            request["ExclusiveStartKey"] = start
        if attributes:
            request["ProjectionExpression"] = ",".join(f"#a{index}" for index in range(len(attributes)))
            request["ExpressionAttributeNames"] = {f"#a{index}": name for index, name in enumerate(attributes)}
        reply = await self._read("Scan", request)
        items = reply["Items"] if layout.plain else [layout.read(item) for item in reply["Items"]]
        return TargetPage(items, reply.get("LastEvaluatedKey"))

    async def partition(self, table: str, partition_key: str) -> AsyncIterator[Item]:
        layout = self._layout(table)
        request: dict[str, Any] = {
            "TableName": table,
            "ConsistentRead": True,
            "KeyConditionExpression": "#pk = :pk",
            "ExpressionAttributeNames": {"#pk": layout.name_of("PK")},
            "ExpressionAttributeValues": {":pk": layout.value("PK", partition_key)},
        }
        while True:
            reply = await self._read("Query", request)
            for item in reply["Items"]:
                yield layout.read(item)
            if "LastEvaluatedKey" not in reply:
                return
            request["ExclusiveStartKey"] = reply["LastEvaluatedKey"]


def _consumed(reply: dict[str, Any]) -> float | None:
    """Capacity units of all tables, with their indexes; None if the reply does not tell."""
    told = reply.get("ConsumedCapacity")
    if told is None:
        return None
    return sum(float(one["CapacityUnits"]) for one in (told if isinstance(told, list) else [told]))


async def _gather(calls: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """All results; at the first error the others are ended and awaited, so that nothing writes on behind our back."""
    tasks = [asyncio.ensure_future(call) for call in calls]
    try:
        return [await task for task in tasks]
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        raise
