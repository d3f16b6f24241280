"""What a dual put sends to DynamoDB: a transaction only where a document has several items: it costs twice their units."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.client.items.putter import PutOutcome, Putter
from docferry.client.transport.sync_driver import run
from docferry.client.type_border import TypeBorder
from docferry.client.writes.dual import DualWrites
from docferry.core.cutover.modes import Mode, ModeState
from docferry.core.mapping.mapping import DocumentMapping
from docferry.core.versions import version_text
from docferry.errors import ConditionFailed, LeaseLost
from docferry.ports.client import MongoResult, WriteReply
from docferry.ports.flows import Guard
from docferry.testing.vectors_documents import USER, VERSION, mapping

ALONE = {**USER, "addresses": []}


class Recorder:
    """DynamoDB, which takes everything, or finds that something newer is stored."""

    blocking = True

    def __init__(self, newer: bool = False) -> None:
        self.newer = newer
        self.asked: list[tuple[str, Mapping[str, Any]]] = []

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        if guard is not None:
            guard()
        self.asked.append((operation, request))
        if self.newer:
            raise ConditionFailed("the conditional request failed", operation=operation)
        return {}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...


@pytest.mark.parametrize("method", ["put_newer", "bury_newer"])
def test_single_item_is_put_without_a_transaction_on_condition_that_nothing_newer_is_there(method: str) -> None:
    calls = Recorder()
    outcome = run(getattr(Putter(mapping("users"), calls, lambda: None), method)(dict(ALONE), VERSION))
    assert outcome is PutOutcome.WRITTEN
    ((operation, request),) = calls.asked
    assert operation == "PutItem"
    assert request["ConditionExpression"] == "attribute_not_exists(#v) OR #v < :v"
    assert request["ExpressionAttributeValues"] == {":v": {"S": version_text(VERSION)}}
    assert ("_deleted" in request["Item"]) == (method == "bury_newer")
    assert "ClientRequestToken" not in request


@pytest.mark.parametrize("method", ["put_newer", "bury_newer"])
def test_several_items_of_a_document_are_put_in_one_transaction(method: str) -> None:
    calls = Recorder()
    run(getattr(Putter(mapping("users"), calls, lambda: None), method)(dict(USER), VERSION))
    ((operation, request),) = calls.asked
    assert operation == "TransactWriteItems"
    assert len(request["TransactItems"]) == 1 + len(USER["addresses"])


def test_single_item_leaves_what_is_newer_alone() -> None:
    outcome = run(Putter(mapping("users"), Recorder(newer=True), lambda: None).put_newer(dict(ALONE), VERSION))
    assert outcome is PutOutcome.SUPERSEDED


def test_single_item_is_not_sent_by_a_process_whose_lease_is_over() -> None:
    def lost() -> None:
        raise LeaseLost("instances/me")

    calls = Recorder()
    with pytest.raises(LeaseLost):
        run(Putter(mapping("users"), calls, lost).put_newer(dict(ALONE), VERSION))
    assert calls.asked == []


class Counting:
    """The metrics, and MongoDB that acknowledges."""

    majority = True

    def __init__(self) -> None:
        self.counted: list[str] = []
        self.waiting: list[Any] = []

    def count(self, name: str, number: int = 1) -> None:
        self.counted.append(name)

    def settle(self) -> None: ...

    async def run(self, collection: str, method: str, *arguments: Any, **options: Any) -> MongoResult:
        return MongoResult(value=SimpleNamespace(upserted_id=1))


@pytest.mark.parametrize(("field", "told"), [("username", 0), ("email", 1)])
def test_document_without_a_key_is_told_before_dynamodb_is_written_at_all(field: str, told: int) -> None:
    there: Any = Counting()
    parts: Any = SimpleNamespace(mongo=there, metrics=there, mapping=mapping, border=TypeBorder())
    dual = DualWrites(parts, "users")
    run(dual.put(ModeState(), MongoResult(value=None), {"_id": 1, field: "ann"}))
    run(dual.update(ModeState(), "update_one", {field: "ann"}, {"$set": {"n": 1}}, True, {}))
    run(dual.update(ModeState(), "replace_one", {"_id": 1}, {field: "ann"}, True, {}))
    assert there.counted == ["dead_letter.coming.users"] * 3 * told


def test_upsert_whose_id_mongodb_makes_has_a_key() -> None:
    there: Any = Counting()
    parts: Any = SimpleNamespace(mongo=there, metrics=there, mapping=mapping, border=TypeBorder())
    dual = DualWrites(parts, "events")
    run(dual.update(ModeState(), "update_one", {"n": 1}, {"$set": {"m": 1}}, True, {}))
    run(dual.update(ModeState(), "replace_one", {"n": 1}, {"m": 1}, True, {}))
    assert there.counted == []


INSIDE, OUTSIDE = {**ALONE, "status": "active"}, {**ALONE, "status": "gone"}


@pytest.mark.parametrize(("document", "asked"), [(INSIDE, 2), (OUTSIDE, 0)])
def test_a_write_outside_the_filter_stays_mongodbs_alone_and_is_counted(document: dict[str, Any], asked: int) -> None:
    mine = DocumentMapping(replace(mapping("users").settings, filter={"status": "active"}))
    there: Any = Counting()
    calls = Recorder()
    parts: Any = SimpleNamespace(
        mongo=there, metrics=there, mapping=lambda name: mine, border=TypeBorder(),
        putter=lambda of, beside: Putter(of, calls, lambda: None),
    )  # fmt: skip
    dual = DualWrites(parts, "users")
    proved = MongoResult(
        value=None, replies=(WriteReply(time=Timestamp(9, 1), changed=1, retried=False),), before=Timestamp(8, 1)
    )
    writing = ModeState(mode=Mode.DUAL_WRITE, epoch=1)
    for state in (ModeState(), writing):
        run(dual.put(state, proved, dict(document)))
    run(dual.bury(writing, proved, dict(document)))
    assert len(calls.asked) == asked
    assert there.counted.count("outside_filter.users") == (0 if asked else 3)
    assert not any("dead_letter" in name or "failed" in name for name in there.counted)
