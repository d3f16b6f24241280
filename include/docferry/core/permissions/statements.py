"""What policies are made of: statements, and the parts that those of several have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from docferry.core.estate.resources import Resource
from docferry.core.metric_names import NAMESPACE

LEDGER_READ = ("GetItem", "Query")
LEDGER_WRITE = ("DeleteItem", "PutItem")


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
    scratch: bool = False
    objects: str = ""
    """Bucket, prefix and migration, where parts of items are objects."""
    rows: str = ""
    """The same, where the rows of an import are."""


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


def dynamodb(*actions: str) -> tuple[str, ...]:
    return tuple(f"dynamodb:{one}" for one in dict.fromkeys(actions))


def if_named(name: str) -> Sequence[str]:
    return (name,) if name else ()


def of_tables(names: Sequence[str], place: AwsAccount, replicas: Sequence[str]) -> tuple[str, ...]:
    regions = (place.region, *replicas)
    return tuple(place.arn("dynamodb", f"table/{one}", region=region) for region in regions for one in names)


def of_items(of: Resources, place: AwsAccount, *actions: str, sid: str = "Items") -> Statement:
    indexes = tuple(place.arn("dynamodb", f"table/{one}/index/*") for one in of.indexed)
    return Statement(sid=sid, actions=dynamodb(*actions), resources=(*of_tables(of.tables, place, ()), *indexes))


def for_parts(of: Resources) -> tuple[str, ...]:
    """Parts of items are written in batches, and deleted behind what has replaced them."""
    return ("BatchWriteItem", "DeleteItem") if of.parts else ()


def of_objects(of: Resources, place: AwsAccount, *actions: str) -> Iterator[Statement]:
    """Parts of items in S3, and the list of them: who may not see it is told of a missing object that it is forbidden."""
    if not of.objects:
        return
    bucket, _, prefix = of.objects.partition("/")
    arn = f"arn:{place.partition}:s3:::{bucket}"
    yield Statement(sid="Objects", actions=tuple(f"s3:{one}" for one in actions), resources=(f"{arn}/{prefix}/*",))
    # A GetObject has no prefix, and S3 asks for this permission where it finds nothing.
    below = {"StringLikeIfExists": {"s3:prefix": f"{prefix}/*"}}
    yield Statement(sid="ListOfObjects", actions=("s3:ListBucket",), resources=(arn,), condition=below)


def look_at_estate(of: Resources, place: AwsAccount) -> Statement:
    """To see whether all is as the file says."""
    return Statement(
        sid="Estate",
        actions=dynamodb("DescribeContinuousBackups", "DescribeTable", "DescribeTimeToLive", "ListTagsOfResource"),
        resources=of_tables((*of.tables, of.ledger, *if_named(of.journal)), place, ()),
    )


def of_streams(of: Resources, place: AwsAccount, *actions: str) -> Statement:
    resources = tuple(place.arn("dynamodb", f"table/{one}/stream/*") for one in of.tables)
    return Statement(sid="Streams", actions=dynamodb(*actions), resources=resources)


def of_ledger(of: Resources, place: AwsAccount, actions: Sequence[str], sections: Sequence[str] = ("*",)) -> Statement:
    """This migration's records in the ledger, which may be several migrations' table."""
    return Statement(
        sid="Ledger" + "".join(one.capitalize() for one in sections if one != "*"),
        actions=dynamodb(*actions),
        resources=of_tables((of.ledger,), place, ()),
        leading=tuple(f"{of.migration}#{one}" for one in sections),
    )


def of_owners(of: Resources, place: AwsAccount, *actions: str) -> Statement:
    """The ledger's records of whose the tables are."""
    return Statement(
        sid="Owners",
        actions=dynamodb(*actions),
        resources=of_tables((of.ledger,), place, ()),
        leading=tuple(f"table:{one}#*" for one in of.tables),
    )


def of_journal(of: Resources, place: AwsAccount, *actions: str) -> Iterator[Statement]:
    if of.journal:
        yield Statement(sid="Journal", actions=dynamodb(*actions), resources=of_tables((of.journal,), place, ()))


def of_metrics(publishes: bool) -> Iterator[Statement]:
    """PutMetricData knows no resource; the namespace is its bound."""
    if publishes:
        bound = {"StringEquals": {"cloudwatch:namespace": NAMESPACE}}
        yield Statement(sid="Metrics", actions=("cloudwatch:PutMetricData",), resources=("*",), condition=bound)


def service_role(sid: str, service: str, place: AwsAccount) -> Statement:
    return Statement(
        sid=sid,
        actions=("iam:CreateServiceLinkedRole",),
        resources=(f"arn:{place.partition}:iam::{place.account}:role/aws-service-role/{service}/*",),
        condition={"StringLike": {"iam:AWSServiceName": service}},
    )
