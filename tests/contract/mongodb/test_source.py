"""What every source promises: pages in MongoDB's order that miss nothing, each as of the time that it names."""

from __future__ import annotations

import math
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from itertools import pairwise
from typing import Any, Protocol

import bson
import pytest
from bson import Binary, Code, DBRef, Decimal128, Int64, MaxKey, MinKey, ObjectId, Timestamp
from bson.datetime_ms import DatetimeMS
from docferry.adapters.mongodb.source import MongoSource
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.bson_codec.order import order_key
from docferry.core.mapping.raw import id_bytes, id_of
from docferry.errors import RequestRefused, TimedOut
from docferry.ports.flows import Bounds, Source
from docferry.sandbox import SandboxStack
from docferry.testing import strategies as draw
from docferry.testing.fakes import FakeSource
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pymongo import MongoClient, WriteConcern

ALL = Bounds(None, None)


class World(Protocol):
    """A source, and the application that writes behind it."""

    source: Source

    def put(self, document: dict[str, Any]) -> None: ...

    def remove(self, key: Any) -> None: ...

    def clear(self) -> None: ...


class FakeWorld:
    def __init__(self) -> None:
        self.source: Source = FakeSource({"things": []})

    def _fake(self) -> FakeSource:
        assert isinstance(self.source, FakeSource)
        return self.source

    def put(self, document: dict[str, Any]) -> None:
        self._fake().put("things", document)

    def remove(self, key: Any) -> None:
        self._fake().remove("things", key)

    def clear(self) -> None:
        for document in self.source.read_page("things", ALL, None, 10**6, self.source.cluster_time()):
            self._fake().remove("things", bson.decode(document, BSON_OPTIONS)["_id"])


class RealWorld:
    def __init__(self, uri: str) -> None:
        name = f"contract{uuid.uuid4().hex}"
        self.mongo = MongoSource(uri, name)
        self.source: Source = self.mongo
        self.client: MongoClient[Any] = MongoClient(uri)
        database = self.client.get_database(name, BSON_OPTIONS, write_concern=WriteConcern("majority"))
        self.things = database.create_collection("things")

    def put(self, document: dict[str, Any]) -> None:
        self.things.replace_one({"_id": {"$eq": document["_id"]}}, document, upsert=True)

    def remove(self, key: Any) -> None:
        self.things.delete_one({"_id": {"$eq": key}})

    def clear(self) -> None:
        self.things.delete_many({})

    def close(self) -> None:
        self.client.drop_database(self.things.database.name)
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


def test_catalog_names_every_collection_with_its_kind(world: World) -> None:
    assert world.source.catalog().collections == {"things": "collection"}


def test_facts_of_many_are_those_of_each_in_the_order_asked(world: World) -> None:
    world.put({"_id": 1})
    names = ["none", "things", "nobody"]
    found = world.source.facts_of(names)
    assert found == [world.source.collection_facts(name) for name in names]
    assert [one.kind for one in found] == ["missing", "collection", "missing"]
    assert found[1].documents == 1


def test_long_arrays_of_subdocuments_are_counted_over_all_that_are_named(world: World) -> None:
    one = {"x": 1}
    world.put({"_id": 1, "a": [one] * 3, "in": {"b": [one, DBRef("c", 1)]}})  # 5
    world.put({"_id": 2, "a": [one] * 4})
    world.put(
        {"_id": 3, "a": [one] * 9 + [1], "in": {"b": [one] * 4}}
    )  # an array of more than subdocuments becomes no items
    world.put({"_id": 4, "a": "text", "in": [{"b": [one] * 9}]})
    world.put({"_id": 5, "a": None})
    assert world.source.longer_than("things", ("a", "in.b"), 4, 30.0) == 1
    assert world.source.longer_than("things", ("a", "in.b"), 3, 30.0) == 3
    assert world.source.longer_than("none", ("a",), 3, 30.0) == 0
    assert world.source.longer_than("things", ("a", "in.b"), 3, 30.0, {"_id": {"$gte": 2}}) == 2


def test_a_part_is_counted_and_sampled_alone(world: World) -> None:
    for number in range(9):
        world.put({"_id": number, "kind": "A" if number % 3 else "a"})
    assert world.source.count("things", {"kind": "a"}, 30.0) == 3
    found = world.source.sample_documents("things", 20, {"kind": "a"})
    assert sorted(bson.decode(one)["_id"] for one in found) == [0, 3, 6]
    assert len(world.source.sample_documents("things", 2, {"kind": "A"})) == 2
    assert world.source.sample_documents("things", 2, {"kind": "b"}) == []


def pages(source: Source, bounds: Bounds = ALL, limit: int = 2) -> list[list[bytes]]:
    at = source.cluster_time()
    found: list[list[bytes]] = []
    after: bytes | None = None
    while page := source.read_page("things", bounds, after, limit, at):
        assert len(page) <= limit
        found.append(page)
        after = id_of(page[-1])
        assert len(found) < 1000
    return found


def ids_in(found: Iterable[list[bytes]]) -> list[bytes]:
    return [id_of(document) for page in found for document in page]


