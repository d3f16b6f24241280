"""One suite, several implementations: the fake that ships, ministack, and DynamoDB Local where there is one."""

from __future__ import annotations

import asyncio
import os
import uuid
from collections.abc import Awaitable, Callable
from typing import TypeVar

import boto3
import pytest
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.ports.flows import Ledger, Target
from docferry.testing.fakes import FakeTarget
from support.tables import Run, create_table, make_ledgers

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


@pytest.fixture
def ledger(session: boto3.Session | None) -> Ledger:
    """An empty ledger of a migration of its own."""
    return make_ledgers(session)[0]


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
