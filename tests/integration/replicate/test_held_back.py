"""An old read of a document that was deleted meanwhile: held back, then released, it does not bring the document back.

The real loader reads the document and is held back just before it would put it. The real replication then applies the
delete. Shown with the tombstone, and without: then the document comes back.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from bson import ObjectId
from docferry.core.compare.diff import is_tombstone
from docferry.core.mapping.items import Item, key_of
from docferry.errors import PreflightFailed
from docferry.flows import purge as purging
from docferry.flows.backfill.again import begin_again
from docferry.flows.backfill.finish import CollectionReport
from docferry.flows.backfill.load import backfill_collection
from docferry.ports.flows import Budget, Grave, Guard, Written
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, shop_rig
from support.replicate.following import follow, tombstones
from support.validate.live import with_images
from support.validate.planting import MAKERS, at_once, job_of, validate, with_target

__all__ = ["at_once"]
pytestmark = [pytest.mark.xdist_group("held_back"), pytest.mark.usefixtures("at_once")]
ITEMS = 4
"""Of an order: the root and three lines."""


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    """Three orders, loaded and followed, about to be loaded again under traffic."""
    monkeypatch.setattr(purging, "YOUNG_S", 0.0)
    monkeypatch.setattr(purging, "STALE_S", 0.0)
    made = shop_rig(stack.env(), tmp_path, f"held_{ObjectId()}")
    with_images(made)
    made.database["orders"].insert_many([MAKERS["orders"](f"o{number}") for number in range(3)])
    made.load()
    with_target(made, lambda target: follow(made, target))
    begin_again(made.job(), ["orders"])
    yield made
    made.mongo.drop_database(made.migration.source.database)
    made.close()


class HeldBack:
    """A target that lets no put through before it is released."""

    def __init__(self, inner: Any) -> None:
        self.inner = inner
        self.arrived, self.released = asyncio.Event(), asyncio.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def put_newer(self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, **more: Any) -> Written:
        if items:
            self.arrived.set()
            await self.released.wait()
        written: Written = await self.inner.put_newer(table, items, budget, guard, **more)
        return written


class WithoutTombstones:
    """A target for a replication with one rule taken out: what is older is deleted, and nothing stays in its place."""

    def __init__(self, inner: Any, rig: Rig) -> None:
        self.inner, self.rig = inner, rig

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def put_newer(self, table: str, items: Sequence[Item], budget: Budget, guard: Guard, **more: Any) -> Written:
        for item in filter(is_tombstone, items):
            await asyncio.to_thread(self._delete_older, table, item)
        alive = [item for item in items if not is_tombstone(item)]
        written: Written = await self.inner.put_newer(table, alive, budget, guard, **more)
        return written

    def _delete_older(self, table: str, item: Item) -> None:
        try:
            self.rig.dynamodb.delete_item(
                TableName=table,
                Key={"PK": item["PK"], "SK": item["SK"]},
                ConditionExpression="attribute_not_exists(#v) OR #v < :v",
                ExpressionAttributeNames={"#v": "_v"},
                ExpressionAttributeValues={":v": item["_v"]},
            )
        except ClientError as error:
            if error.response["Error"]["Code"] != "ConditionalCheckFailedException":
                raise


class NoLimit:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


def delete_while_held_back(rig: Rig, broken: str = "") -> tuple[str, CollectionReport]:
    """(partition key of the order that was deleted, how the load ended). `broken` takes a rule out."""

    async def work(target: Any) -> tuple[str, CollectionReport]:
        held = HeldBack(target)
        load = asyncio.create_task(backfill_collection(rig.job(), held, "orders"))
        await asyncio.wait_for(held.arrived.wait(), 60)
        order = await asyncio.to_thread(rig.database["orders"].find_one_and_delete, {})
        await follow(rig, WithoutTombstones(target, rig) if broken == "no tombstones" else target)
        pk = f"ORDER#{order['_id']}"
        there = {key: item for key, item in rig.scan().items() if key[0] == pk}
        assert len(there) == (0 if broken == "no tombstones" else ITEMS)
        assert all(map(is_tombstone, there.values()))
        with pytest.raises(PreflightFailed, match="orders is loading"):
            await purging.purge(job_of(rig), target)
        if broken == "purged unproved":
            graves = [Grave(key_of(item), item["_v"]["S"]) for item in there.values()]
            await target.delete_exact(rig.table, graves, NoLimit(), lambda: None)
        held.released.set()
        return pk, await load

    done: tuple[str, CollectionReport] = with_target(rig, work)
    return done


def test_document_deleted_while_an_old_read_was_held_back_does_not_come_back(rig: Rig) -> None:
    pk, loaded = delete_while_held_back(rig)
    assert (loaded.counts.read, loaded.counts.written, loaded.counts.superseded) == (3, 2, 1)
    assert {key[0] for key in tombstones(rig)} == {pk}
    assert validate(rig).ok
    report = with_target(rig, lambda target: purging.purge(job_of(rig), target))
    assert report.purged == ITEMS
    assert not [key for key in rig.scan() if key[0] == pk]
    assert validate(rig).ok


@pytest.mark.parametrize("broken", ["no tombstones", "purged unproved"])
def test_it_does_come_back_without_its_tombstone(rig: Rig, broken: str) -> None:
    pk, loaded = delete_while_held_back(rig, broken)
    assert (loaded.counts.written, loaded.counts.superseded) == (3, 0)
    back = [item for (key, _), item in rig.scan().items() if key == pk]
    assert len(back) == ITEMS
    assert not any(map(is_tombstone, back))
    assert rig.database["orders"].count_documents({"_id": ObjectId(pk.partition("#")[2])}) == 0
