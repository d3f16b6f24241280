"""What is made beside tables, against ministack: created, read back, unchanged on a second run, drift shown."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import botocore.session
import pytest
from docferry.adapters.aws.control.calls import ControlPlane
from docferry.adapters.aws.estate import CONTROL_PLANE, AwsEstate
from docferry.config import Migration
from docferry.core.estate.resources import MARKER, AwsCall
from docferry.core.metric_names import DEAD_LETTERS, NAMESPACE
from docferry.core.permissions.aws import Actor, policy
from docferry.core.permissions.statements import AwsAccount
from docferry.errors import EstateDrift
from docferry.flows.preflight.permissions import resources_of
from docferry.flows.provision.report import render_plan
from docferry.flows.provision.run import add_replicas
from docferry.sandbox.aws import ACCOUNT_ID
from docferry.wiring import desired
from support.backfill.rig import eventually
from support.provision.around import client, migration
from support.provision.estate import ABROAD, REGION, _environment, emulators, estate, run

__all__ = ["_environment", "emulators", "estate", "migration"]


def test_everything_is_made_tagged_read_back_and_left_alone_by_a_second_run(
    migration: Migration, estate: AwsEstate
) -> None:
    mark, table = migration.name, migration.tables[0].name
    owner = {f"docferry:owner:{mark}": f"Ledger{mark}"}
    waiting = run(desired(migration), estate)
    assert {one.outcome.value for one in waiting.resources} == {"created"}
    assert any("waits for FINAL" in note for note in waiting.notes)
    listed = client("lambda").list_event_source_mappings(FunctionName=f"f{mark}")["EventSourceMappings"]
    assert listed == [], "a function reads the stream of a global table beside docferry"

    wanted = desired(migration, final=True)
    report = run(wanted, estate)
    assert [one.resource for one in report.resources if one.outcome.value != "unchanged"] == [
        f"stream of table {table} to function f{mark}"
    ]
    assert run(wanted, estate, add_replicas).changed_anything
    for flow in (run(wanted, estate), run(wanted, estate, add_replicas)):
        assert not flow.changed_anything

    for region in (REGION, ABROAD):
        kms = client("kms", region)
        key = kms.describe_key(KeyId=f"alias/{mark}")["KeyMetadata"]
        assert key["MultiRegion"] is True
        tags = {tag["TagKey"]: tag["TagValue"] for tag in kms.list_resource_tags(KeyId=key["KeyId"])["Tags"]}
        assert tags.pop("docferry:alias", f"alias/{mark}") == f"alias/{mark}"
        assert tags == {"Project": "migration", **owner}  # the marker is gone
        insights = client("dynamodb", region).describe_contributor_insights(TableName=table, IndexName="GSI1")
        assert insights["ContributorInsightsStatus"] == "ENABLED"
    key = client("kms").describe_key(KeyId=f"alias/{mark}")["KeyMetadata"]
    assert client("kms").get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"] is True
    assert (
        client("dynamodb").describe_table(TableName=table)["Table"]["SSEDescription"]["KMSMasterKeyArn"] == key["Arn"]
    )

    backup = client("backup")
    assert backup.describe_backup_vault(BackupVaultName=f"v{mark}")["EncryptionKeyArn"] == key["Arn"]
    (plan,) = [p for p in backup.list_backup_plans()["BackupPlansList"] if p["BackupPlanName"] == f"docferry-{mark}"]
    (rule,) = backup.get_backup_plan(BackupPlanId=plan["BackupPlanId"])["BackupPlan"]["Rules"]
    assert rule["Lifecycle"] == {"MoveToColdStorageAfterDays": 30, "DeleteAfterDays": 365}
    there = client("backup", ABROAD).describe_backup_vault(BackupVaultName=f"v{mark}")["BackupVaultArn"]
    assert [one["DestinationBackupVaultArn"] for one in rule["CopyActions"]] == [there]
    (selection,) = backup.list_backup_selections(BackupPlanId=plan["BackupPlanId"])["BackupSelectionsList"]
    chosen = backup.get_backup_selection(BackupPlanId=plan["BackupPlanId"], SelectionId=selection["SelectionId"])
    assert chosen["BackupSelection"]["Resources"] == [f"arn:aws:dynamodb:{REGION}:{ACCOUNT_ID}:table/{table}"]
    for arn in (plan["BackupPlanArn"], there):
        tagged = client("backup", ABROAD if arn == there else REGION).list_tags(ResourceArn=arn)["Tags"]
        assert tagged == {"Project": "migration", **owner}

    cloudwatch = client("cloudwatch")
    alarms = cloudwatch.describe_alarms(AlarmNamePrefix=f"docferry-{mark}-", MaxRecords=100)["MetricAlarms"]
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:t{mark}"
    assert all(alarm["AlarmActions"] == [topic] == alarm["OKActions"] for alarm in alarms)
    own = {a["MetricName"] for a in alarms if a["Namespace"] == NAMESPACE}
    assert own == {"ReplicationLag", "DeadLetters", "ValidationAge", "WindowLeft", "HoldOverdue", "MonthlyCost"}
    theirs = {a["MetricName"] for a in alarms if a["Namespace"] != NAMESPACE}
    assert theirs == {"ReadThrottleEvents", "WriteThrottleEvents", "SystemErrors"}
    body = json.loads(cloudwatch.get_dashboard(DashboardName=f"docferry-{mark}")["DashboardBody"])
    assert len(body["widgets"]) > 10


class Recorded(ControlPlane):
    """What is really called, as IAM's actions."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.actions: set[str] = set()

    def ask(self, call: AwsCall) -> Any:
        self.actions.add(f"{call.service}:{''.join(part.capitalize() for part in call.operation.split('_'))}")
        return super().ask(call)


