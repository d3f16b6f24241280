"""Tables and ledgers for what runs against the fake, ministack and DynamoDB Local alike."""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import boto3
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.ports.flows import Ledger, Target
from docferry.testing.fakes import FakeLedger


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


def make_ledgers(session: boto3.Session | None) -> tuple[Ledger, Ledger]:
    """Ledgers of two migrations in one table."""
    if session is None:
        one = FakeLedger()
        return one, FakeLedger(one)
    table = f"Ledger{uuid.uuid4().hex}"
    create_table(session, table)
    return DynamoLedger(session, table, "one"), DynamoLedger(session, table, "one-more")


Run = Callable[[Callable[[Target, str], Awaitable[Any]]], Any]
