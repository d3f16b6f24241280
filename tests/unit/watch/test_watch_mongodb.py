"""MongoDB is watched while DynamoDB leads: a write of another client is a letter with both copies, once, and never silent."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.mapping.items import key_of
from docferry.core.mapping.raw import encode_raw
from docferry.core.versions import snapshot_version
from docferry.errors import Problem, Unavailable
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.rooms.strays import list_strays, settle_stray, stray_copies
from docferry.flows.ledger.rooms.watch import Old, Watch, read_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.health import Status, health_of
from docferry.flows.watch.in_mongodb import MongoWatch, open_mongodb_watch
from docferry.flows.watch.ready import lacking_watch, unsettled_strays
from docferry.flows.watch.watching import watched
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job
from support.cutover.jobs import MIGRATION, set_mode
from support.filtered.world import with_filter

T = TypeVar("T")
LEAST_S = 900.0


class World:
    """DynamoDB leads since the fence's time; it holds one document, as MongoDB does."""

    def __init__(self, watch_s: float = LEAST_S) -> None:
        cutover = replace(MIGRATION.cutover, watch_s=watch_s)
        self.source = FakeSource({"users": [{"_id": 1, "name": "a"}]})
        self.target, self.ledger = FakeTarget(), FakeLedger()
        self.job: Job = make_job(migration=replace(MIGRATION, cutover=cutover), source=self.source, ledger=self.ledger)
        self.hold({"_id": 1, "name": "a"})
        self.source._tick()
        self.fence = self.source.cluster_time()
        floor = snapshot_version(self.fence)
        self.mode = ModeState(mode=Mode.DYNAMODB_ONLY, epoch=9, floor=floor)
        open_mongodb_watch(self.job, self.fence, floor)
        set_mode(self.ledger, self.mode)
        self.source._tick()

    def hold(self, document: dict[str, Any]) -> None:
        """DynamoDB holds it."""
        mapping = self.job.migration.mapping("users")
        items = encode_raw(mapping, bson.encode(document), snapshot_version(Timestamp(5, 0)))
        self.target.tables.setdefault(mapping.table, {}).update({key_of(item): item for item in items})

    def pass_seconds(self, seconds: int) -> None:
        self.source._now = Timestamp(self.source._now.time + seconds, 0)

    def look(self, watch: MongoWatch | None = None) -> MongoWatch:
        async def work() -> MongoWatch:
            used = watch or MongoWatch(self.job, self.target)
            await used.look(self.mode, 0.0)
            await used.close()
            return used

        return asyncio.run(work())

    def copies(self) -> list[tuple[dict[str, Any] | None, dict[str, Any] | None]]:
        found = [stray_copies(self.ledger, one) for one in list_strays(self.ledger)]
        return [tuple(bson.decode(copy) if copy else None for copy in pair) for pair in found]  # type: ignore[misc]

    def watch(self) -> Watch:
        found = read_watch(self.ledger, Old.MONGODB)
        assert found is not None
        return found


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def test_a_write_of_somebody_else_is_a_letter_with_what_both_databases_hold() -> None:
    world = World()
    world.hold({"_id": 1, "name": "DynamoDB's"})
    world.source.write_as_other("users", 1, {"_id": 1, "name": "late"})
    world.look()
    (letter,) = list_strays(world.ledger)
    assert (letter.old, letter.collection, letter.id, letter.operation) == (Old.MONGODB, "users", "~i1", "replace")
    assert world.copies() == [({"_id": 1, "name": "late"}, {"_id": 1, "name": "DynamoDB's"})]


def test_docferrys_own_writes_are_none_nor_is_what_was_written_before_the_fence() -> None:
    world = World()
    world.source.put("users", {"_id": 1, "name": "by reverse replication"})
    world.look()
    assert list_strays(world.ledger) == []


def test_an_insert_and_a_delete_are_told_with_the_copy_that_there_is() -> None:
    world = World()
    world.source.write_as_other("users", 2, {"_id": 2})
    world.source.write_as_other("users", 1, None)
    world.look()
    assert sorted(map(str, world.copies())) == sorted(map(str, [({"_id": 2}, None), (None, {"_id": 1, "name": "a"})]))


def test_each_write_of_a_document_has_a_letter_of_its_own_and_none_twice() -> None:
    world = World()
    for name in ("one", "two"):
        world.source.write_as_other("users", 1, {"_id": 1, "name": name})
    world.look()
    record = world.ledger.read("watch", "mongodb")
    assert record is not None
    open_mongodb_watch(world.job, world.fence, world.mode.floor)  # read once more from the beginning
    world.look()
    assert len(list_strays(world.ledger)) == 2


def test_what_a_person_has_settled_stays_so_when_it_is_read_again_and_it_is_known_who_did() -> None:
    world = World()
    world.source.write_as_other("users", 1, {"_id": 1, "name": "late"})
    world.look()
    settle_stray(world.ledger, list_strays(world.ledger)[0], "ann", "made again in the shop")
    open_mongodb_watch(world.job, world.fence, world.mode.floor)
    world.look()
    assert list_strays(world.ledger) == []
    assert world.ledger.list("stray-parts") == []
    (settled,) = world.ledger.list("strays-settled")
    assert (settled.body["by"], settled.body["why"]) == ("ann", "made again in the shop")


