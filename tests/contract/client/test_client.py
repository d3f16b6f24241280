"""The client does what pymongo does, in every mode: the same calls, the same results, the same errors."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.errors import CallRefused
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.cases import ANN, CASES, order, user
from support.client.rig import (
    MODES,
    Asynchronous,
    Blocking,
    Db,
    Plain,
    application,
    connected,
    empty,
    outcome,
    set_mode,
)


@pytest.fixture(scope="module")
def expected(stack: SandboxStack) -> Callable[[str], list[Any]]:
    """What pymongo does, once for each case."""
    found: dict[str, list[Any]] = {}

    def of(case: str) -> list[Any]:
        if case not in found:
            plain = Plain(stack.env()["DOCFERRY_APP_MONGO_URI"], f"plain{uuid.uuid4().hex[:8]}")
            plain.database["users"].create_index("username", unique=True)
            plain.database["users"].create_index("email", unique=True, sparse=True)
            found[case] = CASES[case](plain)
            plain.close()
        return found[case]

    return of


@pytest.fixture(scope="module", params=[(mode, kind) for mode in MODES for kind in (Blocking, Asynchronous)], ids=str)
def served(
    request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Rig, Db]]:
    mode, kind = request.param
    rig = application(stack, tmp_path_factory.mktemp("served"), f"client{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        set_mode(rig, MODES[mode])
        db = kind(rig)
        yield rig, db
        db.close()
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.mark.parametrize("case", CASES)
def test_call_has_pymongos_outcome_in_every_mode(
    served: tuple[Rig, Db], expected: Callable[[str], list[Any]], case: str
) -> None:
    rig, db = served
    empty(rig)
    assert CASES[case](db) == expected(case)


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


def test_what_is_not_supported_is_refused_by_name_and_what_to_do_instead(served: tuple[Rig, Db]) -> None:
    _, db = served
    assert isinstance(db, Blocking | Asynchronous)
    manager: Any = db.manager
    calls: tuple[Callable[[], Any], ...] = (
        lambda: db.manager.command("ping"), lambda: db.manager.client.start_session(), lambda: db.manager.users.aggregate([]),
        lambda: db.manager.users.drop(), lambda: db.manager.users.find({}).explain(), lambda: db.manager.list_collection_names(),
    )  # fmt: skip
    for call in calls:
        with pytest.raises(CallRefused):
            call()
    with pytest.raises(TypeError, match="'no_such_method' is a collection"):
        db.manager.no_such_method()
    with pytest.raises(TypeError):
        iter(manager)
    assert db.manager.users == db.manager["users"] == db.manager.get_collection("users")
    assert db.manager.users != db.manager.orders
    assert db.manager.name == served[0].migration.source.database


def test_what_only_mongodb_can_do_is_done_while_it_leads_and_counted(served: tuple[Rig, Db]) -> None:
    rig, db = served
    assert isinstance(db, Blocking | Asynchronous)
    mode = db.manager.get_metrics()["configuration"]["mode"]
    if mode == "DYNAMODB_ONLY":
        with pytest.raises(CallRefused):
            db.call("users", "estimated_document_count")
        with pytest.raises(CallRefused):
            db.call("users", "create_index", "visits")
        return
    empty(rig)
    db.call("users", "insert_one", user("ann", ANN))
    assert db.call("users", "estimated_document_count") == 1
    assert db.call("users", "create_index", [("visits", 1)]) == "visits_1"
    assert "visits_1" in db.call("users", "index_information")
    shapes = {f"users.{one}(nothing)" for one in ("estimated_document_count", "create_index", "index_information")}
    assert db.manager.parts.membership.tally.unserved.keys() & shapes == (shapes if mode != "MONGO_ONLY" else set())
    rig.database["users"].drop_index("visits_1")
