"""IAM policies from a migration file: one for each who acts, with the actions that its calls need, on the file's resources.

What a call needs is AWS's list, not the call's name: TransactWriteItems is allowed by the actions of its parts.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html,
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html,
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/globaltables_iam.html, read 2026-11-29.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from docferry.core.estate.resources import Resource
from docferry.core.estate.tags import SCRATCH
from docferry.core.metric_names import NAMESPACE


class Actor(StrEnum):
    """Who acts. Airflow, or a person at the command line, acts as the first eight, each of which a phase needs."""

    ANALYST = "analyst"
    PROVISION = "provision"
    LOAD = "load"
    VALIDATE = "validate"
    CUTOVER = "cutover"
    REVERSE = "reverse"
    POINTS = "points"
    APPROVER = "approver"
    VIEWER = "viewer"
    APPLICATION = "application"
    APPLICATION_LEADING = "application-leading"


COMMANDS: Mapping[Actor, tuple[str, ...]] = {
    Actor.ANALYST: ("analyze --prove",),
    Actor.PROVISION: ("check", "provision", "release", "replicas"),
    Actor.LOAD: ("backfill", "replicate", "dead-letters", "strays"),
    Actor.VALIDATE: ("validate", "repair", "purge"),
    Actor.CUTOVER: ("dual-write", "flip-reads", "stop-mongo-writes", "finalize"),
    Actor.REVERSE: ("reverse", "rollback"),
    Actor.POINTS: ("points",),
    Actor.APPROVER: ("approve",),
    Actor.VIEWER: ("status", "health", "mode", "clients"),
}
"""The commands (and the DAGs of their names) that act as each. The application acts through `docferry.connect`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AwsAccount:
    """Where the estate is. `account` '*' is any: named, another's table of that name is out of reach."""

    region: str
    account: str = "*"
    partition: str = "aws"

    def arn(self, service: str, resource: str, *, region: str | None = None) -> str:
        return f"arn:{self.partition}:{service}:{self.region if region is None else region}:{self.account}:{resource}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Resources:
    """What of the file IAM must know. `keys` are ARNs of KMS keys, `bucket` and `prefix` where rollback points are kept."""

    migration: str
    tables: tuple[str, ...]
    indexed: tuple[str, ...]
    ledger: str
    journal: str = ""
    replicas: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()
    scaled: bool = False
    dax_cluster: str = ""
    dax_role: str = ""
    bucket: str = ""
    prefix: str = ""
    parts: bool = False
    cloudwatch: bool = False
    application_cloudwatch: bool = False
    around: tuple[Resource, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What is allowed where. `leading` are patterns of partition keys, to which the actions are bound."""

    sid: str
    actions: tuple[str, ...]
    resources: tuple[str, ...]
    leading: tuple[str, ...] = ()
    condition: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """As IAM takes it."""
        condition = dict(self.condition)
        if self.leading:  # ForAllValues is true of a request that names none: Null says that it must name some
            condition["ForAllValues:StringLike"] = {"dynamodb:LeadingKeys": list(self.leading)}
            condition["Null"] = {"dynamodb:LeadingKeys": "false"}
        made = {"Sid": self.sid, "Effect": "Allow", "Action": sorted(self.actions), "Resource": list(self.resources)}
        return made | ({"Condition": condition} if condition else {})


def policy(actor: Actor, of: Resources, place: AwsAccount) -> dict[str, Any]:
    """The policy of one who acts, as a document for IAM."""
    statements = [one for one in _STATEMENTS[actor](of, place) if one.resources]
    return {"Version": "2012-10-17", "Statement": [one.to_dict() for one in statements]}


# --- who needs what ---------------------------------------------------------------------------------------------------


def _analyst(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    """Tables of its own for minutes, whose names nothing else has; neither the file's tables nor the ledger."""
    yield Statement(sid="ListOfTables", actions=_dynamodb("ListTables"), resources=("*",))  # knows no narrower resource
    yield Statement(
        sid="Scratch",
        actions=_dynamodb(
            "BatchGetItem", "BatchWriteItem", "CreateTable", "DeleteTable", "DescribeTable", "GetItem", "ListTagsOfResource",
            "Query", "TagResource",
        ),
        resources=(*_tables((f"{SCRATCH}*",), place, ()), place.arn("dynamodb", f"table/{SCRATCH}*/index/*")),
    )  # fmt: skip


def _provision(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    tables = (*of.tables, of.ledger, *_some(of.journal))
    yield Statement(
        sid="Tables",
        actions=_dynamodb(
            "CreateTable", "DescribeContinuousBackups", "DescribeTable", "DescribeTimeToLive", "ListTagsOfResource",
            "TagResource", "UntagResource", "UpdateContinuousBackups", "UpdateTable", "UpdateTimeToLive",
        ),
        resources=_tables(tables, place, of.replicas),
    )  # fmt: skip
    yield _ledger(of, place, (*_LEDGER_READ, "PutItem"))
    yield _owners(of, place, "GetItem", *_LEDGER_WRITE)
    if of.replicas:
        yield Statement(
            sid="Replicas",
            actions=_dynamodb(
                "BatchWriteItem", "CreateTableReplica", "DeleteItem", "GetItem", "PutItem", "Query", "Scan", "UpdateItem",
            ),
            resources=_tables(of.tables, place, of.replicas),
        )  # fmt: skip
        yield _service_role("ReplicationRole", "replication.dynamodb.amazonaws.com", place)
    if of.keys:
        yield Statement(sid="Keys", actions=("kms:CreateGrant", "kms:DescribeKey"), resources=of.keys)
    if of.scaled:
        yield from _scaling(place)
    if of.dax_cluster:
        yield from _dax(of, place)
    yield from _around(of, place)


def _around(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    """What each kind of resource says that it needs: to look at all of the kind, and to change what the file names."""
    kinds: dict[type[Resource], list[Resource]] = {}
    for one in of.around:
        kinds.setdefault(type(one), []).append(one)
    for kind, found in kinds.items():
        seen = tuple(dict.fromkeys(_of_account(arn, place) for one in found for arn in one.seen_arns))
        named = tuple(dict.fromkeys(_of_account(arn, place) for one in found for arn in one.arns))
        yield Statement(sid=f"Look{kind.__name__}", actions=kind.reads, resources=seen)
        yield Statement(sid=kind.__name__, actions=kind.writes, resources=named, condition=kind.condition)


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
    yield _service_role("AutoscalingRole", service, place)


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


def _load(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _owners(of, place, "GetItem")
    yield _estate(of, place)
    # After a way back replication watches DynamoDB: its streams, and the items that they tell of.
    yield _items(of, place, "BatchGetItem", "BatchWriteItem", "PutItem", "Query", *_for_parts(of))
    yield _ledger(of, place, (*_LEDGER_READ, *_LEDGER_WRITE))
    yield _streams(of, place, "DescribeStream", "GetRecords", "GetShardIterator")
    yield from _metrics(of.cloudwatch)


def _validate(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _owners(of, place, "GetItem")
    yield _items(of, place, "BatchGetItem", "DeleteItem", "PutItem", "Query", "Scan", *_for_parts(of))
    yield _ledger(of, place, (*_LEDGER_READ, *_LEDGER_WRITE))
    yield from _metrics(of.cloudwatch)


def _cutover(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _owners(of, place, "GetItem")
    yield _estate(of, place)
    # The change of leader ends what replication has begun.
    yield _items(of, place, "BatchGetItem", "PutItem", *_for_parts(of))
    yield _ledger(of, place, (*_LEDGER_READ, "PutItem"))
    yield from _journal(of, place, "Query")
    yield _streams(of, place, "DescribeStream", "GetShardIterator")
    yield from _metrics(of.cloudwatch)


def _reverse(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _owners(of, place, "GetItem")
    yield _estate(of, place)
    yield _items(of, place, "BatchGetItem", "Query")
    yield _ledger(of, place, (*_LEDGER_READ, *_LEDGER_WRITE))
    yield from _journal(of, place, "Query")
    yield _streams(of, place, "DescribeStream", "GetRecords", "GetShardIterator")
    yield from _metrics(of.cloudwatch)


def _points(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _ledger(of, place, (*_LEDGER_READ, *_LEDGER_WRITE))
    yield Statement(
        sid="Backups",
        actions=_dynamodb("CreateBackup", "DescribeTable", "ListBackups"),
        resources=_tables(of.tables, place, ()),
    )
    yield Statement(
        sid="BackupsOfTables",
        actions=_dynamodb("DeleteBackup", "DescribeBackup", "RestoreTableFromBackup"),
        resources=tuple(place.arn("dynamodb", f"table/{one}/backup/*") for one in of.tables),
    )
    if of.bucket:
        objects = "/".join(filter(None, (of.bucket, of.prefix.strip("/"), "*")))
        yield Statement(
            sid="Dumps",
            actions=("s3:AbortMultipartUpload", "s3:DeleteObject", "s3:GetObject", "s3:PutObject"),
            resources=(f"arn:{place.partition}:s3:::{objects}",),
        )
        yield Statement(
            sid="ListOfDumps",
            actions=("s3:ListBucket", "s3:ListBucketMultipartUploads"),
            resources=(f"arn:{place.partition}:s3:::{of.bucket}",),
        )
    yield from _metrics(of.cloudwatch)


def _approver(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _ledger(of, place, _LEDGER_READ)
    yield _ledger(of, place, ("PutItem",), sections=("approvals", "answers", "looks"))


def _viewer(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _owners(of, place, "GetItem")
    yield _estate(of, place)
    yield _ledger(of, place, _LEDGER_READ)


def _application(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield _owners(of, place, "GetItem")
    yield _items(of, place, "BatchGetItem", "GetItem", "PutItem", "Query", "Scan", *_for_parts(of)[1:])
    yield _ledger(of, place, ("GetItem",))
    yield _ledger(of, place, ("PutItem",), sections=("instances",))
    yield _ledger(of, place, ("ConditionCheckItem",), sections=("mode",))
    yield from _metrics(of.application_cloudwatch)


def _application_leading(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield from _application(of, place)
    yield _items(of, place, "ConditionCheckItem", sid="ItemsRead")  # of what a transaction has read and does not change
    yield from _journal(of, place, "GetItem", "PutItem")


_STATEMENTS = {
    Actor.ANALYST: _analyst,
    Actor.PROVISION: _provision,
    Actor.LOAD: _load,
    Actor.VALIDATE: _validate,
    Actor.CUTOVER: _cutover,
    Actor.REVERSE: _reverse,
    Actor.POINTS: _points,
    Actor.APPROVER: _approver,
    Actor.VIEWER: _viewer,
    Actor.APPLICATION: _application,
    Actor.APPLICATION_LEADING: _application_leading,
}
_LEDGER_READ = ("GetItem", "Query")
_LEDGER_WRITE = ("DeleteItem", "PutItem")


# --- parts ------------------------------------------------------------------------------------------------------------


def _dynamodb(*actions: str) -> tuple[str, ...]:
    return tuple(f"dynamodb:{one}" for one in dict.fromkeys(actions))


def _some(name: str) -> Sequence[str]:
    return (name,) if name else ()


def _tables(names: Sequence[str], place: AwsAccount, replicas: Sequence[str]) -> tuple[str, ...]:
    regions = (place.region, *replicas)
    return tuple(place.arn("dynamodb", f"table/{one}", region=region) for region in regions for one in names)


def _items(of: Resources, place: AwsAccount, *actions: str, sid: str = "Items") -> Statement:
    indexes = tuple(place.arn("dynamodb", f"table/{one}/index/*") for one in of.indexed)
    return Statement(sid=sid, actions=_dynamodb(*actions), resources=(*_tables(of.tables, place, ()), *indexes))


def _for_parts(of: Resources) -> tuple[str, ...]:
    """Parts of items are written in batches, and deleted behind what has replaced them."""
    return ("BatchWriteItem", "DeleteItem") if of.parts else ()


def _estate(of: Resources, place: AwsAccount) -> Statement:
    """To see whether all is as the file says."""
    return Statement(
        sid="Estate",
        actions=_dynamodb("DescribeContinuousBackups", "DescribeTable", "DescribeTimeToLive", "ListTagsOfResource"),
        resources=_tables((*of.tables, of.ledger, *_some(of.journal)), place, ()),
    )


def _streams(of: Resources, place: AwsAccount, *actions: str) -> Statement:
    resources = tuple(place.arn("dynamodb", f"table/{one}/stream/*") for one in of.tables)
    return Statement(sid="Streams", actions=_dynamodb(*actions), resources=resources)


def _ledger(of: Resources, place: AwsAccount, actions: Sequence[str], sections: Sequence[str] = ("*",)) -> Statement:
    """This migration's records in the ledger, which may be several migrations' table."""
    return Statement(
        sid="Ledger" + "".join(one.capitalize() for one in sections if one != "*"),
        actions=_dynamodb(*actions),
        resources=_tables((of.ledger,), place, ()),
        leading=tuple(f"{of.migration}#{one}" for one in sections),
    )


def _owners(of: Resources, place: AwsAccount, *actions: str) -> Statement:
    """The ledger's records of whose the tables are."""
    return Statement(
        sid="Owners",
        actions=_dynamodb(*actions),
        resources=_tables((of.ledger,), place, ()),
        leading=tuple(f"table:{one}#*" for one in of.tables),
    )


def _journal(of: Resources, place: AwsAccount, *actions: str) -> Iterator[Statement]:
    if of.journal:
        yield Statement(sid="Journal", actions=_dynamodb(*actions), resources=_tables((of.journal,), place, ()))


def _metrics(publishes: bool) -> Iterator[Statement]:
    """PutMetricData knows no resource; the namespace is its bound."""
    if publishes:
        bound = {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
        yield Statement(sid="Metrics", actions=("cloudwatch:PutMetricData",), resources=("*",), condition=bound)


def _service_role(sid: str, service: str, place: AwsAccount) -> Statement:
    return Statement(
        sid=sid,
        actions=("iam:CreateServiceLinkedRole",),
        resources=(f"arn:{place.partition}:iam::{place.account}:role/aws-service-role/{service}/*",),
        condition={"StringLike": {"iam:AWSServiceName": service}},
    )