def test_a_large_copy_is_kept_whole() -> None:
    world, text = World(), "".join(map(str, range(400_000)))
    world.source.write_as_other("users", 3, {"_id": 3, "text": text})
    world.look()
    assert world.copies() == [({"_id": 3, "text": text}, None)]


# --- how long --------------------------------------------------------------------------------------------------------


def lacking(world: World, waived: tuple[str, ...] = ()) -> list[Problem]:
    return lacking_watch(world.ledger, world.mode, waived)


def test_the_watch_ends_after_so_long_by_mongodbs_clock_and_not_before() -> None:
    world = World()
    world.pass_seconds(int(LEAST_S) - 60)
    world.look()
    assert world.watch().is_open
    assert "1.0 min more" in lacking(world)[0].what
    world.pass_seconds(60)
    world.look()
    assert not world.watch().is_open
    assert lacking(world) == []


def test_nobody_who_watches_is_no_watch_however_long_ago_the_change_of_leader_was() -> None:
    world = World()
    world.pass_seconds(100_000)
    assert "17.0 min more" not in lacking(world)[0].what
    assert "15.0 min more" in lacking(world)[0].what
    assert lacking(world, ("watch",)) == []


def test_a_watch_of_an_earlier_time_that_dynamodb_led_does_not_count() -> None:
    world = World()
    world.pass_seconds(1_000)
    world.look()
    later = replace(world.mode, floor=world.mode.floor + 1)
    assert "has not been watched" in lacking_watch(world.ledger, later)[0].what


def test_after_its_end_it_goes_on_as_long_as_dynamodb_leads() -> None:
    world = World()
    world.pass_seconds(1_000)
    world.look()
    world.source.write_as_other("users", 1, {"_id": 1, "name": "very late"})
    world.look()
    assert len(list_strays(world.ledger)) == 1
    assert "1 write(s) reached a database" in unsettled_strays(world.ledger)[0].what


def test_where_the_oplog_no_longer_reaches_back_that_is_a_letter_and_the_time_begins_again() -> None:
    world = World()
    world.pass_seconds(1_000)
    world.source.history_from = world.source.cluster_time()
    world.look()
    (letter,) = list_strays(world.ledger)
    assert letter.operation == "not known"
    world.look()
    assert world.watch().is_open
    world.pass_seconds(900)
    world.look()
    assert not world.watch().is_open


def test_a_change_of_leader_by_an_older_docferry_is_watched_from_its_fence() -> None:
    world = World()
    record = world.ledger.read("watch", "mongodb")
    assert record is not None
    world.ledger.delete(record)
    assert "has not been watched" in lacking(world)[0].what
    world.source.write_as_other("users", 1, {"_id": 1, "name": "late"})
    world.look()
    assert len(list_strays(world.ledger)) == 1


# --- beside replication ----------------------------------------------------------------------------------------------


def test_beside_replication_it_is_watched_also_after_mongodb_was_away_and_health_says_what_was_seen() -> None:
    world = World()
    world.source.write_as_other("users", 1, {"_id": 1, "name": "late"})
    world.source.faults.fail_next(*[Unavailable("away", operation="find")] * 2)

    async def replication() -> str:
        for _ in range(400):
            if list_strays(world.ledger):
                break
            await asyncio.sleep(0.02)
        return "replicated"

    assert run(watched(world.job, world.target, replication(), look_s=0.02)) == "replicated"
    assert len(list_strays(world.ledger)) == 1
    part = health_of(world.job, ["watch"]).parts["watch"]
    assert part.status is Status.UNHEALTHY
    assert "1 stray write(s)" in part.why


@pytest.mark.parametrize(("silent_s", "status"), [(0, Status.HEALTHY), (120, Status.UNHEALTHY)])
def test_health_says_whether_somebody_watches(silent_s: int, status: Status) -> None:
    world = World()
    record = world.ledger.read("watch", "mongodb")
    assert record is not None
    began = {"begun": now_ms() - silent_s * 1000}
    world.ledger.write("watch", "mongodb", {**record.body, **began}, expect=record)
    assert health_of(world.job, ["watch"]).parts["watch"].status is status


@pytest.mark.parametrize(
    ("before", "after", "strays"),
    [("b", "b", 0), ("b", "a", 1), ("a", "b", 1), ("a", "a", 1), ("b", None, 0), (None, "b", 0), (None, "a", 1)],
)
def test_a_write_outside_the_filter_of_a_collection_is_no_stray(
    before: str | None, after: str | None, strays: int
) -> None:
    world = World()
    world.job = replace(world.job, migration=with_filter(world.job.migration, "users", {"name": "a"}))
    if before is not None:
        world.source.put("users", {"_id": 2, "name": before})
    world.source.write_as_other("users", 2, None if after is None else {"_id": 2, "name": after, "n": 1})
    world.look()
    assert len(list_strays(world.ledger)) == strays
