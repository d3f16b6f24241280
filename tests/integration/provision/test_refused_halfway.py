"""AWS refuses halfway: what was made bears its tags, and a second run, once AWS agrees, finishes it without being asked."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from typing import Any

import botocore.session
import pytest
from botocore import exceptions
from docferry.adapters.aws.estate import AwsEstate
from docferry.config import Migration, parse_migration
from docferry.core.estate.resources import MARKER
from docferry.core.estate.values import REPLICA_MARKER
from docferry.errors import AccessDenied, MigrationError, QuotaUsedUp, RetryExhausted
from docferry.flows.provision.run import Patience, add_replicas
from docferry.wiring import desired
from support.provision.around import client
from support.provision.estate import ABROAD, REGION, _environment, emulators, run

__all__ = ["_environment", "emulators"]

FILE = """
migration: MARK
source: {database: d}
target: {account: "123456789012", replicas: [eu-west-1]}
ledger: {table: LedgerMARK}
cutover: {journal: false}
tables: {ShopMARK: {indexes: [GSI1], tags: {Project: migration}, kms_key: alias/MARK, contributor_insights: true}}
collections: {logs: {}}
estate:
  tags: {Project: migration}
  keys: {MARK: {multi_region: true}}
  backup:
    vault: vMARK
    role_arn: "arn:aws:iam::123456789012:role/backup"
    kms_key: alias/MARK
    rules: {nightly: {schedule: "cron(0 3 * * ? *)", delete_after_days: 35, copy_to: [eu-west-1]}}
"""
HASTY = Patience(poll_s=0.02, settle_s=20, agree_s=1, trouble_s=0.0)
QUOTA, DENIED, NOWHERE = "LimitExceededException", "AccessDeniedException", "no such address"


class Refusal:
    """From its `at`th request on that changes something AWS refuses everything of that operation and region."""

    def __init__(self, fault: str, operation: str, abroad: bool = False) -> None:
        self.fault, self.operation, self.region = fault, operation, ABROAD if abroad else REGION
        self.met = 0

    def estate(self) -> AwsEstate:
        session = botocore.session.Session()
        session.register("before-call", self._look)
        return AwsEstate(session, REGION)

    def _look(self, model: Any, request_signer: Any, **_: Any) -> None:
        if model.name != self.operation or request_signer.region_name != self.region:
            return
        self.met += 1
        if self.fault == NOWHERE:
            raise exceptions.EndpointConnectionError(
                endpoint_url=f"https://{self.operation}.{self.region}", error="no host"
            )
        raise exceptions.ClientError({"Error": {"Code": self.fault, "Message": "A quota was exceeded"}}, model.name)


PLACES = [
    (DENIED, "EnableKeyRotation", False, AccessDenied),
    (QUOTA, "CreateBackupVault", True, QuotaUsedUp),
    (NOWHERE, "CreateBackupPlan", False, RetryExhausted),
    (DENIED, "TagResource", False, AccessDenied),
]
MORE = [
    (QUOTA, "CreateKey", False, QuotaUsedUp),
    (QUOTA, "ReplicateKey", False, QuotaUsedUp),
    (DENIED, "CreateAlias", True, AccessDenied),
    (DENIED, "UpdateContinuousBackups", False, AccessDenied),
    (DENIED, "UpdateTimeToLive", False, AccessDenied),
    (DENIED, "UpdateContributorInsights", False, AccessDenied),
    (DENIED, "CreateBackupSelection", False, AccessDenied),
]
"""Where `make cutover` is refused, too: each takes seconds."""


@pytest.mark.parametrize(
    ("fault", "operation", "abroad", "error"),
    [*PLACES, *(pytest.param(*one, marks=pytest.mark.cutover) for one in MORE)],
)
def test_what_was_made_before_a_refusal_is_tagged_and_finished_by_the_next_run(
    emulators: Any, fault: str, operation: str, abroad: bool, error: type[MigrationError]
) -> None:
    file = parse_migration(FILE.replace("MARK", f"m{uuid.uuid4().hex[:8]}x").encode())
    refusal = Refusal(fault, operation, abroad)
    with pytest.raises(error):
        both(file, refusal.estate())
    assert refusal.met
    assert [name for name, tags in made(file.name) if tags.get("Project") != "migration"] == []

    estate = AwsEstate(botocore.session.Session(), REGION)
    both(file, estate)
    assert {name.partition(" ")[0] for name, _ in made(file.name)} == {"table", "key", "vault", "plan"}
    assert [name for name, tags in made(file.name) if tags.keys() & {MARKER, REPLICA_MARKER}] == []
    for flow in (run(desired(file), estate), run(desired(file), estate, add_replicas)):
        assert not flow.changed_anything


def both(file: Migration, estate: AwsEstate) -> None:
    run(desired(file), estate, patience=HASTY)
    run(desired(file), estate, add_replicas, patience=HASTY)


def made(mark: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    """All of it that can have the file's tags, with its tags, as AWS says it. Not the ledger: the file gives it none."""
    for region in (REGION, ABROAD):
        dynamodb, kms, backup = client("dynamodb", region), client("kms", region), client("backup", region)
        for table in dynamodb.list_tables()["TableNames"]:
            if table == f"Shop{mark}":
                arn = dynamodb.describe_table(TableName=table)["Table"]["TableArn"]
                tags = {one["Key"]: one["Value"] for one in dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]}
                yield f"table in {region}", tags
        for key in kms.list_keys(Limit=1000)["Keys"]:
            described = kms.describe_key(KeyId=key["KeyId"])["KeyMetadata"]
            if mark in described["Description"]:
                listed = kms.list_resource_tags(KeyId=key["KeyId"])["Tags"]
                yield f"key in {region}", {one["TagKey"]: one["TagValue"] for one in listed}
        for vault in backup.list_backup_vaults()["BackupVaultList"]:
            if mark in vault["BackupVaultName"]:
                yield f"vault in {region}", backup.list_tags(ResourceArn=vault["BackupVaultArn"])["Tags"]
        for plan in backup.list_backup_plans()["BackupPlansList"]:
            if mark in plan["BackupPlanName"]:
                yield f"plan in {region}", backup.list_tags(ResourceArn=plan["BackupPlanArn"])["Tags"]
