"""What the streams adapter makes of AWS's answers that no emulator gives."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.stub import Stubber
from docferry.adapters.aws.streams import DynamoStreams
from docferry.errors import IteratorExpired, StreamTrimmed, Throttled, Unavailable
from docferry.ports.flows import Shard, StreamFacts

ARN = "arn:aws:dynamodb:us-east-1:123456789012:table/T/stream/2026-11-24T00:00:00.000"
WHEN = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)


@pytest.fixture
def streams() -> DynamoStreams:
    return DynamoStreams(boto3.Session("key", "secret", region_name="us-east-1"))


@pytest.fixture
def stub(streams: DynamoStreams) -> Iterator[Stubber]:
    with Stubber(streams._streams) as made:
        yield made
        made.assert_no_pending_responses()


def shard(name: str, parent: str = "", ended: bool = False) -> dict[str, Any]:
    numbers = {"StartingSequenceNumber": "1" * 21} | ({"EndingSequenceNumber": "9" * 21} if ended else {})
    return {"ShardId": name, "SequenceNumberRange": numbers} | ({"ParentShardId": parent} if parent else {})


LONG = "shardId-00000000000000000000-0000000"


def test_shards_come_from_all_pages_with_their_parents_and_whether_they_are_closed(
    streams: DynamoStreams, stub: Stubber
) -> None:
    first = {"StreamArn": ARN, "Shards": [shard(f"{LONG}1", ended=True)], "LastEvaluatedShardId": f"{LONG}1"}
    stub.add_response("describe_stream", {"StreamDescription": first}, {"StreamArn": ARN})
    second = {"StreamArn": ARN, "Shards": [shard(f"{LONG}2", parent=f"{LONG}1")]}
    asked = {"StreamArn": ARN, "ExclusiveStartShardId": f"{LONG}1"}
    stub.add_response("describe_stream", {"StreamDescription": second}, asked)
    assert streams.shards(ARN) == [
        Shard(id=f"{LONG}1", parent=None, closed=True),
        Shard(id=f"{LONG}2", parent=f"{LONG}1", closed=False),
    ]


@pytest.mark.parametrize("code", ["TrimmedDataAccessException", "ResourceNotFoundException"])
def test_iterator_of_what_is_gone_is_trimmed(streams: DynamoStreams, stub: Stubber, code: str) -> None:
    stub.add_client_error("get_shard_iterator", code, "gone")
    with pytest.raises(StreamTrimmed):
        streams.iterator(ARN, f"{LONG}1", "1" * 21)


def test_iterator_begins_at_the_oldest_record_or_behind_one(streams: DynamoStreams, stub: Stubber) -> None:
    common = {"StreamArn": ARN, "ShardId": f"{LONG}1"}
    stub.add_response("get_shard_iterator", {"ShardIterator": "i"}, common | {"ShardIteratorType": "TRIM_HORIZON"})
    behind = {"ShardIteratorType": "AFTER_SEQUENCE_NUMBER", "SequenceNumber": "2" * 21}
    stub.add_response("get_shard_iterator", {"ShardIterator": "j"}, common | behind)
    assert (streams.iterator(ARN, f"{LONG}1", None), streams.iterator(ARN, f"{LONG}1", "2" * 21)) == ("i", "j")


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("ExpiredIteratorException", IteratorExpired),
        ("TrimmedDataAccessException", StreamTrimmed),
        ("LimitExceededException", Throttled),
    ],
)
def test_errors_of_reading_have_their_classes(
    streams: DynamoStreams, stub: Stubber, code: str, kind: type[Exception]
) -> None:
    stub.add_client_error("get_records", code, "text")
    with pytest.raises(kind):
        streams.records("i", 10)


def test_answer_that_was_cut_short_is_not_the_end_of_a_shard(streams: DynamoStreams, stub: Stubber) -> None:
    stub.add_response("get_records", {})
    with pytest.raises(Unavailable, match="cut short"):
        streams.records("i", 10)


def test_end_of_a_closed_shard_gives_no_iterator_and_binary_comes_as_base64(
    streams: DynamoStreams, stub: Stubber
) -> None:
    change = {
        "ApproximateCreationDateTime": WHEN,
        "Keys": {"PK": {"S": "a"}, "SK": {"S": "b"}},
        "OldImage": {"PK": {"S": "a"}, "x": {"B": b"\0\xff"}, "y": {"BS": [b"\1"]}},
        "SequenceNumber": "3" * 21,
    }
    stub.add_response("get_records", {"Records": [{"eventName": "REMOVE", "dynamodb": change}]})
    page = streams.records("i", 10)
    (record,) = page.records
    assert page.next is None
    assert record.old == {"PK": {"S": "a"}, "x": {"B": "AP8="}, "y": {"BS": ["AQ=="]}}
    assert (record.new, record.key, record.created_ms) == (None, ("a", "b"), int(WHEN.timestamp() * 1000))
    assert "AP8=" not in repr(record)


def test_stream_of_a_table_tells_whether_it_brings_both_images(streams: DynamoStreams) -> None:
    described = {"LatestStreamArn": ARN, "StreamSpecification": {"StreamEnabled": True, "StreamViewType": "KEYS_ONLY"}}
    with Stubber(streams._tables) as tables:
        tables.add_response("describe_table", {"Table": described})
        tables.add_response("describe_table", {"Table": {"LatestStreamArn": ARN}})
        tables.add_client_error("describe_table", "ResourceNotFoundException", "no table")
        assert streams.stream_of("Things") == StreamFacts(arn=ARN, images=False)
        assert streams.stream_of("Things") is None
        assert streams.stream_of("Things") is None
