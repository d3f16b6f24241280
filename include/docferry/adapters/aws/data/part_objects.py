"""Parts of items as objects in S3: `<prefix>/<migration>/<table>/<name>`. Who may read them, and how they are encrypted, is the
bucket's affair."""

from __future__ import annotations

import os
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none, translated
from docferry.core.mapping.items import Item
from docferry.core.mapping.large.objects import HEAD_BYTES, decode_head, decode_object, encode_object

_PATIENT = Config(
    retries={"mode": "standard", "max_attempts": 6}, connect_timeout=5, read_timeout=30, max_pool_connections=32
)
_PAGE = 200
_ABSENT = ("NoSuchKey", "404")


class S3PartObjects:
    """PartObjects below an address `s3://<bucket>/<prefix>`."""

    def __init__(self, session: boto3.Session, url: str, migration: str) -> None:
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = "/".join(part for part in (prefix.strip("/"), migration) if part)
        self._session = session
        self._clients: dict[int, Any] = {}

    def __repr__(self) -> str:
        return f"S3PartObjects({self._bucket!r}, {self._prefix!r})"

    @property
    def _client(self) -> Any:
        """A process that was forked has connections of its own."""
        process = os.getpid()
        if process not in self._clients:
            self._clients[process] = aws_client(self._session.client, "s3", config=_PATIENT)
        return self._clients[process]

    def put(self, table: str, name: str, part: Item) -> None:
        call(self._client.put_object, **self._where(table, name), Body=encode_object(part))

    def get(self, table: str, name: str) -> Item | None:
        data = self._read(self._where(table, name))
        return decode_object(data) if data is not None else None

    def delete(self, table: str, name: str) -> None:
        call(self._client.delete_object, **self._where(table, name))

    def heads(self, table: str, after: str) -> tuple[list[Item], str]:
        place = self._where(table, "")["Key"]
        begin = {"StartAfter": place + after} if after else {}
        reply = call(
            self._client.list_objects_v2, Bucket=self._bucket, Prefix=place, MaxKeys=_PAGE, **begin
        )  # it may hold none, and still say that there are more
        keys = [one["Key"] for one in reply.get("Contents", ())]
        found = [decode_head(data) for key in keys if (data := self._head(key)) is not None]
        more = keys[-1].removeprefix(place) if keys and reply.get("IsTruncated") else ""
        return [one for one in found if one is not None], more

    def _head(self, key: str) -> bytes | None:
        return self._read({"Bucket": self._bucket, "Key": key, "Range": f"bytes=0-{HEAD_BYTES - 1}"})

    def _read(self, where: dict[str, str]) -> bytes | None:
        found = call_or_none(self._client.get_object, *_ABSENT, **where)
        if found is None:
            return None
        with translated("read an object of S3"):
            data: bytes = found["Body"].read()
        return data

    def _where(self, table: str, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": f"{self._prefix}/{table}/{name}"}