def test_the_policy_of_provision_holds_every_action_that_is_called(migration: Migration, estate: AwsEstate) -> None:
    recorded = Recorded(botocore.session.Session(), REGION, CONTROL_PLANE)
    vars(estate)["_calls"] = recorded
    wanted = desired(migration, final=True)
    run(wanted, estate)
    run(wanted, estate, add_replicas)
    made = policy(Actor.PROVISION, resources_of(migration), AwsAccount(region=REGION, account=ACCOUNT_ID))
    allowed = {action for one in made["Statement"] for action in one["Action"]}
    assert len(recorded.actions) > 20
    assert recorded.actions <= allowed


def test_drift_is_shown_refused_and_mended_when_asked(migration: Migration, estate: AwsEstate) -> None:
    wanted = desired(migration)
    run(wanted, estate)
    mark = migration.name
    cloudwatch, backup = client("cloudwatch"), client("backup")
    name = f"docferry-{mark}-DeadLetters"
    arn = cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["AlarmArn"]
    cloudwatch.tag_resource(ResourceARN=arn, Tags=[{"Key": "Project", "Value": "other"}, {"Key": "o", "Value": "ops"}])
    cloudwatch.put_metric_alarm(
        AlarmName=name, Namespace=NAMESPACE, MetricName="DeadLetters", Statistic="Sum", Period=60, EvaluationPeriods=3,
        Threshold=1000, ComparisonOperator="GreaterThanThreshold",
    )  # fmt: skip
    vault = f"arn:aws:backup:{REGION}:{ACCOUNT_ID}:backup-vault:v{mark}"
    backup.untag_resource(ResourceArn=vault, TagKeyList=["Project"])
    client("kms").disable_key_rotation(KeyId=client("kms").describe_key(KeyId=f"alias/{mark}")["KeyMetadata"]["KeyId"])
    with pytest.raises(EstateDrift) as caught:
        run(wanted, estate)
    told = "\n".join(caught.value.differences)
    for line in (
        f"alarm {name}: condition: is Sum above 1000, the file says Maximum above 0",
        f"alarm {name}: actions: is , the file says arn:aws:sns:",
        f"alarm {name}: tag Project: is other, the file says migration",
        f"backup vault v{mark}: tag Project: is missing",
        f"KMS key alias/{mark}: rotation: is off, the file says on",
    ):
        assert line in told
    assert cloudwatch.describe_alarms(AlarmNames=[name])["MetricAlarms"][0]["Threshold"] == 1000
    shown = render_plan(run(wanted, estate, dry_run=True))
    assert f"! alarm {name}: set" in shown
    assert "tag o is not in the file; left alone" in shown
    assert run(wanted, estate, allow_changes=True).changed_anything
    assert not run(wanted, estate).changed_anything


def test_a_key_that_was_made_and_not_named_is_found_again(migration: Migration, estate: AwsEstate) -> None:
    wanted = desired(migration)
    (spec, *_) = wanted.around.keys
    made = spec.create(estate.ask, spec.birth_tags)
    key = client("kms").create_key(**made.arguments)["KeyMetadata"]["KeyId"]
    report = run(replace(wanted, around=replace(wanted.around, after=())), estate)
    told = {one.resource: one.applied for one in report.resources}
    assert told[spec.resource] == ("set alias", "set rotation", "mark as finished")
    assert client("kms").describe_key(KeyId=spec.name)["KeyMetadata"]["KeyId"] == key
    left = [tag["TagKey"] for tag in client("kms").list_resource_tags(KeyId=key)["Tags"]]
    assert MARKER not in left


def test_an_alarm_of_ours_fires_and_reaches_the_topic(migration: Migration, estate: AwsEstate) -> None:
    run(desired(migration), estate)
    queue = client("sqs").create_queue(QueueName=f"q{migration.name}")["QueueUrl"]
    arn = client("sqs").get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = f"arn:aws:sns:{REGION}:{ACCOUNT_ID}:t{migration.name}"
    client("sns").subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    dimensions = [{"Name": k, "Value": v} for k, v in DEAD_LETTERS.dimensions(migration.name).items()]
    told: list[str] = []

    def heard() -> bool:
        value = {"MetricName": DEAD_LETTERS.name, "Dimensions": dimensions, "Value": 3.0, "Timestamp": time.time()}
        client("cloudwatch").put_metric_data(Namespace=NAMESPACE, MetricData=[value])
        found = client("sqs").receive_message(QueueUrl=queue, WaitTimeSeconds=1)
        told.extend(message["Body"] for message in found.get("Messages", ()))
        return any(f"docferry-{migration.name}-DeadLetters" in body for body in told)

    eventually(heard, "the alarm of dead letters")
