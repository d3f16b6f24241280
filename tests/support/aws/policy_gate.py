"""DynamoDB behind IAM, as far as its policies are ours: a proxy that asks the caller's policy first, as AWS would.

Who calls is told by the access key. What was asked is kept, so that a policy can be compared with what was needed.
"""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

from support.aws.relay import Answer, Relay

Body = dict[str, Any]
_CREDENTIAL = re.compile(r"Credential=([^/,\s]+)/")
_PARTS = {"Put": "PutItem", "Delete": "DeleteItem", "Update": "UpdateItem", "ConditionCheck": "ConditionCheckItem"}


class PolicyGate(Relay):
    """`policies`: access key -> policy document; any other key may do all."""

    def __init__(self, upstream: str, policies: Mapping[str, Mapping[str, Any]]) -> None:
        super().__init__(upstream)
        self._policies = policies
        self._names: dict[str, str] = {}
        self.used: Counter[tuple[str, str, str]] = Counter()
        self.denied: Counter[tuple[str, str, str]] = Counter()
        self._lock = threading.Lock()

    def swap(self, key: str, for_key: str) -> None:
        """From now on the first key has the other's policy."""
        self._names[key] = for_key

    def _answer(self, headers: Mapping[str, str], sent: bytes) -> Answer:
        found = {name.lower(): value for name, value in headers.items()}
        operation = found.get("x-amz-target", "").rpartition(".")[2]
        key = _CREDENTIAL.search(found.get("authorization", ""))
        who = self._names.get(key[1], key[1]) if key else ""
        if who in self._policies:
            for action, resource, leading in asked_for(operation, json.loads(sent)):
                by = allowed_by(self._policies[who], action, resource, leading)
                with self._lock:
                    self.used[who, by, action] += 1
                    self.denied[who, action, f"{resource} {leading}"] += not by
                if not by:
                    return _refusal(who, action, resource)
        return self._pass_on(headers, sent)


def _refusal(who: str, action: str, resource: str) -> Answer:
    text = f"User: {who} is not authorized to perform: {action} on resource: {resource}"
    body = {"__type": "com.amazon.coral.service#AccessDeniedException", "Message": text}
    return 400, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(body).encode()


def asked_for(operation: str, body: Body) -> Iterator[tuple[str, str, str]]:
    """The actions that AWS wants allowed for a request, each with its resource and partition key."""
    if operation == "TransactWriteItems":
        for part in body["TransactItems"]:
            ((kind, one),) = part.items()
            yield f"dynamodb:{_PARTS[kind]}", _table(one["TableName"]), _leading(one)
    elif operation in ("BatchWriteItem", "BatchGetItem"):
        for table, requests in body["RequestItems"].items():
            for one in requests if isinstance(requests, list) else [{"Key": key} for key in requests["Keys"]]:
                inner = one.get("PutRequest") or one.get("DeleteRequest") or one
                yield f"dynamodb:{operation}", _table(table), _leading(inner)
    elif "StreamArn" in body or "ShardIterator" in body:
        yield f"dynamodb:{operation}", str(body.get("StreamArn", "")), ""
    else:
        named = body.get("ResourceArn") or body.get("BackupArn") or "*"
        table = _table(body["TableName"]) if "TableName" in body else str(named)
        yield (
            f"dynamodb:{operation}",
            table + (f"/index/{body['IndexName']}" if "IndexName" in body else ""),
            _leading(body),
        )


def _table(name: str) -> str:
    return name if name.startswith("arn:") else f"arn:aws:dynamodb:us-east-1:000000000000:table/{name}"


def _leading(body: Body) -> str:
    keyed = body.get("Key") or body.get("Item") or {}
    if "PK" in keyed:
        return str(keyed["PK"].get("S", ""))
    found = re.match(r"\s*#?\w+\s*=\s*(:\w+)", body.get("KeyConditionExpression", ""))
    return str(body["ExpressionAttributeValues"][found[1]]["S"]) if found else ""


def allowed_by(policy: Mapping[str, Any], action: str, resource: str, leading: str) -> str:
    """The Sid of a statement that allows it, or ''. GetRecords names its stream in the iterator alone: any resource will do."""
    return next((one["Sid"] for one in policy["Statement"] if _fits(one, action, resource, leading)), "")


def _fits(statement: Mapping[str, Any], action: str, resource: str, leading: str) -> bool:
    if action not in statement["Action"]:
        return False
    if resource and not any(fnmatchcase(resource, one) for one in statement["Resource"]):
        return False
    wanted: Sequence[str] = (
        statement.get("Condition", {}).get("ForAllValues:StringLike", {}).get("dynamodb:LeadingKeys", ())
    )
    return not wanted or any(leading and fnmatchcase(leading, one) for one in wanted)
