"""A write to MongoDB is acknowledged only if MongoDB led when it was made, by the lease or by MongoDB's own marker."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from docferry.client.transport.sync_driver import run
from docferry.core.cutover.marker import Leads, Marker
from docferry.errors import LeaderUnknown, WriteUnconfirmed
from support.backfill.rig import eventually
from support.client.doors import Client, DriverError, Waits


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
