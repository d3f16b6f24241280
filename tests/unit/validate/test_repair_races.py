"""Repair and replay while the document that they mend is being written."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.versions import snapshot_version
from docferry.errors import ItemTooLarge
from docferry.flows.ledger.dead_letters import list_letters, open_letter
from docferry.flows.validate import repair as mending
from docferry.flows.validate.replay import replay_letters
from support.validate.fakes import impatient, root, some, world
from support.validate.planting import at_once
from support.validate.world import World

__all__ = ["at_once", "impatient", "world"]

pytestmark = pytest.mark.usefixtures("at_once", "impatient")


# --- repair and letters under live traffic ---------------------------------------------------------------------------


def repair(world: World) -> mending.RepairReport:
    return asyncio.run(mending.repair(world.job(), world.target))


def test_document_mended_while_repair_gives_it_a_letter_is_not_buried(world: World) -> None:
    product = some(world, "products")
    key = root(world, product)
    world.target.refuses = lambda item: item.get("stock") == {"N": "13"}
    world.write("products", {**product, "stock": 13})
    world.log.clear()
    world.set_position(Timestamp(world.time.time, world.time.inc + 1))
    opened = open_letter

    def mended_then(*args: Any) -> None:
        opened(*args)
        world.write("products", {**product, "stock": 14})
        world.replicate()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(mending, "open_letter", mended_then)
        report = repair(world)
    assert (report.dead, report.kept, report.complete) == (1, 1, False)
    assert world.items[key]["stock"] == {"N": "14"}
    assert "_deleted" not in world.items[key]


def letter_of(world: World, product: dict[str, Any], version: int) -> None:
    import bson

    error = ItemTooLarge("too large", id=str(product["_id"]))
    open_letter(world.ledger, "products", error, bson.encode(product), version)


def replay(world: World) -> dict[str, int]:
    return asyncio.run(replay_letters(world.job(), world.target, "products")).to_dict()


def test_replay_of_what_is_newer_already_says_superseded_and_closes_the_letter(world: World) -> None:
    product = some(world, "products")
    letter_of(world, product, 7)
    newer = snapshot_version(Timestamp(world.time.time, world.time.inc + 50))
    world.plant(root(world, product), _v={"S": format(newer, "022x")})
    found = replay(world)
    assert (found["superseded"], found["stored"]) == (1, 0)
    assert list_letters(world.ledger, "products") == []


def test_letter_of_the_time_that_is_still_now_is_not_closed(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mending, "TIME_PASSES_WITHIN_S", 0.2)
    product = some(world, "products")
    letter_of(world, product, snapshot_version(world.time))
    assert replay(world)["superseded"] == 1
    assert len(list_letters(world.ledger, "products")) == 1
    world.write("users", some(world, "users"))
    assert replay(world)["stored"] == 1
    assert list_letters(world.ledger, "products") == []
