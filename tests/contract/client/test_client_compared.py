"""Which reads are compared while MongoDB answers them: a share of all, however little of its cursor the application takes."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bson import ObjectId
from bson.timestamp import Timestamp
from docferry.client.reads.shadow import SETTLE_S
from docferry.flows.ledger.positions import REPLICATION, position_body
from docferry.ports.flows import StreamPosition
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig, eventually
from support.client.rig import MODES, Asynchronous, Blocking, application, connected, set_mode


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = application(stack, tmp_path, f"compared{uuid.uuid4().hex[:8]}")
    connected(made, monkeypatch, stack)
    set_mode(made, MODES["DUAL_WRITE"])
    yield made
    made.mongo.drop_database(made.database.name)
    made.close()


def insert(db: Any) -> None:
    for name in ("ann", "bob"):
        db.call("users", "insert_one", {"_id": ObjectId(), "username": name, "status": "active"})


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
def test_find_one_and_cursor_that_is_left_in_the_middle_are_compared(rig: Rig, kind: Any) -> None:
    db = kind(rig)
    insert(db)

    def counts() -> Any:
        return db.manager.get_metrics()["counts"]

    db.call("users", "find_one", {"username": "ann"})
    eventually(lambda: counts().get("shadow.equal") == 1, "find_one to be compared")
    cursor = db.manager["users"].find({"username": {"$in": ["ann", "bob"]}})
    assert next(cursor) if kind is Blocking else db.loop.run_until_complete(anext(cursor))
    eventually(lambda: counts().get("shadow.equal") == 2, "the cursor to be compared")
    db.close()


def test_difference_is_found_by_find_one(rig: Rig) -> None:
    db = Blocking(rig)
    insert(db)
    rig.database["users"].update_one({"username": "ann"}, {"$set": {"status": "idle"}})  # and no process replicates
    db.call("users", "find_one", {"username": "ann"})
    eventually(lambda: db.manager.get_metrics()["validation_failures"] == 1, "the difference to be told")
    db.close()


def test_document_that_an_index_leaves_out_is_a_difference(rig: Rig) -> None:
    db = Blocking(rig)
    db.call("users", "insert_one", {"username": "ann", "status": "active", "profile": {"location": {"city": "Bern"}}})
    (found,) = db.call("users", "find", {"profile.location.city": "Bern", "status": "active"})  # and no lastLoginAt
    assert found["username"] == "ann"
    eventually(lambda: db.manager.get_metrics()["validation_failures"] == 1, "the difference to be told")
    db.close()


def replicated_up_to(rig: Rig, time: Timestamp) -> None:
    """What a replicator tells the ledger."""
    position = StreamPosition(time=time, token={"_data": "x"}, scope="test")
    rig.ledger.write(*REPLICATION, position_body(position), expect=rig.ledger.read(*REPLICATION))


def test_a_difference_is_late_while_replication_is_behind_and_one_when_it_has_got_there(rig: Rig) -> None:
    db = Blocking(rig)
    insert(db)
    replicated_up_to(rig, rig.mongo.admin.command("ping")["operationTime"])
    rig.database["users"].update_one({"username": "ann"}, {"$set": {"status": "idle"}})
    db.call("users", "find_one", {"username": "ann"})
    db.call("users", "find_one", {"username": "bob"})

    def counts() -> Any:
        return db.manager.get_metrics()["counts"]

    eventually(lambda: counts().get("shadow.equal") == 1, "what is equal to be told")
    time.sleep(SETTLE_S + 2)  # as long as it took to be a mismatch, and more
    assert counts().get("shadow.mismatch", 0) == 0
    replicated_up_to(rig, Timestamp(2**31 - 1, 1))
    eventually(lambda: counts().get("shadow.mismatch") == 1, "the difference to be told")
    db.close()
