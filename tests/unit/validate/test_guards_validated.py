"""Guards are validated, repaired and purged as other items are: what is missing, another's, too many, or gone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.config import parse_migration
from docferry.core.compare.diff import DifferenceKind
from docferry.core.mapping.items import Item, is_guard, tombstone
from docferry.core.versions import version_text
from docferry.flows import purge as purging
from docferry.flows.backfill.load import backfill_collection
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.positions import REPLICATION, position_body, read_replication
from docferry.flows.replicate.follower import replicate
from docferry.flows.validate.first_pass import ValidationReport, validate
from docferry.flows.validate.repair import RepairReport, repair
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job
from support.validate.planting import at_once

__all__ = ["at_once"]
pytestmark = pytest.mark.usefixtures("at_once")
MIGRATION = parse_migration(b"""
migration: unique
source: {database: unique}
tables: {Unique: {}}
backfill: {budget_wcu: 0}
validate: {settle_s: 0}
collections:
  users:
    item: {entity: USER, key: {PK: "USER#{_id}", SK: PROFILE}}
    unique: {mail_1: [mail]}
""")
INDEXES = ({"name": "_id_", "key": {"_id": 1}}, {"name": "mail_1", "key": {"mail": 1}, "unique": True})


class Unique:
    """Three users, loaded and followed."""

    def __init__(self, masked: tuple[str, ...] = ()) -> None:
        self.migration = replace(MIGRATION, validate=replace(MIGRATION.validate, masked=masked))
        self.source, self.target, self.ledger = FakeSource({"users": []}), FakeTarget(), FakeLedger()
        self.source.indexes["users"] = INDEXES
        self.target.create_table("Unique")
        for number in range(3):
            self.put(number, f"m{number}")
        asyncio.run(backfill_collection(self.job(), self.target, "users"))
        self.follow()

    @property
    def table(self) -> dict[Any, Item]:
        return self.target.tables["Unique"]

    def job(self) -> Job:
        return make_job(migration=self.migration, source=self.source, ledger=self.ledger)

    def put(self, number: int, mail: str) -> None:
        self.source.put("users", bson.encode({"_id": number, "mail": mail}))

    def follow(self) -> None:
        """And a moment further: of its own time a position does not say that all has been applied."""
        asyncio.run(replicate(self.job(), self.target, until=self.source.cluster_time()))
        record, position = self.ledger.read(*REPLICATION), read_replication(self.ledger).position
        assert record is not None
        assert position is not None
        later = replace(position, time=Timestamp(position.time.time, position.time.inc + 1))
        self.ledger.write(*REPLICATION, {**record.body, **position_body(later)}, expect=record)

    def guard(self, mail: str) -> tuple[str, str]:
        return f"UNIQUE#users.mail_1#{mail}", "UNIQUE"

    def validate(self) -> ValidationReport:
        return asyncio.run(validate(self.job(), self.target))

    def repair(self) -> RepairReport:
        self.source.put("others", bson.encode({"_id": 0}))  # time passes: a version wins over earlier ones only
        self.follow()
        return asyncio.run(repair(self.job(), self.target))


def missing(world: Unique) -> None:
    del world.table[world.guard("m1")]


def buried(world: Unique) -> None:
    item = world.table[world.guard("m1")]
    world.table[world.guard("m1")] = tombstone(item, 1, "_ttl")


def anothers(world: Unique) -> None:
    world.table[world.guard("m1")] |= {"_id": {"N": "2"}, "_v": {"S": version_text(1)}}


def extra(world: Unique) -> None:
    pk, sk = world.guard("m9")
    world.table[pk, sk] = {**world.table[world.guard("m1")], "PK": {"S": pk}}


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (missing, DifferenceKind.MISSING),
        (buried, DifferenceKind.MISSING),
        (anothers, DifferenceKind.DIFFERENT),
        (extra, DifferenceKind.EXTRA),
    ],
)
def test_a_guard_that_is_not_as_its_document_is_found_and_mended(
    damage: Callable[[Unique], None], kind: DifferenceKind
) -> None:
    world = Unique()
    assert world.validate().verdict == "EQUAL"
    damage(world)
    report = world.validate()
    assert report.verdict == "DIFFERENT"
    (found,) = report.differences
    assert (found.kind, found.sk) == (kind, "UNIQUE")
    world.repair()
    assert world.validate().verdict == "EQUAL"


def test_a_report_shows_no_masked_value_in_a_guards_key() -> None:
    world = Unique(masked=("mail",))
    extra(world)
    missing(world)
    assert {one.pk for one in world.validate().differences} == {"UNIQUE#users.mail_1#(masked)"}


def test_a_duplicate_that_mongodb_has_let_in_is_a_difference_of_one_of_the_two_and_no_crash() -> None:
    world = Unique()
    world.put(7, "m1")
    world.follow()
    report = world.validate()
    assert report.verdict == "DIFFERENT"
    assert [one.path for one in report.differences] == ["_id"]


def test_the_tombstone_of_a_guard_is_purged_with_those_of_its_document(monkeypatch: pytest.MonkeyPatch) -> None:
    world = Unique()
    world.source.remove("users", 0)
    world.put(1, "new")
    world.follow()
    monkeypatch.setattr(purging, "YOUNG_S", 0.0)
    monkeypatch.setattr(purging, "STALE_S", 0.0)
    live = {key for key, item in world.table.items() if "_deleted" not in item}
    for _ in range(2):
        world.source.put("others", bson.encode({"_id": 0}))
        world.follow()
        report = asyncio.run(purging.purge(world.job(), world.target))
    assert report.kept == dict.fromkeys(report.kept, 0)
    assert set(world.table) == live
    assert any(map(is_guard, world.table.values()))
