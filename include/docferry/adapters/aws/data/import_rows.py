"""The rows of an import in S3: `<prefix>/<migration>/<table>/<name>`. Who may read them is the bucket's affair."""

from __future__ import annotations

from collections.abc import Iterator

import boto3
from botocore.config import Config

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, translated

_PATIENT = Config(
    retries={"mode": "standard", "max_attempts": 8}, connect_timeout=5, read_timeout=60, max_pool_connections=32
)
_DELETED_AT_ONCE = 1_000


class S3ImportRows:
    """ImportRows below `s3://<bucket>/<prefix>`."""

    def __init__(self, session: boto3.Session, url: str, migration: str) -> None:
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = "/".join(part for part in (prefix.strip("/"), migration) if part)
        self._client = aws_client(session.client, "s3", config=_PATIENT)

    def __repr__(self) -> str:
        return f"S3ImportRows({self._bucket!r}, {self._prefix!r})"

    def place(self, table: str) -> tuple[str, str]:
        return self._bucket, f"{self._prefix}/{table}/"

    def write(self, table: str, name: str, data: bytes) -> None:
        call(self._client.put_object, Bucket=self._bucket, Key=self.place(table)[1] + name, Body=data)

    def read(self, key: str) -> bytes:
        found = call(self._client.get_object, Bucket=self._bucket, Key=key)
        with translated("read an object of S3"):
            data: bytes = found["Body"].read()
        return data

    def count(self, table: str) -> int:
        return sum(1 for _ in self._keys(table))

    def clear(self, table: str) -> None:
        keys = list(self._keys(table))
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            gone = [{"Key": key} for key in keys[start : start + _DELETED_AT_ONCE]]
            call(self._client.delete_objects, Bucket=self._bucket, Delete={"Objects": gone, "Quiet": True})

    def _keys(self, table: str) -> Iterator[str]:
        with translated("list_objects_v2"):
            pages = self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self._bucket, Prefix=self.place(table)[1]
            )
            for page in pages:
                yield from (one["Key"] for one in page.get("Contents", ()))
