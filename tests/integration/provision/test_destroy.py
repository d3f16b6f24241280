"""A scratch stack is removed: what was made for the file is gone, what is not its own is left, and nothing that is used goes."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import boto3
import botocore.session
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.config import Migration, parse_migration
from docferry.core.cutover.modes import Mode
from docferry.core.permissions.aws import Actor, policy
from docferry.core.permissions.statements import AwsAccount
from docferry.errors import PreflightFailed
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import begin_in, change_mode, mode_in, mode_record, read_mode
from docferry.flows.ledger.rooms.owners import claim_tables, read_owners
from docferry.flows.preflight.permissions import resources_of
from docferry.flows.provision.destroy import DestroyReport, destroy
from docferry.flows.provision.run import add_replicas, ownership
from docferry.sandbox.aws import ACCOUNT_ID
from docferry.testing.jobs import make_job
from docferry.wiring import desired
from support.provision.around import client, migration
from support.provision.estate import ABROAD, HASTY, REGION, _environment, emulators, estate, run

__all__ = ["_environment", "emulators", "estate", "migration"]


SMALL = """
migration: MARK
source: {database: d}
target: {account: "123456789012", scratch: true}
ledger: {table: LedgerMARK}
tables: {ShopMARK: {kms_key: alias/MARK}}
collections: {logs: {}}
estate: {keys: {MARK: {}}}
"""


@pytest.fixture
def small(emulators: Any) -> Migration:
    return parse_migration(SMALL.replace("MARK", f"m{uuid.uuid4().hex[:8]}").encode())


@pytest.fixture
def scratch(migration: Migration) -> Migration:
    return replace(migration, target=replace(migration.target, scratch=True))


def job_of(migration: Migration, estate: AwsEstate) -> Job:
    ledger = DynamoLedger(boto3.Session(region_name=REGION), migration.ledger.table, migration.name)
    return make_job(migration=migration, estate=estate, ledger=ledger)


def destroyed(job: Job, **more: Any) -> DestroyReport:
    return destroy(job, desired(job.migration, final=True), **{"dry_run": False, "patience": HASTY, **more})


def provisioned(migration: Migration, estate: AwsEstate) -> Job:
    job = job_of(migration, estate)
    wanted = desired(migration, final=True)
    run(wanted, estate, ownership=ownership(migration, job.ledger, estate))
    run(wanted, estate, add_replicas)
    begin_in(job.ledger, read_mode(job.ledger))
    return job


def test_all_that_was_made_is_gone_and_is_made_again_from_nothing(scratch: Migration, estate: AwsEstate) -> None:
    job = provisioned(scratch, estate)
    would = destroyed(job, dry_run=True)
    assert would.refusals == ()
    assert estate.fetch_table(scratch.tables[0].name) is not None, "a dry run removes nothing"
    asked: set[str] = set()
    session = botocore.session.Session()
    session.register("before-call", lambda model, **_: asked.add(_action(model)))
    report = destroyed(job_of(scratch, AwsEstate(session, REGION)))
    assert report.steps == would.steps
    assert set(there(scratch)) == set()
    assert destroyed(job).steps == ()

    allowed = allowed_by(scratch)
    assert len(asked) > 20
    assert asked <= allowed
    ledger = {f"dynamodb:{one}" for one in ("DeleteItem", "GetItem", "PutItem", "Query", "UntagResource")}
    checked = {
        "backup-storage:MountCapsule",
        "dynamodb:DeleteTableReplica",
        "kms:CreateKey",
    }  # along with another action
    assert allowed - asked <= ledger | checked | {"backup:DeleteRecoveryPoint"}
    assert allowed_by(replace(scratch, target=replace(scratch.target, scratch=False))) == set()

    run(desired(scratch), estate)
    assert "table" in set(there(scratch))
    assert client("kms").describe_key(KeyId=f"alias/{scratch.name}")["KeyMetadata"]["KeyState"] == "Enabled"


def there(migration: Migration) -> Iterator[str]:
    """What is left of it, as AWS says it, without docferry."""
    mark = migration.name
    for region in (REGION, ABROAD):
        tables = client("dynamodb", region).list_tables()["TableNames"]
        yield from ("table" for one in tables if mark in one)
        yield from ("alias" for one in client("kms", region).list_aliases()["Aliases"] if mark in one["AliasName"])
        vaults = client("backup", region).list_backup_vaults()["BackupVaultList"]
        yield from ("vault" for one in vaults if mark in one["BackupVaultName"])
        for key in client("kms", region).list_keys(Limit=1000)["Keys"]:
            if mark in repr(client("kms", region).list_resource_tags(KeyId=key["KeyId"])["Tags"]):
                state = client("kms", region).describe_key(KeyId=key["KeyId"])["KeyMetadata"]["KeyState"]
                yield from () if state.startswith("Pending") else ("key",)
    yield from (
        "plan" for one in client("backup").list_backup_plans()["BackupPlansList"] if mark in one["BackupPlanName"]
    )
    alarms = client("cloudwatch").describe_alarms(AlarmNamePrefix=f"docferry-{mark}", MaxRecords=100)["MetricAlarms"]
    yield from ("alarm" for _ in alarms)
    boards = client("cloudwatch").list_dashboards(DashboardNamePrefix=f"docferry-{mark}")["DashboardEntries"]
    yield from ("dashboard" for _ in boards)
    yield from ("topic" for one in client("sns").list_topics()["Topics"] if mark in one["TopicArn"])
    yield from (
        "mapping" for _ in client("lambda").list_event_source_mappings(FunctionName=f"f{mark}")["EventSourceMappings"]
    )


def allowed_by(migration: Migration) -> set[str]:
    made = policy(Actor.DESTROY, resources_of(migration), AwsAccount(region=REGION, account=ACCOUNT_ID))
    return {action for one in made["Statement"] for action in one["Action"]}


def _action(model: Any) -> str:
    service = model.service_model.signing_name
    return f"{'cloudwatch' if service == 'monitoring' else service}:{model.name}"


@pytest.mark.parametrize(
    ("change", "why"),
    [({"scratch": False}, "does not say that this stack is a scratch one"), ({"account": ""}, "names no account")],
)
def test_a_file_that_does_not_say_so_is_refused(
    small: Migration, estate: AwsEstate, change: Mapping[str, Any], why: str
) -> None:
    job = provisioned(small, estate)
    kept = set(there(small))
    other = make_job(migration=replace(small, target=replace(small.target, **change)), ledger=job.ledger, estate=estate)
    assert why in " ".join(destroyed(other, dry_run=True).refusals)
    with pytest.raises(PreflightFailed, match=why):
        destroyed(other)
    assert set(there(small)) == kept


def test_while_it_is_used_nothing_is_removed(small: Migration, estate: AwsEstate) -> None:
    job = provisioned(small, estate)
    before = mode_record(job.ledger)
    change_mode(job.ledger, before, mode_in(before).move(Mode.DUAL_WRITE), job.identity, "a test")
    assert "DUAL_WRITE" in " ".join(destroyed(job, dry_run=True).refusals)
    with pytest.raises(PreflightFailed, match="DUAL_WRITE"):
        destroyed(job)
    assert estate.fetch_table(small.tables[0].name) is not None


def test_a_table_without_the_tag_is_not_ours_and_stops_all(small: Migration, estate: AwsEstate) -> None:
    job = provisioned(small, estate)
    table = small.tables[0].name
    arn = client("dynamodb").describe_table(TableName=table)["Table"]["TableArn"]
    client("dynamodb").untag_resource(ResourceArn=arn, TagKeys=[f"docferry:owner:{small.name}"])
    with pytest.raises(PreflightFailed, match="it is not this file's"):
        destroyed(job)
    assert client("dynamodb").describe_table(TableName=table)["Table"]["DeletionProtectionEnabled"] is True
    assert "key" in set(there(small))


SHARED = """
migration: NAME
source: {database: dNAME}
target: {account: "123456789012", scratch: true}
ledger: {table: LedgerMARK}
tables: {ShopMARK: {shared: true}}
collections: {docs: {item: {entity: NAME, key: {PK: "NAME#{_id}", SK: DATA}}}}
estate: {alarms: {topic: tMARK}}
"""


def test_what_others_share_is_let_go_and_their_records_stay(emulators: Any, estate: AwsEstate) -> None:
    def of(name: str) -> Job:
        file = parse_migration(SHARED.replace("NAME", name).replace("MARK", "together").encode())
        job = job_of(file, estate)
        run(desired(file), estate, ownership=ownership(file, job.ledger, estate))
        claim_tables(file, job.ledger, estate.fetch_table)
        begin_in(job.ledger, read_mode(job.ledger))
        return job

    one, two = of("one"), of("two")
    report = destroyed(two)
    told = " ".join(report.left)
    assert "table Shoptogether: is also of one; left" in told
    assert "SNS topic ttogether: bears no tag of this migration's; left alone" in told
    assert "holds records of one" in told
    assert [claim.migration for claim in read_owners(one.ledger, "Shoptogether").claims] == ["one"]
    assert two.ledger.read("mode", "all") is None or two.ledger.list("mode") == []
    assert mode_record(one.ledger).revision
    assert destroyed(one).left == ()
    assert estate.fetch_table("Shoptogether") is None
    assert estate.fetch_table("Ledgertogether") is None


SCALED = """
migration: MARK
source: {database: d}
target: {account: "123456789012", scratch: true}
ledger: {table: LedgerMARK}
tables:
  ScaledMARK: {indexes: [GSI1], billing: provisioned,
               capacity: {read_units: 5, write_units: 5, max_read_units: 50, max_write_units: 50}}
