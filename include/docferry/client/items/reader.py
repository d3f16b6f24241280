"""Documents out of DynamoDB, whole or not at all.

A document is a root item and its children, which share the root's partition. They are read consistently; the root's digest tells
whether all of them belong together. An index only tells where to look: it lags, so what it names is read from the table.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import ceil
from typing import Any

from docferry.client.items.scan import TableScan
from docferry.client.transport.together import together
from docferry.core.access.conditions import key_condition, partition_condition
from docferry.core.access.read_plan import IndexQuery, ReadPlan
from docferry.core.bson_codec.order import order_key
from docferry.core.limits import BATCH_GET_KEYS
from docferry.core.mapping.digest import digest
from docferry.core.mapping.items import KIND, Document, Item, ItemKey, key_of
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import parse_version
from docferry.errors import RetryExhausted, ScanTooLarge, TornRead
from docferry.ports.client import DynamoCalls

READ_AGAIN = 5
"""How often a document is read until its items fit together: another write was on its way each time."""
INDEX_PAGE = 100
PATIENCE = 8
"""How often in a row DynamoDB may process none of a batch's keys: about five seconds."""


@dataclass(frozen=True, slots=True)
class StoredDocument:
    """What lies in the place of one document: live items, root first, and whatever else is there (tombstones)."""

    key: ItemKey
    live: Sequence[Item] = field(repr=False)
    all: dict[ItemKey, Item] = field(repr=False)

    @property
    def root(self) -> Item | None:
        return self.live[0] if self.live else None

    @property
    def version(self) -> int:
        """The highest version that is stored here, tombstones included; 0 where there is none."""
        return max((parse_version(item["_v"]["S"]) for item in self.all.values() if "_v" in item), default=0)


