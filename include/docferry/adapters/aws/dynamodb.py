"""DynamoDB's data plane behind the Target port: the fast writer, batch reads, scans."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any, TypeVar

import orjson

from docferry.adapters.aws.data.objects import ObjectParts
from docferry.adapters.aws.data.parts import PartReads
from docferry.adapters.aws.data.puts import Puts, pack
from docferry.adapters.aws.data.replies import consumed_by, gather_all
from docferry.adapters.aws.dynamodb_http import BACKOFF, DynamoHttp
from docferry.adapters.aws.errors import TOO_LARGE
from docferry.core.limits import BATCH_GET_KEYS, item_bytes, write_units
from docferry.core.mapping.items import KIND, Item, ItemKey, key_of
from docferry.core.mapping.large.overflow import PARTS
from docferry.core.mapping.large.parts import OF
from docferry.core.mapping.table_layout import PLAIN, TableLayout
from docferry.errors import ConditionFailed, DocumentError, InvariantBroken, RefusedByStore, RequestRefused
from docferry.ports.flows import (
    Budget,
    Grave,
    Guard,
    ItemPart,
    Packed,
    PartObjects,
    PartsPage,
    SpentUnits,
    TargetPage,
    Unanswered,
    Written,
)

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


PART_UNITS = 390.0
"""What it takes to delete a part, at most."""
MOST_FACTOR = 21.0
"""A put is billed once for the table and once for each of at most 20 indexes."""


class DynamoTarget:
    """Target over DynamoHttp. At most `concurrency` requests are in flight, from all callers together."""

    def __init__(
        self,
        http: DynamoHttp,
        concurrency: int = 24,
        layouts: Mapping[str, TableLayout] | None = None,
        objects: PartObjects | None = None,
    ) -> None:
        """`layouts` are those of tables that are not plain; `objects`: where those that say so keep parts of items."""
        self._http, self._layouts = http, layouts or {}
        self._slots = asyncio.Semaphore(concurrency)
        self._object_parts = ObjectParts(objects, self._slots)
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
        return [pack(item, layout) for item in items]

    async def put_all(
        self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard, unanswered: Unanswered | None = None
    ) -> Written:
        before = await self._put_parts(table, items, budget, guard)
        puts = Puts(items, unanswered)
        puts.units += before
        left = list(range(len(items)))
        attempts = BACKOFF.attempts("BatchWriteItem")
        while left:
            began, puts.longest_s = time.monotonic(), 0.0
            found = await gather_all([self._batch(table, one, puts, budget, guard) for one in puts.batches(left)])
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

    async def _put_parts(self, table: str, items: Sequence[Packed], budget: Budget, guard: Guard) -> float:
        """The parts of all items, before any of these; the write units. A part never changes, so it needs no condition, and a
        request that comes late does no harm."""
        if not self._layout(table).splits or not (parts := [Packed(*part) for one in items for part in one.parts]):
            return 0.0
        if self._layout(table).as_objects:
            await gather_all([self._object_parts.put(table, part, guard) for part in parts])
            return 0.0
        written = await self.put_all(table, parts, budget, guard)
        for error in written.refused.values():
            raise InvariantBroken(f"DynamoDB refused a part of an item: {error}")
        return written.units

    async def _batch(self, table: str, batch: Sequence[int], puts: Puts, budget: Budget, guard: Guard) -> list[int]:
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
    def _positions(unprocessed: Sequence[Any], batch: Sequence[int], puts: Puts, layout: TableLayout) -> list[int]:
        by_key = {puts.items[position].key: position for position in batch}
        return [by_key[layout.key_of(request["PutRequest"]["Item"])] for request in unprocessed]

    async def _one_by_one(self, table: str, batch: Sequence[int], puts: Puts, budget: Budget, guard: Guard) -> None:
        """One bad item refuses its whole batch: find it, and let the others through."""
        bodies = [self._put_body(table, puts.items[position].json) for position in batch]
        await gather_all(
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
                packed.append(pack(item, layout))
            except DocumentError as error:
                refused[position] = error
                packed.append(Packed(key_of(item), b""))
        puts = Puts(packed)
        puts.units += await self._put_parts(table, packed, budget, guard)
        puts.refused = refused
        positions = [position for position in range(len(items)) if position not in refused]
        random.shuffle(positions)
        returned = [b'"ReturnValues":"ALL_OLD",' if layout.may_have_parts(item) else b"" for item in items]
        conditions = [
            b"".join((old, condition, orjson.dumps(item["_v"]), b"},"))
            for old, item in zip(returned, items, strict=True)
        ]
        await gather_all([
            self._put(self._put_body(table, packed[position].json, conditions[position]), position, puts, budget, guard)
            for position in positions
        ])  # fmt: skip
        if layout.splits:
            puts.units += await self._remove_lost_parts(table, puts, budget, guard)
        return puts.result()

    async def _remove_lost_parts(self, table: str, puts: Puts, budget: Budget, guard: Guard) -> float:
        """The parts of items that these have replaced, and of those of these that came too late; the write units."""
        layout, gone = self._layout(table), []
        for position, item in puts.replaced.items():
            kept = {key for key, _ in puts.items[position].parts}  # a put that was sent twice replaces itself
            gone += [key for key in layout.part_keys(item) if layout.key_of(key) not in kept]
        late = [orjson.loads(part) for position in puts.superseded for _, part in puts.items[position].parts]
        gone += await self._parts(table).overtaken(late) if late else []
        return sum(await gather_all([self._remove(table, key, budget, guard) for key in gone]))

    @staticmethod
    def _put_body(table: str, item: bytes, condition: bytes = b'"ReturnConsumedCapacity":"TOTAL",') -> bytes:
        return b"".join((b"{", condition, b'"TableName":', orjson.dumps(table), b',"Item":', item, b"}"))

    async def _put(self, body: bytes, position: int, puts: Puts, budget: Budget, guard: Guard) -> None:
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
        old = reply.get("Attributes", {})
        if PARTS in old:
            puts.replaced[position] = old

    async def delete_exact(self, table: str, graves: Sequence[Grave], budget: Budget, guard: Guard) -> Written:
        deleted = await gather_all([self._delete(table, grave, budget, guard) for grave in graves])
        superseded = frozenset(place for place, units in enumerate(deleted) if units is None)
        return Written({}, superseded, sum(1.0 if units is None else units for units in deleted))

    async def delete_parts(self, table: str, parts: Sequence[ItemPart], budget: Budget, guard: Guard) -> float:
        layout = self._layout(table)
        return sum(await gather_all([self._remove(table, layout.wire_key(one.key), budget, guard) for one in parts]))

    async def _remove(self, table: str, key: Item, budget: Budget, guard: Guard) -> float:
        """One part, by name: nothing else ever has it."""
        layout = self._layout(table)
        if layout.as_objects:
            await self._object_parts.delete(table, layout.key_of(key), guard)
            return 0.0
        await budget.take(PART_UNITS)
        body = orjson.dumps({"ReturnConsumedCapacity": "TOTAL", "TableName": table, "Key": key})
        async with self._slots:
            consumed = self._wrote(orjson.loads(await self._http.call("DeleteItem", body, guard))) or PART_UNITS
        budget.settle(PART_UNITS, consumed)
        return consumed

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
        consumed = consumed_by(reply)
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
        consumed = consumed_by(reply)
        self._spent.read_units += consumed or 0.0
        self._spent.untold += consumed is None
        if reads is not None and consumed is not None:
            reads.settle(estimate, consumed)
            self._cost[operation] = estimate + (consumed - estimate) * 0.2
        return reply

    async def get_all(self, table: str, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        batches = [keys[start : start + BATCH_GET_KEYS] for start in range(0, len(keys), BATCH_GET_KEYS)]
        found: dict[ItemKey, Item] = {}
        for part in await gather_all([self._get_batch(table, list(batch)) for batch in batches]):
            found.update(part)
        return found

    async def _get_batch(self, table: str, keys: list[ItemKey]) -> dict[ItemKey, Item]:
        layout = self._layout(table)
        left: list[Any] = [layout.wire_key(key) for key in keys]
        found: dict[ItemKey, Item] = {}
        attempts = BACKOFF.attempts("BatchGetItem")
        while left:
            reply = await self._read("BatchGetItem", {"RequestItems": {table: {"Keys": left, "ConsistentRead": True}}})
            items = await self._parts(table).whole(reply["Responses"].get(table, ()))
            found.update((key_of(item), item) for item in items)
            left = reply.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            if left:
                await asyncio.sleep(attempts.failed("keys stay unprocessed"))
        return found

    def _parts(self, table: str) -> PartReads:
        return PartReads(self._read, table, self._layout(table), self._object_parts)

    async def scan(
        self, table: str, segment: int, segments: int, start: Item | None, attributes: Sequence[str] = ()
    ) -> TargetPage:
        layout = self._layout(table)
        names = [name for one in attributes if (name := layout.name_of(one)) is not None]
        reply = await self._page(table, segment, segments, start, names)
        items = reply["Items"] if layout.plain else await self._parts(table).whole(reply["Items"])
        return TargetPage(items, reply.get("LastEvaluatedKey"))

    async def parts(self, table: str, segment: int, segments: int, start: Item | None) -> PartsPage:
        if self._layout(table).as_objects:
            heads, following = await self._object_parts.heads(table, segment, start)
            return await self._parts(table).unnamed(heads, following)
        names = [*self._layout(table).key_names, KIND, "_v", OF]
        reply = await self._page(table, segment, segments, start, names)
        return await self._parts(table).unnamed(reply["Items"], reply.get("LastEvaluatedKey"))

    async def _page(
        self, table: str, segment: int, segments: int, start: Item | None, names: Sequence[str]
    ) -> dict[str, Any]:
        """Of a segment, with all attributes or only these, by the table's names."""
        request: dict[str, Any] = {
            "TableName": table,
            "Segment": segment,
            "TotalSegments": segments,
            "ConsistentRead": True,
        }
        if start is not None:
            request["ExclusiveStartKey"] = start
        if names:
            request["ProjectionExpression"] = ",".join(f"#a{index}" for index in range(len(names)))
            request["ExpressionAttributeNames"] = {f"#a{index}": name for index, name in enumerate(names)}
        return await self._read("Scan", request)

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
            for stored in reply["Items"]:  # one after the other: each may have many megabytes
                for item in await self._parts(table).whole([stored]):
                    yield item
            if "LastEvaluatedKey" not in reply:
                return
            request["ExclusiveStartKey"] = reply["LastEvaluatedKey"]
