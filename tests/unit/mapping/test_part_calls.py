"""The client's calls where items have parts: written before what names them, read after it, and gone with what is replaced."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from docferry.client.transport.parts import PartCalls
from docferry.client.transport.sync_driver import run
from docferry.client.transport.through import units_told
from docferry.core.mapping.large.overflow import fitting_of
from docferry.core.mapping.table_layout import TableLayout
from docferry.errors import ConditionFailed, Unavailable
from docferry.ports.flows import Guard
from support.mappings import GENERIC

SETTINGS = replace(GENERIC.settings, overflow="split")
FITTING = fitting_of([SETTINGS])
assert FITTING is not None
LAYOUT = TableLayout(fitting=replace(FITTING, over=300, limit=500, part_bytes=200))
TABLE = SETTINGS.table
KEY = {"PK": {"S": "K"}, "SK": {"S": "DATA"}}
NOISE = random.Random(5).randbytes(900).hex()


def item(version: int, text: str = NOISE) -> dict[str, Any]:
    return KEY | {
        "entityType": {"S": GENERIC.root.entity},
        "_id": {"S": "1"},
        "_v": {"S": f"{version:022x}"},
        "text": {"S": text},
    }


class Table:
    """A DynamoDB table in memory. `log` is what was asked; `before` is run in front of a call."""

    blocking = True

    def __init__(self) -> None:
        self.items: dict[str, dict[str, Any]] = {}
        self.log: list[str] = []
        self.lose: set[str] = set()
        self.before_parts: Callable[[], object] = lambda: None
        self.counted: dict[str, int] = {}

    def count(self, name: str, number: int) -> None:
        self.counted[name] = self.counted.get(name, 0) + number

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        self.log.append(operation)
        if operation in self.lose:
            raise Unavailable("lost")
        if operation == "BatchGetItem":
            self.before_parts()
        if operation == "TransactWriteItems":
            for one in request["TransactItems"]:
                self._put(one["Put"])
        elif operation == "PutItem":
            self._put(request)
        elif operation == "DeleteItem":
            self.items.pop(request["Key"]["PK"]["S"], None)
        elif operation == "GetItem":
            found = self.items.get(request["Key"]["PK"]["S"])
            return {"ConsumedCapacity": {"CapacityUnits": 1.0}} | ({"Item": dict(found)} if found else {})
        elif operation == "BatchGetItem":
            keys = [key["PK"]["S"] for key in request["RequestItems"][TABLE]["Keys"]]
            there = [dict(self.items[key]) for key in keys if key in self.items]
            return {"Responses": {TABLE: there}, "ConsumedCapacity": [{"CapacityUnits": 10.0}]}
        return {}

    def _put(self, put: Mapping[str, Any]) -> None:
        there, wanted = self.items.get(put["Item"]["PK"]["S"]), put.get("ExpressionAttributeValues")
        if wanted is not None and (there is None or there["_v"] != wanted[":v"]):
            raise ConditionFailed("condition", operation="PutItem", code="ConditionalCheckFailedException")
        self.items[put["Item"]["PK"]["S"]] = dict(put["Item"])

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None: ...

    async def close(self) -> None: ...

    def parts(self) -> set[str]:
        return {key for key in self.items if key.startswith("PART#")}

    def left_over(self) -> set[str]:
        named = {f"PART#{one['S']}" for found in self.items.values() for one in found.get("_p", {}).get("L", [])}
        return self.parts() - named


def put(new: Mapping[str, Any], read: int | None = None) -> dict[str, Any]:
    asked: dict[str, Any] = {"TableName": TABLE, "Item": LAYOUT.stored(dict(new))}
    if read is not None:
        asked |= {
            "ConditionExpression": "#v = :v", "ExpressionAttributeNames": {"#v": "_v"},
            "ExpressionAttributeValues": {":v": {"S": f"{read:022x}"}},
        }  # fmt: skip
    return asked


def get(calls: PartCalls) -> Any:
    reply = run(calls.call("GetItem", {"TableName": TABLE, "Key": KEY}))
    return LAYOUT.read(reply["Item"])


@pytest.fixture
def table() -> Table:
    return Table()


@pytest.fixture
def calls(table: Table) -> PartCalls:
    return PartCalls(table, {TABLE: LAYOUT}, table.count)


def test_parts_go_before_and_come_back(table: Table, calls: PartCalls) -> None:
    run(calls.call("TransactWriteItems", {"TransactItems": [{"Put": put(item(1))}]}))
    assert table.log == ["GetItem", *["PutItem"] * len(table.parts()), "TransactWriteItems"]
    assert len(table.parts()) > 2
    assert get(calls) == item(1)
    assert run(calls.call("BatchGetItem", {"RequestItems": {TABLE: {"Keys": [KEY]}}}))["Responses"][TABLE] != []


def test_what_a_write_has_replaced_goes_with_its_parts(table: Table, calls: PartCalls) -> None:
    run(calls.call("PutItem", put(item(1))))
    get(calls)
    run(calls.call("PutItem", put(item(2, NOISE[::-1]), read=1)))
    assert get(calls) == item(2, NOISE[::-1])
    assert table.left_over() == set()
    run(calls.call("PutItem", put(item(3, "small"), read=2)))
    assert table.parts() == set()


def test_a_writer_that_loses_takes_its_own_parts_away_and_leaves_the_winners_alone(
    table: Table, calls: PartCalls
) -> None:
    run(calls.call("PutItem", put(item(1))))
    get(calls)
    other = PartCalls(table, {TABLE: LAYOUT}, table.count)
    get(other)
    run(other.call("PutItem", put(item(2, NOISE[1:]), read=1)))
    with pytest.raises(ConditionFailed):
        run(calls.call("PutItem", put(item(2, NOISE[2:]), read=1)))
    assert get(calls) == item(2, NOISE[1:])
    with pytest.raises(ConditionFailed):
        run(calls.call("PutItem", put(item(2, NOISE[1:]), read=1)))  # what it would write is what is there
    assert get(calls) == item(2, NOISE[1:])
    assert table.left_over() == set()


def test_a_write_by_who_has_not_read_takes_away_what_was_there(table: Table, calls: PartCalls) -> None:
    run(calls.call("PutItem", put(item(1))))
    run(PartCalls(table, {TABLE: LAYOUT}, table.count).call("PutItem", put(item(2, NOISE[1:]))))
    assert table.left_over() == set()


def test_a_write_has_ended_well_whatever_becomes_of_old_parts(table: Table, calls: PartCalls) -> None:
    run(calls.call("PutItem", put(item(1))))
    get(calls)
    table.lose = {"DeleteItem"}
    run(calls.call("PutItem", put(item(2, NOISE[1:]), read=1)))
    assert get(calls) == item(2, NOISE[1:])
    assert table.left_over() != set()  # what a purge is for
    assert table.counted == {"parts.left": 1}


def test_a_request_that_may_have_arrived_keeps_its_parts(table: Table, calls: PartCalls) -> None:
    table.lose = {"TransactWriteItems"}
    with pytest.raises(Unavailable):
        run(calls.call("TransactWriteItems", {"TransactItems": [{"Put": put(item(1))}]}))
    assert len(table.parts()) > 2


def test_what_parts_take_is_told(table: Table, calls: PartCalls) -> None:
    run(calls.call("PutItem", put(item(1))))
    request = {"TableName": TABLE, "Key": KEY, "ReturnConsumedCapacity": "TOTAL"}
    assert units_told(run(calls.call("GetItem", request))) == 11.0


def test_a_field_by_the_name_of_what_names_parts_is_a_field_elsewhere(table: Table, calls: PartCalls) -> None:
    other = item(1, "small") | {"entityType": {"S": "OTHER"}, "_p": {"L": [{"S": "mine"}]}}
    run(calls.call("PutItem", put(other)))
    assert get(calls) == other


def test_parts_expire_behind_their_item() -> None:
    (part, *_) = LAYOUT.cut(LAYOUT.stored(item(1) | {"_ttl": {"N": "1000.5"}}))[1]
    assert part["_ttl"] == {"N": str(1000 + 7 * 86_400)}


def test_an_item_is_not_written_without_its_parts(table: Table, calls: PartCalls) -> None:
    table.lose = {"PutItem"}
    with pytest.raises(Unavailable):
        run(calls.call("TransactWriteItems", {"TransactItems": [{"Put": put(item(1))}]}))
    assert "TransactWriteItems" not in table.log


def test_a_reader_whose_parts_go_meanwhile_reads_the_item_that_is_there_now(table: Table, calls: PartCalls) -> None:
    run(calls.call("PutItem", put(item(1))))
    stale = dict(table.items["K"])
    other = PartCalls(table, {TABLE: LAYOUT}, table.count)
    get(other)
    run(other.call("PutItem", put(item(2, NOISE[1:]), read=1)))
    table.before_parts = lambda: table.items.__setitem__("K", newer)
    newer, table.items["K"] = table.items["K"], stale
    assert get(calls) == item(2, NOISE[1:])


def test_a_part_that_is_gone_leaves_an_item_that_cannot_be_read(table: Table, calls: PartCalls) -> None:
    run(calls.call("PutItem", put(item(1))))
    del table.items[min(table.parts())]
    assert "_p" in get(calls)
    assert "text" not in get(calls)


def test_two_writers_of_one_version_share_no_part() -> None:
    one, other = (LAYOUT.cut(LAYOUT.stored(item(1, text)))[1] for text in (NOISE, NOISE[1:]))
    assert not {part["PK"]["S"] for part in one} & {part["PK"]["S"] for part in other}
    again = LAYOUT.cut(LAYOUT.stored(item(2)))[1]
    assert not {part["PK"]["S"] for part in one} & {part["PK"]["S"] for part in again}
