"""A migration that asks for what is made beside tables, on ministack, and the function that it names."""

from __future__ import annotations

import io
import uuid
import zipfile
from typing import Any

import boto3
import pytest
from docferry.config import Migration, parse_migration
from docferry.sandbox.aws import ACCOUNT_ID

from support.provision.estate import REGION

AROUND = """
migration: {mark}
source: {{database: d}}
target: {{account: "{account}", replicas: [eu-west-1]}}
ledger: {{table: Ledger{mark}}}
tables:
  Shop{mark}: {{indexes: [GSI1], kms_key: alias/{mark}, contributor_insights: true}}
collections: {{logs: {{}}}}
estate:
  tags: {{Project: migration}}
  keys: {{{mark}: {{multi_region: true}}}}
  backup:
    vault: v{mark}
    role_arn: "arn:aws:iam::{account}:role/backup"
    kms_key: alias/{mark}
    rules:
      nightly: {{schedule: "cron(0 3 * * ? *)", delete_after_days: 365, cold_after_days: 30, copy_to: [eu-west-1]}}
  alarms: {{topic: t{mark}, monthly_cost_usd: 500}}
  functions:
    indexer: {{function: f{mark}, table: Shop{mark}, filters: [{{eventName: [INSERT]}}]}}
"""


def client(service: str, region: str = REGION) -> Any:
    return boto3.client(service, region_name=region)


@pytest.fixture
def migration(emulators: Any) -> Migration:
    mark = f"m{uuid.uuid4().hex[:8]}"
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("index.py", "def handler(event, context):\n    return None\n")
    role = f"arn:aws:iam::{ACCOUNT_ID}:role/any"
    client("lambda").create_function(
        FunctionName=f"f{mark}",
        Runtime="python3.11",
        Role=role,
        Handler="index.handler",
        Code={"ZipFile": code.getvalue()},
    )
    return parse_migration(AROUND.format(mark=mark, account=ACCOUNT_ID).encode())
