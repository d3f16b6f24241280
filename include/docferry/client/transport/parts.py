"""Calls that keep what is too large for an item in parts, for the tables that may have such (`core.mapping.large.parts`).

Parts are written before the request whose items name them, and read after the reply whose items do. Behind a write the parts
go that it has replaced, or those of its own items, if other writers were quicker. What cannot be deleted then is left to a purge.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Any, NamedTuple

from docferry.client.transport.through import ThroughCalls
from docferry.client.transport.together import together
from docferry.core.limits import BATCH_GET_KEYS
from docferry.core.mapping.items import Item
from docferry.core.mapping.large.overflow import PARTS
from docferry.core.mapping.table_layout import TableLayout
from docferry.errors import ConditionFailed, MigrationError, RetryExhausted
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard

AGAIN = 6
"""How often an item is read whose parts are not there: it has been replaced, or they have not reached this region yet."""
REMEMBERED = 500
"""Items with parts, of those that were read last."""
PATIENCE = 8
"""How often in a row DynamoDB may process none of a batch's keys."""
LEFT = "parts.left"
"""Counted: writes behind which parts were left that nothing names. A purge deletes them."""
_CAPACITY = "ReturnConsumedCapacity"


class _Place(NamedTuple):
    """Where an item is."""

    table: str
    key: str


class _Cut(NamedTuple):
    """An item that is put, and what it is cut into."""

    table: str
    item: Item
    parts: Sequence[Item]


class _Seen(NamedTuple):
    """An item with parts as it was read: its version, and the keys of its parts."""

    version: str
    parts: Sequence[Item]


class PartCalls(ThroughCalls):
    """The calls of another; what they read and write is whole. `layouts` are those of the tables that may have parts."""

    def __init__(
        self, calls: DynamoCalls, layouts: Mapping[str, TableLayout], count: Callable[[str, int], None]
    ) -> None:
        super().__init__(calls)
        self._layouts, self._count = layouts, count
        self._seen: OrderedDict[_Place, _Seen] = OrderedDict()
        self._lock = Lock()

    def __repr__(self) -> str:
        return f"PartCalls({self._calls!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        if operation in ("PutItem", "TransactWriteItems"):
            return await self._write(operation, request, guard)
        reply = await self._calls.call(operation, request, guard)
        return await _Read(self, self._calls, request).whole(operation, reply)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def _write(self, operation: str, request: Mapping[str, Any], guard: Guard | None) -> dict[str, Any]:
        puts = [request] if operation == "PutItem" else [one["Put"] for one in request["TransactItems"] if "Put" in one]
        cut = {id(put): self._cut(put) for put in puts if put["TableName"] in self._layouts}
        large = [one for one in cut.values() if one.parts]
        await together(self._calls, [partial(self._look, one.table, one.item) for one in large])
        parts = [(one.table, part) for one in large for part in one.parts]
        await together(self._calls, [partial(self._put, table, part, guard) for table, part in parts])
        try:
            reply = await self._calls.call(operation, _with(operation, request, cut), guard)
        except ConditionFailed:
            await self._clear(partial(self._of_losers, large), guard)
            raise
        await self._clear(partial(self._replaced, list(cut.values())), guard)
        return reply

    def _cut(self, put: Mapping[str, Any]) -> _Cut:
        table = put["TableName"]
        return _Cut(table, *self._layouts[table].cut(put["Item"]))

    async def _look(self, table: str, item: Item) -> None:
        """Which parts there are before a put, if they are not known from reading."""
        with self._lock:
            known = self._place(table, item) in self._seen
        if not known:
            await self.stored(table, item, {})

    async def _put(self, table: str, part: Item, guard: Guard | None) -> None:
        await self._calls.call("PutItem", {"TableName": table, "Item": part}, guard)

    async def _clear(self, find: Callable[[], Any], guard: Guard | None) -> None:
        """Delete the parts that `find` gives. The write has ended by then, well or not, and so it stays whatever fails here."""
        try:
            gone = await find()
            await together(self._calls, [partial(self._delete, table, key, guard) for table, key in gone])
        except MigrationError:
            self._count(LEFT, 1)

    async def _replaced(self, cut: Sequence[_Cut]) -> list[tuple[str, Item]]:
        """The parts of what was known to be in the places of these items, which are there now with a later version."""
        gone: list[tuple[str, Item]] = []
        for one in cut:
            with self._lock:
                seen = self._seen.pop(self._place(one.table, one.item), None)
            if seen is not None and seen.version < one.item["_v"]["S"]:
                gone += [(one.table, key) for key in seen.parts]
        return gone

    async def _of_losers(self, cut: Sequence[_Cut]) -> list[tuple[str, Item]]:
        """The parts of these items that nothing can come to name any more, by what is in their places."""
        gone: list[tuple[str, Item]] = []
        for one in cut:
            layout, there = self._layouts[one.table], await self.stored(one.table, one.item, {})
            lost = [part for part in one.parts if layout.overtaken(part, there)]
            gone += [(one.table, {name: part[name] for name in layout.key_names}) for part in lost]
        return gone

    async def _delete(self, table: str, key: Item, guard: Guard | None) -> None:
        await self._calls.call("DeleteItem", {"TableName": table, "Key": key}, guard)

    # --- for reading -------------------------------------------------------------------------------------------------

    def layout(self, table: str) -> TableLayout | None:
        return self._layouts.get(table)

    async def stored(self, table: str, item: Item, options: Mapping[str, Any]) -> Item | None:
        """What is in the place of an item now, as it is stored; its parts are remembered."""
        layout = self._layouts[table]
        key = {name: item[name] for name in layout.key_names}
        reply = await self._calls.call("GetItem", {"TableName": table, "Key": key, "ConsistentRead": True, **options})
        found: Item | None = reply.get("Item")
        if found is not None:
            self.remember(table, found)
        return found

    def remember(self, table: str, stored: Item) -> None:
        layout = self._layouts[table]
        if not layout.names_parts(stored):
            return
        with self._lock:
            self._seen[self._place(table, stored)] = _Seen(stored.get("_v", {}).get("S", ""), layout.part_keys(stored))
            while len(self._seen) > REMEMBERED:
                self._seen.popitem(last=False)

    def _place(self, table: str, stored: Item) -> _Place:
        return _Place(table, repr([stored[name] for name in self._layouts[table].key_names]))


