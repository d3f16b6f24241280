"""The access patterns of a model, asked as an application asks them, and measured: for the proof of a model.

There is no application and no mode here: the tables are scratch tables that nothing else knows.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, cast

from docferry.client.context import ClientContext
from docferry.client.membership import Membership
from docferry.client.metrics.metered import Metered, Took
from docferry.client.reads.named import NamedReads
from docferry.client.tally import Tally
from docferry.client.transport.through import ThroughCalls, units_told
from docferry.core.access.conditions import partition_condition
from docferry.core.access.patterns import Pattern, PatternQuery
from docferry.core.cost.units import READ_UNIT_BYTES
from docferry.core.limits import item_bytes
from docferry.core.mapping.items import KIND
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.settings import AccessPattern
from docferry.ports.client import DynamoCalls, MongoCalls
from docferry.ports.flows import Guard
from docferry.ports.proof import ModelAnswer


class MeasuredReads:
    """`ports.proof.ModelReads`. `entry_bytes`: the mean bytes of an item in a table ("") or an index, by (table, index): what a
    query reads whose answer holds keys only."""

    def __init__(
        self,
        mappings: Mapping[str, DocumentMapping],
        patterns: Sequence[AccessPattern],
        calls: DynamoCalls,
        entry_bytes: Mapping[tuple[str, str], float],
    ) -> None:
        self._calls = _Counted(calls, entry_bytes)
        self._reads = NamedReads(
            ClientContext(
                migration="",
                journal="",
                mappings=mappings,
                patterns=patterns,
                mongo=cast(MongoCalls, None),
                calls=self._calls,
                beside=self._calls,
                membership=cast(Membership, _Alone()),
                metrics=cast(Metered, _Alone()),
            )
        )

    def pattern(self, name: str) -> Pattern:
        return self._reads.pattern(name)

    async def ask(self, name: str, parameters: Mapping[str, Any], limit: int) -> ModelAnswer:
        self._calls.begin()
        began = time.perf_counter()
        page = await self._reads.query(name, parameters, limit=limit)
        return self._calls.answer(page.documents, len(page.documents), time.perf_counter() - began)

    async def count(self, name: str, parameters: Mapping[str, Any]) -> ModelAnswer:
        pattern = self.pattern(name)
        asked = pattern.bind(parameters)
        self._calls.begin()
        began, count = time.perf_counter(), 0
        if asked.partition is None:  # no document has such a key
            return self._calls.answer((), 0, 0.0)
        for partition in (asked.partition, *asked.others):
            count += await self._count(pattern, asked, partition)
        return self._calls.answer((), count, time.perf_counter() - began)

    async def _count(self, pattern: Pattern, asked: PatternQuery, partition: str) -> int:
        count = 0
        request: dict[str, Any] = {
            "TableName": pattern.mapping.table,
            "Select": "COUNT",
            **partition_condition(pattern.mapping.layout, partition, asked.index),
        } | ({"IndexName": asked.index} if asked.index else {})
        if (
            asked.index not in pattern.mapping.settings.without_kind
        ):  # items of other kinds may lie in the partition, too
            request["FilterExpression"] = f"{KIND} = :kind"
            request["ExpressionAttributeValues"] |= {":kind": {"S": pattern.plan.entity}}
        while True:
            reply = await self._calls.call("Query", request)
            count += int(reply["Count"])
            if "LastEvaluatedKey" not in reply:
                return count
            request["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    async def close(self) -> None:
        await self._calls.close()


class _Alone:
    """Stands where a client has its membership and its metrics: there is neither."""

    def __init__(self) -> None:
        self.tally = Tally()
        self.waiting: deque[Took] = deque(maxlen=0)
        """What calls took is kept by nothing."""

    def join(self) -> None: ...


class _Counted(ThroughCalls):
    """DynamoCalls that add up what they read."""

    def __init__(self, calls: DynamoCalls, entry_bytes: Mapping[tuple[str, str], float]) -> None:
        super().__init__(calls)
        self._entry_bytes = entry_bytes
        self.begin()

    def begin(self) -> None:
        self._requests, self._items, self._units, self._told = 0, 0, 0.0, 0.0

    def answer(self, documents: Sequence[Mapping[str, Any]], count: int, seconds: float) -> ModelAnswer:
        return ModelAnswer(
            documents=documents,
            count=count,
            seconds=seconds,
            requests=self._requests,
            items_read=self._items,
            units=self._units,
            units_told=self._told,
        )

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        reply = await self._calls.call(operation, {**request, "ReturnConsumedCapacity": "TOTAL"}, guard)
        self._requests += 1
        self._told += units_told(reply)
        self._add(request, reply)
        return reply

    def _add(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> None:
        if "RequestItems" in request:
            for table, items in reply.get("Responses", {}).items():
                strong = bool(request["RequestItems"][table].get("ConsistentRead"))
                self._read([item_bytes(item) for item in items], strong, apart=True)
        elif "Key" in request:
            found = [item_bytes(reply["Item"])] if "Item" in reply else [0]
            self._read(found, bool(request.get("ConsistentRead")), apart=True)
        else:
            self._read(self._sizes(request, reply), bool(request.get("ConsistentRead")), apart=False)

    def _sizes(self, request: Mapping[str, Any], reply: Mapping[str, Any]) -> list[float]:
        """Of the items that a query read: as they are where it returned them whole."""
        if "ProjectionExpression" not in request and "Select" not in request:
            return [float(item_bytes(item)) for item in reply["Items"]]
        each = self._entry_bytes.get((str(request["TableName"]), str(request.get("IndexName", ""))), 0.0)
        return [each] * int(reply.get("ScannedCount", reply.get("Count", 0)))

    def _read(self, sizes: Sequence[float], strong: bool, *, apart: bool) -> None:
        """A query is charged for the sum of what it read, items that are got are charged one by one."""
        self._items += sum(size > 0 for size in sizes)
        parts = sizes if apart else [sum(sizes)]
        units = sum(max(1, -(-int(size) // READ_UNIT_BYTES)) for size in parts)
        self._units += units * (1.0 if strong else 0.5)
