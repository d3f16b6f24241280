"""Provisioning against ministack (tables, replicas) and moto (DAX, autoscaling); read back with plain boto3."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import boto3
import botocore.session
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.core.estate.plan import desired_estate
from docferry.core.estate.values import DesiredEstate
from docferry.core.settings import Capacity, DaxSettings, LedgerSettings, TableSettings, TargetSettings
from docferry.errors import EstateDrift, InvariantBroken, PreflightFailed, RetryExhausted, Stopped, Unavailable
from docferry.flows.provision import (
    Patience,
    ProvisionReport,
    ResourceOutcome,
    add_replicas,
    plan_provision,
    provision,
    render_plan,
)
from docferry.sandbox.aws import SandboxAws
from support.backfill.rig import table_names

REGION, ABROAD = "us-east-1", "eu-west-1"
HASTY = Patience(poll_s=0.05, settle_s=20, agree_s=1, trouble_s=1)


@pytest.fixture(scope="module")
def emulators(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxAws]:
    with SandboxAws(tmp_path_factory.mktemp("aws"), dax=True) as aws:
        yield aws


@pytest.fixture(autouse=True)
def _environment(emulators: SandboxAws, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in emulators.env().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def estate() -> AwsEstate:
    return AwsEstate(botocore.session.Session(), REGION)


@pytest.fixture
def dynamodb() -> Any:
    return boto3.client("dynamodb", region_name=REGION)


@pytest.fixture
def desired() -> DesiredEstate:
    return shop()


def shop(dax: DaxSettings | None = None, **changes: Any) -> DesiredEstate:
    mark = uuid.uuid4().hex[:8]
    table = replace(
        TableSettings(name=f"Shop{mark}", indexes=("GSI1", "GSI2"), tags={"Project": "migration"}), **changes
    )
    target = TargetSettings(region=REGION, replicas=(ABROAD,))
    return desired_estate([table], LedgerSettings(table=f"Ledger{mark}"), target, dax)


class Listener:
    def __init__(self) -> None:
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)

    def advance(self, subject: str, done: int, total: int, note: str = "") -> None:
        self.said.append(f"{subject} {done}/{total}")


class Stop:
    def __init__(self, after: int = 10**9) -> None:
        self.asked, self.after = 0, after

    def is_set(self) -> bool:
        self.asked += 1
        return self.asked > self.after


def run(
    desired: DesiredEstate, estate: Any, flow: Callable[..., ProvisionReport] = provision, **more: Any
) -> ProvisionReport:
    return flow(desired, estate, **{"progress": Listener(), "stop": Stop(), "patience": HASTY, **more})


def outcomes(report: ProvisionReport) -> list[str]:
    return [resource.outcome.value for resource in report.resources]


def table_name(desired: DesiredEstate) -> str:
    return desired.tables[1].name


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


# --- waiting, trouble, stopping ---------------------------------------------------------------------------------------


class Reluctant:
    """An estate whose first `failures` calls of `apply` do what they are asked and lose the answer."""

    def __init__(self, estate: AwsEstate, failures: int, *, does_it: bool = True) -> None:
        self._estate, self.failures, self.does_it = estate, failures, does_it

    def __getattr__(self, name: str) -> Any:
        return getattr(self._estate, name)

    def apply(self, step: Any) -> None:
        if self.failures <= 0:
            return self._estate.apply(step)
        self.failures -= 1
        if self.does_it:
            self._estate.apply(step)
        raise Unavailable("the answer was lost", operation="x", code="x")


@pytest.mark.parametrize("does_it", [True, False])
def test_provision_when_answers_are_lost_looks_again_and_completes(
    desired: DesiredEstate, estate: AwsEstate, does_it: bool
) -> None:
    report = run(desired, Reluctant(estate, 3, does_it=does_it))
    assert outcomes(report) == ["created", "created"]
    assert not run(desired, estate).changed_anything


def test_provision_when_trouble_never_ends_gives_up_with_the_cause(desired: DesiredEstate, estate: AwsEstate) -> None:
    with pytest.raises(RetryExhausted) as caught:
        run(desired, Reluctant(estate, 10**6, does_it=False), patience=replace(HASTY, trouble_s=0.2))
    assert isinstance(caught.value.__cause__, Unavailable)


def test_provision_when_aws_accepts_and_does_nothing_is_not_believed(desired: DesiredEstate, estate: AwsEstate) -> None:
    class Deaf(Reluctant):
        def apply(self, step: Any) -> None:
            """Says yes."""

    with pytest.raises(InvariantBroken, match="does not show it"):
        run(desired, Deaf(estate, 0), patience=replace(HASTY, agree_s=0.2))


def test_provision_when_stopped_stops_within_a_second_and_a_rerun_continues(
    desired: DesiredEstate, estate: AwsEstate
) -> None:
    unreachable = AwsEstate(botocore.session.Session(), REGION)
    slow = replace(HASTY, poll_s=60.0, trouble_s=120.0)
    started = time.monotonic()
    with pytest.raises(Stopped):
        run(desired, Reluctant(unreachable, 1), stop=Stop(after=1), patience=slow)
    assert time.monotonic() - started < 2.5
    assert outcomes(run(desired, estate)) == ["changed", "created"]


# --- replicas --------------------------------------------------------------------------------------------------------


def test_replicas_are_added_completed_and_left_alone(desired: DesiredEstate, estate: AwsEstate, dynamodb: Any) -> None:
    run(desired, estate)
    name = table_name(desired)
    dynamodb.put_item(TableName=name, Item={"PK": {"S": "before"}, "SK": {"S": "x"}})
    report = run(desired, estate, add_replicas)
    assert outcomes(report) == ["created"]

    abroad = boto3.client("dynamodb", region_name=ABROAD)
    there = abroad.describe_table(TableName=name)["Table"]
    assert there["GlobalTableVersion"] == "2019.11.21"
    assert there["DeletionProtectionEnabled"] is True
    assert {i["IndexName"] for i in there["GlobalSecondaryIndexes"]} == {"GSI1", "GSI2"}
    backups = abroad.describe_continuous_backups(TableName=name)["ContinuousBackupsDescription"]
    assert backups["PointInTimeRecoveryDescription"]["PointInTimeRecoveryStatus"] == "ENABLED"
    assert abroad.list_tags_of_resource(ResourceArn=there["TableArn"])["Tags"] == [
        {"Key": "Project", "Value": "migration"}
    ]

    dynamodb.put_item(TableName=name, Item={"PK": {"S": "home"}, "SK": {"S": "x"}})
    abroad.put_item(TableName=name, Item={"PK": {"S": "abroad"}, "SK": {"S": "x"}})
    for client in (dynamodb, abroad):
        keys = {"before", "home", "abroad"}
        deadline = time.monotonic() + 5
        while {i["PK"]["S"] for i in client.scan(TableName=name)["Items"]} != keys:
            assert time.monotonic() < deadline, "the data did not arrive in both regions"
            time.sleep(0.05)

    again = run(desired, estate, add_replicas)
    assert outcomes(again) == ["unchanged"]
    assert not run(desired, estate).changed_anything  # and provisioning does not mind the replica


def test_replicas_when_interrupted_are_completed_and_when_drifted_refused(
    desired: DesiredEstate, estate: AwsEstate
) -> None:
    run(desired, estate)
    with pytest.raises(Stopped):
        run(desired, Reluctant(estate, 3), add_replicas, stop=Stop(after=2))
    assert run(desired, estate, add_replicas).changed_anything
    abroad = boto3.client("dynamodb", region_name=ABROAD)
    abroad.update_table(TableName=table_name(desired), DeletionProtectionEnabled=False)
    with pytest.raises(EstateDrift, match="deletion protection"):
        run(desired, estate, add_replicas)
    assert outcomes(run(desired, estate, add_replicas, allow_changes=True)) == ["changed"]


def test_replicas_when_the_table_is_missing_or_unfit_are_refused(desired: DesiredEstate, estate: AwsEstate) -> None:
    with pytest.raises(PreflightFailed, match="run provision first"):
        run(desired, estate, add_replicas)
    unfit = shop(stream=False)
    run(unfit, estate)
    with pytest.raises(PreflightFailed, match="need a stream"):
        run(unfit, estate, add_replicas)


# --- DAX -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def cache() -> DaxSettings:
    """A cluster whose role and security group exist, in AWS's own default groups: moto has no others."""
    mark = uuid.uuid4().hex[:8]
    trust = '{"Version": "2012-10-17", "Statement": []}'
    role = boto3.client("iam", region_name=REGION).create_role(RoleName=f"dax-{mark}", AssumeRolePolicyDocument=trust)
    ec2 = boto3.client("ec2", region_name=REGION)
    group = ec2.create_security_group(GroupName=f"dax-{mark}", Description="test")["GroupId"]
    return DaxSettings(
        cluster=f"dax-{mark}",
        node_type="dax.t3.small",
        nodes=2,
        subnet_group="default",
        security_groups=(group,),
        role_arn=role["Role"]["Arn"],
        tags={"Project": "migration"},
    )


