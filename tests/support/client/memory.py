"""DynamoDB's data plane in memory, as far as writes and consistent reads ask of it. `pause` runs before each call."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from docferry.errors import ConditionFailed
from docferry.ports.flows import Guard

Item = dict[str, Any]
_Key = tuple[str, str, str]


async def _at_once() -> None: ...


class MemoryDynamoDB:
    """Its transactions are atomic, and its reads see what was written last."""

    blocking = False

    def __init__(self, pause: Callable[[], Awaitable[None]] = _at_once) -> None:
        self.items: dict[_Key, Item] = {}
        self.asked: list[str] = []
        self.pause = pause
        self.lost: Callable[[str], Exception | None] = lambda operation: None
        """The error instead of an answer to what has been done."""

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        await self.pause()
        self.asked.append(operation)
        answer: dict[str, Any] = getattr(self, f"_{operation}")(request)
        if (error := self.lost(operation)) is not None:
            raise error
        return answer

    async def sleep(self, seconds: float) -> None:
        await self.pause()

    def forked(self) -> None: ...

    async def close(self) -> None: ...

    # --- operations --------------------------------------------------------------------------------------------------

    def _GetItem(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = self.items.get(_key(request["TableName"], request["Key"]))
        return {"Item": found} if found is not None else {}

    def _BatchGetItem(self, request: Mapping[str, Any]) -> dict[str, Any]:
        found = {
            table: [self.items[at] for key in asked["Keys"] if (at := _key(table, key)) in self.items]
            for table, asked in request["RequestItems"].items()
        }
        return {"Responses": found, "UnprocessedKeys": {}}

    def _PutItem(self, request: Mapping[str, Any]) -> dict[str, Any]:
        return self._TransactWriteItems({"TransactItems": [{"Put": request}]})

    def _TransactWriteItems(self, request: Mapping[str, Any]) -> dict[str, Any]:
        places: set[_Key] = set()
        for one in request["TransactItems"]:
            ((_, asked),) = one.items()
            place = _key(asked["TableName"], asked.get("Item") or asked["Key"])
            assert place not in places, "a transaction takes each item once"
            places.add(place)
            if not _holds(asked, self.items.get(place)):
                raise ConditionFailed("a condition failed", operation="TransactWriteItems")
        assert len(places) <= 100
        for one in request["TransactItems"]:
            if "Put" in one:
                self.items[_key(one["Put"]["TableName"], one["Put"]["Item"])] = one["Put"]["Item"]
        return {}


def _key(table: str, item: Mapping[str, Any]) -> _Key:
    return table, item["PK"]["S"], item["SK"]["S"]


def _holds(asked: Mapping[str, Any], there: Item | None) -> bool:
    condition = asked.get("ConditionExpression")
    if condition is None:
        return True
    if condition == "attribute_not_exists(PK)":
        return there is None
    if condition == "attribute_not_exists(#v)":
        return there is not None and "_v" not in there
    assert condition == "#v = :v"
    return there is not None and there.get("_v") == asked["ExpressionAttributeValues"][":v"]
