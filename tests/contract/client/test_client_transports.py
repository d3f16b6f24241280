"""What the client's transports promise, blocking and asynchronous: the same answers and errors, a guard before each signature."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from bson import ObjectId
from docferry.adapters.aws.client_dynamodb import AsyncCalls, SyncCalls
from docferry.adapters.mongodb.client.calls import AsyncMongoCalls, SyncMongoCalls
from docferry.adapters.mongodb.leader import MongoLeader
from docferry.client.items.putter import PutOutcome, Putter
from docferry.client.transport.metered import MeasuredCalls
from docferry.client.transport.sync_driver import run
from docferry.core.backoff import Backoff
from docferry.core.cutover.marker import Leads, Marker
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import version_text
from docferry.errors import (
    ConditionFailed,
    InvariantBroken,
    KeyTaken,
    LeaseLost,
    RetryExhausted,
    TableMissing,
    WritesFenced,
)
from docferry.sandbox import SandboxStack
from docferry.testing.vectors_documents import VERSION, mapping
from pymongo import errors as pymongo_errors
from support.backfill.rig import _Endpoint, session_of


class Transports:
    """Both transports of one kind, and how to run what they do."""

    def __init__(self, stack: SandboxStack, kind: str) -> None:
        env = self.env = stack.env()
        self.database = f"transports{uuid.uuid4().hex[:8]}"
        self.session: Any = _Endpoint(session_of(env), env["AWS_ENDPOINT_URL_DYNAMODB"])
        self.kind = kind
        self.loop = asyncio.new_event_loop() if kind == "asynchronous" else None
        uri = env["DOCFERRY_APP_MONGO_URI"]
        self.mongo: Any = (AsyncMongoCalls if self.loop else SyncMongoCalls)(uri, self.database)
        self.calls: Any = (AsyncCalls if self.loop else SyncCalls)(self.session, backoff=Backoff(for_s=1.0))
        self.table = f"Transports{uuid.uuid4().hex[:8]}"
        self.client = self.session.client("dynamodb")
        self.client.create_table(
            TableName=self.table,
            BillingMode="PAY_PER_REQUEST",
            KeySchema=[{"AttributeName": "PK", "KeyType": "HASH"}, {"AttributeName": "SK", "KeyType": "RANGE"}],
            AttributeDefinitions=[{"AttributeName": name, "AttributeType": "S"} for name in ("PK", "SK")],
        )

    def run(self, coroutine: Any) -> Any:
        return self.loop.run_until_complete(coroutine) if self.loop else run(coroutine)

    def close(self) -> None:
        self.run(self.mongo.close())
        self.run(self.calls.close())
        if self.loop:
            self.loop.close()


@pytest.fixture(params=["blocking", "asynchronous"])
def transports(request: pytest.FixtureRequest, stack: SandboxStack) -> Iterator[Transports]:
    made = Transports(stack, request.param)
    yield made
    made.close()


# --- DynamoDB --------------------------------------------------------------------------------------------------------


def put(transports: Transports, pk: str, condition: str = "attribute_not_exists(PK)") -> dict[str, Any]:
    item = {"PK": {"S": pk}, "SK": {"S": "x"}, "data": {"B": "AAE="}}
    return {"TableName": transports.table, "Item": item, "ConditionExpression": condition}


def test_call_answers_in_wire_form(transports: Transports) -> None:
    transports.run(transports.calls.call("PutItem", put(transports, "a")))
    key = {"PK": {"S": "a"}, "SK": {"S": "x"}}
    reply = transports.run(
        transports.calls.call("GetItem", {"TableName": transports.table, "Key": key, "ConsistentRead": True})
    )
    assert reply["Item"]["data"] == {"B": "AAE="}


def test_refused_condition_is_told_from_other_refusals(transports: Transports) -> None:
    transports.run(transports.calls.call("PutItem", put(transports, "a")))
    with pytest.raises(ConditionFailed):
        transports.run(transports.calls.call("PutItem", put(transports, "a")))
    both = {"TransactItems": [{"Put": put(transports, "b")}, {"Put": put(transports, "a")}]}
    with pytest.raises(ConditionFailed):
        transports.run(transports.calls.call("TransactWriteItems", both))
    assert transports.client.scan(TableName=transports.table)["Count"] == 1
    with pytest.raises(TableMissing):
        transports.run(transports.calls.call("PutItem", put(transports, "a") | {"TableName": "nowhere"}))


def test_transaction_sent_again_with_its_token_is_the_same_one(transports: Transports) -> None:
    request = {"TransactItems": [{"Put": put(transports, "a")}], "ClientRequestToken": uuid.uuid4().hex}
    transports.run(transports.calls.call("TransactWriteItems", request))
    transports.run(transports.calls.call("TransactWriteItems", request))


def test_dual_put_of_one_item_costs_no_transaction_and_leaves_what_is_newer_alone(transports: Transports) -> None:
    events = DocumentMapping(replace(mapping("events").settings, table=transports.table))
    measured = MeasuredCalls(transports.calls)
    putter = Putter(events, measured, lambda: None)

    def put_at(version: int) -> Any:
        return transports.run(putter.put_newer({"_id": 1, "kind": "sale"}, version))

    assert [put_at(VERSION), put_at(VERSION + 1)] == [PutOutcome.WRITTEN] * 2
    assert measured.read_units == 2.0  # of 1 KB or less; a transaction would have taken twice that
    assert [put_at(VERSION + 1), put_at(VERSION)] == [PutOutcome.SUPERSEDED] * 2
    (item,) = transports.client.scan(TableName=transports.table)["Items"]
    assert item["_v"] == {"S": version_text(VERSION + 1)}


def test_guard_is_asked_before_each_signature(transports: Transports) -> None:
    def guard() -> None:
        raise LeaseLost("instances/me")

    with pytest.raises(LeaseLost):
        transports.run(transports.calls.call("PutItem", put(transports, "a"), guard))
    assert transports.client.scan(TableName=transports.table)["Count"] == 0


def test_server_that_is_gone_is_an_error_that_says_so(transports: Transports) -> None:
    session: Any = _Endpoint(session_of(transports.env), "http://127.0.0.1:9")
    calls: Any = (AsyncCalls if transports.loop else SyncCalls)(session, backoff=Backoff(for_s=0.2))
    with pytest.raises(RetryExhausted, match=r"127\.0\.0\.1:9"):
        transports.run(calls.call("ListTables", {}))


def test_connections_survive_being_closed_by_the_server_and_a_fork(transports: Transports) -> None:
    transports.run(transports.calls.call("PutItem", put(transports, "a")))
    transports.calls.forked()
    transports.run(transports.calls.call("PutItem", put(transports, "b")))


# --- MongoDB ---------------------------------------------------------------------------------------------------------


def test_write_tells_its_own_time_and_what_it_changed(transports: Transports) -> None:
    inserted = transports.run(transports.mongo.run("things", "insert_one", {"_id": 1, "n": 1}))
    assert inserted.value.inserted_id == 1
    assert inserted.proved is not None
    updated = transports.run(transports.mongo.run("things", "update_one", {"_id": 1}, {"$set": {"n": 2}}))
    assert updated.proved > inserted.proved
    assert updated.before is not None
    assert updated.before < updated.proved
    nothing = transports.run(transports.mongo.run("things", "update_one", {"_id": 1}, {"$set": {"n": 2}}))
    assert nothing.value.matched_count == 1
    assert nothing.proved is None
    assert transports.run(
        transports.mongo.run("things", "update_one", {"_id": 9}, {"$set": {"n": 2}}, upsert=True)
    ).proved
    assert (
        transports.run(transports.mongo.run("things", "find_one_and_update", {"_id": 1}, {"$set": {"n": 3}})).proved
        is None
    )
    removed = transports.run(transports.mongo.run("things", "find_one_and_delete", {"_id": 1}))
    assert removed.value == {"_id": 1, "n": 3}
    assert removed.proved is not None
    assert transports.run(transports.mongo.run("things", "find_one_and_delete", {"_id": 1})).proved is None


def test_document_is_read_as_it_was_at_a_time(transports: Transports) -> None:
    transports.run(transports.mongo.run("things", "insert_one", {"_id": 1, "n": 1}))
    first = transports.run(transports.mongo.run("things", "update_one", {"_id": 1}, {"$set": {"n": 2}})).proved
    transports.run(transports.mongo.run("things", "update_one", {"_id": 1}, {"$set": {"n": 3}}))
    assert transports.run(transports.mongo.read_at("things", 1, first)) == {"_id": 1, "n": 2}
    assert transports.run(transports.mongo.read_at("things", 2, first)) is None


def test_cursor_gives_every_document_once(transports: Transports) -> None:
    transports.run(transports.mongo.run("things", "insert_many", [{"_id": number} for number in range(250)]))

    async def fetch_all() -> list[Any]:
        cursor, found = transports.mongo.find("things", {}, sort=[("_id", 1)]), []
        while (document := await cursor.fetch()) is not None:
            found.append(document["_id"])
        await cursor.close()
        return found

    assert transports.run(fetch_all()) == list(range(250))


def test_refusals_are_pymongos_own(transports: Transports) -> None:
    transports.run(transports.mongo.run("things", "insert_one", {"_id": 1}))
    with pytest.raises(pymongo_errors.DuplicateKeyError):
        transports.run(transports.mongo.run("things", "insert_one", {"_id": 1}))
    with pytest.raises(pymongo_errors.WriteError):
        transports.run(transports.mongo.run("things", "update_one", {"_id": 1}, {"$inc": {"_id": 1}}))


def test_what_is_made_to_look_like_pymongos_does(transports: Transports) -> None:
    one = ObjectId()
    assert transports.mongo.inserted([one]).inserted_id == one
    assert transports.mongo.inserted([one], many=True).inserted_ids == [one]
    updated = transports.mongo.updated(matched=1, modified=0)
    assert (updated.matched_count, updated.modified_count, updated.upserted_id) == (1, 0, None)
    upserted = transports.mongo.updated(matched=0, modified=0, upserted_id=7)
    real = transports.run(
        transports.mongo.run("things", "update_one", {"_id": 7}, {"$set": {"a": 1}}, upsert=True)
    ).value
    for name in ("matched_count", "modified_count", "upserted_id", "acknowledged"):
        assert getattr(upserted, name) == getattr(real, name)
    assert transports.mongo.deleted(1).deleted_count == 1
    taken = transports.mongo.duplicate_key(KeyTaken("things", {"a": 7}))
    transports.run(transports.mongo.run("things", "insert_one", {"_id": 8}))
    with pytest.raises(pymongo_errors.DuplicateKeyError) as twice:
        transports.run(transports.mongo.run("things", "insert_one", {"_id": 8}))
    assert twice.value.details is not None
    assert (
        twice.value.details.items()
        >= {"index": 0, "code": 11000, "keyPattern": {"_id": 1}, "keyValue": {"_id": 8}}.items()
    )
    assert taken.details.items() >= {"index": 0, "code": 11000, "keyPattern": {"a": 1}, "keyValue": {"a": 7}}.items()
    assert transports.mongo.write_error(66, "no").code == 66
    bulk = transports.mongo.bulk_write_error([(1, taken)], [{"a": 6}, {"a": 7}], 1)
    assert bulk.details["writeErrors"][0].items() >= {"index": 1, "code": 11000, "op": {"a": 7}}.items()
    assert transports.mongo.is_write_error(transports.mongo.write_error(66, "no"))


def test_fenced_write_is_told_from_other_refusals(transports: Transports, stack: SandboxStack) -> None:
    with stack.mongo.client() as admin:
        admin.admin.command({"setUserWriteBlockMode": 1, "global": True})
        try:
            with pytest.raises(WritesFenced) as caught:
                transports.run(transports.mongo.run("things", "insert_one", {"_id": 1}))
            assert isinstance(caught.value.__cause__, pymongo_errors.OperationFailure)
        finally:
            admin.admin.command({"setUserWriteBlockMode": 1, "global": False})


def test_coroutine_that_waits_is_no_blocking_one() -> None:
    with pytest.raises(InvariantBroken, match="event loop"):
        run(asyncio.sleep(0))


def test_marker_is_read_as_a_majority_confirms_it(transports: Transports) -> None:
    assert transports.run(transports.mongo.leader("shop")) is None
    leader = MongoLeader(transports.env["DOCFERRY_MONGO_URI"], transports.mongo.database, "shop")
    marker = leader.write(Marker(revision=7, epoch=3, leader=Leads.NEITHER))
    assert transports.run(transports.mongo.leader("shop")) == marker
    leader.close()
