"""What every sink promises: whole documents, one at a time, and errors that say whose fault it is and quote nothing."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import bson
import pytest
from bson import Decimal128, Int64, ObjectId
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.adapters.mongodb.sink import MongoSink
from docferry.core.bson_codec.options import BSON_OPTIONS
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.mapping.raw import id_bytes
from docferry.errors import AccessDenied, DuplicateKey, LeaseLost, RefusedByStore, Unavailable
from docferry.ports.flows import LeaderMarker, Sink
from docferry.sandbox import SandboxStack
from docferry.testing.fakes import FakeLeader, FakeSink
from pymongo import MongoClient

DOCUMENT = {"_id": ObjectId(), "a": {"z": 1, "y": [Int64(2), 2.0, Decimal128("12.50")]}, "n": None, "mail": "m"}


LEADS = Marker(revision=5, epoch=3, leader=Leads.DYNAMODB)
TOKEN = 7


@dataclass
class Made:
    """A sink whose collection `users` keeps `mail` unique, and the marker of its database."""

    sink: Sink
    leader: LeaderMarker


@pytest.fixture(params=["fake", "mongod"])
def made(request: pytest.FixtureRequest) -> Iterator[Made]:
    if request.param == "fake":
        leader = FakeLeader()
        yield Made(FakeSink({"users": [("mail",)]}, leader), leader)
        return
    stack: SandboxStack = request.getfixturevalue("stack")
    name = f"sink{uuid.uuid4().hex[:10]}"
    client: MongoClient[Any] = MongoClient(uri := stack.env()["DOCFERRY_MONGO_URI"])
    client[name]["users"].create_index("mail", unique=True)
    made = MongoSink(uri, name, "shop")
    marker = MongoLeader(uri, name, "shop")
    yield Made(made, marker)
    made.close()
    marker.close()
    client.drop_database(name)
    client.close()


@pytest.fixture(params=["open", "through a gate"])
def sink(request: pytest.FixtureRequest, made: Made) -> Sink:
    if request.param == "open":
        return made.sink
    made.leader.write(LEADS)
    assert made.leader.raise_token(TOKEN)
    return made.sink.through(TOKEN)


@pytest.fixture
def gated(made: Made) -> Sink:
    made.leader.write(LEADS)
    assert made.leader.raise_token(TOKEN)
    return made.sink.through(TOKEN)


@pytest.mark.parametrize("leads", [Leads.NEITHER, Leads.MONGODB])
def test_gate_lets_nothing_in_once_dynamodb_leads_no_more(made: Made, gated: Sink, leads: Leads) -> None:
    put(gated, _id=1, mail="a")
    made.leader.write(Marker(revision=6, epoch=4, leader=leads))
    with pytest.raises(LeaseLost):
        put(gated, _id=1, mail="late")
    with pytest.raises(LeaseLost):
        gated.delete("users", id_bytes(1))
    assert gated.current("users", id_bytes(1)) == bson.encode({"_id": 1, "mail": "a"})


def test_gate_lets_in_the_last_holder_only(made: Made, gated: Sink) -> None:
    put(gated, _id=1, mail="a")
    assert made.leader.raise_token(TOKEN + 1)
    with pytest.raises(LeaseLost):
        put(gated, _id=1, mail="late")
    put(made.sink.through(TOKEN + 1), _id=1, mail="b")
    assert gated.current("users", id_bytes(1)) == bson.encode({"_id": 1, "mail": "b"})


def test_gate_lets_nothing_in_without_a_marker(made: Made) -> None:
    with pytest.raises(LeaseLost):
        put(made.sink.through(TOKEN), _id=1, mail="a")


def test_writes_of_many_threads_all_happen_and_a_duplicate_among_them_is_its_own(gated: Sink) -> None:
    put(gated, _id=-1, mail="5")
    holders: list[bytes | None] = []

    def one(number: int) -> type[Exception] | None:
        try:
            put(gated, _id=number, mail=str(number))
        except DuplicateKey as error:
            holders.append(error.holder)
            return DuplicateKey
        return None

    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(one, range(100)))
    assert [number for number, error in enumerate(found) if error] == [5]
    assert holders == [id_bytes(-1)]
    assert all((gated.current("users", id_bytes(number)) is None) == (number == 5) for number in range(100))


def put(sink: Sink, **document: Any) -> None:
    sink.put("users", bson.encode(document))


def test_document_that_is_not_there_is_none(sink: Sink) -> None:
    assert sink.current("users", id_bytes(1)) is None
    sink.delete("users", id_bytes(1))


def test_document_comes_back_as_it_was_put(sink: Sink) -> None:
    data = bson.encode(DOCUMENT)
    sink.put("users", data)
    assert sink.current("users", id_bytes(DOCUMENT["_id"])) == data


def test_document_is_replaced_whole_and_deleted(sink: Sink) -> None:
    put(sink, _id=1, mail="a", x=1)
    put(sink, _id=1, mail="b")
    found = sink.current("users", id_bytes(1))
    assert found is not None
    assert bson.decode(found) == {"_id": 1, "mail": "b"}
    sink.delete("users", id_bytes(1))
    assert sink.current("users", id_bytes(1)) is None


@pytest.mark.parametrize(
    "key", [None, "", "~", 1.5, Int64(2**40), {"b": 1, "a": [2]}, b"\0", Decimal128("1.0")], ids=repr
)
def test_ids_of_any_kind_name_their_document(sink: Sink, key: Any) -> None:
    put(sink, _id=key, mail=repr(key))
    found = sink.current("users", id_bytes(key))
    assert found is not None
    assert bson.decode(found, BSON_OPTIONS)["_id"] == key
    sink.delete("users", id_bytes(key))
    assert sink.current("users", id_bytes(key)) is None


def test_int32_and_int64_of_one_value_are_one_id(sink: Sink) -> None:
    put(sink, _id=1, mail="a")
    assert sink.current("users", id_bytes(Int64(1))) is not None


def test_unique_value_of_another_document_is_refused_naming_field_and_holder_but_no_value(sink: Sink) -> None:
    put(sink, _id=1, mail="secret@example.org")
    with pytest.raises(DuplicateKey, match="mail") as caught:
        put(sink, _id=2, mail="secret@example.org")
    assert caught.value.holder == id_bytes(1)
    assert "secret" not in f"{caught.value} {caught.value.args}"
    put(sink, _id=1, mail="other")
    put(sink, _id=2, mail="secret@example.org")


def test_missing_unique_field_counts_as_null(sink: Sink) -> None:
    put(sink, _id=1)
    with pytest.raises(DuplicateKey) as caught:
        put(sink, _id=2, mail=None)
    assert caught.value.holder == id_bytes(1)


# --- the real one alone ----------------------------------------------------------------------------------------------


@pytest.fixture
def database(stack: SandboxStack) -> Iterator[Any]:
    client: MongoClient[Any] = MongoClient(stack.env()["DOCFERRY_MONGO_URI"])
    name = f"sink{uuid.uuid4().hex[:10]}"
    yield client[name]
    client.drop_database(name)
    client.close()


@pytest.fixture
def real(stack: SandboxStack, database: Any) -> Iterator[MongoSink]:
    made = MongoSink(stack.env()["DOCFERRY_MONGO_URI"], database.name, "shop")
    yield made
    made.close()


def test_document_over_16_mb_is_the_documents_fault(real: MongoSink) -> None:
    with pytest.raises(RefusedByStore, match="16 MB"):
        real.put("users", bson.encode({"_id": 1, "x": b"\0" * (16 * 1024 * 1024 + 20_000)}))


def test_document_that_fails_the_validator_is_the_documents_fault_and_is_not_quoted(
    real: MongoSink, database: Any
) -> None:
    database.create_collection("users", validator={"x": {"$type": "int"}})
    with pytest.raises(RefusedByStore, match="validator") as caught:
        real.put("users", bson.encode({"_id": 1, "x": "secret"}))
    assert "secret" not in str(caught.value)


def test_id_of_another_number_type_replaces_the_document(real: MongoSink, database: Any) -> None:
    database["users"].insert_one({"_id": 1})
    real.put("users", data := bson.encode({"_id": 1.0}))
    assert real.current("users", id_bytes(1)) == data


def test_field_that_begins_with_a_dollar_is_stored_or_the_documents_fault(real: MongoSink) -> None:
    data = bson.encode({"_id": 1, "a": {"$b": 1}})
    real.put("users", data)
    assert real.current("users", id_bytes(1)) == data


def test_write_passes_a_fence_that_blocks_users(stack: SandboxStack, real: MongoSink, database: Any) -> None:
    admin = database.client.admin
    admin.command({"setUserWriteBlockMode": 1, "global": True})
    try:
        real.put("users", bson.encode({"_id": 1}))
    finally:
        admin.command({"setUserWriteBlockMode": 1, "global": False})
    assert real.current("users", id_bytes(1)) is not None


def test_wrong_password_and_no_server_are_told_apart(
    stack: SandboxStack, database: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("docferry.adapters.mongodb.sink.WITHIN_S", 2.0)
    uri = stack.env()["DOCFERRY_MONGO_URI"]
    with pytest.raises(Unavailable):
        MongoSink("mongodb://127.0.0.1:1/", "x", "shop", serverSelectionTimeoutMS=50).current("users", id_bytes(1))
    user, _, rest = uri.partition("://")[2].partition("@")
    wrong = f"mongodb://{user.split(':')[0]}:wrong@{rest}"
    with pytest.raises(AccessDenied):
        MongoSink(wrong, "x", "shop").current("users", id_bytes(1))
