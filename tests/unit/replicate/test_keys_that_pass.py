"""A key passes from one document to another: what buries it for the first must not bury it for the second."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import bson
import pytest
from docferry.core.mapping.change_writes import DecodedChange
from docferry.core.mapping.items import Item, key_of
from docferry.core.mapping.raw import encode_raw
from docferry.core.versions import parse_version, snapshot_version, version_of
from docferry.errors import RefusedByStore
from docferry.flows.replicate.lanes import Applying, Lanes
from docferry.flows.replicate.report import ReplicationReport
from docferry.flows.validate.repair import RepairReport, _Repair
from docferry.testing.fakes import FakeLedger, FakeSource, FakeTarget
from docferry.testing.jobs import make_job
from docferry.wiring import who
from support.convergence.rules import calls_inline
from support.convergence.sides import DOCS, MAPPING, MIGRATION, TABLE, TTL
from support.convergence.standins import NoLimit, Quiet

ROOT_A = ("DOC#a", "ROOT")
GUARD_OF_1 = ("UNIQUE#docs._id_#~i1", "UNIQUE")
"""Of the `_id`, which stays the first document's."""


@pytest.fixture(autouse=True)
def inline(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with calls_inline(monkeypatch):
        yield


class Pair:
    """Two documents, of which the first has the key DOC#a, and is stored."""

    def __init__(self) -> None:
        self.source, self.ledger, self.target = FakeSource({DOCS: []}), FakeLedger(), FakeTarget()
        self.target.create_table(TABLE)
        self.position = self.source.stream_position()
        self.source.put(DOCS, {"_id": 1, "name": "a", "parts": [{"kind": "x"}]})
        asyncio.run(self.follow())
        self.stored = dict(self.target.tables[TABLE])

    async def follow(self) -> Lanes:
        """Apply the stream from its beginning."""
        work = Applying(
            migration=MIGRATION, source=self.source, ledger=self.ledger, target=self.target, budget=NoLimit(),
            guard=lambda: None, stop=threading.Event(),
        )  # fmt: skip
        lanes = Lanes(work, self.position, ReplicationReport().books)
        for change in self.source.follow(self.position, {DOCS: MAPPING.key_fields}).read(0.0).changes:
            lanes.put(change)
        while lanes.pending and lanes.failure is None:
            lanes.moved.clear()
            await lanes.moved.wait()
        await lanes.end()
        if lanes.failure is not None:
            raise lanes.failure
        return lanes

    def repair(self) -> _Repair:
        job = make_job(
            migration=MIGRATION, source=self.source, ledger=self.ledger, identity=who(), progress=Quiet(),
            stop=threading.Event(),
        )  # fmt: skip
        return _Repair(job, self.target, RepairReport(), lambda: None)

    def live(self) -> dict[Any, Item]:
        return {key: item for key, item in self.target.tables[TABLE].items() if "_deleted" not in item}

    def expected(self) -> set[Any]:
        page = self.source._at(DOCS, self.source.cluster_time())
        return {(key_of(item), item["_id"]["N"]) for data in page for item in encode_raw(MAPPING, data, 0)}

    def assert_equal(self) -> None:
        assert {(key, item["_id"]["N"]) for key, item in self.live().items()} == self.expected()


def test_repair_buries_an_item_whose_key_another_document_has_taken_meanwhile() -> None:
    pair = Pair()
    pair.source.put(DOCS, {"_id": 1, "name": "b"}, ["name", "parts"])
    pair.source.put(DOCS, {"_id": 2, "name": "a"})
    asyncio.run(pair.repair().bury(TABLE, list(pair.stored)))  # before replication has seen any of it
    assert set(pair.live()) == {GUARD_OF_1}
    asyncio.run(pair.follow())
    pair.assert_equal()


def test_buried_item_does_not_come_back_with_its_own_change() -> None:
    pair = Pair()
    pair.source.remove(DOCS, 1)
    asyncio.run(pair.repair().bury(TABLE, list(pair.stored)))
    puts = asyncio.run(pair.target.put_newer(TABLE, list(pair.stored.values()), NoLimit(), lambda: None))
    assert puts.superseded == set(range(len(pair.stored)))
    assert not pair.live()


def test_item_that_became_newer_since_repair_read_it_is_not_buried() -> None:
    pair = Pair()
    pair.source.remove(DOCS, 1)
    work = pair.repair()

    async def slow_bury() -> None:
        found = await work._stored(TABLE, [ROOT_A])
        newer = {**found[ROOT_A], "_v": {"S": format(snapshot_version(pair.source.cluster_time()) + 1, "022x")}}
        await pair.target.put_newer(TABLE, [newer], NoLimit(), lambda: None)
        await work._entomb(TABLE, found)

    asyncio.run(slow_bury())
    assert ROOT_A in pair.live()
    assert work.report.tombstones_superseded == 1


def test_item_without_a_version_is_buried_and_anything_may_replace_it() -> None:
    pair = Pair()
    foreign: Item = {"PK": {"S": "DOC#z"}, "SK": {"S": "ROOT"}}
    pair.target.tables[TABLE][key_of(foreign)] = foreign
    asyncio.run(pair.repair().bury(TABLE, [key_of(foreign)]))
    assert key_of(foreign) not in pair.live()
    pair.source.put(DOCS, {"_id": 3, "name": "z"})
    asyncio.run(pair.follow())
    pair.assert_equal()


def test_unstorable_document_that_is_gone_leaves_its_key_to_the_next() -> None:
    pair = Pair()
    dead = bson.encode({"_id": 1, "name": "a"})
    pair.source.remove(DOCS, 1)
    pair.source.put(DOCS, {"_id": 2, "name": "a"})
    asyncio.run(pair.repair()._bury_document(MAPPING, dead))
    asyncio.run(pair.follow())
    pair.assert_equal()


def test_change_without_images_buries_its_old_keys_as_of_the_change() -> None:
    pair = Pair()
    pair.source.put(DOCS, {"_id": 1, "name": "b"}, ["name", "parts"], images_lost=True)
    pair.source.put(DOCS, {"_id": 2, "name": "a"})  # behind it in the stream, and in front of its reading
    asyncio.run(pair.follow())
    pair.assert_equal()


def test_writes_of_a_change_without_images_bear_two_versions() -> None:
    time = Pair().source.cluster_time()
    before, after = bson.encode({"_id": 1, "name": "a"}), bson.encode({"_id": 1, "name": "b"})
    change = DecodedChange.of(MAPPING, after, before, version_of(time, 0), snapshot_version(time))
    writes = change.writes(TTL)
    assert writes.root is not None
    assert [
        (key_of(one), "_deleted" in one, parse_version(one["_v"]["S"])) for one in (*writes.first, writes.root)
    ] == [
        (ROOT_A, True, version_of(time, 0)),
        (GUARD_OF_1, False, snapshot_version(time)),
        (("DOC#b", "ROOT"), False, snapshot_version(time)),
    ]
    buried = change.burial(TTL, RefusedByStore("no"))
    then, now = version_of(time, 0), snapshot_version(time)
    assert [parse_version(one["_v"]["S"]) for one in buried.first] == [then, now, now]


def test_a_change_whose_document_a_dual_write_has_put_is_not_the_first_to_be_written_for_its_guards() -> None:
    pair = Pair()
    time = pair.source.put(DOCS, {"_id": 2, "name": "c"})
    dual = MAPPING.encode({"_id": 2, "name": "c"}, version_of(time, 0))
    asyncio.run(pair.target.put_newer(TABLE, dual, NoLimit(), lambda: None))
    lanes = asyncio.run(pair.follow())
    assert ("UNIQUE#docs._id_#~i2", "UNIQUE") in pair.live()
    assert lanes.first == {}
    pair.assert_equal()


def test_insert_that_came_without_images_is_stored() -> None:
    pair = Pair()
    pair.source.put(DOCS, {"_id": 2, "name": "c"}, images_lost=True)
    asyncio.run(pair.follow())
    pair.assert_equal()
    assert not pair.ledger.list(f"dead:{DOCS}")
