"""A client with a `dax` section: a stand-in for AWS's client passes on to ministack, and remembers what came its way."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from bson import ObjectId
from docferry.adapters.aws import client_dax
from docferry.client import AsyncDynamoDBClient, DynamoDBClient
from docferry.sandbox import SandboxStack
from support.backfill.rig import Rig
from support.client.rig import MODES, Asynchronous, Blocking, application, connected, set_mode

DAX = {"cluster": "cache", "subnet_group": "nets", "security_groups": ["sg-1"], "role_arn": "arn:aws:iam::1:role/dax"}
ANN = {"_id": ObjectId("650000000000000000000001"), "username": "ann", "email": "ann@example.com", "photo": b"\0\1"}


class PassedOn:
    """In place of AmazonDaxClient, over boto3: no cache, but AWS's own form of requests and answers."""

    def __init__(self, rig: Rig) -> None:
        self._dynamodb = rig.dynamodb
        self.seen: list[str] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        def passed(**arguments: Any) -> Any:
            self.seen.append(method)
            return getattr(self._dynamodb, method)(**arguments)

        return passed

    def close(self) -> None: ...


@pytest.fixture(params=[Blocking, Asynchronous])
def cached(
    request: pytest.FixtureRequest, stack: SandboxStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Rig, Any, PassedOn]]:
    rig = application(stack, tmp_path, f"dax{uuid.uuid4().hex[:8]}")
    rig.file.write_text(yaml.safe_dump(yaml.safe_load(rig.file.read_text()) | {"dax": DAX}))
    passed, package = PassedOn(rig), ModuleType("amazondax")
    package.AmazonDaxClient = lambda *_, **__: passed  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "amazondax", package)
    monkeypatch.setattr(client_dax, "_endpoint", lambda *_: "daxs://cache")
    connected(rig, monkeypatch, stack)
    set_mode(rig, MODES["DUAL_WRITE"])
    db = request.param(rig)
    yield rig, db, passed
    db.close()
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


def ask(db: Any, cached: bool, method: str, *arguments: Any, **options: Any) -> Any:
    if isinstance(db, Blocking):
        return getattr(DynamoDBClient(db.manager, cached=cached), method)(*arguments, **options)
    client = AsyncDynamoDBClient(db.manager, cached=cached)
    return db.loop.run_until_complete(getattr(client, method)(*arguments, **options))


def test_client_goes_through_dax_once_dynamodb_leads_and_not_before(cached: tuple[Rig, Any, PassedOn]) -> None:
    rig, db, passed = cached
    db.call("users", "insert_one", dict(ANN))
    assert ask(db, True, "get", "user_by_email", email="ann@example.com") == ANN
    assert passed.seen == []

    set_mode(rig, MODES["DYNAMODB_ONLY"])
    db.manager.parts.membership.look()
    db.call("users", "update_one", {"username": "ann"}, {"$set": {"photo": b"\2"}})
    assert passed.seen == ["query", "transact_write_items"]
    assert db.call("users", "find_one", {"username": "ann"}) == ANN | {"photo": b"\2"}
    assert passed.seen[2:] == ["query"]
    assert ask(db, False, "get", "user_by_email", email="ann@example.com") == ANN | {"photo": b"\2"}
    assert passed.seen[3:] == ["query"]  # the document; the index was asked past the cache
    assert ask(db, True, "get", "user_by_email", email="ann@example.com") == ANN | {"photo": b"\2"}
    assert passed.seen[4:] == ["query", "query"]
    assert len(ask(db, True, "scan", "users", limit=9, max_read_units=9).documents) == 1
    assert passed.seen[6:] == []
    db.call("products", "insert_one", {"_id": ANN["_id"], "name": "cup"})
    del passed.seen[:]
    assert [one["name"] for one in ask(db, True, "batch_get", "products", [ANN["_id"]])] == ["cup"]
    assert passed.seen == ["batch_get_item"]
