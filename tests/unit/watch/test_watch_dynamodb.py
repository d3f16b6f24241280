"""DynamoDB is watched after a way back: a late request and a program without the library become letters, replication does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import bson
import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.mapping.items import Item, key_of, tombstone
from docferry.core.mapping.raw import encode_raw
from docferry.core.versions import snapshot_version, version_text
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.flows.ledger.rooms.strays import list_strays, stray_copies
from docferry.flows.ledger.rooms.watch import Old, Watch, read_watch
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.health import Status, health_of
from docferry.flows.reverse.follower import record_stream_start
from docferry.flows.watch.in_dynamodb import DynamoWatch, open_dynamodb_watch
from docferry.flows.watch.late_records import SURE_MS, Reigned
from docferry.flows.watch.ready import lacking_watch
from docferry.flows.watch.watching import watched
from docferry.testing.fakes import FakeLedger, FakeSink, FakeSource, FakeStreams, FakeTarget
from docferry.testing.jobs import make_job
from support.cutover.jobs import MIGRATION, set_mode

FLOOR, END = snapshot_version(Timestamp(10, 0)), snapshot_version(Timestamp(20, 0))
LATER = snapshot_version(Timestamp(30, 0))
Document = dict[str, Any]


class World:
    """MongoDB leads again, since a moment ago; both databases hold one document, which was written while DynamoDB led."""

    def __init__(self, watch_s: float = 900.0) -> None:
        cutover = replace(MIGRATION.cutover, watch_s=watch_s)
        self.source, self.sink = FakeSource({"users": []}), FakeSink()
        self.source._now = Timestamp(25, 0)
        self.target, self.ledger = FakeTarget(), FakeLedger()
        self.streams = FakeStreams(self.target)
        migration = replace(MIGRATION, cutover=cutover)
        self.mapping = migration.mapping("users")
        self.table = self.mapping.table
        self.target.tables.setdefault(self.table, {})
        self.streams.switch_on(self.table)
        self.job: Job = make_job(
            migration=migration, source=self.source, sink=self.sink, streams=self.streams, ledger=self.ledger
        )
        record_stream_start(self.ledger, self.streams, [self.table])
        self.mongodb({"_id": 1, "name": "a"})
        self.dynamodb({"_id": 1, "name": "a"}, FLOOR + 5)
        self.applied(Timestamp(24, 0))
        self.silent_ms = now_ms()
        open_dynamodb_watch(self.job, Reigned(floor=FLOOR, end=END, silent_ms=self.silent_ms))
        set_mode(self.ledger, ModeState(mode=Mode.MONGO_ONLY, epoch=5))

    def items(self, document: Document, version: int) -> list[Item]:
        return encode_raw(self.mapping, bson.encode(document), version)

    def mongodb(self, document: Document) -> None:
        self.sink.put("users", bson.encode(document))

    def dynamodb(self, document: Document, version: int) -> None:
        self.streams.write(self.table, self.items(document, version))

    def applied(self, time: Timestamp) -> None:
        """Replication has brought everything up to then."""
        position = self.source._position(time, 0)
        record = self.ledger.read(*REPLICATION)
        body = {"owner": "", **position_body(position)}
        self.ledger.write(*REPLICATION, body, expect=record)

    def catch_up(self) -> None:
        self.source._now = Timestamp(26, 0)
        self.applied(Timestamp(27, 0))

    def watch(self) -> Watch:
        found = read_watch(self.ledger, Old.DYNAMODB)
        assert found is not None
        return found

    def look(self, until: Callable[[DynamoWatch], bool], meanwhile: Callable[[], None] = lambda: None) -> None:
        """Look until that is so, for some seconds at most."""

        async def work() -> None:
            watch = DynamoWatch(self.job, self.target, self.watch())
            try:
                for _ in range(400):
                    if not await watch.look() or until(watch):
                        return
                    meanwhile()
                    await asyncio.sleep(0.01)
                raise AssertionError("waited in vain")
            finally:
                await watch.close()

        asyncio.run(work())

    def look_at_all(self) -> None:
        """Everything that has been written so far."""
        asked = now_ms()
        self.look(lambda watch: watch.readers.have_caught_up(asked) and not watch.judge.parts)

    def copies(self) -> list[tuple[Document | None, Document | None]]:
        found = [stray_copies(self.ledger, one) for one in list_strays(self.ledger)]
        return [tuple(bson.decode(copy) if copy else None for copy in pair) for pair in found]  # type: ignore[misc]


@pytest.fixture
def world() -> World:
    return World()


def test_what_was_written_while_dynamodb_led_and_what_replication_writes_are_no_strays(world: World) -> None:
    world.mongodb({"_id": 1, "name": "b"})
    world.dynamodb({"_id": 1, "name": "b"}, LATER)
    world.dynamodb({"_id": 2, "name": "c"}, LATER + 1)
    item = world.items({"_id": 2, "name": "c"}, LATER + 1)[0]
    world.streams.write(world.table, [tombstone(item, LATER + 2, "_ttl")])
    world.streams.write(world.table, deletes=[key_of(item)])  # purged
    world.look_at_all()
    assert list_strays(world.ledger) == []


def test_a_late_request_is_a_letter_with_both_copies_once_replication_has_brought_what_mongodb_holds(
    world: World,
) -> None:
    world.dynamodb({"_id": 1, "name": "late"}, FLOOR + 6)
    looks = []

    def meanwhile() -> None:
        looks.append(list_strays(world.ledger))
        if len(looks) == 20:
            world.catch_up()

    world.look(lambda _: bool(list_strays(world.ledger)), meanwhile)
    assert not any(looks[:20])
    assert world.copies() == [({"_id": 1, "name": "late"}, {"_id": 1, "name": "a"})]
    (letter,) = list_strays(world.ledger)
    assert (letter.old, letter.collection, letter.id, letter.operation) == (Old.DYNAMODB, "users", "~i1", "change")


def test_a_late_request_is_told_while_mongodb_goes_on_and_replication_is_always_a_moment_behind(world: World) -> None:
    world.dynamodb({"_id": 1, "name": "late"}, FLOOR + 6)

    def meanwhile() -> None:
        now = world.source._now.time
        world.source._now = Timestamp(now + 1, 0)
        world.applied(Timestamp(now, 0))

    world.look(lambda _: bool(list_strays(world.ledger)), meanwhile)
    assert world.copies() == [({"_id": 1, "name": "late"}, {"_id": 1, "name": "a"})]


def test_a_write_that_only_mongodb_has_yet_is_waited_for_and_is_none(world: World) -> None:
    """It was written while DynamoDB led, in time; the stream tells of it now, and MongoDB has a newer one already."""
    world.dynamodb({"_id": 1, "name": "in time"}, FLOOR + 7)
    world.mongodb({"_id": 1, "name": "newer"})
    looks = 0

    def meanwhile() -> None:
        nonlocal looks
        looks += 1
        if looks == 10:  # replication brings it; the record's time is not behind the switch
            world.target.tables[world.table].update(
                {key_of(item): item for item in world.items({"_id": 1, "name": "newer"}, LATER)}
            )
            world.catch_up()

    reigned = Reigned(floor=FLOOR, end=END, silent_ms=now_ms() + 5_000)
    open_dynamodb_watch(world.job, reigned)
    asked = now_ms()
    world.look(lambda watch: looks > 10 and watch.readers.have_caught_up(asked) and not watch.judge.parts, meanwhile)
    assert list_strays(world.ledger) == []


def test_a_late_request_that_replication_has_overwritten_is_a_letter_all_the_same(world: World) -> None:
    world.streams.clock_ms = lambda: world.silent_ms + 3_000
    world.dynamodb({"_id": 1, "name": "late"}, FLOOR + 6)
    world.mongodb({"_id": 1, "name": "newer"})
    world.dynamodb({"_id": 1, "name": "newer"}, LATER)
    world.look(lambda _: bool(list_strays(world.ledger)))
    ((old, new),) = world.copies()
    assert old is not None
    assert old["item"]["name"] == {"S": "late"}
    assert new == {"_id": 1, "name": "newer"}


def without_version(item: Item) -> Item:
    return {name: value for name, value in item.items() if name != "_v"}


@pytest.mark.parametrize("what", ["no version", "its own version again", "an older version"])
def test_a_program_without_the_library_is_known_by_the_version_that_it_does_not_raise(world: World, what: str) -> None:
    world.catch_up()
    world.mongodb({"_id": 1, "name": "b"})
    world.dynamodb({"_id": 1, "name": "b"}, LATER)
    (item,) = world.items({"_id": 1, "name": "foreign"}, LATER)
    changed = {
        "no version": without_version(item),
        "its own version again": item,
        "an older version": item | {"_v": {"S": version_text(3)}},
    }[what]
    world.streams.write(world.table, [changed])
    world.look(lambda watch: bool(list_strays(world.ledger)) and not watch.judge.parts)
    assert [new for _, new in world.copies()] == [{"_id": 1, "name": "b"}]  # one, however many records tell of the item


def test_a_late_delete_is_one_whether_it_leaves_a_tombstone_or_nothing(world: World) -> None:
    world.catch_up()
    (item,) = world.items({"_id": 1, "name": "a"}, FLOOR + 5)
    world.streams.write(world.table, [tombstone(item, FLOOR + 6, "_ttl")])
    world.look(lambda _: bool(list_strays(world.ledger)))
    assert world.copies() == [(None, {"_id": 1, "name": "a"})]

    other = World()
    other.catch_up()
    other.streams.write(other.table, deletes=[key_of(item)])
    other.look(lambda _: bool(list_strays(other.ledger)))
    assert other.copies() == [(None, {"_id": 1, "name": "a"})]


def test_what_ttl_removes_and_what_is_not_of_the_migration_is_none(world: World) -> None:
    world.catch_up()
    (item,) = world.items({"_id": 1, "name": "a"}, FLOOR + 5)
    world.streams.write(world.table, [item | {"_ttl": {"N": "1000"}, "_v": {"S": version_text(LATER)}}])
    world.streams.write(world.table, deletes=[key_of(item)])
    world.streams.write(world.table, [{"PK": {"S": "X"}, "SK": {"S": "Y"}, "n": {"N": "1"}}])
    world.look_at_all()
    assert [one for one in list_strays(world.ledger) if one.operation == "delete"] == []


def test_what_is_surely_older_than_the_switch_is_not_even_asked_about(world: World) -> None:
    world.streams.clock_ms = lambda: world.silent_ms - SURE_MS - 2_000
    world.dynamodb({"_id": 1, "name": "in time"}, FLOOR + 6)
    world.look_at_all()
    assert list_strays(world.ledger) == []


# --- how long --------------------------------------------------------------------------------------------------------


def test_it_ends_once_every_shard_has_answered_behind_its_time_and_goes_on_where_it_was(world: World) -> None:
    mode = ModeState(mode=Mode.MONGO_ONLY, epoch=5)
    assert "DynamoDB is to be watched for 15.0 min more" in lacking_watch(world.ledger, mode)[0].what
    world.look_at_all()
    assert world.watch().is_open
    short = World(watch_s=0.3)
    short.look(lambda _: False)
    assert (short.watch().is_open, short.watch().how) == (False, "watched for 0 s")
    assert lacking_watch(short.ledger, mode) == []


def test_a_stream_that_was_switched_off_ends_it_with_a_letter(world: World) -> None:
    world.streams.switch_off(world.table)
    world.look(lambda _: False)
    (letter,) = list_strays(world.ledger)
    assert letter.operation == "not known"
    assert "switched off" in world.watch().how


def test_beside_replication_it_is_watched_and_health_says_so(world: World) -> None:
    world.catch_up()
    world.dynamodb({"_id": 1, "name": "late"}, FLOOR + 6)
    assert health_of(world.job, ["watch"]).parts["watch"].status is Status.HEALTHY

    async def replication() -> None:
        for _ in range(400):
            if list_strays(world.ledger):
                return
            await asyncio.sleep(0.02)

    asyncio.run(watched(world.job, world.target, replication(), look_s=0.02))
    assert len(list_strays(world.ledger)) == 1
    assert health_of(world.job, ["watch"]).parts["watch"].status is Status.UNHEALTHY


def test_what_comes_back_by_reverse_replications_own_writes_is_of_mongodbs_clock_though_older_than_the_end() -> None:
    reigned = Reigned(floor=FLOOR, end=END, silent_ms=0)
    assert [reigned.is_by_mongodb(one) for one in (FLOOR, FLOOR + 1, FLOOR + 5)] == [False, False, False]
    assert reigned.is_by_mongodb(snapshot_version(Timestamp(12, 0)))
    assert reigned.is_by_mongodb(LATER)
