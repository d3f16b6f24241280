"""What every stream promises: each change of an item in order, with both images, and places from which to go on exactly."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Sequence
from typing import Any, Protocol

import boto3
import pytest
from docferry.adapters.aws.boto_values import to_boto
from docferry.adapters.aws.streams import DynamoStreams
from docferry.core.mapping.items import Item, ItemKey
from docferry.errors import IteratorExpired, StreamTrimmed
from docferry.ports.flows import StreamRecord, Streams
from docferry.testing.fakes import FakeStreams, FakeTarget
from support.backfill.rig import eventually
from support.tables import create_table


class World(Protocol):
    """A table with a stream, and the application that writes to it."""

    @property
    def streams(self) -> Streams: ...

    @property
    def table(self) -> str: ...

    def write(self, puts: Sequence[Item] = (), deletes: Sequence[ItemKey] = ()) -> None: ...

    def switch_off(self) -> None: ...


class FakeWorld:
    table = "T"

    def __init__(self) -> None:
        target = FakeTarget()
        target.create_table("T")
        self.streams = FakeStreams(target)
        self.streams.switch_on("T")

    def write(self, puts: Sequence[Item] = (), deletes: Sequence[ItemKey] = ()) -> None:
        self.streams.write("T", puts, deletes)

    def switch_off(self) -> None:
        self.streams.switch_off("T")


class RealWorld:
    def __init__(self, session: boto3.Session) -> None:
        self.streams: Streams = DynamoStreams(session)
        self.table = f"T{uuid.uuid4().hex}"
        create_table(session, self.table)
        self._client = session.client("dynamodb")
        self._specify(StreamEnabled=True, StreamViewType="NEW_AND_OLD_IMAGES")
        eventually(lambda: self.streams.stream_of(self.table), "the stream to be there")

    def _specify(self, **stream: Any) -> None:
        self._client.update_table(TableName=self.table, StreamSpecification=stream)

    def write(self, puts: Sequence[Item] = (), deletes: Sequence[ItemKey] = ()) -> None:
        changes: list[dict[str, Any]] = [
            {"Put": {"TableName": self.table, "Item": {name: to_boto(value) for name, value in item.items()}}}
            for item in puts
        ]
        changes += [
            {"Delete": {"TableName": self.table, "Key": {"PK": {"S": pk}, "SK": {"S": sk}}}} for pk, sk in deletes
        ]
        self._client.transact_write_items(TransactItems=changes)

    def switch_off(self) -> None:
        self._specify(StreamEnabled=False)


@pytest.fixture
def world(session: boto3.Session | None) -> World:
    return FakeWorld() if session is None else RealWorld(session)


def item(pk: str, **attributes: dict[str, Any]) -> Item:
    return {"PK": {"S": pk}, "SK": {"S": "s"}, **attributes}


def arn_of(world: World) -> str:
    facts = world.streams.stream_of(world.table)
    assert facts is not None
    assert facts.images
    return facts.arn


def read_all(world: World, wanted: int, after: str | None = None, limit: int = 100) -> list[StreamRecord]:
    """So many records of the only shard, behind a place."""
    arn = arn_of(world)
    (shard,) = world.streams.shards(arn)
    assert (shard.parent, shard.closed) == (None, False)
    iterator: str | None = world.streams.iterator(arn, shard.id, after)
    found: list[StreamRecord] = []
    deadline = time.monotonic() + 20
    while len(found) < wanted and time.monotonic() < deadline:
        assert iterator is not None
        page = world.streams.records(iterator, limit)
        assert len(page.records) <= limit
        found += page.records
        iterator = page.next
    return found


def test_changes_come_in_order_with_both_images(world: World) -> None:
    one = item("a", x={"N": "1"})
    other = item("a", x={"N": "2"}, b={"B": "AP8="}, m={"M": {"l": {"L": [{"BOOL": True}, {"NULL": True}]}}})
    world.write([one])
    world.write([other])
    world.write(deletes=[("a", "s")])
    found = read_all(world, 3)
    assert [(record.old, record.new) for record in found] == [(None, one), (one, other), (other, None)]
    assert {record.key for record in found} == {("a", "s")}
    assert all(abs(record.created_ms - time.time() * 1000) < 60_000 for record in found)


def test_reading_goes_on_behind_a_record_exactly(world: World) -> None:
    for number in range(5):
        world.write([item("a", x={"N": str(number)})])
    found = read_all(world, 5, limit=2)
    assert [record.new["x"]["N"] for record in found if record.new] == list("01234")
    for place, record in enumerate(found[:-1]):
        assert read_all(world, 4 - place, after=record.sequence) == found[place + 1 :]


def test_open_shard_that_has_nothing_more_gives_an_iterator_to_go_on_with(world: World) -> None:
    arn = arn_of(world)
    (shard,) = world.streams.shards(arn)
    page = world.streams.records(world.streams.iterator(arn, shard.id, None), 10)
    assert page.records == []
    assert page.next is not None
    world.write([item("a")])
    found: list[StreamRecord] = []

    def read() -> bool:
        nonlocal page
        assert page.next is not None
        page = world.streams.records(page.next, 10)
        found.extend(page.records)
        return bool(found)

    eventually(read, "the record to come")
    assert [record.key for record in found] == [("a", "s")]


def test_latest_begins_behind_what_was_written_before(world: World) -> None:
    world.write([item("before")])
    arn = arn_of(world)
    assert read_all(world, 1)
    (shard,) = world.streams.shards(arn)
    place: str | None = world.streams.latest(arn, shard.id)
    world.write([item("after")])
    found: list[StreamRecord] = []

    def read() -> bool:
        nonlocal place
        assert place is not None
        page = world.streams.records(place, 10)
        place = page.next
        found.extend(page.records)
        return bool(found)

    eventually(read, "the record to come")
    assert [record.key for record in found] == [("after", "s")]


def test_transaction_comes_whole(world: World) -> None:
    world.write([item(pk) for pk in "abcde"])
    assert {record.key[0] for record in read_all(world, 5)} == set("abcde")


def test_table_without_a_stream_or_with_one_switched_off_has_none(world: World) -> None:
    assert world.streams.stream_of(f"No{uuid.uuid4().hex}") is None
    world.switch_off()
    eventually(lambda: world.streams.stream_of(world.table) is None, "the stream to be off")


# --- the fake alone: what no emulator does ---------------------------------------------------------------------------


@pytest.fixture
def fake() -> FakeWorld:
    return FakeWorld()


def read_shard(fake: FakeWorld, shard: str, after: str | None = None) -> tuple[list[StreamRecord], bool]:
    """(all records of a shard, whether it has an end)."""
    iterator: str | None = fake.streams.iterator("T", shard, after)
    found: list[StreamRecord] = []
    while iterator is not None:
        page = fake.streams.records(iterator, 10)
        if not page.records and page.next is not None:
            return found, False
        found += page.records
        iterator = page.next
    return found, True


def test_fake_shard_that_splits_ends_and_its_children_go_on(fake: FakeWorld) -> None:
    keys = [f"k{number}" for number in range(20)]
    fake.write([item(key) for key in keys])
    fake.streams.split("T")
    fake.write([item(key, x={"N": "1"}) for key in keys])
    parent, *children = fake.streams.shards("T")
    assert parent.closed
    assert [(child.parent, child.closed) for child in children] == [(parent.id, False)] * 2
    first, ended = read_shard(fake, parent.id)
    assert (len(first), ended) == (20, True)
    later = [read_shard(fake, child.id) for child in children]
    assert [ended for _, ended in later] == [False, False]
    assert sorted(record.key[0] for records, _ in later for record in records) == sorted(keys)
    assert all(len(records) > 0 for records, _ in later)


def test_fake_iterators_expire_and_can_be_opened_again(fake: FakeWorld) -> None:
    fake.write([item("a")])
    (shard,) = fake.streams.shards("T")
    iterator = fake.streams.iterator("T", shard.id, None)
    fake.streams.expire_iterators()
    with pytest.raises(IteratorExpired):
        fake.streams.records(iterator, 10)
    assert len(read_shard(fake, shard.id)[0]) == 1


def test_fake_records_that_are_trimmed_are_an_error_behind_a_place_and_silence_from_the_beginning(
    fake: FakeWorld,
) -> None:
    """As AWS has it: TRIM_HORIZON begins at whatever is left."""
    fake.write([item("a")])
    (shard,) = fake.streams.shards("T")
    (record,), _ = read_shard(fake, shard.id)
    fake.write([item("b")])
    fake.streams.trim("T")
    with pytest.raises(StreamTrimmed):
        fake.streams.iterator("T", shard.id, record.sequence)
    assert read_shard(fake, shard.id) == ([], False)


def test_fake_shard_that_does_not_exist_is_told_as_trimmed(fake: FakeWorld) -> None:
    """ministack gives an iterator for any shard; what the adapter makes of AWS's refusal is a unit test's affair."""
    with pytest.raises(StreamTrimmed):
        fake.streams.iterator("T", "shardId-00000000000000000000-00000000", None)


def test_fake_writes_nothing_where_nothing_changes(fake: FakeWorld) -> None:
    fake.write([item("a")])
    fake.write([item("a")], deletes=[("b", "s")])
    (shard,) = fake.streams.shards("T")
    assert len(read_shard(fake, shard.id)[0]) == 1


def test_fake_table_is_what_a_target_reads(fake: FakeWorld) -> None:
    fake.write([item("a")])
    found = asyncio.run(fake.streams.target.get_all("T", [("a", "s")]))
    assert found == {("a", "s"): item("a")}
