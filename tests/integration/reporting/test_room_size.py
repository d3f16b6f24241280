"""The control room of three large migrations, from a real DynamoDB API: how many queries a look takes, and how much of a
processor."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import ceil
from pathlib import Path

import pytest
from docferry.flows.ledger.load_headers import LOADING as UNDER_WAY
from docferry.flows.ledger.load_headers import LoadHeaders
from docferry.flows.reporting.history import history_of
from docferry.flows.reporting.memory import MOST_CHUNKS, RoomMemory
from docferry.flows.reporting.room import room_of
from docferry.ports.flows import Record
from docferry.sandbox import SandboxStack
from support.airflow.large_rooms import CHUNKS, COLLECTIONS, LOADING, add_chunks, fill_room, large_migration
from support.backfill.rig import Rig

PAINT_S, UPDATE_S, LOADING_S = 1.0, 0.1, 0.2
"""Of computing."""
MOST_QUERIES = 15


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
        migration = large_migration(directory, name, "RoomSize")
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
    pages = (
        rigs[0]
        .dynamodb.get_paginator("scan")
        .paginate(TableName=rigs[0].migration.ledger.table, ProjectionExpression="PK")
    )
    for page in pages:
        partitions.update(item["PK"]["S"] for item in page["Items"])
    assert sum(partitions.values()) > CHUNKS
    assert max(partitions.values()) < 2_000


def least_cpu_s(look: Callable[[], object]) -> float:
    """What this process computes for a look, at best: whatever else the machine does."""
    took = []
    for _ in range(5):
        before = time.process_time()
        look()
        took.append(time.process_time() - before)
    return min(took)


def test_first_paint_computes_for_less_than_a_second_and_an_update_for_less_than_a_tenth(rigs: list[Rig]) -> None:
    def paint() -> None:
        for rig in rigs:
            room_of(rig.migration, rig.ledger)
            history_of(rig.ledger)

    memory = RoomMemory(MOST_CHUNKS)
    update = partial(room_of, rigs[0].migration, rigs[0].ledger, memory)
    update()
    took = {"first": least_cpu_s(paint), "update": least_cpu_s(update)}
    print(took)
    assert took["first"] < PAINT_S
    assert took["update"] < UPDATE_S


def test_an_update_asks_of_each_section_that_can_have_changed_and_no_more(rigs: list[Rig]) -> None:
    ledger, memory = Counting(rigs[0]), RoomMemory(MOST_CHUNKS)
    room_of(rigs[0].migration, ledger, memory)  # type: ignore[arg-type]
    ledger.listed.clear()
    room_of(rigs[0].migration, ledger, memory)  # type: ignore[arg-type]
    assert [section for section in ledger.listed if section.startswith(("dead:", "chunks:"))] == [f"chunks:{LOADING}"]
    assert ledger.listed.total() < MOST_QUERIES


def test_an_update_while_all_collections_are_loaded_computes_for_less_than_a_fifth_of_a_second(rigs: list[Rig]) -> None:
    rig, memory = rigs[0], RoomMemory(MOST_CHUNKS)
    headers = [replace(one, state=UNDER_WAY) for one in LoadHeaders(rig.ledger).all().values()]
    looks = ceil(CHUNKS / MOST_CHUNKS)
    took = [least_cpu_s(lambda: memory.loads(rig.ledger, headers)) for _ in range(ceil(looks / 5))]
    print(took)
    assert sum(one.chunks for one in memory.loads(rig.ledger, headers).values()) == CHUNKS
    assert max(took) < LOADING_S
