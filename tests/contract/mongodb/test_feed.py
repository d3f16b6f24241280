"""What every feed promises: each change once and in order, with its version, its images and the paths it names; positions
from which it goes on exactly there; and a loud end where it cannot."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from typing import Any, Protocol

import bson
import pytest
from bson.raw_bson import RawBSONDocument
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.bson_codec.raw import id_of
from docferry.core.mapping.mapping import KeyFields
from docferry.core.versions import N_MAX, snapshot_version
from docferry.errors import ResumeTokenLost, StreamEnded, Unavailable
from docferry.ports.flows import ChangeEvent, Feed, Source, StreamPosition
from docferry.sandbox import SandboxStack
from docferry.testing.fakes import FakeSource
from pymongo import MongoClient, WriteConcern

Document = dict[str, Any]
Written = tuple[str, Document | None, Any]
"""(collection, the document then or None, the id)."""

FIELDS = {"things": KeyFields(("_id", "name", "place.city"), {"parts": ("kind",)}), "others": KeyFields(("_id",), {})}
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
        """Somebody writes where the feed does not look."""

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
        self.mongo = MongoSource(uri, f"feed{uuid.uuid4().hex[:12]}")
        self.source: Source = self.mongo
        self.database = self.client.get_database(self.mongo._database.name, write_concern=WriteConcern("majority"))
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


def ended_at(feed: Feed) -> tuple[list[ChangeEvent], StreamEnded]:
    """What comes before the end, and the end."""
    found: list[ChangeEvent] = []
    for _ in range(50):
        try:
            found += feed.read(0.2).changes
        except StreamEnded as ended:
            return found, ended
    raise AssertionError("it never ended")


# --- events ----------------------------------------------------------------------------------------------------------


def test_each_kind_of_event_comes_once_and_in_order(world: World) -> None:
    changes = changes_of(world, story(world))
    assert [told(one) for one in changes] == [
        ("things", "insert", 1, None, {"_id": 1, "name": "a"}),
        ("things", "replace", 1, {"_id": 1, "name": "a"}, {"_id": 1, "name": "b", "n": 2}),
        ("things", "update", 1, {"_id": 1, "name": "b"}, {"_id": 1, "name": "b", "n": 3}),
        ("others", "insert", 1, None, {"_id": 1}),
        ("things", "insert", 2, None, {"_id": 2, "name": "c"}),
        ("things", "replace", 1, {"_id": 1, "name": "b"}, {"_id": 1, "name": "d"}),
        ("things", "delete", 2, {"_id": 2, "name": "c"}, None),
        ("others", "replace", 1, {"_id": 1}, {"_id": 1, "n": 1}),
        ("things", "delete", 1, {"_id": 1, "name": "d"}, None),
    ]
    assert not any(one.images_lost for one in changes)


def test_versions_rise_and_lie_between_the_snapshots_around_them(world: World) -> None:
    before = snapshot_version(world.source.cluster_time())
    changes = changes_of(world, story(world))
    versions = [one.version for one in changes]
    assert versions == sorted(set(versions))
    assert before < versions[0]
    assert versions[-1] < snapshot_version(world.source.cluster_time())


def test_events_of_one_transaction_share_a_time_and_those_of_unmapped_collections_count(world: World) -> None:
    changes = changes_of(world, story(world))
    together = changes[4:8]
    assert len({one.time for one in together}) == 1
    assert [one.n for one in together] == [0, 2, 3, 4]
    assert all(one.n == 0 for one in changes if one not in together)
    assert all(one.version < N_MAX + snapshot_version(one.time) for one in changes)


def test_from_any_position_the_rest_comes_with_the_same_versions(world: World) -> None:
    changes = changes_of(world, story(world))
    for place, change in enumerate(changes):
        again = changes_of(world, change.position)
        assert [told(one) for one in again] == [told(one) for one in changes[place + 1 :]]
        assert [one.version for one in again] == [one.version for one in changes[place + 1 :]]


UPDATES: dict[str, tuple[Document, Any, Document, set[str]]] = {
    "$set and $unset": (
        {"a": 1, "b": {"c": 2}},
        {"$set": {"b.c": 3}, "$unset": {"a": 1}},
        {"b": {"c": 3}},
        {"b.c", "a"},
    ),
    "an element": ({"l": [1, 2, 3]}, {"$set": {"l.1": 9}}, {"l": [1, 9, 3]}, {"l.1"}),
    "a field of an element": ({"l": [{"x": 1, "y": 1}]}, {"$set": {"l.0.x": 2}}, {"l": [{"x": 2, "y": 1}]}, {"l.0.x"}),
    "$push": ({"l": [1]}, {"$push": {"l": 2}}, {"l": [1, 2]}, {"l.1"}),
    "cut short": ({"l": [1, 2, 3], "n": 0}, [{"$set": {"l": {"$slice": ["$l", 1]}}}], {"l": [1], "n": 0}, {"l"}),
    "pipeline": ({"a": 1, "b": 1}, [{"$set": {"a": {"$add": ["$a", 1]}}}, {"$unset": "b"}], {"a": 2}, {"a", "b"}),
    "a name with a dot": (
        {"x": {"c": "also here, so that x is not set whole " * 5, "a.b": 1}},
        [{"$set": {"x": {"$setField": {"field": "a.b", "input": "$x", "value": 2}}}}],
        {"x": {"c": "also here, so that x is not set whole " * 5, "a.b": 2}},
        {"x.a.b"},
    ),
    "a key": ({"name": "a"}, {"$set": {"name": "b"}}, {"name": "b"}, {"name"}),
}


@pytest.mark.parametrize("kind", UPDATES)
def test_update_names_the_paths_that_it_changed(world: World, kind: str) -> None:
    first, change, after, touched = UPDATES[kind]
    whole = {"_id": 1, "rest": "much of it, or the server would rather replace the document " * 5}
    world.put("things", whole | first)
    position = world.source.stream_position()
    world.update(1, change, whole | after, sorted(touched))
    (found,) = changes_of(world, position)
    assert (found.operation, set(found.touched or ())) == ("update", touched)
    assert bson.decode(found.after or b"") == whole | after


def test_only_an_update_names_paths(world: World) -> None:
    changes = changes_of(world, story(world))
    assert [one.operation for one in changes if one.touched is not None] == ["update"]


def test_update_that_changes_nothing_is_no_event(world: World) -> None:
    world.put("things", {"_id": 1, "n": 1})
    position = world.source.stream_position()
    world.remove("things", "nobody")
    if isinstance(world, RealWorld):
        world.database["things"].update_one({"_id": 1}, {"$set": {"n": 1}})
    assert changes_of(world, position) == []


PARTS = [{"kind": "x", "text": "long " * 10}, {"text": "no kind"}, {"kind": {"deep": 1}, "more": [1]}]
REDUCED: dict[str, tuple[Document, Document]] = {
    "other fields": ({"name": "a", "n": 1, "place": {"city": "c", "zip": "z"}}, {"name": "a", "place": {"city": "c"}}),
    "children": ({"parts": PARTS, "n": 1}, {"parts": [{"kind": "x"}, {}, {"kind": {"deep": 1}}]}),
    "no child": ({"parts": [1, {"kind": "x", "n": 2}]}, {"parts": [0, {"kind": "x"}]}),
    "empty array": ({"parts": []}, {"parts": []}),
    "no array": ({"parts": "text", "name": None}, {"name": None}),
}


@pytest.mark.parametrize("what", REDUCED)
def test_pre_image_is_reduced_to_what_keys_are_made_of(world: World, what: str) -> None:
    whole, reduced = REDUCED[what]
    world.put("things", {"_id": 1, **whole})
    position = world.source.stream_position()
    world.remove("things", 1)
    (found,) = changes_of(world, position)
    assert document(found.before) == without_empty({"_id": 1, **reduced})


def test_change_is_no_place_to_read_a_document_by_accident(world: World) -> None:
    world.put("things", {"_id": "secret", "name": "xyzzy"})
    position = world.source.stream_position()
    world.put("things", {"_id": "secret", "name": "plugh"})
    (found,) = changes_of(world, position)
    assert not [word for word in ("secret", "xyzzy", "plugh") if word in repr(found)]


# --- positions -------------------------------------------------------------------------------------------------------


def test_position_moves_on_while_nothing_happens(world: World) -> None:
    position = world.source.stream_position()
    with closing(world.source.follow(position, FIELDS)) as feed:
        for _ in range(3):
            before = feed.read(0.1).position
            world.pass_time()
            now = world.source.cluster_time()
            for _ in range(50):
                batch = feed.read(0.2)
                assert batch.changes == []
                if batch.position.time >= now:
                    break
            assert batch.position.time >= now > before.time
    world.put("things", {"_id": 1})
    (found,) = changes_of(world, batch.position)
    assert (id_in(found), found.n, found.version) == (1, 0, version_at(found))


def version_at(change: ChangeEvent) -> int:
    return snapshot_version(change.time) - N_MAX + change.n


def test_position_behind_a_batch_is_that_of_its_last_change_or_later(world: World) -> None:
    with closing(world.source.follow(story(world), FIELDS)) as feed:
        for _ in range(50):
            batch = feed.read(0.2)
            if batch.changes:
                assert batch.position.time >= batch.changes[-1].time
            if batch.changes and batch.changes[-1].operation == "delete":
                return
    raise AssertionError("the last change did not come")


def test_position_that_is_no_longer_held_is_lost() -> None:
    """On a server: tests/faults/replicate/test_position_lost.py, which needs an oplog of its own to overrun."""
    world = FakeWorld()
    position = story(world)
    world.fake.history_from = world.fake.cluster_time()
    with pytest.raises(ResumeTokenLost):
        world.source.follow(position, FIELDS)


# --- where it ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "reason", "collections"),
    [
        (lambda world: world.drop("things"), "drop", ("things",)),
        (lambda world: world.rename("things", "elsewhere"), "rename", ("things",)),
        (lambda world: world.rename("noise", "things"), "rename", ("things",)),
        (lambda world: world.rename("things", "others"), "rename", ("things", "others")),
    ],
    ids=["drop", "rename from", "rename to", "rename both"],
)
def test_stream_ends_loudly_behind_what_comes_before(
    world: World, what: Any, reason: str, collections: tuple[str, ...]
) -> None:
    world.put("noise", {"_id": 1})
    position = world.source.stream_position()
    world.put("things", {"_id": 1})
    what(world)
    with closing(world.source.follow(position, FIELDS)) as feed:
        found, ended = ended_at(feed)
    assert [id_in(one) for one in found] == [1]
    assert (ended.reason, ended.collections) == (reason, collections)
    with closing(world.source.follow(found[-1].position, FIELDS)) as feed:
        assert ended_at(feed)[1].reason == reason, "from in front of it, it ends again"


def test_collections_without_a_mapping_come_and_go(world: World) -> None:
    world.put("noise", {"_id": 1})
    position = world.source.stream_position()
    world.rename("noise", "noise2")
    world.drop("noise2")
    world.put("things", {"_id": 1})
    assert [id_in(one) for one in changes_of(world, position)] == [1]


def test_missing_images_end_the_stream(world: World) -> None:
    world.put("things", {"_id": 1, "name": "a"})
    position = world.source.stream_position()
    world.put("others", {"_id": 7})
    world.images_off("things")
    world.put("things", {"_id": 2})  # has no image in front of it, and itself behind
    world.put("things", {"_id": 1, "name": "b"})
    with closing(world.source.follow(position, FIELDS)) as feed:
        found, ended = ended_at(feed)
    assert [id_in(one) for one in found] == [7, 2]
    assert (ended.reason, ended.collections) == ("images_missing", ("things",))


def test_whoever_reads_on_gets_what_is_behind_the_end(world: World) -> None:
    position = world.source.stream_position()
    world.put("things", {"_id": 1})
    world.drop("things")
    world.put("others", {"_id": 2})
    world.put("others", {"_id": END})
    world.remove("others", END)
    with closing(world.source.follow(position, FIELDS)) as feed:
        _, ended = ended_at(feed)
        behind = until_end(feed)
    assert [id_in(one) for one in behind] == [2]
    with closing(world.source.follow(ended.position, FIELDS)) as feed:
        assert [told(one) for one in until_end(feed)] == [told(one) for one in behind]


def test_dropped_database_ends_it_each_time_and_can_be_followed_from_behind(world: World) -> None:
    position = world.source.stream_position()
    world.put("things", {"_id": 1})
    world.drop_database()
    reasons: list[str] = []
    while "invalidate" not in reasons:
        with closing(world.source.follow(position, FIELDS)) as feed:
            _, ended = ended_at(feed)
        assert ended.collections == (() if ended.reason in ("dropDatabase", "invalidate") else ended.collections)
        reasons.append(ended.reason)
        position = ended.position
    assert set(reasons) == {"drop", "dropDatabase", "invalidate"}
    world.create()
    world.put("things", {"_id": 5})
    assert [(id_in(one), one.operation) for one in changes_of(world, position)] == [(5, "insert")]


# --- only on a server ------------------------------------------------------------------------------------------------


@pytest.fixture
def real(stack: SandboxStack) -> Iterator[RealWorld]:
    made = RealWorld(stack.env()["DOCFERRY_MONGO_URI"])
    yield made
    made.close()


def test_what_is_no_valid_text_arrives_as_it_is_and_takes_nothing_along(real: RealWorld) -> None:
    def raw(whole: Document) -> RawBSONDocument:
        return RawBSONDocument(bson.encode(whole).replace(b"WXYZ", b"W\xff\xfeZ"))

    things = real.database["things"]
    position = real.source.stream_position()
    for number, whole in enumerate(({"_id": 1, "n": "WXYZ"}, {"_id": 2, "WXYZ": 1}, {"_id": "WXYZ"}, {"_id": 4})):
        things.insert_one(raw(whole))
        assert number < 4
    things.update_one({"_id": 4}, raw({"$set": {"WXYZ": 1}}))
    things.update_one({"_id": 4}, raw({"$set": {"name": "WXYZ"}}))
    things.delete_one({"_id": 4})
    changes = changes_of(real, position)
    assert [one.operation for one in changes] == ["insert"] * 4 + ["update"] * 2 + ["delete"]
    assert changes[2].id == id_of(raw({"_id": "WXYZ"}).raw)
    assert b"W\xff\xfeZ" in (changes[6].before or b"")
    assert changes[4].touched == ("W\ufffd\ufffdZ",)


def test_cursor_that_was_killed_is_unavailable_and_the_position_holds(real: RealWorld) -> None:
    position = story(real)
    feed = real.mongo.follow(position, FIELDS)
    real.client.admin.command("killSessions", [feed._session.session_id])
    with pytest.raises(Unavailable):
        until_end(feed)
    feed.close()
    assert len(changes_of(real, position)) == 9
