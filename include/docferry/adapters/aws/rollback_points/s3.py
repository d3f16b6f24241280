"""The files of rollback points in S3."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none, translated

PART_BYTES = 8 * 1024 * 1024
"""A part of an upload, held in memory; S3 wants 5 MB at least, and takes 10,000: files up to 80 GB."""
_PATIENT = Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=5, read_timeout=60)


class S3Files:
    """PointFiles below `s3://<bucket>/<prefix>/<migration>/`. An object is there whole or not at all. Who may read it, and how
    it is encrypted, is the bucket's affair."""

    def __init__(self, session: boto3.Session, url: str, migration: str) -> None:
        self._bucket, _, prefix = url.removeprefix("s3://").partition("/")
        self._prefix = "/".join(part for part in (prefix.strip("/"), migration) if part)
        self._client = aws_client(session.client, "s3", config=_PATIENT)

    def __repr__(self) -> str:
        return f"S3Files({self._bucket!r}, {self._prefix!r})"

    def place(self, point: str) -> str:
        return f"s3://{self._bucket}/{self._prefix}/{point}"

    def write(self, point: str, name: str, chunks: Iterable[bytes]) -> None:
        where = {"Bucket": self._bucket, "Key": self._key(point, name)}
        parts = _parts(chunks)
        first = next(parts, b"")
        if len(first) < PART_BYTES:
            call(self._client.put_object, **where, Body=first)
            return
        upload = call(self._client.create_multipart_upload, **where)["UploadId"]
        try:
            tags = [self._upload(where, upload, 1, first)]
            tags += [self._upload(where, upload, number, part) for number, part in enumerate(parts, 2)]
            call(self._client.complete_multipart_upload, **where, UploadId=upload, MultipartUpload={"Parts": tags})
        except BaseException:
            call(self._client.abort_multipart_upload, **where, UploadId=upload)
            raise

    def finish(self, point: str) -> None:
        """Nothing: S3 cannot rename."""

    def size(self, point: str, name: str) -> int | None:
        found = call_or_none(
            self._client.head_object, "404", "NoSuchKey", Bucket=self._bucket, Key=self._key(point, name)
        )
        return int(found["ContentLength"]) if found is not None else None

    def read(self, point: str, name: str) -> Iterator[bytes]:
        body = call(self._client.get_object, Bucket=self._bucket, Key=self._key(point, name))["Body"]
        with translated(f"read {name} from S3"):
            yield from body.iter_chunks(1_000_000)

    def holds(self, point: str) -> bool:
        return bool(self._listed("list_objects_v2", "Contents", self._key(point, "")))

    def remove(self, point: str) -> None:
        """Objects, and the parts of uploads that were never completed: those cost money, and no list shows them."""
        prefix = self._key(point, "")
        for upload in self._listed("list_multipart_uploads", "Uploads", prefix):
            where = {"Bucket": self._bucket, "Key": upload["Key"], "UploadId": upload["UploadId"]}
            call_or_none(self._client.abort_multipart_upload, "NoSuchUpload", "404", **where)
        for found in self._listed("list_objects_v2", "Contents", prefix):
            call(self._client.delete_object, Bucket=self._bucket, Key=found["Key"])

    def _listed(self, operation: str, name: str, prefix: str) -> list[dict[str, Any]]:
        with translated(operation):
            pages = self._client.get_paginator(operation).paginate(Bucket=self._bucket, Prefix=prefix)
            return [one for page in pages for one in page.get(name, ()) if one["Key"].startswith(prefix)]

    def _upload(self, where: dict[str, str], upload: str, number: int, part: bytes) -> dict[str, Any]:
        reply = call(self._client.upload_part, **where, UploadId=upload, PartNumber=number, Body=part)
        return {"PartNumber": number, "ETag": reply["ETag"]}

    def _key(self, point: str, name: str) -> str:
        return f"{self._prefix}/{point}/{name}"


def _parts(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of PART_BYTES, the last one smaller, perhaps empty."""
    have = bytearray()
    for chunk in chunks:
        have += chunk
        while len(have) >= PART_BYTES:
            yield bytes(have[:PART_BYTES])
            del have[:PART_BYTES]
    yield bytes(have)
