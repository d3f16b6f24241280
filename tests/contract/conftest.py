"""One suite, several implementations: the fake that ships, ministack, and DynamoDB Local where somebody has one."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import boto3
import pytest
from docferry.adapters.dynamodb import DynamoTarget
from docferry.adapters.dynamodb_http import DynamoHttp
from docferry.adapters.ledger import DynamoLedger
from docferry.ports import Ledger, Target
from docferry.testing.fakes import FakeLedger, FakeTarget

T = TypeVar("T")
DYNAMODB_LOCAL_URL = "DOCFERRY_DYNAMODB_LOCAL_URL"


@pytest.fixture(params=["fake", "ministack", pytest.param("dynamodb_local", marks=pytest.mark.dynamodb_local)])
def session(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> boto3.Session | None:
    """A session for the implementation under test; None for the fake."""
    if request.param == "fake":
        return None
    if request.param == "ministack":
        request.getfixturevalue("stack_env")
        return boto3.Session()
    url = os.environ.get(DYNAMODB_LOCAL_URL)
    if not url:
        pytest.skip(f"{DYNAMODB_LOCAL_URL} is not set")
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"):
        monkeypatch.setenv(name, url)
    return boto3.Session("docferry", "nosecretatall", region_name="us-east-1")


def create_table(session: boto3.Session, name: str) -> None:
    keys = ("PK", "SK", "GSI1PK", "GSI1SK")
    client = session.client("dynamodb")
    client.create_table(
        TableName=name,
        AttributeDefinitions=[{"AttributeName": key, "AttributeType": "S"} for key in keys],
        KeySchema=_schema("PK", "SK"),
        GlobalSecondaryIndexes=[
            {"IndexName": "GSI1", "KeySchema": _schema("GSI1PK", "GSI1SK"), "Projection": {"ProjectionType": "ALL"}}
        ],
        BillingMode="PAY_PER_REQUEST",
    )
    client.get_waiter("table_exists").wait(TableName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 20})


def _schema(pk: str, sk: str) -> list[dict[str, str]]:
    return [{"AttributeName": pk, "KeyType": "HASH"}, {"AttributeName": sk, "KeyType": "RANGE"}]


@pytest.fixture
def ledger(session: boto3.Session | None) -> Ledger:
    """An empty ledger of a migration of its own."""
    return make_ledgers(session)[0]


def make_ledgers(session: boto3.Session | None) -> tuple[Ledger, Ledger]:
    """Ledgers of two migrations in one table."""
    if session is None:
        return FakeLedger(), FakeLedger()
    table = f"Ledger{uuid.uuid4().hex}"
    create_table(session, table)
    return DynamoLedger(session, table, "one"), DynamoLedger(session, table, "one-more")


Run = Callable[[Callable[[Target, str], Awaitable[Any]]], Any]


@pytest.fixture
def run(session: boto3.Session | None) -> Run:
    """Runs a coroutine function with (target, name of an empty table), as often as it is called on the same table."""
    table = f"T{uuid.uuid4().hex}"
    if session is None:
        fake = FakeTarget()
        fake.create_table(table)
        return lambda use: asyncio.run(_used(lambda: fake, use, table))
    create_table(session, table)
    return lambda use: asyncio.run(_used(lambda: DynamoTarget(DynamoHttp(session), concurrency=4), use, table))


async def _used(make: Callable[[], Target], use: Callable[[Target, str], Awaitable[T]], table: str) -> T:
    target = make()
    try:
        return await use(target, table)
    finally:
        await target.close()
