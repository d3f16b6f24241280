"""The journal in its DynamoDB table: partition `<migration>#<instance>#<lane>`, sort key the slot."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.boto_values import from_boto, to_boto
from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import translated
from docferry.adapters.aws.ledger import PATIENT, whole
from docferry.core.backoff import Backoff
from docferry.core.cutover.journal import Entry, LaneName, entry_in, entry_item, put_if_empty, slot_key
from docferry.errors import ConditionFailed, TransientStoreError

BUSY = Backoff(for_s=5.0, first_s=0.02, cap_s=0.25)
"""A transaction that holds the slot (TransactionConflict), or throttling: seconds at most."""


class DynamoJournal:
    """Journal over a boto3 session."""

    def __init__(self, session: boto3.Session, table: str, migration: str, config: Config | None = None) -> None:
        self._client = aws_client(session.client, "dynamodb", config=config or PATIENT)
        self._table, self._migration = table, migration

    def __repr__(self) -> str:
        return f"DynamoJournal({self._table!r}, {self._migration!r})"

    def put(self, lane: LaneName, slot: int, entry: Entry) -> Entry | None:
        item = entry_item(lane.partition(self._migration), slot, entry, int(time.time()))
        request = put_if_empty(self._table, {name: to_boto(value) for name, value in item.items()})
        try:
            _steadily(lambda: self._client.put_item(**request), "journal PutItem")
        except ConditionFailed:
            there = next((one for at, one in self.read(lane, slot - 1, 1) if at == slot), None)
            if there is None:
                raise
            return None if there == entry else there
        return None

    def read(self, lane: LaneName, after: int, limit: int) -> Sequence[tuple[int, Entry]]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "PK = :pk AND SK > :sk",
            "ExpressionAttributeValues": {
                ":pk": {"S": lane.partition(self._migration)},
                ":sk": {"S": slot_key(after)},
            },
        }
        found: list[tuple[int, Entry]] = []
        while len(found) < limit:
            query["Limit"] = limit - len(found)
            reply = _steadily(lambda: whole(self._client.query, query, "Items"), "journal Query")
            found += [entry_in({name: from_boto(value) for name, value in item.items()}) for item in reply["Items"]]
            if "LastEvaluatedKey" not in reply:
                break
            query["ExclusiveStartKey"] = reply["LastEvaluatedKey"]
        return found


def _steadily(call: Callable[[], dict[str, Any]], operation: str) -> dict[str, Any]:
    attempts = BUSY.attempts(operation)
    while True:
        try:
            with translated(operation):
                return call()
        except TransientStoreError as error:
            time.sleep(attempts.failed(error))
