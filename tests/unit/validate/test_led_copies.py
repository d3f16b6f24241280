"""What DynamoDB was given while it led may be the only copy: nobody takes it for litter after MongoDB leads again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from docferry.core.mapping.items import ItemKey
from docferry.core.versions import parse_version, version_text
from docferry.flows.ledger.reigns import record_reign
from docferry.flows.validate import repair as mending
from support.validate.fakes import impatient, root, some, world
from support.validate.planting import at_once
from support.validate.world import World

__all__ = ["at_once", "impatient", "world"]

pytestmark = pytest.mark.usefixtures("at_once", "impatient")


def repair(world: World) -> mending.RepairReport:
    return asyncio.run(mending.repair(world.job(), world.target))


def led(world: World, key: ItemKey, **attributes: Any) -> dict[str, Any]:
    """The item as DynamoDB was given it while it led, and a reign that was then."""
    version = parse_version(world.items[key]["_v"]["S"])
    record_reign(world.ledger, floor=version, end=version + 10)
    world.plant(key, _v={"S": version_text(version + 5)}, **attributes)
    return world.items[key]


def lost_in_mongodb(world: World) -> tuple[ItemKey, dict[str, Any]]:
    """A product that MongoDB never got, or lost, and no event tells of."""
    product = some(world, "products")
    item = led(world, root(world, product))
    world.source.remove("products", product["_id"])
    world.now.pop(("products", product["_id"]))
    world.time = world.source.cluster_time()
    world.replicate()
    return root(world, product), item


def test_repair_leaves_an_extra_that_was_written_while_dynamodb_led(world: World) -> None:
    key, item = lost_in_mongodb(world)
    report = repair(world)
    assert world.items[key] == item
    assert (report.led, report.tombstones, report.complete) == (1, 0, False)


def test_validation_says_that_an_extra_may_be_the_only_copy(world: World) -> None:
    lost_in_mongodb(world)
    report = world.validate()
    assert not report.ok
    assert report.led == 1
    assert not report.extra_keys
    assert "DynamoDB may hold the only copy" in report.render()
    (difference,) = report.differences
    assert difference.actual == "an item that was written while DynamoDB led"


def test_an_extra_of_no_reign_is_buried(world: World) -> None:
    key, item = lost_in_mongodb(world)
    world.plant(key, _v={"S": version_text(parse_version(item["_v"]["S"]) - 5)})
    report = repair(world)
    assert "_deleted" in world.items[key]
    assert (report.led, report.tombstones) == (0, 1)


def test_repair_does_not_overwrite_what_was_changed_while_dynamodb_led(world: World) -> None:
    product = some(world, "products")
    item = led(world, root(world, product), stock={"N": "77"})
    report = repair(world)
    assert world.items[root(world, product)] == item
    assert (report.led, report.written) == (1, 0)


def test_repair_does_not_bring_back_what_was_deleted_while_dynamodb_led(world: World) -> None:
    product = some(world, "products")
    led(world, root(world, product), _deleted={"BOOL": True})
    assert repair(world).led == 1
    assert "_deleted" in world.items[root(world, product)]
    assert world.validate().led == 1


def test_an_extra_that_becomes_one_of_a_reign_while_repair_works_is_left(world: World) -> None:
    key, item = lost_in_mongodb(world)
    work = mending._Repair(world.job(), world.target, mending.RepairReport(), lambda: None)
    asyncio.run(work.bury("Shop", [key]))
    assert world.items[key] == item
    assert work.report.led == 1
