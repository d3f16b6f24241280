"""Lanes: changes of a document in their order, and the oldest change first, so that the position moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
from docferry.config import parse_migration
from docferry.core.backoff import Backoff
from docferry.core.mapping.items import Item
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import parse_version
from docferry.errors import InvariantBroken, Unavailable, Unforeseen
from docferry.flows.kernel.unforeseen import ATTEMPTS
from docferry.flows.ledger.dead_letters import list_letters
from docferry.flows.replicate import lanes as applying
from docferry.flows.replicate.lanes import Applying, FirstWrites, Lanes
from docferry.flows.replicate.report import ChangeOutcome, ReplicationReport
from docferry.ports.flows import ChangeEvent
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget

FILE = b"migration: m\nsource: {database: d}\ntables: {Items: {}}\ncollections: {docs: {}}\n"
HALF = 300
MIGRATION = parse_migration(FILE, "file")


class NoLimit:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class SlowTarget(FakeTarget):
    """Writes one item at a time, in the order of asking, and remembers the order."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.written: list[tuple[str, int]] = []
        self.slot, self.half = asyncio.Lock(), asyncio.Event()

    async def put_newer(self, table: str, items: Sequence[Item], budget: Any, guard: Any, **how: Any) -> Any:
        async with self.slot:
            await asyncio.sleep(0)
            self.written += [(item["PK"]["S"], parse_version(item["_v"]["S"])) for item in items]
            if len(self.written) >= HALF:
                self.half.set()
            return await super().put_newer(table, items, budget, guard, **how)


class World:
    def __init__(self) -> None:
        self.source, self.target = FakeSource(), SlowTarget()
        self.target.create_table("Items")
        self.source.images["docs"] = True
        self.position = self.source.stream_position()
        work = Applying(
            migration=MIGRATION,
            source=self.source,
            ledger=FakeLedger(),
            target=self.target,
            budget=NoLimit(),
            guard=lambda: None,
            stop=threading.Event(),
            again=Backoff(first_s=0.001),
        )
        self.lanes = Lanes(work, self.position, ReplicationReport().books)

    def changes(self) -> list[ChangeEvent]:
        feed = self.source.follow(self.position, {"docs": MIGRATION.mapping("docs").key_fields})
        found: list[ChangeEvent] = []
        while batch := feed.read(0.0).changes:
            found += batch
        return found

    async def until_idle(self) -> None:
        while self.lanes.pending and self.lanes.failure is None:
            self.lanes.moved.clear()
            await self.lanes.moved.wait()


def test_a_document_with_many_changes_does_not_hold_the_position_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is written at every second change: served like the others, its lane would end when all others have long been empty."""
    monkeypatch.setattr(applying, "AT_ONCE", 4)

    async def run() -> None:
        world = World()
        for number in range(HALF):
            world.source.put("docs", {"_id": "busy", "x": number})
            world.source.put("docs", {"_id": number, "x": 1})
        changes = world.changes()
        for change in changes:
            world.lanes.put(change)
        async with asyncio.timeout(60):
            await world.target.half.wait()
        left = world.lanes.pending
        assert left < 500, f"{len(world.target.written)} of 600 changes are written, {left} are behind the position"
        await world.until_idle()
        busy = [version for key, version in world.target.written if key == "DOCS#busy"]
        assert busy == sorted(busy)
        assert len(world.target.written) == len(changes) == 600
        assert world.lanes.position == changes[-1].position

    asyncio.run(run())


def test_after_lanes_were_empty_the_next_change_is_applied() -> None:
    async def run() -> None:
        world = World()
        for number in range(50):
            world.source.put("docs", {"_id": number % 3, "x": number})
            world.lanes.put(world.changes()[-1])
            await world.until_idle()
        assert world.lanes.books[ChangeOutcome.WRITTEN] == 50

    asyncio.run(run())


def test_error_ends_the_lanes_and_keeps_the_position() -> None:
    async def run() -> None:
        world = World()
        world.source.put("docs", {"_id": 1})
        world.source.put("docs", {"_id": 2})
        world.target.faults.fail_next(Unavailable("gone"), Unavailable("gone"))
        for change in world.changes():
            world.lanes.put(change)
        await world.until_idle()
        assert isinstance(world.lanes.failure, Unavailable)
        assert world.lanes.position == world.position
        await world.lanes.end()

    asyncio.run(run())


def change_of(touched: tuple[str, ...] | None, operation: str = "update") -> ChangeEvent:
    position = World().position
    return ChangeEvent(
        collection="docs", operation=operation, id=b"", time=position.time, n=0, touched=touched, position=position
    )


def test_what_nobody_else_wrote_is_counted_by_collection_operation_and_field_and_by_nothing_inside_a_field() -> None:
    counts = FirstWrites()
    for touched in [("email", "profile.phone.s3cr3t"), ("profile.fax", "email"), ("status",)]:
        counts.note(change_of(touched))
    counts.note(change_of(None, "insert"))
    assert counts == {"docs update email, profile": 2, "docs update status": 1, "docs insert": 1}


def test_kinds_of_changes_beyond_a_bound_are_counted_together() -> None:
    counts = FirstWrites()
    for number in range(applying.MOST_KINDS + 50):
        counts.note(change_of((f"field{number}",)))
    assert (len(counts), counts["others"]) == (applying.MOST_KINDS + 1, 50)


class Buggy(FakeTarget):
    """Has an error that no code foresees, or one of the whole stream, for one document's items."""

    error: Exception = AttributeError("secret value of a document")
    times = 10**9
    graves_too = False

    async def put_newer(self, table: str, items: Sequence[Item], budget: Any, guard: Any, **how: Any) -> Any:
        hit = [one for one in items if one["PK"]["S"] == "DOCS#~i2" and (self.graves_too or "_deleted" not in one)]
        if hit and self.times:
            self.times -= 1
            raise self.error
        return await super().put_newer(table, items, budget, guard, **how)


