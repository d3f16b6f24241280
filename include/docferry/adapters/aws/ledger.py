"""The ledger in one DynamoDB table: partition `<migration>#<section>`, sort key the record's key. What is of a table of DynamoDB,
for all migrations, has partition `table:<table>#<section>`: no migration's name has a colon.

Every change is conditional on the revision that was read, so two who change the same record never both succeed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from decimal import Decimal
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.boto_values import from_boto, to_boto
from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import translated
from docferry.core.bson_codec.plain import from_plain, to_plain
from docferry.core.cutover.instances import EXPIRES
from docferry.core.cutover.journal import JOURNAL
from docferry.core.cutover.modes import REQUIRES
from docferry.errors import ConditionFailed, InvariantBroken, Unavailable
from docferry.ports.flows import Record

SCHEMA, SCHEMA_REQUIRES = 1, 2
"""A record of schema 2 names in `requires` what its readers must be able to do: a reader that cannot stops."""
CAN = frozenset({JOURNAL})
TTL = "_ttl"

PATIENT = Config(retries={"mode": "standard", "max_attempts": 8}, connect_timeout=5, read_timeout=20)
"""Throttling and short outages are ridden out here: a ledger call that fails ends a chunk's attempt."""


READS = 5


class DynamoLedger:
    """Ledger over a boto3 session. One table serves any number of migrations."""

    def __init__(self, session: boto3.Session, table: str, migration: str, config: Config | None = None) -> None:
        self._client = aws_client(session.client, "dynamodb", config=config or PATIENT)
        self._table, self._migration = table, migration

    def __repr__(self) -> str:
        return f"DynamoLedger({self._table!r}, {self._migration!r})"

    def read(self, section: str, key: str) -> Record | None:
        item = self._item(self._key(section, key))
        return self._record(item) if item is not None else None

    def glance(self, section: str, key: str) -> Record | None:
        item = self._item(self._key(section, key), consistent=False)
        return self._record(item) if item is not None else None

    def _item(self, key: Mapping[str, Any], consistent: bool = True) -> dict[str, Any] | None:
        # Its price is in the answer even if nothing is there.
        request = {"TableName": self._table, "Key": key, "ConsistentRead": consistent}
        request["ReturnConsumedCapacity"] = "TOTAL"
        found: dict[str, Any] | None = whole(self._client.get_item, request, "ConsumedCapacity").get("Item")
        return found

    def list(self, section: str, prefix: str = "") -> list[Record]:
        query: dict[str, Any] = {
            "TableName": self._table,
            "ConsistentRead": True,
            "KeyConditionExpression": "PK = :pk" + (" AND begins_with(SK, :sk)" if prefix else ""),
            "ExpressionAttributeValues": {":pk": {"S": self._partition(section)}}
            | ({":sk": {"S": prefix}} if prefix else {}),
        }
        found: list[Record] = []
        while True:
            reply = whole(self._client.query, query, "Items")
            found += [self._record(item) for item in reply["Items"]]
            if "LastEvaluatedKey" not in reply:
                return found
            query["ExclusiveStartKey"] = reply["LastEvaluatedKey"]

    def write(
        self,
        section: str,
        key: str,
        body: Mapping[str, Any],
        *,
        expect: Record | None,
        unchanged: Sequence[Record] = (),
        beside: Sequence[Record] = (),
    ) -> Record:
        # A new record counts on from the time: one that was deleted and made anew is never taken for the old one.
        now = time.time_ns() // 1000
        revision = expect.revision + 1 if expect else now
        item = self._new_item(section, key, revision, body)
        put = {"TableName": self._table, "Item": item, **_condition(expect)}
        try:
            with translated("ledger PutItem"):
                if unchanged or beside:
                    checks = [{"ConditionCheck": self._check(one)} for one in unchanged]
                    made = [self._new_item(one.section, one.key, now, one.body) for one in beside]
                    puts = [{"Put": {"TableName": self._table, "Item": one, **_condition(None)}} for one in made]
                    self._client.transact_write_items(TransactItems=[{"Put": put}, *checks, *puts])
                else:
                    self._client.put_item(**put)
        except ConditionFailed:
            if not self._is_stored(item):
                raise
        return Record(section, key, revision, dict(body))

    def delete(self, record: Record) -> None:
        with translated("ledger DeleteItem"):
            self._client.delete_item(
                TableName=self._table, Key=self._key(record.section, record.key), **_condition(record)
            )

    def of_table(self, table: str) -> DynamoLedger:
        other = copy(self)
        other._migration = f"table:{table}"
        return other

    def _new_item(self, section: str, key: str, revision: int, body: Mapping[str, Any]) -> dict[str, Any]:
        return (
            self._key(section, key)
            | {
                "rev": {"N": str(revision)},
                "schema": {"N": str(SCHEMA_REQUIRES if body.get(REQUIRES) else SCHEMA)},
                "nonce": {"S": uuid.uuid4().hex},
                "body": to_boto(from_plain(dict(body))),
            }
            | ({TTL: {"N": str(body[EXPIRES])}} if body.get(EXPIRES) else {})
        )

    def _check(self, record: Record) -> dict[str, Any]:
        return {"TableName": self._table, "Key": self._key(record.section, record.key), **_condition(record)}

    def _is_stored(self, item: Mapping[str, Any]) -> bool:
        """Whether our own write got through and only its answer was lost: boto3 sends it again, and that one fails."""
        stored = self._item({name: item[name] for name in ("PK", "SK")})
        return stored is not None and bool(stored.get("nonce") == item["nonce"])

    def _partition(self, section: str) -> str:
        return f"{self._migration}#{section}"

    def _key(self, section: str, key: str) -> dict[str, Any]:
        return {"PK": {"S": self._partition(section)}, "SK": {"S": key}}

    def _record(self, item: Mapping[str, Any]) -> Record:
        if int(item["schema"]["N"]) not in (SCHEMA, SCHEMA_REQUIRES):
            raise InvariantBroken(
                f"ledger record of schema {item['schema']['N']}, this docferry knows {SCHEMA} and {SCHEMA_REQUIRES}"
            )
        section = item["PK"]["S"].removeprefix(self._migration + "#")
        body = _plain(to_plain(from_boto(item["body"])))
        if unknown := sorted(set(body.get(REQUIRES, ())) - CAN):
            raise InvariantBroken(
                f"ledger record that requires {', '.join(unknown)}: this docferry cannot; install a newer one"
            )
        return Record(section, item["SK"]["S"], int(item["rev"]["N"]), body)


def whole(read: Callable[..., dict[str, Any]], request: Mapping[str, Any], name: str) -> dict[str, Any]:
    """An answer that has `name`, as each has that is whole. Raises Unavailable.

    Why: botocore makes an answer that was cut short into an empty one, and only a checksum, if there is one, tells.
    """
    operation = f"ledger {read.__name__}"
    for attempt in range(READS):
        time.sleep(0.05 * attempt)
        with translated(operation):
            reply = read(**request)
        if name in reply:
            return reply
    raise Unavailable(f"{operation}: the answer was cut short each time", operation=operation)


def _condition(expect: Record | None) -> dict[str, Any]:
    if expect is None:
        return {"ConditionExpression": "attribute_not_exists(PK)"}
    return {
        "ConditionExpression": "#rev = :rev",
        "ExpressionAttributeNames": {"#rev": "rev"},
        "ExpressionAttributeValues": {":rev": {"N": str(expect.revision)}},
    }


def _plain(value: Any) -> Any:
    """Whole numbers as int: the ledger's records hold counts and ids."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return value
