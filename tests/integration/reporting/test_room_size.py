"""The control room of three large migrations, from a real DynamoDB API: how many queries a look takes, and how long."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from docferry.flows.reporting.history import history_of
from docferry.flows.reporting.room import room_of
from docferry.ports.flows import Record
from docferry.sandbox import SandboxStack
from support.airflow.large_rooms import CHUNKS, COLLECTIONS, LEDGER, LOADING, add_chunks, fill_room, large_migration
from support.backfill.rig import Rig
from support.pace import Pace

PAINT_S, UPDATE_S = 1.0, 0.2


class Counting:
    """A ledger that counts which sections are listed."""

    def __init__(self, rig: Rig) -> None:
        self.rig, self.listed = rig, Counter[str]()
        self.read, self.glance = rig.ledger.read, rig.ledger.glance

    def list(self, section: str, prefix: str = "") -> list[Record]:
        self.listed[section] += 1
        return self.rig.ledger.list(section, prefix)


@pytest.fixture(scope="module")
def rigs(stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Rig]]:
    """Three migrations in one ledger; one collection of the first is being loaded, all others have been."""
    directory = tmp_path_factory.mktemp("room")
    made = []
    for name in ("first", "second", "third"):
        migration = large_migration(directory, name)
        made.append(Rig(stack.env(), Path(migration.path), migration))
    made[0].provision()
    for rig in made:
        fill_room(rig)
    add_chunks(made[0], range(CHUNKS))
    yield made
    for rig in made:
        rig.close()


def test_a_look_asks_each_section_once_and_reads_no_chunk_of_what_is_loaded(rigs: list[Rig]) -> None:
    ledger = Counting(rigs[0])
    told = room_of(rigs[0].migration, ledger)  # type: ignore[arg-type]
    history_of(ledger)  # type: ignore[arg-type]
    assert {section: count for section, count in ledger.listed.items() if count > 1} == {}
    assert [section for section in ledger.listed if section.startswith("chunks:")] == [f"chunks:{LOADING}"]
    assert len(told["collections"]) == COLLECTIONS


def test_no_partition_of_the_ledger_grows_past_two_thousand_items(rigs: list[Rig]) -> None:
    partitions = Counter[str]()
    pages = rigs[0].dynamodb.get_paginator("scan").paginate(TableName=LEDGER, ProjectionExpression="PK")
    for page in pages:
        partitions.update(item["PK"]["S"] for item in page["Items"])
    assert sum(partitions.values()) > CHUNKS
    assert max(partitions.values()) < 2_000


def test_first_paint_takes_less_than_a_second_and_an_update_less_than_a_fifth(rigs: list[Rig]) -> None:
    took = {"first": 9.0, "update": 9.0}
    for _ in range(5):
        with Pace() as pace:
            for rig in rigs:
                room_of(rig.migration, rig.ledger)
                history_of(rig.ledger)
        took["first"] = min(took["first"], pace.seconds)
        with Pace() as pace:
            room_of(rigs[0].migration, rigs[0].ledger)
        took["update"] = min(took["update"], pace.seconds)
    print(took)
    assert took["first"] < PAINT_S
    assert took["update"] < UPDATE_S
