"""Two worlds that give change events: a real MongoDB, and the fake that tests of flows use."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, Protocol

import bson
import pytest
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.mapping.mapping import KeyFields
from docferry.ports.flows import ChangeEvent, Feed, Source, StreamPosition
from docferry.sandbox import SandboxStack
from docferry.testing.fakes import FakeSource
from pymongo import MongoClient, WriteConcern

Document = dict[str, Any]


Written = tuple[str, Document | None, Any]
"""(collection, the document then or None, the id)."""


FIELDS = {
    "things": KeyFields(
        ("_id", "name", "owner.$id", "owner.$ref", "place.city"), {"in.parts": ("$id",), "parts": ("kind",)}
    ),
    "others": KeyFields(("_id",), {}),
}


END = "end of the test"


class World(Protocol):
    """A source, and the application that writes behind it. `noise` is a collection without a mapping."""

    source: Source

    def put(self, collection: str, document: Document) -> None:
        """Insert or replace."""

    def update(self, key: Any, change: Any, after: Document, touched: Sequence[str]) -> None:
        """One of `things`; the fake is told what comes of it."""

    def remove(self, collection: str, key: Any) -> None: ...

    def together(self, *changes: Written) -> None: ...

    def pass_time(self) -> None:
        """A client writes where the feed does not look."""

    def drop(self, collection: str) -> None: ...

    def rename(self, collection: str, to: str) -> None: ...

    def drop_database(self) -> None: ...

    def images_off(self, collection: str) -> None: ...

    def create(self) -> None:
        """The mapped collections, empty, with images."""


class FakeWorld:
    def __init__(self) -> None:
        self.fake = FakeSource({"things": [], "others": []})
        self.source: Source = self.fake

    def put(self, collection: str, document: Document) -> None:
        self.fake.put(collection, document)

    def update(self, key: Any, change: Any, after: Document, touched: Sequence[str]) -> None:
        self.fake.put("things", after, touched)

    def remove(self, collection: str, key: Any) -> None:
        self.fake.remove(collection, key)

    def together(self, *changes: Written) -> None:
        self.fake.transaction(*((name, after, None if after else key) for name, after, key in changes))

    def pass_time(self) -> None:
        self.fake._tick()

    def drop(self, collection: str) -> None:
        self.fake.drop(collection)

    def rename(self, collection: str, to: str) -> None:
        self.fake.rename(collection, to)

    def drop_database(self) -> None:
        self.fake.drop_database()

    def images_off(self, collection: str) -> None:
        self.fake.images[collection] = False

    def create(self) -> None:
        for name in FIELDS:
            self.fake.enable_images(name)


class RealWorld:
    def __init__(self, uri: str) -> None:
        self.client: MongoClient[Any] = MongoClient(uri)
        name = f"feed{uuid.uuid4().hex[:12]}"
        self.mongo = MongoSource(uri, name)
        self.source: Source = self.mongo
        self.database = self.client.get_database(name, write_concern=WriteConcern("majority"))
        self.create()
        self.database.create_collection("noise")

    def create(self) -> None:
        for name in FIELDS:
            self.database.create_collection(name, changeStreamPreAndPostImages={"enabled": True})

    def put(self, collection: str, document: Document) -> None:
        self.database[collection].replace_one({"_id": document["_id"]}, document, upsert=True)

    def update(self, key: Any, change: Any, after: Document, touched: Sequence[str]) -> None:
        done = self.database["things"].find_one_and_update({"_id": key}, change, return_document=True)
        assert done == after

    def remove(self, collection: str, key: Any) -> None:
        self.database[collection].delete_one({"_id": key})

    def together(self, *changes: Written) -> None:
        with self.client.start_session() as session, session.start_transaction(write_concern=WriteConcern("majority")):
            for name, after, key in changes:
                target = self.database[name]
                if after is None:
                    target.delete_one({"_id": key}, session=session)
                elif target.find_one({"_id": key}, session=session):
                    target.replace_one({"_id": key}, after, session=session)
                else:
                    target.insert_one(after, session=session)

    def pass_time(self) -> None:
        self.client[f"{self.database.name}b"]["x"].insert_one({})

    def drop(self, collection: str) -> None:
        self.database.drop_collection(collection)

    def rename(self, collection: str, to: str) -> None:
        self.database[collection].rename(to, dropTarget=True)

    def drop_database(self) -> None:
        self.client.drop_database(self.database.name)

    def images_off(self, collection: str) -> None:
        self.database.command("collMod", collection, changeStreamPreAndPostImages={"enabled": False})

    def close(self) -> None:
        for name in (self.database.name, f"{self.database.name}b"):
            self.client.drop_database(name)
        self.client.close()
        self.mongo.close()


@pytest.fixture(params=["fake", "mongod"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    if request.param == "fake":
        yield FakeWorld()
        return
    stack: SandboxStack = request.getfixturevalue("stack")
    real = RealWorld(stack.env()["DOCFERRY_MONGO_URI"])
    yield real
    real.close()


# --- reading ---------------------------------------------------------------------------------------------------------


def changes_of(world: World, position: StreamPosition) -> list[ChangeEvent]:
    """All changes behind a position."""
    world.put("others", {"_id": END})
    world.remove("others", END)
    with closing(world.source.follow(position, FIELDS)) as feed:
        return until_end(feed)


def until_end(feed: Feed) -> list[ChangeEvent]:
    found: list[ChangeEvent] = []
    for _ in range(200):
        found += feed.read(0.2).changes
        if found and found[-1].operation == "delete" and id_in(found[-1]) == END:
            return [one for one in found if id_in(one) != END]
    raise AssertionError(f"the end was not seen, only {[id_in(one) for one in found]}")


def id_in(change: ChangeEvent) -> Any:
    with suppress(bson.errors.InvalidBSON):
        return bson.decode(change.id)[""]
    return change.id


def document(data: bytes | None) -> Any:
    return None if data is None else without_empty(bson.decode(data))


def without_empty(value: Any) -> Any:
    """A server leaves {} where a nested field is missing; for keys that is the same."""
    if isinstance(value, dict):
        kept = {name: without_empty(inner) for name, inner in value.items()}
        return {name: inner for name, inner in kept.items() if inner != {}}
    return value


def told(change: ChangeEvent) -> tuple[Any, ...]:
    return change.collection, change.operation, id_in(change), document(change.before), document(change.after)


def story(world: World) -> StreamPosition:
    """Every kind of event, a transaction in the midst; the position in front of it."""
    position = world.source.stream_position()
    world.put("things", {"_id": 1, "name": "a"})
    world.put("noise", {"_id": 1})
    world.put("things", {"_id": 1, "name": "b", "n": 2})
    world.update(1, {"$set": {"n": 3}}, {"_id": 1, "name": "b", "n": 3}, ["n"])
    world.put("others", {"_id": 1})
    world.together(
        ("things", {"_id": 2, "name": "c"}, 2),
        ("noise", {"_id": 2}, 2),
        ("things", {"_id": 1, "name": "d"}, 1),
        ("things", None, 2),
        ("others", {"_id": 1, "n": 1}, 1),
    )
    world.remove("things", 1)
    return position


# --- only on a server ------------------------------------------------------------------------------------------------


@pytest.fixture
def real(stack: SandboxStack) -> Iterator[RealWorld]:
    made = RealWorld(stack.env()["DOCFERRY_MONGO_URI"])
    yield made
    made.close()
