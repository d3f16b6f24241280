"""What the version before stored in DynamoDB is read by the ledger of today as it was meant."""

from __future__ import annotations

import uuid

import boto3
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.flows.ledger.mapping_fingerprint import require_mapping
from docferry.flows.reporting.status import status_of
from docferry.ports.flows import Ledger
from docferry.testing.fakes import FakeLedger
from support.ledger.old import fill, old_items, old_migration
from support.tables import create_table


def ledger_of(session: boto3.Session | None) -> Ledger:
    if session is None:
        return fill(FakeLedger())
    table = f"Old{uuid.uuid4().hex}"
    create_table(session, table)
    client = session.client("dynamodb")
    for item in old_items():
        client.put_item(TableName=table, Item=item)
    return DynamoLedger(session, table, "shop")


def test_items_of_the_version_before_are_records_of_today(session: boto3.Session | None) -> None:
    expected, ledger = fill(FakeLedger()), ledger_of(session)
    for item in old_items():
        section, key = item["PK"]["S"].partition("#")[2], item["SK"]["S"]
        found, wanted = ledger.read(section, key), expected.read(section, key)
        assert found is not None
        assert wanted is not None
        assert found.body == wanted.body
    migration = old_migration()
    require_mapping(migration, ledger)
    assert status_of(migration, ledger) == status_of(migration, expected)