def test_dax_cluster_is_created_read_back_and_left_alone(cache: DaxSettings, estate: AwsEstate) -> None:
    desired = shop(cache)
    report = run(desired, estate)
    assert outcomes(report)[-1] == "created"
    # moto keeps neither security groups nor groups; the report must not claim that it read them.
    assert len(report.unverified) == 3
    dax = boto3.client("dax", region_name=REGION)
    cluster = dax.describe_clusters(ClusterNames=[cache.cluster])["Clusters"][0]
    assert (cluster["Status"], cluster["TotalNodes"], cluster["NodeType"]) == ("available", 2, "dax.t3.small")
    assert cluster["IamRoleArn"] == cache.role_arn
    assert cluster["SSEDescription"]["Status"] == "ENABLED"
    assert cluster["ClusterEndpointEncryptionType"] == "TLS"
    tags = dax.list_tags(ResourceName=cluster["ClusterArn"])["Tags"]
    assert tags == [{"Key": "Project", "Value": "migration"}]
    again = run(desired, estate)
    assert not again.changed_anything
    assert again.resources[-1].outcome is ResourceOutcome.UNCHANGED


def test_dax_drift_is_refused_and_mended_when_asked(cache: DaxSettings, estate: AwsEstate) -> None:
    desired = shop(cache)
    run(desired, estate)
    assert desired.dax is not None
    more = replace(desired, dax=replace(desired.dax, nodes=3, tags={"Project": "other"}))
    with pytest.raises(EstateDrift) as caught:
        run(more, estate)
    assert len(caught.value.differences) == 2
    assert outcomes(run(more, estate, allow_changes=True))[-1] == "changed"
    larger = replace(more, dax=replace(more.dax, node_type="dax.r5.large"))  # type: ignore[type-var]
    with pytest.raises(EstateDrift, match="fixed when the cluster is created"):
        run(larger, estate, allow_changes=True)


def test_dax_when_something_named_does_not_exist_creates_nothing(
    cache: DaxSettings, estate: AwsEstate, dynamodb: Any
) -> None:
    broken = replace(
        cache,
        security_groups=("sg-0badbadbadbadbad0",),
        subnets=("subnet-0badbadbadbadbad0",),
        role_arn="arn:aws:iam::123456789012:role/nobody",
        parameters={"query-ttl-millis": "1"},
    )
    desired = shop(broken)
    with pytest.raises(PreflightFailed) as caught:
        run(desired, estate)
    assert {p.where for p in caught.value.problems} == {
        "dax.security_groups",
        "dax.subnets",
        "dax.role_arn",
        "dax.parameters",
    }
    assert not {spec.name for spec in desired.tables} & table_names(dynamodb)


def test_dax_group_that_cannot_be_read_is_an_error_not_a_guess(cache: DaxSettings, estate: AwsEstate) -> None:
    with pytest.raises(RetryExhausted) as caught:
        run(shop(replace(cache, subnet_group="our-own")), estate, patience=replace(HASTY, trouble_s=0.2))
    assert isinstance(caught.value.__cause__, Unavailable)