class DocumentReader:
    """Reads the documents of one collection.

    Not `consistent`, it reads at half the price what may be a moment old, and what a cache may answer. `count` is told of scans:
    a name, and how many.
    """

    def __init__(
        self,
        mapping: DocumentMapping,
        calls: DynamoCalls,
        *,
        consistent: bool = True,
        count: Callable[[str, int], None] | None = None,
    ) -> None:
        self._mapping, self._calls, self._consistent = mapping, calls, consistent
        self._count = count or (lambda name, number: None)
        self._ttl, self._layout = mapping.settings.ttl_attribute, mapping.layout

    def __repr__(self) -> str:
        return f"Reader({self._mapping!r})"

    def document(self, found: StoredDocument) -> Document | None:
        """The document; None if there is none."""
        return self._mapping.decode(found.live).document if found.live else None

    async def find(self, plan: ReadPlan, *, whole: bool = False) -> AsyncIterator[StoredDocument]:
        """All documents that a plan leads to, in its order; by a scan, in that of `_id`. `whole`: the caller reads to the end,
        so that several partitions are read at once.

        Raises: StoreError, RetryExhausted, TornRead; ScanTooLarge, before any is given.
        """
        if plan.scan:
            for found in await self._scanned(plan.scan):
                yield found
            return
        if plan.query is None:
            for found in await self.places(plan.keys):
                if found.live:
                    yield found
            return
        async for page in self._pages(plan.query, whole=whole):
            for found in page:
                if found.live:
                    yield found

    async def _scanned(self, most_read_units: int) -> list[StoredDocument]:
        async def whole(calls: DynamoCalls, root: Item) -> tuple[StoredDocument, Document | None]:
            reader = DocumentReader(self._mapping, calls, consistent=self._consistent)
            found = await reader.whole(root)
            return found, reader.document(found)

        scan = TableScan(self._mapping, self._calls, most_read_units, whole, consistent=self._consistent)
        try:
            pairs = [(found, document) for found, document in await scan.all() if document is not None]
        except ScanTooLarge:
            self._count("scan.too_large", 1)
            raise
        finally:
            self._count("scan.read_units", ceil(scan.read_units))
        return [found for found, _ in sorted(pairs, key=lambda pair: order_key(pair[1]["_id"]))]

    async def places(self, keys: Sequence[ItemKey]) -> list[StoredDocument]:
        """What lies under each of these root keys, in their order."""
        if self._mapping.children:
            return await together(self._calls, [partial(self.place, key) for key in keys])
        items = await self.stored(keys)
        return [self._found(key, [items[key]] if key in items else []) for key in keys]

    async def stored(self, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """The items that there are under these keys, tombstones too."""
        parts = [keys[start : start + BATCH_GET_KEYS] for start in range(0, len(keys), BATCH_GET_KEYS)]
        read = await together(self._calls, [partial(self._batch, part) for part in parts])
        return {key: item for part in read for key, item in part.items()}

    async def place(self, key: ItemKey) -> StoredDocument:
        """What lies under one root key. Raises TornRead if its items do not fit together, read after read."""
        for attempt in range(READ_AGAIN):
            if attempt:
                await self._calls.sleep(0.01 * attempt)
            found = self._found(key, await self._partition(key))
            if self._is_whole(found):
                return found
        raise TornRead(f"{self._mapping.collection}: a document's items did not fit together in {READ_AGAIN} reads")

    async def whole(self, root: Item) -> StoredDocument:
        """The place of a root item that has just been read: only one that has children is read again."""
        key = key_of(root)
        return await self.place(key) if "_digest" in root else self._found(key, [root])

    # --- items -------------------------------------------------------------------------------------------------------

    def _found(self, key: ItemKey, items: Sequence[Item]) -> StoredDocument:
        ours = {self._mapping.root.entity, *self._mapping.children}
        mine = [item for item in items if item.get("entityType", {}).get("S") in ours]
        root = next(
            (item for item in mine if key_of(item) == key and self._is_root(item) and self._is_live(item)), None
        )
        if root is None:
            return StoredDocument(key, (), {key_of(item): item for item in mine})
        live = [item for item in mine if item is not root and self._is_live(item) and item["_id"] == root["_id"]]
        live = [item for item in live if item["entityType"]["S"] in self._mapping.children]
        return StoredDocument(key, (root, *live), {key_of(item): item for item in mine})

    def _is_root(self, item: Item) -> bool:
        return bool(item["entityType"]["S"] == self._mapping.root.entity)

    def _is_live(self, item: Item) -> bool:
        """DynamoDB removes what has expired within days: until then readers must not see it."""
        expires = item.get(self._ttl, {}).get("N")
        return "_deleted" not in item and (expires is None or float(expires) > time.time())

    @staticmethod
    def _is_whole(found: StoredDocument) -> bool:
        if not found.live:
            return True
        root, *children = found.live
        return root.get("_digest", {}).get("S") == (digest(children) if children else None)

    async def _partition(self, key: ItemKey) -> list[Item]:
        table = self._mapping.table
        if not self._mapping.children:
            wire = self._layout.wire_key(key)
            reply = await self._calls.call(
                "GetItem", {"TableName": table, "Key": wire, "ConsistentRead": self._consistent}
            )
            return [self._layout.read(reply["Item"])] if "Item" in reply else []
        return [item async for item in self._query({
            "TableName": table,
            "ConsistentRead": self._consistent,
            **partition_condition(self._layout, key[0]),
        })]  # fmt: skip

    async def _query(self, request: dict[str, Any]) -> AsyncIterator[Item]:
        async for reply in self._replies(request):
            for item in reply["Items"]:
                yield self._layout.read(item)

    async def _replies(self, request: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
        while True:
            reply = await self._calls.call("Query", request)
            yield reply
            if "LastEvaluatedKey" not in reply:
                return
            request = {**request, "ExclusiveStartKey": reply["LastEvaluatedKey"]}

    async def _batch(self, keys: Sequence[ItemKey]) -> dict[ItemKey, Item]:
        """All of up to 100 keys; what DynamoDB leaves unprocessed is asked for again.

        Raises: RetryExhausted, if it has processed nothing PATIENCE times in a row.
        """
        table = self._mapping.table
        left: list[Any] = [self._layout.wire_key(key) for key in dict.fromkeys(keys)]
        found: dict[ItemKey, Item] = {}
        pause_s, began, asked, idle = 0.0, time.monotonic(), 0, 0
        while left:
            if idle >= PATIENCE:
                raise RetryExhausted("BatchGetItem", asked, time.monotonic() - began, f"{len(left)} keys unprocessed")
            await self._calls.sleep(pause_s)
            request = {"RequestItems": {table: {"Keys": left, "ConsistentRead": self._consistent}}}
            reply = await self._calls.call("BatchGetItem", request)
            found.update((key_of(item), item) for item in map(self._layout.read, reply["Responses"].get(table, ())))
            before, left = len(left), reply.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
            asked, idle = asked + 1, idle + 1 if len(left) == before else 0
            pause_s = 0.05 if not idle else min(1.0, pause_s * 2 + 0.05)
        return found

    async def count(self, query: IndexQuery) -> int:
        """How many documents a query of the table's own partitions leads to: DynamoDB counts, and sends none."""
        alive = "#e = :e AND attribute_not_exists(#d) AND (attribute_not_exists(#t) OR #t > :now)"
        counted = 0
        for partition in (query.partition, *query.others):
            condition = key_condition(self._layout, partition, query)
            condition["ExpressionAttributeNames"] |= {"#e": KIND, "#d": "_deleted", "#t": self._ttl}
            condition["ExpressionAttributeValues"] |= {
                ":e": {"S": self._mapping.root.entity},
                ":now": {"N": str(time.time())},
            }
            request = {"TableName": self._mapping.table, "ConsistentRead": self._consistent, "Select": "COUNT"}
            async for reply in self._replies({**request, **condition, "FilterExpression": alive}):
                counted += int(reply["Count"])
        return counted

    async def _pages(self, query: IndexQuery, *, whole: bool) -> AsyncIterator[list[StoredDocument]]:
        partitions = (query.partition, *query.others)
        if whole and len(partitions) > 1:
            for pages in await together(self._calls, [partial(self._read, query, one) for one in partitions]):
                for page in pages:
                    yield page
            return
        for one in partitions:
            async for page in self._pages_of(query, one):
                yield page

    async def _read(self, query: IndexQuery, partition: str) -> list[list[StoredDocument]]:
        return [page async for page in self._pages_of(query, partition)]

    async def _pages_of(self, query: IndexQuery, partition: str) -> AsyncIterator[list[StoredDocument]]:
        """What a partition holds of root items, a page at a time, in its order.

        Of the table's own, where documents are one item, the items themselves; else their keys, by which they are read. An
        index that does not say what an item is leads to all there is: the table tells.
        """
        layout, settings = self._layout, self._mapping.settings
        whole = not query.index and not self._mapping.children
        told = query.index not in settings.without_kind
        request = {
            "TableName": self._mapping.table,
            **({"IndexName": query.index} if query.index else {"ConsistentRead": self._consistent}),
            "ScanIndexForward": not query.backwards,
            "Limit": INDEX_PAGE,
        }
        names: dict[str, str] = {}
        if not whole:
            names = {f"#k{place}": name for place, name in enumerate(layout.key_names)} | ({"#e": KIND} if told else {})
            request["ProjectionExpression"] = ", ".join(names)
        entity = {"S": self._mapping.root.entity}
        condition = key_condition(layout, partition, query)
        condition["ExpressionAttributeNames"] |= names
        async for reply in self._replies({**request, **condition}):
            items = [item for item in reply["Items"] if not told or item.get(KIND) == entity]
            if whole:
                yield [self._found(layout.key_of(item), [layout.read(item)]) for item in items]
            else:
                yield await self.places([layout.key_of(item) for item in items])
