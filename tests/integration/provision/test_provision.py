"""Provisioning against ministack (tables, replicas) and moto (DAX, autoscaling); read back with plain boto3."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import boto3
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.core.estate.values import DesiredEstate
from docferry.core.settings import Capacity
from docferry.errors import EstateDrift
from docferry.flows.provision.report import render_plan
from docferry.flows.provision.run import plan_provision
from support.backfill.rig import table_names
from support.provision.estate import (
    REGION,
    _environment,
    desired,
    dynamodb,
    emulators,
    estate,
    outcomes,
    run,
    shop,
    table_name,
)

__all__ = ["_environment", "desired", "dynamodb", "emulators", "estate"]


def differing(desired: DesiredEstate, **changes: Any) -> DesiredEstate:
    ledger, table = desired.tables
    return replace(desired, tables=(ledger, replace(table, **changes)))


# --- tables ----------------------------------------------------------------------------------------------------------


def test_provision_creates_everything_and_a_second_run_changes_nothing(
    desired: DesiredEstate, estate: AwsEstate, dynamodb: Any
) -> None:
    report = run(desired, estate)
    assert outcomes(report) == ["created", "created"]
    assert report.changed_anything

    table = dynamodb.describe_table(TableName=table_name(desired))["Table"]
    assert table["KeySchema"] == [
        {"AttributeName": "PK", "KeyType": "HASH"},
        {"AttributeName": "SK", "KeyType": "RANGE"},
    ]
    assert {(a["AttributeName"], a["AttributeType"]) for a in table["AttributeDefinitions"]} == {
        (name, "S") for name in ("PK", "SK", "GSI1PK", "GSI1SK", "GSI2PK", "GSI2SK")
    }
    indexes = {i["IndexName"]: i for i in table["GlobalSecondaryIndexes"]}
    assert set(indexes) == {"GSI1", "GSI2"}
    assert all(i["Projection"] == {"ProjectionType": "ALL"} for i in indexes.values())
    assert [k["AttributeName"] for k in indexes["GSI2"]["KeySchema"]] == ["GSI2PK", "GSI2SK"]
    assert table["BillingModeSummary"]["BillingMode"] == "PAY_PER_REQUEST"
    assert table["StreamSpecification"] == {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
    assert table["SSEDescription"]["Status"] == "ENABLED"
    assert table["SSEDescription"]["SSEType"] == "KMS"
    assert table["DeletionProtectionEnabled"] is True
    for name, tags in ((table_name(desired), [{"Key": "Project", "Value": "migration"}]), (desired.tables[0].name, [])):
        backups = dynamodb.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
        assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
        ttl = dynamodb.describe_time_to_live(TableName=name)["TimeToLiveDescription"]
        assert ttl == {"TimeToLiveStatus": "ENABLED", "AttributeName": "_ttl"}
        arn = dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
        assert dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"] == tags  # the marker is gone

    again = run(desired, estate)
    assert outcomes(again) == ["unchanged", "unchanged"]
    assert not again.changed_anything
    assert again.to_dict()["changed_anything"] is False
    assert render_plan(again) == "nothing to do: all is as the file says"


def test_provision_makes_a_provisioned_table_with_autoscaling(estate: AwsEstate, dynamodb: Any) -> None:
    capacity = Capacity(read_units=5, write_units=6, max_read_units=50, max_write_units=60, target_percent=75)
    desired = shop(billing="provisioned", capacity=capacity, indexes=("GSI1",))
    name = table_name(desired)
    run(desired, estate)
    table = dynamodb.describe_table(TableName=name)["Table"]
    units = [table["ProvisionedThroughput"], table["GlobalSecondaryIndexes"][0]["ProvisionedThroughput"]]
    assert [(u["ReadCapacityUnits"], u["WriteCapacityUnits"]) for u in units] == [(5, 6), (5, 6)]
    scaling = boto3.client("application-autoscaling", region_name=REGION)
    resources = [f"table/{name}", f"table/{name}/index/GSI1"]
    targets = scaling.describe_scalable_targets(ServiceNamespace="dynamodb", ResourceIds=resources)["ScalableTargets"]
    assert sorted((t["ScalableDimension"], t["MinCapacity"], t["MaxCapacity"]) for t in targets) == [
        ("dynamodb:index:ReadCapacityUnits", 5, 50),
        ("dynamodb:index:WriteCapacityUnits", 6, 60),
        ("dynamodb:table:ReadCapacityUnits", 5, 50),
        ("dynamodb:table:WriteCapacityUnits", 6, 60),
    ]
    for resource in resources:
        found = scaling.describe_scaling_policies(ServiceNamespace="dynamodb", ResourceId=resource)["ScalingPolicies"]
        # asked about an index, moto returns the table's policies, too
        mine = [p["TargetTrackingScalingPolicyConfiguration"] for p in found if p["ResourceId"] == resource]
        assert [p["TargetValue"] for p in mine] == [75.0, 75.0]
    assert not run(desired, estate).changed_anything


def test_provision_with_a_named_key_resolves_its_id(estate: AwsEstate, dynamodb: Any) -> None:
    key = boto3.client("kms", region_name=REGION).create_key()["KeyMetadata"]
    desired = shop(kms_key=key["KeyId"])
    run(desired, estate)
    table = dynamodb.describe_table(TableName=table_name(desired))["Table"]
    assert table["SSEDescription"]["KMSMasterKeyArn"] == key["Arn"]
    assert not run(desired, estate).changed_anything


def test_dry_run_touches_nothing(desired: DesiredEstate, estate: AwsEstate, dynamodb: Any) -> None:
    report = run(desired, estate, dry_run=True)
    assert outcomes(report) == ["planned", "planned"]
    assert not report.changed_anything
    assert f"+ table {table_name(desired)}: create table" in render_plan(report)
    existing = table_names(dynamodb)
    assert not {spec.name for spec in desired.tables} & set(existing)


def test_drift_is_shown_refused_and_mended_when_asked(desired: DesiredEstate, estate: AwsEstate, dynamodb: Any) -> None:
    run(desired, estate)
    name = table_name(desired)
    arn = dynamodb.describe_table(TableName=name)["Table"]["TableArn"]
    dynamodb.update_table(TableName=name, GlobalSecondaryIndexUpdates=[{"Delete": {"IndexName": "GSI1"}}])
    dynamodb.tag_resource(
        ResourceArn=arn, Tags=[{"Key": "Project", "Value": "other"}, {"Key": "owner", "Value": "ops"}]
    )
    off = {"PointInTimeRecoveryEnabled": False}
    dynamodb.update_continuous_backups(TableName=name, PointInTimeRecoverySpecification=off)

    shown = render_plan(plan_provision(desired, estate))
    for line in ("index GSI1: missing", "tag Project: other", "point-in-time recovery: off"):
        assert f"- {line}" in shown or "missing" in line
    assert f"! table {name}: add index GSI1" in shown
    assert "tag owner is not in the file; left alone" in shown
    with pytest.raises(EstateDrift) as caught:
        run(desired, estate)
    assert len(caught.value.differences) == 3
    assert {i["IndexName"] for i in dynamodb.describe_table(TableName=name)["Table"]["GlobalSecondaryIndexes"]} == {
        "GSI2"
    }

    report = run(desired, estate, allow_changes=True)
    assert outcomes(report) == ["unchanged", "changed"]
    assert {i["IndexName"] for i in dynamodb.describe_table(TableName=name)["Table"]["GlobalSecondaryIndexes"]} == {
        "GSI1",
        "GSI2",
    }
    tags = {t["Key"]: t["Value"] for t in dynamodb.list_tags_of_resource(ResourceArn=arn)["Tags"]}
    assert tags == {"Project": "migration", "owner": "ops"}
    assert not run(desired, estate).changed_anything


def test_every_other_change_in_place_is_made_when_asked(estate: AwsEstate, dynamodb: Any) -> None:
    desired = shop(stream=False, encryption="AWS_OWNED", pitr=False, deletion_protection=False)
    run(desired, estate)
    capacity = Capacity(read_units=3, write_units=4, max_write_units=40)
    other = differing(
        desired,
        stream=True,
        encryption="KMS",
        pitr=True,
        deletion_protection=True,
        billing="provisioned",
        capacity=capacity,
        indexes=("GSI1", "GSI2", "GSI3"),
    )
    with pytest.raises(EstateDrift):
        run(other, estate)
    assert outcomes(run(other, estate, allow_changes=True)) == ["unchanged", "changed"]
    table = dynamodb.describe_table(TableName=table_name(desired))["Table"]
    assert len(table["GlobalSecondaryIndexes"]) == 3
    assert all(i["ProvisionedThroughput"]["ReadCapacityUnits"] == 3 for i in table["GlobalSecondaryIndexes"])
    more = differing(other, capacity=replace(capacity, read_units=7))
    run(more, estate, allow_changes=True)
    table = dynamodb.describe_table(TableName=table_name(desired))["Table"]
    assert all(i["ProvisionedThroughput"]["ReadCapacityUnits"] == 7 for i in [table, *table["GlobalSecondaryIndexes"]])


def test_a_table_with_other_keys_is_refused_even_with_permission(
    desired: DesiredEstate, estate: AwsEstate, dynamodb: Any
) -> None:
    dynamodb.create_table(
        TableName=table_name(desired),
        AttributeDefinitions=[{"AttributeName": "id", "AttributeType": "S"}],
        KeySchema=[{"AttributeName": "id", "KeyType": "HASH"}],
        BillingMode="PAY_PER_REQUEST",
    )
    with pytest.raises(EstateDrift, match="id \\(S\\)"):
        run(desired, estate, allow_changes=True)
    assert desired.tables[0].name not in table_names(dynamodb)  # the ledger comes first, and was not made
