"""Parts of items that nothing names: which a purge takes, and which may still be named."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
import yaml
from docferry.config import Migration, parse_migration
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.core.versions import parse_version, version_text
from docferry.errors import PreflightFailed
from docferry.flows import purge as purging
from docferry.flows.purge import PurgeReport
from docferry.ports.flows import ItemPart, PartsPage
from support.place import SHOP_FILE
from support.validate.planting import MAKERS, at_once
from support.validate.world import World

__all__ = ["at_once"]
pytestmark = pytest.mark.usefixtures("at_once")


@pytest.fixture
def migration(monkeypatch: pytest.MonkeyPatch) -> Migration:
    monkeypatch.setattr(purging, "YOUNG_S", 0.0)
    monkeypatch.setattr(purging, "STALE_S", 0.0)
    tree = yaml.safe_load(SHOP_FILE.read_text())
    tree["collections"]["products"]["overflow"] = "split"
    return parse_migration(yaml.safe_dump(tree).encode())


@pytest.fixture
def world() -> World:
    made = World()
    made.write("products", MAKERS["products"]("one"))
    made.load()
    made.write("users", MAKERS["users"]("later"))
    made.replicate()
    return made


class Left:
    """What a table holds of parts that nothing names."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, *parts: ItemPart) -> None:
        self.there, self.named = list(parts), 3
        monkeypatch.setattr(world.target, "parts", self._parts)
        monkeypatch.setattr(world.target, "delete_parts", self._delete)

    async def _parts(self, table: str, segment: int, segments: int, start: Any) -> PartsPage:
        mine = self.there if segment == 1 else []
        return PartsPage(list(mine), len(mine) + (self.named if segment == 0 else 0), None)

    async def _delete(self, table: str, parts: Sequence[ItemPart], budget: Any, guard: Any) -> float:
        guard()
        self.there = [part for part in self.there if part not in parts]
        return 390.0 * len(parts)


def part(version: int, overtaken: bool = False) -> ItemPart:
    return ItemPart((f"PART#{version:032x}", "PART"), version_text(version), overtaken)


def purge(world: World, migration: Migration, dry_run: bool = False) -> PurgeReport:
    return asyncio.run(purging.purge(world.job(migration=migration), world.target, dry_run))


def test_parts_that_no_put_can_come_to_name_go(
    world: World, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = parse_version(next(iter(world.items.values()))["_v"]["S"])
    ahead = old + (3600 << 56)
    left = Left(world, monkeypatch, part(old), part(ahead), part(ahead + 1, overtaken=True))
    seen = purge(world, migration, dry_run=True)
    assert (seen.parts, seen.parts_purged, seen.parts_kept) == (6, 2, 1)
    assert len(left.there) == 3
    report = purge(world, migration)
    assert (report.parts, report.parts_purged, report.parts_kept) == (6, 2, 1)
    assert left.there == [part(ahead)]
    assert report.units >= 780
    assert "2 of 6 parts of items were left over" in report.render()
    assert purge(world, migration, dry_run=True).parts_kept == 1


def test_a_purge_that_is_not_proved_takes_none(
    world: World, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purging, "YOUNG_S", 60.0)
    left = Left(world, monkeypatch, part(1, overtaken=True))
    with pytest.raises(PreflightFailed):
        purge(world, migration)
    assert left.there == [part(1, overtaken=True)]


def test_of_the_time_that_dynamodb_leads_only_those_go_that_are_overtaken(
    world: World, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    floor = 1000
    leads = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=1, floor=floor).to_body()
    world.ledger.write(*MODE, leads, expect=world.ledger.read(*MODE))
    left = Left(world, monkeypatch, part(floor - 1), part(floor + 1), part(floor + 2, overtaken=True))
    purge(world, migration)
    assert left.there == [part(floor + 1)]
