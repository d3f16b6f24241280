"""Items that have parts, read whole; and parts that no item names any more (`core.mapping.large.parts`)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from docferry.adapters.aws.data.objects import ObjectParts
from docferry.adapters.aws.dynamodb_http import BACKOFF
from docferry.core.limits import BATCH_GET_KEYS
from docferry.core.mapping.items import KIND, Item
from docferry.core.mapping.large.overflow import PARTS
from docferry.core.mapping.large.parts import OF, name_of, names_in
from docferry.core.mapping.table_layout import TableLayout
from docferry.ports.flows import ItemPart, PartsPage

AGAIN = 8
"""How often an item is read whose parts go while they are read: it is being replaced again and again."""

Read = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""One operation of DynamoDB that reads."""


class PartReads:
    """Reads of one table, whose items it gives in our own form."""

    def __init__(self, read: Read, table: str, layout: TableLayout, objects: ObjectParts | None = None) -> None:
        self._read, self._table, self._layout, self._objects = read, table, layout, objects

    async def whole(self, stored: Sequence[Item]) -> list[Item]:
        """Items with what their parts hold; parts themselves are left out. What cannot be had stays named, and is unreadable."""
        layout = self._layout
        if not layout.splits:
            return [layout.read(item) for item in stored]
        return [layout.read(await self._joined(item)) for item in stored if not layout.is_part(item)]

    async def _joined(self, stored: Item) -> Item:
        """An item that has been replaced since it was read may have lost its parts: then it is read again."""
        for _ in range(AGAIN):
            found = self._layout.joined(stored, await self._parts_of(stored))
            if not self._layout.names_parts(found):
                return found
            again = await self.get([self._layout.wire_key(self._layout.key_of(stored))])
            if not again or again[0].get("_v") == stored.get("_v"):
                return stored
            stored = again[0]
        return stored

    async def _parts_of(self, stored: Item) -> list[Item]:
        if self._objects is None or not self._layout.as_objects:
            return await self.get(self._layout.part_keys(stored))
        return await self._objects.get(self._table, names_in(stored) if self._layout.names_parts(stored) else [])

    async def get(self, keys: Sequence[Item]) -> list[Item]:
        """What there is under these keys (consistent), as it is stored."""
        found: list[Item] = []
        for start in range(0, len(keys), BATCH_GET_KEYS):
            left: list[Any] = list(keys[start : start + BATCH_GET_KEYS])
            attempts = BACKOFF.attempts("BatchGetItem")
            while left:
                request = {"RequestItems": {self._table: {"Keys": left, "ConsistentRead": True}}}
                reply = await self._read("BatchGetItem", request)
                got = reply["Responses"].get(self._table, ())
                found += got
                left = reply.get("UnprocessedKeys", {}).get(self._table, {}).get("Keys", [])
                if left and not got:
                    await asyncio.sleep(attempts.failed("keys stay unprocessed"))
        return found

    async def overtaken(self, parts: Sequence[Item]) -> list[Item]:
        """The keys of those parts that their items, as they are now, do not name, and nothing can come to name again."""
        items = await self._items_of(parts)
        return [self._key(part) for part in parts if self._layout.overtaken(part, items.get(_text_of(part[OF]["L"])))]

    async def unnamed(self, scanned: Iterable[Item], following: Item | None) -> PartsPage:
        """Of what a scan has found, the parts whose items do not name them. The items are read after the parts."""
        layout = self._layout
        parts = [one for one in scanned if layout.is_part(one)]
        items = await self._items_of(parts)
        found = []
        for part in parts:
            item, key = items.get(_text_of(part[OF]["L"])), layout.key_of(part)
            if item is None or name_of(key[0]) not in names_in(item):
                found.append(ItemPart(key, part["_v"]["S"], layout.overtaken(part, item)))
        return PartsPage(found, len(parts), following)

    async def _items_of(self, parts: Iterable[Item]) -> dict[str, Item]:
        """The items that these parts are of, as they are now: keys, version, names of parts."""
        names = self._layout.key_names
        keys = {_text_of(part[OF]["L"]): dict(zip(names, part[OF]["L"], strict=True)) for part in parts}
        kept = {*names, KIND, "_v", PARTS}
        found = [{name: one[name] for name in kept & one.keys()} for one in await self.get(list(keys.values()))]
        return {_text_of([one[name] for name in names]): one for one in found}

    def _key(self, part: Item) -> Item:
        return {name: part[name] for name in self._layout.key_names}


def _text_of(key: Sequence[Item]) -> str:
    """A key as something to look up by."""
    return repr(list(key))
