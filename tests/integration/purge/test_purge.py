"""Purging on real servers: tombstones of followed deletes go when it is proved that nothing older can come, and not before."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from bson import Binary, ObjectId
from docferry.errors import PreflightFailed
from docferry.flows import purge as purging
from docferry.flows.backfill.again import begin_again
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.purge import PurgeReport
from docferry.ports.flows import Grave, Written
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, shop_rig
from support.replicate.following import follow, tombstones
from support.validate.live import with_images
from support.validate.planting import MAKERS, at_once, job_of, validate, with_target

__all__ = ["at_once"]
pytestmark = [pytest.mark.xdist_group("purge"), pytest.mark.usefixtures("at_once")]


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path) -> Iterator[Rig]:
    """A small shop, loaded and followed. A product and an order were deleted, and a user moved: tombstones of each."""
    made = shop_rig(stack.env(), tmp_path, f"purge_{ObjectId()}")
    with_images(made)
    for name in MAKERS:
        made.database[name].insert_many([MAKERS[name](f"{name}{number}") for number in range(3)])
    made.load()
    catch_up(made)
    made.database["products"].delete_one({"sku": "SKU-products0"})
    made.database["orders"].delete_one({})
    made.database["users"].update_one({"username": "users0"}, {"$set": {"username": "moved"}})
    catch_up(made)
    yield made
    made.mongo.drop_database(made.migration.source.database)
    made.close()


def catch_up(rig: Rig) -> None:
    with_target(rig, lambda target: follow(rig, target))


def purge(rig: Rig, dry_run: bool = False) -> PurgeReport:
    report: PurgeReport = with_target(rig, lambda target: purging.purge(job_of(rig), target, dry_run))
    return report


def no_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(purging, "YOUNG_S", 0.0)
    monkeypatch.setattr(purging, "STALE_S", 0.0)


def test_tombstones_are_purged_when_it_is_proved_and_never_before(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    before = rig.scan()
    buried = tombstones(rig)
    assert {key[0].partition("#")[0] for key in buried} == {"PRODUCT", "ORDER", "USER", "UNIQUE"}
    assert len(buried) == 2 + 4 + 3  # a product and its guard, an order with three items, a user's old place

    with pytest.raises(PreflightFailed, match=r"too young .*run again in"):
        purge(rig)
    seen = purge(rig, dry_run=True)
    assert (seen.scanned, seen.kept["young"], seen.purgeable) == (9, 9, 0)
    no_wait(monkeypatch)

    begin_again(rig.job(), ["categories"])
    with pytest.raises(PreflightFailed, match=r"categories is new \(conditional\)"):
        purge(rig)
    rig.load("categories")
    assert tombstones(rig) == buried

    again = MAKERS["products"]("products0") | {"scan": Binary(random.Random(1).randbytes(420_000))}
    rig.database["products"].insert_one(again)
    rig.database["products"].delete_one({"sku": "SKU-products1"})
    catch_up(rig)
    (letter,) = list_letters(rig.ledger, "products")
    assert letter.id == str(again["_id"])
    report = purge(rig)
    assert (report.scanned, report.purged, report.kept["dead_letter"], report.changed) == (12, 10, 2, 0)
    assert {key[0] for key in tombstones(rig)} == {f"PRODUCT#{again['_id']}", "UNIQUE#products.sku_1#SKU-products0"}
    assert validate(rig).ok

    rig.database["products"].delete_one({"_id": again["_id"]})
    catch_up(rig)
    assert purge(rig).purged == 2
    assert tombstones(rig) == {}
    after = rig.scan()
    again_loaded = ("CATEGORY#", "UNIQUE#categories.")
    gone = {key for key, item in before.items() if item.get("sku") == {"S": "SKU-products1"}}
    gone |= {key for key in before if key[0] == "UNIQUE#products.sku_1#SKU-products1"}
    assert {key: item for key, item in after.items() if not key[0].startswith(again_loaded)} == {
        key: item
        for key, item in before.items()
        if "_deleted" not in item and key not in gone and not key[0].startswith(again_loaded)
    }
    assert validate(rig).ok


def test_document_that_returns_between_judging_and_deleting_stays(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    no_wait(monkeypatch)
    (key,) = [key for key in tombstones(rig) if key[0].startswith("PRODUCT#")]
    returned = MAKERS["products"]("returned") | {"_id": ObjectId(key[0].partition("#")[2])}

    class Meanwhile:
        """A target; the application brings the document back while its tombstone is about to be deleted."""

        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __getattr__(self, name: str) -> Any:
            return getattr(self.inner, name)

        async def delete_exact(self, table: str, graves: Sequence[Grave], *rest: Any) -> Written:
            if any(grave.key == key for grave in graves):
                await asyncio.to_thread(rig.database["products"].insert_one, returned)
                await follow(rig, self.inner)
            written: Written = await self.inner.delete_exact(table, graves, *rest)
            return written

    report = with_target(rig, lambda target: purging.purge(job_of(rig), Meanwhile(target)))
    assert (report.scanned, report.purged, report.changed) == (9, 8, 1)
    assert rig.scan()[key]["sku"] == {"S": "SKU-returned"}
    assert tombstones(rig) == {}
    assert validate(rig).ok