class _Read:
    """One reply, whose items are made whole. What this takes is added to what the reply says it has consumed."""

    def __init__(self, parts: PartCalls, calls: DynamoCalls, request: Mapping[str, Any]) -> None:
        self._parts, self._calls, self._request = parts, calls, request
        self._options = {_CAPACITY: request[_CAPACITY]} if _CAPACITY in request else {}
        self._told: list[Any] = []

    async def whole(self, operation: str, reply: dict[str, Any]) -> dict[str, Any]:
        table = self._request.get("TableName", "")
        if operation == "BatchGetItem":
            found = {table: await self._items(table, items) for table, items in reply.get("Responses", {}).items()}
            made = {**reply, "Responses": found}
        elif operation == "GetItem" and "Item" in reply:
            made = {**reply, "Item": (await self._items(table, [reply["Item"]]))[0]}
        elif "Items" in reply:
            made = {**reply, "Items": await self._items(table, reply["Items"])}
        else:
            return reply
        if self._told:
            own = reply.get("ConsumedCapacity") or []
            made["ConsumedCapacity"] = [*(own if isinstance(own, list) else [own]), *self._told]
        return made

    async def _items(self, table: str, items: Sequence[Item]) -> list[Item]:
        layout = self._parts.layout(table)
        if layout is None or not any(PARTS in item for item in items):
            return list(items)
        return list(await together(self._calls, [partial(self._joined, table, layout, item) for item in items]))

    async def _joined(self, table: str, layout: TableLayout, stored: Item) -> Item:
        for attempt in range(AGAIN):
            if not layout.names_parts(stored):
                return stored
            found = layout.joined(stored, await self._get(table, layout.part_keys(stored)))
            if not layout.names_parts(found):
                self._parts.remember(table, stored)
                return found
            again = await self._parts.stored(table, stored, self._options)
            if again is None:
                return stored
            if again.get("_v") == stored.get("_v"):
                await self._calls.sleep(0.01 * 2**attempt)
            stored = again
        return stored

    async def _get(self, table: str, keys: Sequence[Item]) -> list[Item]:
        found: list[Item] = []
        for start in range(0, len(keys), BATCH_GET_KEYS):
            left: list[Item] = list(keys[start : start + BATCH_GET_KEYS])
            idle = 0
            while left:
                if idle >= PATIENCE:
                    raise RetryExhausted("BatchGetItem", idle, 0.0, f"{len(left)} keys unprocessed")
                asked = {"RequestItems": {table: {"Keys": left, "ConsistentRead": True}}, **self._options}
                reply = await self._calls.call("BatchGetItem", asked)
                told = reply.get("ConsumedCapacity") or []
                self._told += told if isinstance(told, list) else [told]
                got = reply["Responses"].get(table, [])
                found += got
                left = reply.get("UnprocessedKeys", {}).get(table, {}).get("Keys", [])
                idle = 0 if got else idle + 1
                if idle:
                    await self._calls.sleep(0.05 * 2**idle)
        return found


def _with(operation: str, request: Mapping[str, Any], cut: Mapping[int, _Cut]) -> Mapping[str, Any]:
    """The request with what is left of its items, where they have parts."""
    if not any(one.parts for one in cut.values()):
        return request
    sent = {place: one.item for place, one in cut.items() if one.parts}
    if operation == "PutItem":
        return {**request, "Item": sent[id(request)]}
    items = [_with_item(one, sent) for one in request["TransactItems"]]
    return {**request, "TransactItems": items}


def _with_item(one: Mapping[str, Any], sent: Mapping[int, Item]) -> Mapping[str, Any]:
    put = one.get("Put")
    return {"Put": {**put, "Item": sent[id(put)]}} if put is not None and id(put) in sent else one


def part_layouts(layouts: Mapping[str, TableLayout]) -> dict[str, TableLayout]:
    """Those of tables that may have parts."""
    return {table: layout for table, layout in layouts.items() if layout.splits}
