"""A DynamoDB table in memory, as the client asks for it: one item, a partition, a batch, a transaction on conditions."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from docferry.core.limits import TRANSACTION_ITEMS
from docferry.core.mapping.items import Item, ItemKey, key_of
from docferry.errors import ConditionFailed
from docferry.ports.flows import Guard


async def at_once() -> None:
    """Nobody is in the way."""


class MemoryTable:
    """DynamoCalls over one table. `gate` is waited for before each call. Versions of one place rise, or it raises
    AssertionError."""

    def __init__(self, gate: Callable[[], Awaitable[None]] = at_once) -> None:
        self.items: dict[ItemKey, Item] = {}
        self.gate = gate
        self.blocking = gate is at_once
        self.transactions: list[list[Item]] = []
        self.asked: list[str] = []
        self.lost: Callable[[str], Exception | None] = lambda operation: None
        """The error that comes instead of the answer to what has been done."""

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        await self.gate()
        self.asked.append(operation)
        answer: dict[str, Any] = copy.deepcopy(getattr(self, f"_{operation}")(request))
        if (error := self.lost(operation)) is not None:
            raise error
        return answer

    async def sleep(self, seconds: float) -> None:
        await self.gate()

    def forked(self) -> None: ...

    async def close(self) -> None: ...

    def put(self, item: Item) -> None:
        old = self.items.get(key_of(item))
        assert old is None or old["_v"]["S"] < item["_v"]["S"], f"the version falls: {old} -> {item}"
        self.items[key_of(item)] = copy.deepcopy(item)

    def _GetItem(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self.items.get(key_of(request["Key"]))
        return {"Item": found} if found is not None else {}

    def _Query(self, request: Mapping[str, Any]) -> dict[str, Any]:
        (partition,) = request["ExpressionAttributeValues"].values()
        return {"Items": [item for key, item in sorted(self.items.items()) if key[0] == partition["S"]]}

    def _BatchGetItem(self, request: Mapping[str, Any]) -> dict[str, Any]:
        ((table, asked),) = request["RequestItems"].items()
        found = [self.items[key] for key in map(key_of, asked["Keys"]) if key in self.items]
        return {"Responses": {table: found}}

    def _TransactWriteItems(self, request: Mapping[str, Any]) -> dict[str, Any]:
        asked = [one for several in request["TransactItems"] for one in several.values()]
        puts = [one["Put"] for one in request["TransactItems"] if "Put" in one]
        assert len({_place(one) for one in asked}) == len(asked) <= TRANSACTION_ITEMS, (
            "each place once, and not too many"
        )
        if not all(map(self._holds, asked)):
            raise ConditionFailed("an item is not as it was read", operation="TransactWriteItems")
        for put in puts:
            self.put(put["Item"])
        self.transactions.append([put["Item"] for put in puts])
        return {}

    def _PutItem(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._TransactWriteItems({"TransactItems": [{"Put": request}]})

    def _holds(self, asked: Mapping[str, Any]) -> bool:
        there = self.items.get(_place(asked))
        if asked["ConditionExpression"] == "#v = :v":
            return there is not None and there["_v"] == asked["ExpressionAttributeValues"][":v"]
        assert asked["ConditionExpression"] == "attribute_not_exists(PK)", asked
        return there is None


def _place(asked: Mapping[str, Any]) -> ItemKey:
    return key_of(asked.get("Item") or asked["Key"])
