"""What every marker promises: it says who leads by the latest mode that was told to it, and a late writer changes nothing."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from docferry.adapters.mongodb.analysis import MongoAnalysis
from docferry.adapters.mongodb.database import MongoDatabase
from docferry.adapters.mongodb.leader import MongoLeader, gate_of
from docferry.core.cutover.marker import COLLECTION, GATES, Leads, Marker
from docferry.errors import AccessDenied, InvariantBroken
from docferry.ports.flows import LeaderMarker
from docferry.sandbox import SandboxStack
from docferry.testing.fakes import FakeLeader
from pymongo import MongoClient
from pymongo.errors import OperationFailure

FIRST = Marker(revision=3, epoch=1, leader=Leads.MONGODB)
NO_SUCH_TRANSACTION = 251
LEADS = Marker(revision=5, epoch=3, leader=Leads.DYNAMODB)


class Made:
    """A database with nothing in it, and how to open a marker there."""

    def __init__(self, stack: SandboxStack) -> None:
        self.uri, self.name = stack.env()["DOCFERRY_MONGO_URI"], f"leader{uuid.uuid4().hex[:10]}"
        self.client: MongoClient[Any] = MongoClient(self.uri)
        self.opened: list[MongoLeader] = []

    def leader(self, migration: str = "shop") -> MongoLeader:
        self.opened.append(MongoLeader(self.uri, self.name, migration))
        return self.opened[-1]

    def close(self) -> None:
        for one in self.opened:
            one.close()
        self.client.drop_database(self.name)
        self.client.close()


@pytest.fixture
def made(stack: SandboxStack) -> Iterator[Made]:
    found = Made(stack)
    yield found
    found.close()


@pytest.fixture(params=["fake", "mongod"])
def leader(request: pytest.FixtureRequest) -> LeaderMarker:
    return FakeLeader() if request.param == "fake" else request.getfixturevalue("made").leader()


def test_marker_that_was_never_made_is_none(leader: LeaderMarker) -> None:
    assert leader.read() is None
    assert not leader.raise_token(7)


def test_marker_is_made_and_follows_later_modes(leader: LeaderMarker) -> None:
    assert leader.write(FIRST) == FIRST
    assert leader.read() == FIRST
    assert leader.write(LEADS) == LEADS
    assert leader.write(LEADS) == LEADS
    assert leader.read() == LEADS


def test_late_writer_changes_nothing_and_is_told_what_is_there(leader: LeaderMarker) -> None:
    leader.write(LEADS)
    for late in (FIRST, replace(LEADS, leader=Leads.NEITHER)):
        assert leader.write(late) == LEADS
    assert leader.read() == LEADS


def test_rehearsal_changes_nothing_whether_there_is_a_marker_or_not(leader: LeaderMarker) -> None:
    leader.rehearse()
    assert leader.read() is None
    leader.write(LEADS)
    leader.rehearse()
    assert leader.read() == LEADS


def test_rehearsal_of_a_user_who_may_only_read_is_refused(made: Made) -> None:
    made.leader().write(FIRST)
    made.client[made.name].command("createUser", "reader", pwd="secret", roles=["read"])
    host, port = made.client.address or ("", 0)
    uri = f"mongodb://reader:secret@{host}:{port}/?authSource={made.name}&directConnection=true"
    reader = MongoLeader(uri, made.name, "shop")
    made.opened.append(reader)
    try:
        assert reader.read() == FIRST
        with pytest.raises(AccessDenied):
            reader.rehearse()
    finally:
        made.client[made.name].command("dropUser", "reader")


def test_token_rises_while_dynamodb_leads_and_outlives_the_leader(leader: LeaderMarker) -> None:
    leader.write(FIRST)
    assert not leader.raise_token(7)
    leader.write(LEADS)
    assert leader.raise_token(7)
    assert leader.raise_token(7)
    assert not leader.raise_token(6)
    after = leader.write(Marker(revision=9, epoch=7, leader=Leads.MONGODB))
    assert (after.leader, after.token) == (Leads.MONGODB, 7)
    assert not leader.raise_token(8)


def test_many_that_make_it_at_once_end_with_the_latest(made: Made) -> None:
    markers = [Marker(revision=one, epoch=one, leader=Leads.NEITHER) for one in range(1, 9)]
    threads = [threading.Thread(target=made.leader().write, args=(one,)) for one in markers]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert made.leader().read() == markers[-1]
    found = list(made.client[made.name][COLLECTION].find({}))
    assert len(found) == 1 + GATES
    assert {(one["rev"], one["leader"]) for one in found} == {(8, "none")}


def test_migrations_of_one_database_have_markers_of_their_own(made: Made) -> None:
    one, other = made.leader("one"), made.leader("other")
    one.write(LEADS)
    assert other.read() is None
    other.write(FIRST)
    assert (one.read(), other.read()) == (LEADS, FIRST)


def test_gate_that_somebody_has_changed_by_hand_is_loud(made: Made) -> None:
    leader = made.leader()
    leader.write(FIRST)
    made.client[made.name][COLLECTION].delete_one({"_id": "shop/gate/3"})
    with pytest.raises(InvariantBroken, match=f"has {GATES} of the {1 + GATES} documents"):
        leader.write(LEADS)
    assert leader.read() == FIRST


def test_marker_is_no_collection_of_the_application(made: Made) -> None:
    made.leader().write(FIRST)
    made.client[made.name]["users"].insert_one({})
    database, analysis = MongoDatabase(made.uri, made.name), MongoAnalysis(made.uri, made.name)
    assert [one.name for one in database.specs()] == ["users"]
    assert [one["name"] for one in analysis.collections()] == ["users"]
    database.close()


def test_a_transaction_that_a_killed_process_left_open_does_not_keep_the_next_holder_out(made: Made) -> None:
    leader = made.leader()
    leader.write(LEADS)
    with MongoClient[Any](made.uri, appname="docferry") as killed, killed.start_session() as session:
        session.start_transaction()
        killed[made.name][COLLECTION].update_one({"_id": gate_of("shop", 0)}, {"$inc": {"writes": 1}}, session=session)
        assert leader.raise_token(7)
        with pytest.raises(OperationFailure) as late:
            session.commit_transaction()
    assert late.value.code == NO_SUCH_TRANSACTION
