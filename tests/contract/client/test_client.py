"""The client does what pymongo does, in every mode: the same calls, the same results, the same errors."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.cases import ANN, CASES, order
from support.client.counted import COUNTED, COUNTED_OF_MANY
from support.client.many import MANY
from support.client.rig import (
    MODES,
    Blocking,
    Db,
    Plain,
    application,
    connected,
    empty,
    outcome,
    set_mode,
)
from support.transactions.cases import TRANSACTIONS

ONE, SEVERAL = CASES | COUNTED, MANY | COUNTED_OF_MANY


@pytest.mark.parametrize("case", ONE)
def test_call_has_pymongos_outcome_in_every_mode(
    served: tuple[Rig, Db], expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db = served
    empty(rig)
    assert ONE[case](db) == expected(case)


@pytest.mark.parametrize("case", SEVERAL)
def test_call_of_several_documents_has_pymongos_outcome_under_each_leader(
    served: tuple[Rig, Db], expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db = served
    assert not isinstance(db, Plain)
    if db.manager.get_metrics()["configuration"]["mode"] == "DYNAMODB_READS":
        return  # what such calls write comes there by replication, of which there is none here
    empty(rig)
    assert SEVERAL[case](db) == expected(case)


@pytest.mark.parametrize("case", TRANSACTIONS)
def test_transaction_has_pymongos_outcome_under_each_leader(
    served: tuple[Rig, Db], expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db = served
    assert not isinstance(db, Plain)
    if db.manager.get_metrics()["configuration"]["mode"] == "DYNAMODB_READS":
        return  # what a session writes comes to DynamoDB by replication, of which there is none here
    empty(rig)
    assert TRANSACTIONS[case](db) == expected(case)


def cursor_idioms(orders: Any) -> list[Any]:
    """What applications do with a cursor."""
    mine = {"userId": ANN}
    found: list[Any] = []
    with orders.find(mine).sort("createdAt", -1).batch_size(2).max_time_ms(10_000).comment("a word") as cursor:
        found += [next(cursor)["_id"], cursor.next()["_id"], cursor.alive]
    found += [list(cursor), cursor.alive]
    cursor = orders.find(mine).sort([("createdAt", 1)])
    found += [cursor[1]["_id"], [one["_id"] for one in cursor[1:3]]]
    found.append([one["_id"] for one in cursor.rewind()])
    found += [len(list(cursor)), len(cursor.clone().to_list()), outcome(lambda: cursor.rewind()[9])]
    cursor = orders.find(mine, batch_size=2)
    next(cursor)
    cursor.close()
    left = list(cursor)  # pymongo has the rest of its batch
    found += [len(left) < 2, [one["_id"] for one in orders.find(mine, None, 1, 2).sort(["createdAt"])]]
    return found


@pytest.mark.parametrize("mode", MODES)
def test_cursor_is_used_as_pymongos(
    stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
    rig = application(stack, tmp_path, f"cursors{uuid.uuid4().hex[:8]}")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES[mode])
    db = Blocking(rig)
    for one in (plain, db):
        one.call("orders", "insert_many", [order(number) for number in range(5)])
    assert cursor_idioms(db.manager.orders) == cursor_idioms(plain.database.orders)
    db.close()
    plain.close()
    rig.close()