IN_ORDER: list[Any] = [
    MinKey(), None, math.nan, -math.inf, Decimal128("-1E+6000"), Int64(-(2**62)), -1, 0, 0.5, 1, 1.5, Decimal128("2.50"),
    Int64(2**53 + 1), 1e300, math.inf, "", "1", "a", "b", "é", "𝒳", {}, {"a": 1}, {"a": 1, "b": 2}, {"b": 0}, {"a": "x"},
    b"", b"a", Binary(b"a", 128), b"bb", Binary(b"0" * 16, 4), ObjectId("0" * 24), ObjectId("f" * 24), False, True,
    DatetimeMS(-(2**60)), datetime(1, 1, 1), datetime(2024, 1, 1), DatetimeMS(2**60), Timestamp(1, 2), Timestamp(2, 1),
    Code("a"), Code("b"), Code("a", {"x": 1}), MaxKey(),
]  # fmt: skip
"""In MongoDB's own order: by type, numbers of all types together, documents field by field and by type first."""


@pytest.mark.parametrize("limit", [1, 2, 7, 1000])
def test_pages_of_any_size_hold_every_document_once_in_order(world: World, limit: int) -> None:
    for key in reversed(IN_ORDER):
        world.put({"_id": key, "n": 1})
    assert ids_in(pages(world.source, limit=limit)) == [id_bytes(key) for key in IN_ORDER]


@given(st.lists(draw.ids(), min_size=2, max_size=8), st.integers(1, 9), st.data())
@settings(suppress_health_check=list(HealthCheck))
def test_fake_and_mongod_give_the_same_pages(
    stack: SandboxStack, shared: RealWorld, keys: list[Any], limit: int, data: st.DataObject
) -> None:
    shared.clear()
    fake = FakeWorld()
    for number, key in enumerate(keys):
        for world in (shared, fake):
            world.put({"_id": key, "n": number})
    end = st.one_of(st.none(), st.sampled_from(keys).map(id_bytes))
    ends = data.draw(end), data.draw(end)
    lower, upper = (None if end is None else order_key(bson.decode(end, BSON_OPTIONS)[""]) for end in ends)
    # mongod refuses a range that ends before it begins
    bounds = ALL if lower is not None and upper is not None and lower >= upper else Bounds(*ends)
    assert ids_in(pages(shared.source, bounds, limit)) == ids_in(pages(fake.source, bounds, limit))


@pytest.fixture(scope="module")
def shared(stack: SandboxStack) -> Iterator[RealWorld]:
    real = RealWorld(stack.env()["DOCFERRY_MONGO_URI"])
    yield real
    real.close()


