"""What following the mode asks of DynamoDB, counted where requests leave the process."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import boto3
from botocore.awsrequest import AWSResponse
from docferry.adapters.aws.ledger import DynamoLedger
from docferry.client.following import BEAT_S, CONSISTENT_S, ModeReader
from docferry.core.cutover.modes import Mode, ModeState


class Server:
    """Answers GetItem, and counts by key and kind of read."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[str, bool]] = Counter()
        self.revision = 1

    def answer(self, request: Any, **_: Any) -> AWSResponse:
        asked = json.loads(request.body)
        key = {name: value["S"] for name, value in asked["Key"].items()}
        self.asked[key["SK"], asked["ConsistentRead"]] += 1
        body = {"ConsumedCapacity": {"TableName": "L", "CapacityUnits": 0.5}}
        if key["SK"] == "all":
            mode = {
                name: {"N": str(value)} if isinstance(value, int) else {"S": value}
                for name, value in ModeState().to_body().items()
            }
            body["Item"] = asked["Key"] | {"rev": {"N": str(self.revision)}, "schema": {"N": "1"}, "body": {"M": mode}}
        return _Answer(request.url, 200, {"content-type": "application/x-amz-json-1.0"}, json.dumps(body).encode())


class _Answer(AWSResponse):  # type: ignore[misc]  # botocore has no types
    def __init__(self, url: str, status: int, headers: dict[str, str], content: bytes) -> None:
        super().__init__(url, status, headers, None)
        self._content = content


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_minute_of_following_is_mostly_eventually_consistent_reads_and_a_change_costs_one_that_is_not() -> None:
    server, clock = Server(), Clock()
    session = boto3.Session("id", "secret", region_name="us-east-1")
    session._session.register("before-send.dynamodb", server.answer)
    ledger, reader = DynamoLedger(session, "L", "m"), ModeReader(clock)
    while clock.now < 60.0:
        assert reader.look(ledger, Mode.DUAL_WRITE) is not None
        clock.now += BEAT_S
    consistent, eventual = server.asked["all", True], server.asked["all", False]
    assert consistent + eventual == 60 / BEAT_S
    assert consistent <= 60 / CONSISTENT_S + 1
    assert server.asked["crowd", True] == 0
    assert server.asked["crowd", False] <= 3
    server.revision += 1
    reader.look(ledger, Mode.DUAL_WRITE)
    assert (server.asked["all", True], server.asked["all", False]) == (consistent + 1, eventual + 1)
