"""Reading documents from DynamoDB where it does not do all at once."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import Any

import pytest
from docferry.client.items.reader import PATIENCE, DocumentReader
from docferry.client.transport.metered import MeasuredCalls
from docferry.client.transport.sync_driver import run
from docferry.client.transport.together import together
from docferry.config import load_migration
from docferry.core.mapping.items import ItemKey, key_of
from docferry.errors import InvariantBroken, RetryExhausted
from support.place import ROOT

SHOP = load_migration(ROOT / "include" / "migrations" / "shop.yaml")
PRODUCTS = SHOP.mapping("products")


class Unhurried:
    """DynamoDB that processes as many keys of a batch as it is told, batch after batch, and then none."""

    blocking = True

    def __init__(self, *processed: int, cost: Any = None) -> None:
        self.processed, self.cost = list(processed), cost
        self.asked: list[int] = []
        self.slept: list[float] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Any = None) -> dict[str, Any]:
        ((table, part),) = request["RequestItems"].items()
        keys = part["Keys"]
        number = self.processed.pop(0) if self.processed else 0
        self.asked.append(len(keys))
        items = [item for one in keys[:number] for item in PRODUCTS.encode({"_id": one["PK"]["S"].split("#")[1]}, 7)]
        left = {table: {"Keys": keys[number:]}} if keys[number:] else {}
        reply = {"Responses": {table: items}, "UnprocessedKeys": left}
        return reply | ({"ConsumedCapacity": self.cost} if self.cost is not None else {})

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)

    def forked(self) -> None: ...

    async def close(self) -> None: ...


def keys(number: int) -> list[ItemKey]:
    return [key_of(PRODUCTS.encode({"_id": f"p{one}"}, 7)[0]) for one in range(number)]


def test_keys_that_were_not_processed_are_asked_for_again() -> None:
    calls = Unhurried(40, 0, 35, 25, 20)
    places = run(DocumentReader(PRODUCTS, calls).places(keys(120)))
    assert [place.root is not None for place in places] == [True] * 120
    assert calls.asked == [100, 60, 60, 25, 20]


def test_keys_that_are_never_processed_are_given_up() -> None:
    calls = Unhurried(90)
    with pytest.raises(RetryExhausted, match="10 keys unprocessed"):
        run(DocumentReader(PRODUCTS, calls).places(keys(100)))
    assert calls.asked == [100] + [10] * PATIENCE
    assert 1 < sum(calls.slept) < 15


def test_cost_is_added_up_over_all_tables() -> None:
    measured = MeasuredCalls(Unhurried(100, cost=[{"CapacityUnits": 1.5}, {"CapacityUnits": 2.0}]))
    run(DocumentReader(PRODUCTS, measured).places(keys(3)))
    assert measured.read_units == 3.5


def test_answer_without_its_cost_cannot_be_capped() -> None:
    with pytest.raises(InvariantBroken, match="what it has cost"):
        run(DocumentReader(PRODUCTS, MeasuredCalls(Unhurried(100))).places(keys(3)))


@pytest.mark.parametrize("blocking", [True, False])
def test_reads_at_once_come_in_their_order_and_the_first_error_is_raised(blocking: bool) -> None:
    calls = Unhurried()
    calls.blocking = blocking
    ended: list[int] = []

    async def read(number: int) -> int:
        ended.append(number)
        if number in (3, 5):
            raise RetryExhausted("Query", number, 0.0, "")
        return number

    def asked(numbers: range) -> Any:
        made = together(calls, [partial(read, one) for one in numbers])
        return run(made) if blocking else asyncio.run(made)

    assert asked(range(3)) == [0, 1, 2]
    ended.clear()
    with pytest.raises(RetryExhausted) as caught:
        asked(range(20))
    assert caught.value.attempts == 3
    assert set(ended) >= set(range(4))
