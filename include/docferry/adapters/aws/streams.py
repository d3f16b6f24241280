"""DynamoDB Streams behind the Streams port.

Source: AWS, "Amazon DynamoDB Streams API reference" (DescribeStream, GetShardIterator, GetRecords), from memory; error codes
and shapes are those of botocore's own model.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.boto_values import from_boto
from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call, call_or_none
from docferry.core.mapping.items import Item
from docferry.core.mapping.table_layout import PLAIN, TableLayout
from docferry.errors import StreamTrimmed, TableMissing, Unavailable
from docferry.ports.flows import Shard, StreamFacts, StreamPage, StreamRecord

_PATIENT = Config(
    retries={"mode": "standard", "max_attempts": 6}, connect_timeout=5, read_timeout=20, max_pool_connections=32
)
BOTH = "NEW_AND_OLD_IMAGES"


class DynamoStreams:
    """Streams over a boto3 session; safe to use from several threads."""

    def __init__(self, session: boto3.Session, layouts: Mapping[str, TableLayout] | None = None) -> None:
        """`layouts` are those of tables that are not plain."""
        self._layouts = layouts or {}
        self._tables = aws_client(session.client, "dynamodb", config=_PATIENT)
        self._streams = aws_client(session.client, "dynamodbstreams", config=_PATIENT)

    def __repr__(self) -> str:
        return "DynamoStreams()"

    def stream_of(self, table: str) -> StreamFacts | None:
        found = call_or_none(self._tables.describe_table, "ResourceNotFoundException", TableName=table)
        described = {} if found is None else found["Table"]
        settings = described.get("StreamSpecification", {})
        if not settings.get("StreamEnabled"):
            return None
        return StreamFacts(arn=described["LatestStreamArn"], images=settings.get("StreamViewType") == BOTH)

    def shards(self, stream: str) -> list[Shard]:
        found: list[Shard] = []
        request: dict[str, Any] = {"StreamArn": stream}
        while True:
            described = call(self._streams.describe_stream, **request)["StreamDescription"]
            found += [_shard(one) for one in described.get("Shards", [])]
            last = described.get("LastEvaluatedShardId")
            if last is None:
                return found
            request["ExclusiveStartShardId"] = last

    def iterator(self, stream: str, shard: str, after: str | None) -> str:
        if after is None:
            return self._iterator(stream, shard, ShardIteratorType="TRIM_HORIZON")
        return self._iterator(stream, shard, ShardIteratorType="AFTER_SEQUENCE_NUMBER", SequenceNumber=after)

    def latest(self, stream: str, shard: str) -> str:
        return self._iterator(stream, shard, ShardIteratorType="LATEST")

    def _iterator(self, stream: str, shard: str, **where: str) -> str:
        try:
            reply = call(self._streams.get_shard_iterator, StreamArn=stream, ShardId=shard, **where)
        except TableMissing as error:
            text = f"the stream or its shard {shard} does not exist any more"
            raise StreamTrimmed(text, operation=error.operation, code=error.code) from error
        return self._of_table(stream.partition("/")[2].partition("/")[0], reply["ShardIterator"])

    def _of_table(self, table: str, iterator: str) -> str:
        """An iterator that says how its records are to be read. Neither it nor a table's name holds a blank."""
        return f"{table} {iterator}" if table in self._layouts else iterator

    def records(self, iterator: str, limit: int) -> StreamPage:
        table, _, own = iterator.rpartition(" ")
        layout = self._layouts.get(table, PLAIN)
        reply = call(self._streams.get_records, ShardIterator=own, Limit=limit)
        if "Records" not in reply:  # botocore makes an answer that was cut short into an empty one: no end of a shard
            raise Unavailable("get_records: the answer was cut short", operation="get_records")
        following = reply.get("NextShardIterator")
        return StreamPage(
            [_record(one, layout) for one in reply["Records"]],
            self._of_table(table, following) if following is not None else None,
        )


def _shard(described: Mapping[str, Any]) -> Shard:
    closed = "EndingSequenceNumber" in described.get("SequenceNumberRange", {})
    return Shard(id=described["ShardId"], parent=described.get("ParentShardId"), closed=closed)


def _record(described: Mapping[str, Any], layout: TableLayout) -> StreamRecord:
    change = described["dynamodb"]
    keys = _item(change["Keys"], PLAIN) or {}
    images = {} if layout.is_part(keys) else change  # a part says nothing that its item does not
    return StreamRecord(
        sequence=change["SequenceNumber"],
        key=layout.key_of(keys),
        created_ms=int(change["ApproximateCreationDateTime"].timestamp() * 1000),
        old=_item(images.get("OldImage"), layout),
        new=_item(images.get("NewImage"), layout),
    )


def _item(image: Mapping[str, Any] | None, layout: TableLayout) -> Item | None:
    """An image that is empty is none."""
    return layout.read({name: from_boto(value) for name, value in image.items()}) if image else None
