"""Calls whose parts of items are objects beside DynamoDB: for the calls in front of these they are items like all others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any

from docferry.client.transport.through import ThroughCalls
from docferry.core.mapping.items import Item
from docferry.core.mapping.large.parts import name_of
from docferry.core.mapping.table_layout import TableLayout
from docferry.ports.client import DynamoCalls
from docferry.ports.flows import Guard, PartObjects


class ObjectCalls(ThroughCalls):
    """The calls of another, but for those that put, read or delete parts of the tables in `layouts` that keep them as objects."""

    def __init__(
        self,
        calls: DynamoCalls,
        layouts: Mapping[str, TableLayout],
        objects: PartObjects,
        away: Callable[..., Awaitable[Any]] = asyncio.to_thread,
    ) -> None:
        """`away` carries a blocking call out for an asynchronous application."""
        super().__init__(calls)
        self._away = away
        self._layouts = {table: layout for table, layout in layouts.items() if layout.as_objects}
        self._objects = objects

    def __repr__(self) -> str:
        return f"ObjectCalls({self._calls!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        if operation == "BatchGetItem":
            ((table, asked), *_) = request["RequestItems"].items()
            names = [self._name(table, key) for key in asked["Keys"]]
            if all(name is not None for name in names):
                found = [await self._ask(partial(self._objects.get, table, str(name))) for name in names]
                return {"Responses": {table: [part for part in found if part is not None]}}
        elif operation in ("PutItem", "DeleteItem"):
            table, item = request["TableName"], request["Item" if operation == "PutItem" else "Key"]
            if (name := self._name(table, item)) is not None:
                if guard is not None:
                    guard()
                await self._change(operation, table, name, item)
                return {}
        return await self._calls.call(operation, request, guard)

    async def _change(self, operation: str, table: str, name: str, item: Item) -> None:
        if operation == "PutItem":
            await self._ask(partial(self._objects.put, table, name, item))
        else:
            await self._ask(partial(self._objects.delete, table, name))

    async def _ask(self, ask: Callable[[], Any]) -> Any:
        return ask() if self.blocking else await self._away(ask)

    def _name(self, table: str, item: Item) -> str | None:
        layout = self._layouts.get(table)
        return name_of(layout.key_of(item)[0]) if layout is not None and layout.is_part(item) else None
