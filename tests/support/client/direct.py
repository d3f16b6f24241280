"""`DynamoDBClient` on a table of the shop, by either kind of call, and documents for it."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from bson import Decimal128, ObjectId
from docferry.client import AsyncDynamoDBClient, DynamoDBClient
from docferry.sandbox import SandboxStack

from support.backfill.rig import Rig
from support.client.cases import ANN
from support.client.rig import MODES, Asynchronous, Blocking, application, connected, empty, set_mode


class Asking:
    """A DynamoDBClient of either kind, beside the manager that it belongs to."""

    def __init__(self, rig: Rig, db: Blocking | Asynchronous, **options: Any) -> None:
        self.rig, self.db = rig, db
        self.client: Any = (
            DynamoDBClient(db.manager, **options)
            if isinstance(db, Blocking)
            else AsyncDynamoDBClient(db.manager, **options)
        )

    def __getattr__(self, method: str) -> Any:
        call = getattr(self.client, method)
        if isinstance(self.db, Blocking):
            return call
        loop = self.db.loop
        return lambda *arguments, **options: loop.run_until_complete(call(*arguments, **options))

    def insert(self, collection: str, *documents: dict[str, Any]) -> None:
        for one in documents:
            self.db.call(collection, "insert_one", one)

    def items(self) -> list[dict[str, Any]]:
        pages = self.rig.dynamodb.get_paginator("scan").paginate(TableName=self.rig.table, ConsistentRead=True)
        return [item for page in pages for item in page["Items"]]

    def lead(self, mode: str) -> None:
        set_mode(self.rig, MODES[mode])
        self.db.manager.parts.membership.look()


@pytest.fixture(scope="module", params=[Blocking, Asynchronous])
def served(
    request: pytest.FixtureRequest, stack: SandboxStack, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Asking]:
    rig = application(stack, tmp_path_factory.mktemp("asked"), f"asked{uuid.uuid4().hex[:8]}")
    with pytest.MonkeyPatch.context() as patch:
        connected(rig, patch, stack)
        set_mode(rig, MODES["DYNAMODB_ONLY"])
        db = request.param(rig)
        yield Asking(rig, db)
        db.close()
    rig.mongo.drop_database(rig.migration.source.database)
    rig.close()


@pytest.fixture
def shop(served: Asking) -> Asking:
    empty(served.rig)
    served.lead("DYNAMODB_ONLY")
    return served


def user(name: str, document_id: ObjectId, day: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "_id": document_id, "username": name, "email": f"{name}@example.com", "status": "active", "visits": 1,
        "profile": {"location": {"city": "Seattle"}}, "lastLoginAt": datetime(2024, 1, day, 9),
        "addresses": [{"type": "home", "city": "Seattle"}],
    } | more  # fmt: skip


def order(number: int, **more: Any) -> dict[str, Any]:
    return {
        "_id": ObjectId(f"66{number:022x}"), "userId": ANN, "status": "pending", "totalAmount": Decimal128("12.50"),
        "createdAt": datetime(2024, 1, number), "items": [{"quantity": 2, "price": Decimal128("6.25"), "name": "x"}],
    } | more  # fmt: skip


def product(number: int, **more: Any) -> dict[str, Any]:
    return {"_id": ObjectId(f"67{number:022x}"), "sku": f"s{number}", "name": f"p{number:03d}", "stock": 5} | more


def numbers(documents: list[dict[str, Any]]) -> list[int]:
    return [int(str(one["_id"])[2:], 16) for one in documents]