collections: {logs: {}}
"""


def test_autoscaling_goes_before_its_table(emulators: Any, estate: AwsEstate) -> None:
    file = parse_migration(SCALED.replace("MARK", "scaled").encode())
    run(desired(file), estate)
    targets = {"ServiceNamespace": "dynamodb", "ResourceIds": ["table/Scaledscaled", "table/Scaledscaled/index/GSI1"]}
    scaling = boto3.client("application-autoscaling", region_name=REGION)
    assert len(scaling.describe_scalable_targets(**targets)["ScalableTargets"]) == 4
    destroyed(job_of(file, estate))
    assert scaling.describe_scalable_targets(**targets)["ScalableTargets"] == []
    assert estate.fetch_table("Scaledscaled") is None


def test_a_key_that_was_not_made_here_is_left(small: Migration, estate: AwsEstate) -> None:
    alias = f"alias/{small.name}"
    key = client("kms").create_key()["KeyMetadata"]
    client("kms").create_alias(AliasName=alias, TargetKeyId=key["KeyId"])
    client("kms").enable_key_rotation(KeyId=key["KeyId"])
    job = job_of(small, estate)
    run(desired(small, final=True), estate)
    report = destroyed(job)
    assert f"KMS key {alias}: bears no tag of this migration's; left alone" in report.left
    assert client("kms").describe_key(KeyId=alias)["KeyMetadata"]["KeyState"] == "Enabled"
