"""While DynamoDB leads guards are judged by its documents: what is missing, another's or too many is found and mended."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.compare.diff import DifferenceKind
from docferry.core.mapping.items import Item, ItemKey, key_of, tombstone
from docferry.core.versions import version_text
from docferry.flows.ledger.modes import read_mode
from docferry.flows.reverse.follower import reverse
from docferry.flows.validate.guards import mending
from docferry.flows.validate.repair import RepairReport, repair
from support.reverse import judged, rig
from support.reverse.judged import Judged
from support.reverse.rig import TABLE
from support.validate.reverse_world import ANN, BOB, hurried

__all__ = ["hurried"]
UNIQUE = parse_migration(b"""
migration: back
source: {database: back}
tables: {Items: {}}
backfill: {budget_wcu: 0}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{name}", SK: PROFILE}}
    children:
      addresses: {entity: ADDRESS, key: {SK: "ADDRESS#{index:03d}"}}
    unique: {_id_: [_id], mail_1: [mail]}
  notes:
    item: {entity: NOTE, key: {PK: "NOTE#{_id}", SK: NOTE}}
""")
INDEXES = (
    {"name": "_id_", "key": {"_id": 1}},
    {"name": "name_1", "key": {"name": 1}, "unique": True},
    {"name": "mail_1", "key": {"mail": 1}, "unique": True},
)


class Guarded(Judged):
    """A write puts and buries the guards of its documents, too, as the client does."""

    def __init__(self) -> None:
        super().__init__()
        self.source.indexes["users"] = INDEXES
        self._guards: dict[Any, list[Item]] = {}

    def put(self, collection: str, *documents: dict[str, Any]) -> Any:
        writes = super().put(collection, *documents)
        guards: dict[ItemKey, Item] = {}
        for one in documents:
            old, made = self._guards.get(one["_id"], []), UNIQUE.mapping(collection).guard_items(one, self.version)
            for item in old:
                guards.setdefault(key_of(item), tombstone(item, self.version, "_ttl"))
            guards |= {key_of(item): item for item in made}
            self._guards[one["_id"]] = made
        self.streams.write(TABLE, guards.values())
        return writes

    @property
    def table(self) -> dict[Any, Item]:
        return self.target.tables[TABLE]

    def guard(self, mail: str) -> ItemKey:
        return f"UNIQUE#users.mail_1#{mail}", "UNIQUE"

    def owner(self, mail: str) -> str | None:
        item = self.table.get(self.guard(mail))
        return None if item is None or "_deleted" in item else item["_id"]["N"]

    def repair(self) -> RepairReport:
        return asyncio.run(self._repair())

    async def _repair(self) -> RepairReport:
        self.stop = threading.Event()
        following = asyncio.create_task(reverse(self.job(), self.target))
        try:
            return await repair(self.validation(), self.target)
        finally:
            self.stop.set()
            await following


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Guarded:
    for module in (rig, judged):
        monkeypatch.setattr(module, "MIGRATION", UNIQUE)
    monkeypatch.setattr(mending, "CLOCKS_S", 0.0)
    monkeypatch.setattr(mending, "POLL_S", 0.01)
    made = Guarded()
    made.start()
    made.put("users", ANN, BOB)
    made.follow()
    return made


def missing(world: Guarded) -> None:
    del world.table[world.guard("a")]


def buried(world: Guarded) -> None:
    world.table[world.guard("a")] = tombstone(world.table[world.guard("a")], 9, "_ttl")


def anothers(world: Guarded) -> None:
    world.table[world.guard("a")] |= {"_id": {"N": "2"}, "_v": {"S": version_text(9)}}


def without_holder(world: Guarded) -> None:
    pk, sk = world.guard("z")
    world.table[pk, sk] = {**world.table[world.guard("a")], "PK": {"S": pk}}


def of_nobody(world: Guarded) -> None:
    without_holder(world)
    world.table[world.guard("z")]["_id"] = {"N": "77"}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (missing, DifferenceKind.MISSING),
        (buried, DifferenceKind.MISSING),
        (anothers, DifferenceKind.DIFFERENT),
        (without_holder, DifferenceKind.EXTRA),
        (of_nobody, DifferenceKind.EXTRA),
    ],
)
def test_a_guard_that_is_not_its_documents_is_found_and_mended(
    world: Guarded, damage: Callable[[Guarded], None], kind: DifferenceKind
) -> None:
    assert world.validate().verdict == "EQUAL"
    damage(world)
    report = world.validate()
    assert report.verdict == "DIFFERENT", report.render()
    assert [(one.kind, one.sk) for one in report.differences] == [(kind, "UNIQUE")]
    done = world.repair()
    assert done.guards + done.tombstones == 1
    assert (world.owner("a"), world.owner("b"), world.owner("z")) == ("1", "2", None)
    assert world.validate().verdict == "EQUAL"


@pytest.mark.parametrize("page_items", [1, 3])
def test_guards_are_equal_however_pages_cut_documents(world: Guarded, page_items: int) -> None:
    world.target.page_items = page_items
    world.put("users", ANN | {"mail": "new"})
    world.follow()
    report = world.validate()
    assert (report.verdict, report.rechecked) == ("EQUAL", 0), report.render()


def test_a_value_that_two_documents_hold_is_a_finding_for_a_person(world: Guarded) -> None:
    world.put("users", BOB | {"mail": "a"})  # as no client of ours would
    world.follow()
    report = world.validate()
    assert [(one.kind.value, one.expected) for one in report.differences] == [
        ("unaccounted", "one document with this value")
    ]
    assert (world.repair().kept, world.validate().verdict) == (1, "DIFFERENT")


def test_a_change_that_is_on_its_way_is_no_difference(world: Guarded) -> None:
    async def meanwhile() -> None:
        for number in range(60):
            world.put("users", ANN | {"mail": f"m{number}"})
            await asyncio.sleep(0.005)

    assert world.validate(meanwhile=meanwhile).verdict != "DIFFERENT"
    assert world.validate().verdict == "EQUAL"


def test_a_document_that_gives_the_value_up_while_it_is_mended_keeps_no_guard(
    world: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_newer = world.target.put_newer

    async def put_and_move(table: str, items: Any, *arguments: Any, **options: Any) -> Any:
        written = await put_newer(table, items, *arguments, **options)
        if any(key_of(item) == world.guard("a") and "_deleted" not in item for item in items):
            world._guards[1] = []  # what the client reads there is not its own
            world.put("users", ANN | {"mail": "elsewhere"})
        return written

    missing(world)
    monkeypatch.setattr(world.target, "put_newer", put_and_move)
    assert world.repair().guards == 0
    assert (world.owner("a"), world.owner("elsewhere")) == (None, "1")


def test_a_value_that_another_document_gains_while_a_guard_is_mended_stays_its_own(
    world: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its guard, where none was, is just above the floor, and so below what the mended document itself has."""
    put_newer, guard = world.target.put_newer, world.table[world.guard("a")]

    async def move_and_put(table: str, items: Any, *arguments: Any, **options: Any) -> Any:
        if any(key_of(item) == world.guard("a") and "_deleted" not in item for item in items):
            world._guards[1] = []  # what the client reads there is not its own
            world.put("users", ANN | {"mail": "elsewhere"}, BOB | {"mail": "a"})
            gained = read_mode(world.validation().ledger).floor + 1
            world.table[world.guard("a")] = {**guard, "_id": {"N": "2"}, "_v": {"S": version_text(gained)}}
        return await put_newer(table, items, *arguments, **options)

    missing(world)
    monkeypatch.setattr(world.target, "put_newer", move_and_put)
    assert (world.repair().guards, world.owner("a")) == (0, "2")


def test_a_masked_value_is_in_no_report(world: Guarded) -> None:
    without_holder(world)
    missing(world)
    world.migration = replace(world.migration, validate=replace(world.migration.validate, masked=("mail",)))
    assert {one.pk for one in world.validate().differences} == {"UNIQUE#users.mail_1#(masked)"}
