"""What others keep for rollback points: DynamoDB's backups, EBS snapshots, and files that were put there by others."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none, translated
from docferry.errors import AccessDenied
from docferry.ports.rollback_points import BackupState

_CONTROL_PLANE = Config(retries={"mode": "standard", "max_attempts": 5}, connect_timeout=5, read_timeout=30)


class DynamoBackups:
    """Backups over a boto3 session."""

    def __init__(self, session: boto3.Session) -> None:
        self._client = aws_client(session.client, "dynamodb", config=_CONTROL_PLANE)

    def create(self, table: str, name: str) -> str:
        return str(call(self._client.create_backup, TableName=table, BackupName=name)["BackupDetails"]["BackupArn"])

    def fetch(self, arn: str) -> BackupState | None:
        found = call_or_none(self._client.describe_backup, "BackupNotFoundException", BackupArn=arn)
        if found is None:
            return None
        details, table = (found["BackupDescription"][name] for name in ("BackupDetails", "SourceTableDetails"))
        return BackupState(
            arn=arn,
            status=str(details["BackupStatus"]),
            table=str(table["TableName"]),
            bytes=int(details.get("BackupSizeBytes", 0)),
        )

    def find(self, table: str, name: str) -> list[str]:
        found: list[str] = []
        page: dict[str, Any] = {}
        while True:
            reply = call(self._client.list_backups, TableName=table, **page)
            found += [str(one["BackupArn"]) for one in reply["BackupSummaries"] if one["BackupName"] == name]
            if "LastEvaluatedBackupArn" not in reply:
                return found
            page = {"ExclusiveStartBackupArn": reply["LastEvaluatedBackupArn"]}

    def delete(self, arn: str) -> None:
        call_or_none(self._client.delete_backup, "BackupNotFoundException", BackupArn=arn)

    def restore(self, arn: str, table: str) -> None:
        call(self._client.restore_table_from_backup, TargetTableName=table, BackupArn=arn)

    def table_status(self, table: str) -> str | None:
        found = call_or_none(self._client.describe_table, "ResourceNotFoundException", TableName=table)
        return str(found["Table"]["TableStatus"]) if found is not None else None


class ExternalSnapshots:
    """Snapshots: `snap-...` of EBS, `s3://bucket/prefix`, or a path on this machine."""

    def __init__(self, session: boto3.Session) -> None:
        self._session = session

    def look(self, name: str) -> str | None:
        if name.startswith("snap-"):
            return self._ebs(name)
        return self._s3(name) if name.startswith("s3://") else _path(name)

    def _ebs(self, name: str) -> str | None:
        client = aws_client(self._session.client, "ec2", config=_CONTROL_PLANE)
        absent = ("InvalidSnapshot.NotFound", "InvalidSnapshotID.Malformed")
        found = call_or_none(client.describe_snapshots, *absent, SnapshotIds=[name])
        for one in found["Snapshots"] if found else ():
            if one["State"] == "completed":
                of = f"{one.get('VolumeId', 'a volume')}, {one['StartTime']:%Y-%m-%d %H:%M:%S} UTC"
                return f"the EBS snapshot exists and is completed ({of}); its content has not been looked at"
        return None

    def _s3(self, name: str) -> str | None:
        client = aws_client(self._session.client, "s3", config=_CONTROL_PLANE)
        bucket, _, prefix = name.removeprefix("s3://").partition("/")
        with translated("list S3 objects"):
            pages = client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
            sizes = [int(one["Size"]) for page in pages for one in page.get("Contents", ())]
        return _counted(sizes, "object") if sizes else None


def _path(name: str) -> str | None:
    path = Path(name)
    try:
        if path.is_file():
            return _counted([path.stat().st_size], "file")
        sizes = [one.stat().st_size for one in path.rglob("*") if one.is_file()]
    except PermissionError as error:
        raise AccessDenied(f"cannot look at {path}: {error.strerror}", operation="look at a snapshot") from error
    return _counted(sizes, "file") if sizes else None


def _counted(sizes: list[int], what: str) -> str:
    return f"{len(sizes):,} {what}(s) with {sum(sizes):,} bytes exist; their content has not been looked at"
