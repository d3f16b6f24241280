"""What who makes the estate, and who removes it, must be allowed."""

from __future__ import annotations

from collections.abc import Iterator

from docferry.core.estate.resources import Resource
from docferry.core.permissions.statements import (
    LEDGER_READ,
    LEDGER_WRITE,
    AwsAccount,
    Resources,
    Statement,
    dynamodb,
    if_named,
    of_ledger,
    of_owners,
    of_tables,
    service_role,
)


def provision_statements(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    tables = (*of.tables, of.ledger, *if_named(of.journal))
    yield Statement(
        sid="Tables",
        actions=dynamodb(
            "CreateTable", "DescribeContinuousBackups", "DescribeTable", "DescribeTimeToLive", "ListTagsOfResource",
            "TagResource", "UntagResource", "UpdateContinuousBackups", "UpdateTable", "UpdateTimeToLive",
        ),
        resources=of_tables(tables, place, of.replicas),
    )  # fmt: skip
    yield of_ledger(of, place, (*LEDGER_READ, "PutItem"))
    yield of_owners(of, place, "GetItem", *LEDGER_WRITE)
    if of.replicas:
        yield Statement(
            sid="Replicas",
            actions=dynamodb(
                "BatchWriteItem", "CreateTableReplica", "DeleteItem", "GetItem", "PutItem", "Query", "Scan", "UpdateItem",
            ),
            resources=of_tables(of.tables, place, of.replicas),
        )  # fmt: skip
        yield service_role("ReplicationRole", "replication.dynamodb.amazonaws.com", place)
    if of.keys:
        yield Statement(sid="Keys", actions=("kms:CreateGrant", "kms:DescribeKey"), resources=of.keys)
    if of.scaled:
        yield from _scaling(place)
    if of.dax_cluster:
        yield from _dax(of, place)
    if of.objects:  # `check` looks whether the bucket is there
        bucket = f"arn:{place.partition}:s3:::{of.objects.partition('/')[0]}"
        yield Statement(sid="ObjectsBucket", actions=("s3:ListBucket",), resources=(bucket,))
    yield from _around(of, place)


def import_statements(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    """AWS reads the rows and writes the log of an import as who has begun it; and then the table is made complete."""
    if not of.rows:
        return
    bucket, _, prefix = of.rows.partition("/")
    arn = f"arn:{place.partition}:s3:::{bucket}"
    objects = ("s3:DeleteObject", "s3:GetObject", "s3:PutObject")
    yield Statement(sid="Rows", actions=objects, resources=(f"{arn}/{prefix}/*",))
    yield Statement(sid="ListOfRows", actions=("s3:ListBucket",), resources=(arn,))
    tables = of_tables(of.tables, place, ())
    complete = ("TagResource", "UntagResource", "UpdateContinuousBackups", "UpdateTable", "UpdateTimeToLive")
    yield Statement(sid="ImportedTables", actions=dynamodb("ImportTable", *complete), resources=tables)
    imports = tuple(f"{one}/import/*" for one in tables)
    yield Statement(sid="Imports", actions=dynamodb("DescribeImport"), resources=imports)
    yield Statement(sid="ListOfImports", actions=dynamodb("ListImports"), resources=("*",))  # knows no narrower one
    log = (
        "logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogGroups", "logs:DescribeLogStreams",
        "logs:FilterLogEvents", "logs:PutLogEvents", "logs:PutRetentionPolicy",
    )  # fmt: skip
    yield Statement(sid="ImportLog", actions=log, resources=(place.arn("logs", "log-group:/aws-dynamodb/*"),))


def destroy_statements(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    """Nothing, of a file that does not say that its stack is a scratch one."""
    if not of.scratch:
        return
    own = (of.ledger, *if_named(of.journal))
    yield Statement(
        sid="Tables",
        actions=dynamodb(
            "DeleteTable", "DescribeContinuousBackups", "DescribeTable", "DescribeTimeToLive", "ListTagsOfResource",
            "UntagResource", "UpdateTable",
        ),
        resources=of_tables((*of.tables, *own), place, of.replicas),
    )  # fmt: skip
    yield of_ledger(of, place, LEDGER_READ)
    yield of_owners(of, place, "GetItem", *LEDGER_WRITE)
    # Whether another migration has records there: their partitions' names alone.
    keys = {"ForAllValues:StringEquals": {"dynamodb:Attributes": ["PK"]}}
    yield Statement(sid="WhoseRecords", actions=dynamodb("Scan"), resources=of_tables(own, place, ()), condition=keys)
    if of.replicas:
        there = tuple(
            place.arn("dynamodb", f"table/{one}", region=region) for region in of.replicas for one in of.tables
        )
        yield Statement(sid="Replicas", actions=dynamodb("DeleteTableReplica"), resources=there)
    if of.scaled:
        actions = (
            "application-autoscaling:DeregisterScalableTarget", "application-autoscaling:DescribeScalableTargets",
            "application-autoscaling:DescribeScalingPolicies",
        )  # fmt: skip
        yield Statement(sid="Autoscaling", actions=actions, resources=("*",))  # describing knows no narrower resource
    yield from _around(of, place, removing=True)


def _around(of: Resources, place: AwsAccount, *, removing: bool = False) -> Iterator[Statement]:
    """What each kind of resource says that it needs: to look at all of the kind, and to change what the file names."""
    kinds: dict[type[Resource], list[Resource]] = {}
    for one in of.around:
        kinds.setdefault(type(one), []).append(one)
    for kind, found in kinds.items():
        seen = tuple(dict.fromkeys(_of_account(arn, place) for one in found for arn in one.seen_arns))
        named = tuple(dict.fromkeys(_of_account(arn, place) for one in found for arn in one.arns))
        yield Statement(sid=f"Look{kind.__name__}", actions=kind.reads, resources=seen)
        if not removing:
            yield Statement(sid=kind.__name__, actions=kind.writes, resources=named, condition=kind.condition)
        elif kind.removes:
            yield Statement(sid=kind.__name__, actions=kind.removes, resources=named)


def _of_account(arn: str, place: AwsAccount) -> str:
    """A file that names no account says `*`."""
    parts = arn.split(":", 5)
    return ":".join([*parts[:4], place.account, *parts[5:]]) if parts[4:5] == ["*"] else arn


def _scaling(place: AwsAccount) -> Iterator[Statement]:
    yield Statement(
        sid="Autoscaling",
        actions=(
            "application-autoscaling:DescribeScalableTargets", "application-autoscaling:DescribeScalingPolicies",
            "application-autoscaling:PutScalingPolicy", "application-autoscaling:RegisterScalableTarget",
        ),
        resources=("*",),  # describing knows no narrower resource
    )  # fmt: skip
    service = "dynamodb.application-autoscaling.amazonaws.com"
    yield service_role("AutoscalingRole", service, place)


def _dax(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield Statement(
        sid="Dax",
        actions=(
            "dax:CreateCluster", "dax:DecreaseReplicationFactor", "dax:DescribeClusters", "dax:IncreaseReplicationFactor",
            "dax:ListTags", "dax:TagResource", "dax:UpdateCluster",
        ),
        resources=(place.arn("dax", f"cache/{of.dax_cluster}"),),
    )  # fmt: skip
    yield Statement(
        sid="DaxGroups",
        actions=(
            "dax:CreateParameterGroup", "dax:CreateSubnetGroup", "dax:DescribeParameterGroups", "dax:DescribeParameters",
            "dax:DescribeSubnetGroups", "dax:UpdateParameterGroup", "dax:UpdateSubnetGroup", "ec2:DescribeSecurityGroups",
            "ec2:DescribeSubnets", "ec2:DescribeVpcs",
        ),
        resources=("*",),  # groups have no ARN
    )  # fmt: skip
    passed = {"StringEquals": {"iam:PassedToService": "dax.amazonaws.com"}}
    yield Statement(sid="DaxRole", actions=("iam:PassRole",), resources=(of.dax_role,), condition=passed)
