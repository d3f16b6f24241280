"""What every target tells of what its requests consume."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

from docferry.core.mapping.items import Item
from docferry.core.versions import version_text
from docferry.ports.flows import Target, Written
from support.tables import Run


class NoLimit:
    """A budget without an end."""

    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


def no_guard() -> None:
    """Nothing stops the writing."""


def item(pk: str, sk: str = "DATA", version: int = 1, **attributes: Any) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": sk}, "_v": {"S": version_text(version)}, **attributes}


async def put(target: Target, table: str, *items: Item) -> Written:
    return await target.put_all(table, target.pack(items), NoLimit(), no_guard)


class Counting(NoLimit):
    def __init__(self) -> None:
        self.taken = self.net = 0.0

    async def take(self, units: float) -> None:
        self.taken += units
        self.net += units

    def settle(self, estimated: float, consumed: float) -> None:
        self.net += consumed - estimated


def test_each_read_takes_its_share_first_and_pays_what_it_cost(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        await put(target, table, *(item(f"p{number}", x={"S": "x" * 3_000}) for number in range(20)))
        budget, before = Counting(), replace(target.spent)
        target.limit_reads(budget)
        for _ in range(3):
            await target.get_all(table, [("p1", "DATA")])
            await target.scan(table, 0, 1, None)
            await _drained(target.partition(table, "p2"))
        spent = target.spent - before
        assert budget.taken >= 9
        assert budget.net == spent.read_units or spent.untold

    run(use)


def test_a_refused_put_is_paid_for_without_its_index(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        old = item("q", version=5, GSI1PK={"S": "a"}, GSI1SK={"S": "b"}, x={"S": "x" * 1500})
        await put(target, table, item("q", version=7))
        refused = await target.put_newer(table, [old], NoLimit(), no_guard)
        assert refused.superseded == {0}
        assert refused.units == 2

    run(use)


def test_all_that_requests_consume_is_added_up(run: Run) -> None:
    async def use(target: Target, table: str) -> None:
        before = replace(target.spent)
        written = (await put(target, table, item("p"), item("q"))).units
        written += (await target.put_newer(table, [item("p", version=1)], NoLimit(), no_guard)).units
        assert (target.spent - before).write_units == written
        for read in (
            lambda: target.get_all(table, [("p", "DATA"), ("absent", "DATA")]),
            lambda: target.scan(table, 0, 1, None),
            lambda: _drained(target.partition(table, "p")),
        ):
            at_first = replace(target.spent)
            await read()
            spent = target.spent - at_first
            assert spent.read_units or spent.untold, "an emulator does not tell of each read: then that is counted"

    run(use)


async def _drained(items: AsyncIterator[Any]) -> None:
    async for _ in items:
        pass
