"""An upsert meets a document that stops matching between the client's look at its id and the update: MongoDB's outcome stays."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from docferry.sandbox import SandboxStack
from pymongo.errors import DuplicateKeyError
from support.backfill.rig import Rig
from support.client.rig import MODES, Asynchronous, Blocking, application, connected, set_mode

QUERY = {"username": "ann", "status": "active"}
METHODS: dict[str, Callable[[Any], Any]] = {
    "update_one": lambda db: db.call("users", "update_one", QUERY, {"$inc": {"visits": 1}}, upsert=True),
    "replace_one": lambda db: db.call("users", "replace_one", QUERY, {"username": "ann", "visits": 1}, upsert=True),
    "find_one_and_update": lambda db: db.call(
        "users", "find_one_and_update", QUERY, {"$inc": {"visits": 1}}, upsert=True, return_document=True
    ),
}


@pytest.fixture
def rig(stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = application(stack, tmp_path, f"pinned{uuid.uuid4().hex[:8]}")
    connected(made, monkeypatch, stack)
    set_mode(made, MODES["DUAL_WRITE"])
    made.database["users"].insert_one({"_id": "old", **QUERY})
    yield made
    made.mongo.drop_database(made.database.name)
    made.close()


def meanwhile(db: Any, happens: Callable[[], Any]) -> None:
    """Once the client has looked which document it is to update, that happens."""
    mongo = db.manager.parts.mongo
    run = mongo.run

    async def followed(collection: str, method: str, *arguments: Any, **options: Any) -> Any:
        result = await run(collection, method, *arguments, **options)
        if method == "find_one" and result.value is not None:
            mongo.run = run
            happens()
        return result

    mongo.run = followed


@pytest.mark.parametrize("kind", [Blocking, Asynchronous])
@pytest.mark.parametrize("method", METHODS)
def test_upsert_does_not_bring_a_document_back_that_was_deleted_meanwhile(rig: Rig, kind: Any, method: str) -> None:
    db = kind(rig)
    meanwhile(db, lambda: rig.database["users"].delete_one({"_id": "old"}))
    METHODS[method](db)
    (found,) = rig.database["users"].find({})
    assert found["_id"] != "old"
    assert (found["username"], found["visits"]) == ("ann", 1)
    db.close()


@pytest.mark.parametrize("method", METHODS)
def test_upsert_does_not_take_the_id_of_a_document_that_has_changed_meanwhile(rig: Rig, method: str) -> None:
    db = Blocking(rig)
    renamed = {"$set": {"username": "bob"}}
    meanwhile(db, lambda: rig.database["users"].update_one({"_id": "old"}, renamed))
    METHODS[method](db)
    found = {one["_id"]: one["username"] for one in rig.database["users"].find({})}
    assert found.pop("old") == "bob"
    assert list(found.values()) == ["ann"]
    db.close()


def test_upsert_updates_another_document_that_matches_by_then(rig: Rig) -> None:
    db = Blocking(rig)

    def another() -> None:
        rig.database["users"].delete_one({"_id": "old"})
        rig.database["users"].insert_one({"_id": "new", **QUERY})

    meanwhile(db, another)
    assert METHODS["update_one"](db).matched_count == 1
    assert [one["_id"] for one in rig.database["users"].find({})] == ["new"]
    db.close()


def test_upsert_that_names_its_id_inserts_it_and_meets_a_document_of_that_id_as_mongodb_does(rig: Rig) -> None:
    db = Blocking(rig)
    db.call("users", "update_one", {"_id": "named", "status": "x"}, {"$set": {"username": "eve"}}, upsert=True)
    with pytest.raises(DuplicateKeyError):
        db.call("users", "update_one", {"_id": "old", "status": "x"}, {"$set": {"username": "zoe"}}, upsert=True)
    assert {one["_id"] for one in rig.database["users"].find({})} == {"old", "named"}
    db.close()
