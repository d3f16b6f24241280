"""IAM policies from a migration file: one for each who acts, with the actions that its calls need, on the file's resources.

What a call needs is AWS's list, not the call's name: TransactWriteItems is allowed by the actions of its parts.
Source: https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazondynamodb.html,
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/transaction-apis-iam.html,
https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/globaltables_iam.html, read 2026-11-29.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from typing import Any

from docferry.core.estate.tags import SCRATCH
from docferry.core.permissions.estate import destroy_statements, import_statements, provision_statements
from docferry.core.permissions.statements import (
    LEDGER_READ,
    LEDGER_WRITE,
    AwsAccount,
    Resources,
    Statement,
    dynamodb,
    for_parts,
    look_at_estate,
    of_items,
    of_journal,
    of_ledger,
    of_metrics,
    of_objects,
    of_owners,
    of_streams,
    of_tables,
)


class Actor(StrEnum):
    """Who acts. Airflow, or a person at the command line, acts as the first ten, each of which a phase needs."""

    ANALYST = "analyst"
    PROVISION = "provision"
    LOAD = "load"
    VALIDATE = "validate"
    CUTOVER = "cutover"
    REVERSE = "reverse"
    POINTS = "points"
    APPROVER = "approver"
    VIEWER = "viewer"
    DESTROY = "destroy"
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
    Actor.DESTROY: ("destroy",),
}
"""The commands (and the DAGs of their names) that act as each. The application acts through `docferry.connect`."""


def policy(actor: Actor, of: Resources, place: AwsAccount) -> dict[str, Any]:
    """The policy of one who acts, as a document for IAM."""
    statements = [one for one in _STATEMENTS[actor](of, place) if one.resources]
    return {"Version": "2012-10-17", "Statement": [one.to_dict() for one in statements]}


# --- who needs what ---------------------------------------------------------------------------------------------------


def _analyst(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    """Tables of its own for minutes, whose names nothing else has; neither the file's tables nor the ledger."""
    yield Statement(sid="ListOfTables", actions=dynamodb("ListTables"), resources=("*",))  # knows no narrower resource
    yield Statement(
        sid="Scratch",
        actions=dynamodb(
            "BatchGetItem", "BatchWriteItem", "CreateTable", "DeleteTable", "DescribeTable", "GetItem", "ListTagsOfResource",
            "Query", "TagResource",
        ),
        resources=(*of_tables((f"{SCRATCH}*",), place, ()), place.arn("dynamodb", f"table/{SCRATCH}*/index/*")),
    )  # fmt: skip


def _load(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_owners(of, place, "GetItem")
    yield from of_objects(of, place, "DeleteObject", "GetObject", "PutObject")
    yield look_at_estate(of, place)
    # After a way back replication watches DynamoDB: its streams, and the items that they tell of.
    yield of_items(of, place, "BatchGetItem", "BatchWriteItem", "PutItem", "Query", *for_parts(of))
    yield of_ledger(of, place, (*LEDGER_READ, *LEDGER_WRITE))
    yield of_streams(of, place, "DescribeStream", "GetRecords", "GetShardIterator")
    yield from import_statements(of, place)
    yield from of_metrics(of.cloudwatch)


def _validate(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_owners(of, place, "GetItem")
    yield from of_objects(of, place, "DeleteObject", "GetObject", "PutObject")
    yield of_items(of, place, "BatchGetItem", "DeleteItem", "PutItem", "Query", "Scan", *for_parts(of))
    yield of_ledger(of, place, (*LEDGER_READ, *LEDGER_WRITE))
    yield from of_metrics(of.cloudwatch)


def _cutover(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_owners(of, place, "GetItem")
    yield from of_objects(of, place, "DeleteObject", "GetObject", "PutObject")
    yield look_at_estate(of, place)
    # The change of leader ends what replication has begun.
    yield of_items(of, place, "BatchGetItem", "PutItem", *for_parts(of))
    yield of_ledger(of, place, (*LEDGER_READ, "PutItem"))
    yield from of_journal(of, place, "Query")
    yield of_streams(of, place, "DescribeStream", "GetShardIterator")
    yield from of_metrics(of.cloudwatch)


def _reverse(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_owners(of, place, "GetItem")
    yield from of_objects(of, place, "GetObject")
    yield look_at_estate(of, place)
    yield of_items(of, place, "BatchGetItem", "Query")
    yield of_ledger(of, place, (*LEDGER_READ, *LEDGER_WRITE))
    yield from of_journal(of, place, "Query")
    yield of_streams(of, place, "DescribeStream", "GetRecords", "GetShardIterator")
    yield from of_metrics(of.cloudwatch)


def _points(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_ledger(of, place, (*LEDGER_READ, *LEDGER_WRITE))
    yield Statement(
        sid="Backups",
        actions=dynamodb("CreateBackup", "DescribeTable", "ListBackups"),
        resources=of_tables(of.tables, place, ()),
    )
    yield Statement(
        sid="BackupsOfTables",
        actions=dynamodb("DeleteBackup", "DescribeBackup", "RestoreTableFromBackup"),
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
    yield from of_metrics(of.cloudwatch)


def _approver(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_ledger(of, place, LEDGER_READ)
    yield of_ledger(of, place, ("PutItem",), sections=("approvals", "answers", "looks"))


def _viewer(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_owners(of, place, "GetItem")
    yield look_at_estate(of, place)
    yield of_ledger(of, place, LEDGER_READ)


def _application(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield of_owners(of, place, "GetItem")
    yield from of_objects(of, place, "DeleteObject", "GetObject", "PutObject")
    yield of_items(of, place, "BatchGetItem", "GetItem", "PutItem", "Query", "Scan", *for_parts(of)[1:])
    yield of_ledger(of, place, ("GetItem",))
    yield of_ledger(of, place, ("PutItem",), sections=("instances",))
    yield of_ledger(of, place, ("ConditionCheckItem",), sections=("mode",))
    yield from of_metrics(of.application_cloudwatch)


def _application_leading(of: Resources, place: AwsAccount) -> Iterator[Statement]:
    yield from _application(of, place)
    yield of_items(
        of, place, "ConditionCheckItem", sid="ItemsRead"
    )  # of what a transaction has read and does not change
    yield from of_journal(of, place, "GetItem", "PutItem")


_STATEMENTS = {
    Actor.ANALYST: _analyst,
    Actor.PROVISION: provision_statements,
    Actor.LOAD: _load,
    Actor.VALIDATE: _validate,
    Actor.CUTOVER: _cutover,
    Actor.REVERSE: _reverse,
    Actor.POINTS: _points,
    Actor.APPROVER: _approver,
    Actor.VIEWER: _viewer,
    Actor.DESTROY: destroy_statements,
    Actor.APPLICATION: _application,
    Actor.APPLICATION_LEADING: _application_leading,
}