@pytest.mark.parametrize("cuts", [1, 3, 8])
def test_ranges_that_touch_hold_every_document_once(world: World, cuts: int) -> None:
    for key in IN_ORDER:
        world.put({"_id": key})
    everything = ids_in(pages(world.source, limit=1000))
    ends = [None, *everything[:: len(everything) // cuts][1:], None]
    ranges = [Bounds(lower, upper) for lower, upper in pairwise(ends)]
    assert [one for bounds in ranges for one in ids_in(pages(world.source, bounds, 3))] == everything


def test_empty_collection_has_no_page(world: World) -> None:
    assert pages(world.source) == []


def test_page_shows_its_time_whatever_has_happened_since(world: World) -> None:
    for number in range(4):
        world.put({"_id": number, "v": "old"})
    at = world.source.cluster_time()
    world.put({"_id": 0, "v": "new"})
    world.put({"_id": 9, "v": "new"})
    world.remove(1)
    then = [bson.decode(one) for one in world.source.read_page("things", ALL, None, 10, at)]
    assert then == [{"_id": number, "v": "old"} for number in range(4)]
    assert [one["_id"] for one in map(bson.decode, world.source.read_ids("things", [id_bytes(1)], at))] == [1]
    now = world.source.cluster_time()
    assert now > at
    assert [bson.decode(one)["_id"] for one in world.source.read_page("things", ALL, None, 10, now)] == [0, 2, 3, 9]
    assert world.source.read_ids("things", [id_bytes(1)], now) == []


def test_page_goes_on_behind_a_document_that_is_gone_by_then(world: World) -> None:
    for number in range(4):
        world.put({"_id": number})
    world.remove(1)
    at = world.source.cluster_time()
    found = world.source.read_page("things", ALL, id_bytes(1), 10, at)
    assert [bson.decode(one)["_id"] for one in found] == [2, 3]


def test_documents_that_fill_a_page_alone_hide_none_behind_them(world: World) -> None:
    for number in range(4):
        world.put({"_id": number, "x": b"x" * 9_000_000})
    world.put({"_id": 4})
    assert ids_in(pages(world.source, limit=10)) == [id_bytes(number) for number in range(5)]


def test_time_to_come_is_refused(world: World) -> None:
    now = world.source.cluster_time()
    with pytest.raises(RequestRefused):
        world.source.read_page("things", ALL, None, 10, Timestamp(now.time + 3600, 1))


def test_fake_can_lag_and_forget() -> None:
    fake = FakeSource()
    first, second = fake.put("things", {"_id": 1}), fake.put("things", {"_id": 2})
    fake.lag_behind = first
    assert len(fake.read_page("things", ALL, None, 10, first)) == 1
    with pytest.raises(TimedOut):
        fake.read_page("things", ALL, None, 10, second)
    fake.lag_behind, fake.history_from = None, second
    assert len(fake.read_page("things", ALL, None, 10, second)) == 2
    with pytest.raises(TimedOut):
        fake.read_page("things", ALL, None, 10, first)


def test_ids_are_read_exactly(world: World) -> None:
    for key in IN_ORDER:
        world.put({"_id": key})
    wanted = [id_bytes(key) for key in IN_ORDER[::3]] + [id_bytes("not there")]
    found = world.source.read_ids("things", wanted, world.source.cluster_time())
    assert sorted(map(id_of, found)) == sorted(wanted[:-1])
    assert world.source.read_ids("things", [], world.source.cluster_time()) == []


def test_samples_are_documents_of_the_collection_and_ids_come_in_order(world: World) -> None:
    for key in IN_ORDER:
        world.put({"_id": key})
    everything = ids_in(pages(world.source, limit=1000))
    sampled = world.source.sample_ids("things", 10)
    assert len(sampled) == 10
    places = [everything.index(one) for one in sampled]
    assert places == sorted(places)
    assert {id_of(one) for one in world.source.sample_documents("things", 5)} <= set(everything)
    assert world.source.sample_ids("nothing", 5) == world.source.sample_documents("nothing", 5) == []


def test_ids_of_kilobytes_are_sampled(world: World) -> None:
    for letter in "abc":
        world.put({"_id": letter * 4_090})
    assert len(set(world.source.sample_ids("things", 50))) == 3


def test_page_of_a_capped_collection_is_refused_for_good(stack: SandboxStack) -> None:
    real = RealWorld(stack.env()["DOCFERRY_MONGO_URI"])
    real.put({"_id": 1})
    assert not real.source.collection_facts("things").capped
    real.things.database.command("convertToCapped", "things", size=100_000)
    assert real.source.collection_facts("things").capped
    with pytest.raises(RequestRefused, match="capped"):
        real.source.read_page("things", Bounds(None, None), None, 10, real.source.cluster_time())


def test_facts_tell_what_is_there(world: World) -> None:
    world.put({"_id": 1, "x": "y"})
    facts = world.source.collection_facts("things")
    assert (facts.kind, facts.documents, facts.unique) == ("collection", 1, (frozenset({"_id"}),))
    assert facts.average_bytes > 10
    assert world.source.collection_facts("nothing").kind == "missing"
    server = world.source.server_facts()
    assert (server.version[0], server.mongos, server.write_majority_ok) == (6, False, True)
    assert server.replica_set
    assert world.source.oplog_window_s() > 0


def test_images_are_switched_on_where_a_collection_is_and_where_it_is_made(world: World) -> None:
    world.put({"_id": 1})
    for name in ("things", "to_be_made", "to_be_made"):
        world.source.enable_images(name)
        facts = world.source.collection_facts(name)
        assert (facts.kind, facts.images) == ("collection", True)
    assert world.source.collection_facts("things").documents == 1
    rate = world.source.changes_per_s()
    assert rate is not None
    assert rate >= 0


def test_images_are_on_whoever_makes_the_collection_first(stack: SandboxStack) -> None:
    """Threads that ask at once, as a start of the application beside ours does."""
    name = f"images{uuid.uuid4().hex[:10]}"
    with MongoClient[Any](stack.env()["DOCFERRY_MONGO_URI"]) as client, ThreadPoolExecutor(8) as threads:
        try:
            for number in range(5):
                asked = [threads.submit(MongoSource(stack.env()["DOCFERRY_MONGO_URI"], name).enable_images, f"c{number}")
                         for _ in range(7)] + [threads.submit(client[name].command, "create", f"c{number}")]  # fmt: skip
                for one in asked[:-1]:
                    one.result()
            specs = list(client[name].list_collections())
            assert [one["options"]["changeStreamPreAndPostImages"] for one in specs] == [{"enabled": True}] * 5
        finally:
            client.drop_database(name)


def test_rate_of_changes_is_unknown_to_a_user_who_may_not_see_it(stack: SandboxStack) -> None:
    source = MongoSource(stack.env()["DOCFERRY_APP_MONGO_URI"], "myapp")
    assert source.changes_per_s() is None
    source.close()


def test_clock_never_goes_back_and_the_stream_begins_no_later_than_its_time(world: World) -> None:
    before = world.source.cluster_time()
    position = world.source.stream_position()
    world.put({"_id": 1})
    assert before <= position.time <= world.source.cluster_time()
    assert position.token
    assert position.scope.startswith("database:")


def test_dbref_as_id_is_read(world: World) -> None:
    # mongod refuses an _id whose fields begin with $, unless they make a DBRef
    world.put({"_id": DBRef("c", 1)})
    assert len(ids_in(pages(world.source))) == 1