def with_bug(**settings: Any) -> tuple[World, Buggy]:
    world = World()
    target = Buggy()
    target.create_table("Items")
    for name, value in settings.items():
        setattr(target, name, value)
    world.lanes.work = replace(world.lanes.work, target=target)
    for number in range(5):
        world.source.put("docs", {"_id": number, "x": 1})
    return world, target


def apply_all(world: World, *changes: ChangeEvent) -> None:
    async def run() -> None:
        for change in changes or world.changes():
            world.lanes.put(change)
        async with asyncio.timeout(20):
            await world.until_idle()

    asyncio.run(run())


def test_a_change_with_an_error_that_nothing_foresees_becomes_a_letter_and_the_stream_goes_on() -> None:
    world, target = with_bug()
    apply_all(world)
    assert (world.lanes.failure, world.lanes.pending) == (None, 0)
    (letter,) = list_letters(world.lanes.work.ledger, "docs")
    assert (letter.id, letter.reason) == ("~i2", "Unforeseen")
    assert "AttributeError" in letter.message
    assert "test_lanes.py" in letter.message
    assert "secret" not in letter.message
    alive = {item["PK"]["S"] for item in target.tables["Items"].values() if "_deleted" not in item}
    assert alive == {f"DOCS#~i{number}" for number in (0, 1, 3, 4)}
    assert world.lanes.books.counted() == {
        "events": 5,
        "written": 4,
        "superseded": 0,
        "dead": 1,
        "passed": 0,
        "outside": 0,
    }


def test_an_error_that_goes_away_leaves_no_letter() -> None:
    world, _ = with_bug(times=ATTEMPTS - 1)
    apply_all(world)
    assert list_letters(world.lanes.work.ledger, "docs") == []
    assert world.lanes.books[ChangeOutcome.WRITTEN] == 5


def test_a_broken_invariant_ends_the_stream() -> None:
    world, _ = with_bug(error=InvariantBroken("two followers"))
    apply_all(world)
    assert isinstance(world.lanes.failure, InvariantBroken)
    assert list_letters(world.lanes.work.ledger, "docs") == []


class KeysCannotBeTold(DocumentMapping):
    def stubs(self, document: Any) -> Any:
        raise TypeError("secret")


def test_a_document_whose_keys_cannot_be_told_either_has_a_letter_that_says_so() -> None:
    world, _ = with_bug()
    world.lanes.mappings["docs"] = KeysCannotBeTold(world.lanes.mappings["docs"].settings)
    apply_all(world)
    assert world.lanes.failure is None
    (letter,) = list_letters(world.lanes.work.ledger, "docs")
    assert "out of date" in letter.message


def test_a_change_that_could_not_be_taken_out_of_its_event_becomes_a_letter_that_says_why() -> None:
    world = World()
    world.source.put("docs", {"_id": 1, "x": 1})
    world.source.put("docs", {"_id": 1, "x": 2})
    first, second = world.changes()
    error = Unforeseen.of(AttributeError("secret"), 1)
    lost = replace(second, operation="update", before=None, after=None, images_lost=True, error=error)
    apply_all(world, first, lost)
    (letter,) = list_letters(world.lanes.work.ledger, "docs")
    assert (letter.reason, "AttributeError" in letter.message, "secret" in letter.message) == (
        "Unforeseen",
        True,
        False,
    )
    assert world.lanes.failure is None
    assert all("_deleted" in item for item in world.target.tables["Items"].values())


def test_an_insert_that_could_not_be_taken_out_of_its_event_is_read_from_mongodb() -> None:
    world = World()
    world.source.put("docs", {"_id": 1, "x": 1})
    (change,) = world.changes()
    error = Unforeseen.of(AttributeError("secret"), 1)
    apply_all(world, replace(change, after=None, images_lost=True, error=error))
    assert list_letters(world.lanes.work.ledger, "docs") == []
    assert world.lanes.books[ChangeOutcome.WRITTEN] == 1
