"""What others write to MongoDB, told apart from what docferry writes in transactions, as reverse replication does."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import bson
import pytest
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.mapping.raw import id_bytes
from docferry.ports.flows import OthersWrite, Source, StreamPosition
from docferry.sandbox import SandboxStack
from docferry.testing.fakes import FakeSource
from pymongo import MongoClient

NAMES = ("things", "others")


class Fake:
    """The fake, and who writes there."""

    def __init__(self) -> None:
        self.fake = FakeSource({"things": [{"_id": 1, "n": 0}], "others": []})
        self.source: Source = self.fake

    def ours(self, document: dict[str, Any]) -> None:
        self.fake.put("things", document)

    def theirs(self, collection: str, key: Any, document: dict[str, Any] | None) -> None:
        self.fake.write_as_other(collection, key, document)


@dataclass
class Real:
    """A replica set: docferry's user writes in transactions, as reverse replication does, the application plainly."""

    source: MongoSource
    own: MongoClient[Any]
    app: MongoClient[Any]
    name: str

    def ours(self, document: dict[str, Any]) -> None:
        with self.own.start_session() as session, session.start_transaction():
            self.own[self.name]["things"].replace_one({"_id": document["_id"]}, document, upsert=True, session=session)

    def theirs(self, collection: str, key: Any, document: dict[str, Any] | None) -> None:
        there = self.app[self.name][collection]
        if document is None:
            there.delete_one({"_id": key})
        else:
            there.replace_one({"_id": key}, document, upsert=True)


@pytest.fixture
def real(stack: SandboxStack) -> Iterator[Real]:
    name = f"others{uuid.uuid4().hex[:8]}"
    with stack.mongo.client("docferry") as own, stack.mongo.client("app") as app:
        for collection in NAMES:
            own[name].create_collection(collection, changeStreamPreAndPostImages={"enabled": True})
        own[name]["things"].insert_one({"_id": 1, "n": 0})
        with closing(MongoSource(stack.mongo.uri(), name)) as source:
            yield Real(source, own, app, name)
        own.drop_database(name)


World = Fake | Real


@pytest.fixture(params=["fake", "real"])
def world(request: pytest.FixtureRequest) -> World:
    return Fake() if request.param == "fake" else request.getfixturevalue("real")


def read(world: World, position: StreamPosition) -> list[OthersWrite]:
    """All up to now."""
    now = world.source.cluster_time()
    found: list[OthersWrite] = []
    with closing(world.source.writes_of_others(position, NAMES)) as feed:
        while (batch := feed.read(0.2)).position.time < now or batch.writes:
            found += batch.writes
    return found


def told(write: OthersWrite) -> tuple[Any, ...]:
    images = (bson.decode(one) if one is not None else None for one in (write.before, write.after))
    return write.collection, write.operation, write.id, *images


def test_what_others_write_is_told_with_whole_images_and_what_docferry_writes_is_not(world: World) -> None:
    position = world.source.stream_position()
    world.ours({"_id": 1, "n": 1})
    world.theirs("things", 1, {"_id": 1, "n": 2, "more": "x"})
    world.ours({"_id": 2, "n": 1})
    world.theirs("others", 9, {"_id": 9})
    world.theirs("things", 1, None)
    assert list(map(told, read(world, position))) == [
        ("things", "replace", id_bytes(1), {"_id": 1, "n": 1}, {"_id": 1, "n": 2, "more": "x"}),
        ("others", "insert", id_bytes(9), None, {"_id": 9}),
        ("things", "delete", id_bytes(1), {"_id": 1, "n": 2, "more": "x"}, None),
    ]


def test_a_write_has_the_same_place_however_often_it_is_read_and_no_two_have_one(world: World) -> None:
    position = world.source.stream_position()
    for n in range(3):
        world.theirs("things", 1, {"_id": 1, "n": n + 1})
    first, second = read(world, position), read(world, position)
    assert [one.place for one in first] == [one.place for one in second]
    assert len({one.place for one in first}) == 3


def test_docferrys_own_user_without_a_transaction_is_another_client(real: Real) -> None:
    position = real.source.stream_position()
    real.own[real.name]["things"].update_one({"_id": 1}, {"$inc": {"n": 1}})
    assert [one.operation for one in read(real, position)] == ["update"]


def test_a_transaction_of_another_user_and_a_drop_are_told(real: Real) -> None:
    position = real.source.stream_position()
    with real.app.start_session() as session, session.start_transaction():
        real.app[real.name]["things"].update_one({"_id": 1}, {"$inc": {"n": 1}}, session=session)
    real.own[real.name]["others"].drop()
    assert [(one.collection, one.operation) for one in read(real, position)] == [
        ("things", "update"),
        ("others", "drop"),
    ]


def test_a_write_that_is_too_large_for_its_images_is_told_without_them_and_the_next_with(real: Real) -> None:
    real.own[real.name]["things"].insert_one({"_id": 5, "text": "x" * 9_000_000})
    position = real.source.stream_position()
    real.theirs("things", 5, {"_id": 5, "text": "y" * 9_000_000})
    real.theirs("things", 6, {"_id": 6})
    large, small = read(real, position)
    assert (large.id, large.before, large.after) == (id_bytes(5), None, None)
    assert told(small) == ("things", "insert", id_bytes(6), None, {"_id": 6})
