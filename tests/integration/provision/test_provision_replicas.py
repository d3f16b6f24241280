"""Replicas and DAX; and an AWS that is reluctant."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import boto3
import botocore.session
import pytest
from docferry.adapters.aws.estate import AwsEstate
from docferry.core.estate.values import DesiredEstate
from docferry.core.settings import DaxSettings
from docferry.errors import EstateDrift, InvariantBroken, PreflightFailed, RetryExhausted, Stopped, Unavailable
from docferry.flows.provision.report import ResourceOutcome
from docferry.flows.provision.run import add_replicas
from support.backfill.rig import eventually, table_names
from support.pace import Pace
from support.provision.estate import (
    ABROAD,
    HASTY,
    REGION,
    Stop,
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
    with Pace() as pace, pytest.raises(Stopped):
        run(desired, Reluctant(unreachable, 1), stop=Stop(after=1), patience=slow)
    assert pace.seconds < 2.5
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
        eventually(
            lambda: {i["PK"]["S"] for i in client.scan(TableName=name)["Items"]} == keys,  # noqa: B023
            "the data to arrive in both regions",
        )

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
