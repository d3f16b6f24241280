"""A write to MongoDB is acknowledged only if MongoDB led when it was made, by the lease or by MongoDB's own marker."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from docferry.client.context import ClientContext
from docferry.client.membership import Membership
from docferry.client.metrics import Metered, default_metrics
from docferry.client.transport.sync_driver import run
from docferry.client.writes.route import CollectionCalls
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.errors import LeaderUnknown, TimedOut, WriteUnconfirmed
from docferry.ports.client import MongoResult
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeLedger
from support.backfill.rig import eventually

LEASE_S = 0.4
MONGO = ModeState(mode=Mode.MONGO_ONLY, epoch=3)


class DriverError(Exception):
    """What pymongo might raise."""


class Door:
    """MongoDB with a marker. `meanwhile` happens between its look at a write and its answer."""

    def __init__(self) -> None:
        self.marker: Marker | None = Marker(revision=1, epoch=3, leader=Leads.MONGODB)
        self.meanwhile: Callable[[], None] = lambda: None
        self.wrote: list[Mapping[str, Any]] = []
        self.asked = 0
        self.error: Exception | None = None
        self.left_out: frozenset[int] | None = None

    async def run(self, collection: str, method: str, document: Any, **options: Any) -> MongoResult:
        self.wrote.append(document)
        self.meanwhile()
        if self.left_out is not None:
            raise DriverError("some were not inserted")
        return MongoResult(value="written")

    async def leader(self, migration: str) -> Marker | None:
        assert migration == "shop"
        self.asked += 1
        if self.error is not None:
            raise self.error
        return self.marker

    def is_driver_error(self, error: Exception) -> bool:
        return isinstance(error, DriverError)

    def not_inserted(self, error: Exception, documents: int, ordered: bool) -> frozenset[int] | None:
        return self.left_out

    def listed(self, documents: Any) -> Any:
        return documents

    def seen_time(self) -> None: ...


class Waits:
    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251


class Client:
    def __init__(self) -> None:
        self.ledger, self.door = FakeLedger(), Door()
        self.ledger.write(*MODE, MONGO.to_body(), expect=None)
        me = Identity(name="shop", mark="a", ended=lambda mark: False)
        self.member = Membership(lambda: self.ledger, lambda: me, lease_s=LEASE_S)
        nothing: Any = None
        door: Any = self.door
        calls: Any = Waits()
        parts = ClientContext(
            journal="", mappings={}, patterns=(), mongo=door, calls=calls, beside=nothing, membership=self.member,
            migration="shop", metrics=Metered(default_metrics(), self.member),
        )  # fmt: skip
        self.calls = CollectionCalls(parts, "users")

    def write(self) -> Any:
        return run(self.calls.mongo_only("insert_one", {"n": len(self.door.wrote)}))

    def cut_off(self) -> None:
        self.ledger.faults.fail_always(TimedOut("no ledger"))
        eventually(lambda: run(self.member.begin(Waits())).alone, "a process without the ledger")  # type: ignore[arg-type]

    def lose_the_lease(self) -> None:
        """As one that is frozen for longer than it lives, and comes back under another leader."""
        self.ledger.faults.fail_always(TimedOut("no ledger"))
        time.sleep(2 * LEASE_S)


@pytest.fixture
def client() -> Iterator[Client]:
    made = Client()
    made.member.join()
    yield made
    made.ledger.faults.clear()
    made.member.leave()


def test_lease_that_holds_behind_the_answer_is_enough(client: Client) -> None:
    assert client.write() == "written"
    assert client.door.asked == 0


def test_lease_that_ended_meanwhile_asks_the_marker(client: Client) -> None:
    client.door.meanwhile = client.lose_the_lease
    assert client.write() == "written"
    assert client.door.asked == 1


@pytest.mark.parametrize(
    "marker",
    [
        None,
        Marker(revision=2, epoch=4, leader=Leads.NEITHER),
        Marker(revision=3, epoch=5, leader=Leads.DYNAMODB),
        Marker(revision=9, epoch=11, leader=Leads.MONGODB),  # DynamoDB has led in between
    ],
    ids=["missing", "nobody", "dynamodb", "mongodb again"],
)
@pytest.mark.parametrize("alone", [False, True], ids=["frozen", "cut off"])
def test_write_under_another_leader_is_not_confirmed(client: Client, marker: Marker | None, alone: bool) -> None:
    if alone:
        client.cut_off()

    def change() -> None:
        client.door.marker = marker
        if not alone:
            client.lose_the_lease()

    client.door.meanwhile = change
    with pytest.raises(WriteUnconfirmed, match="written to MongoDB, not confirmed"):
        client.write()
    assert len(client.door.wrote) == 1


@pytest.mark.parametrize(
    "marker", [None, Marker(revision=3, epoch=5, leader=Leads.DYNAMODB)], ids=["missing", "dynamodb"]
)
def test_process_that_is_cut_off_writes_nothing_unless_the_marker_says_mongodb(
    client: Client, marker: Marker | None
) -> None:
    client.cut_off()
    client.door.marker = marker
    with pytest.raises(LeaderUnknown, match="Nothing was written") as raised:
        client.write()
    assert not isinstance(raised.value, WriteUnconfirmed)
    assert client.door.wrote == []


def test_process_that_is_cut_off_writes_while_the_marker_says_mongodb_and_looks_behind_each_answer(
    client: Client,
) -> None:
    client.cut_off()
    assert [client.write(), client.write()] == ["written"] * 2
    assert client.door.asked == 3  # before the first, and behind each


def test_marker_that_cannot_be_read_confirms_nothing(client: Client) -> None:
    client.cut_off()
    client.door.error = DriverError("no primary")
    with pytest.raises(LeaderUnknown, match="Nothing was written"):
        client.write()
    client.door.error = None

    def fails() -> None:
        client.door.error = DriverError("no primary")

    client.door.meanwhile = fails
    with pytest.raises(WriteUnconfirmed, match="is in MongoDB, and not confirmed"):
        client.write()


def test_process_that_is_cut_off_again_asks_again_before_its_first_write(client: Client) -> None:
    client.cut_off()
    client.write()
    client.ledger.faults.clear()
    eventually(lambda: not run(client.member.begin(Waits())).alone, "the ledger is back")  # type: ignore[arg-type]
    client.cut_off()
    client.door.marker = Marker(revision=9, epoch=11, leader=Leads.MONGODB)
    assert client.write() == "written"


def test_error_that_tells_what_was_inserted_is_confirmed_too(client: Client) -> None:
    client.cut_off()
    client.door.left_out = frozenset({1})

    def change() -> None:
        client.door.marker = Marker(revision=3, epoch=5, leader=Leads.DYNAMODB)

    client.door.meanwhile = change
    with pytest.raises(WriteUnconfirmed):
        run(client.calls.insert_many([{"_id": 1}, {"_id": 2}]))
