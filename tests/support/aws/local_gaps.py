"""What DynamoDB Local does not know, answered in front of it: tags, point-in-time recovery, encryption with a key.

Everything else is passed on, so that the commands of a migration run on AWS's own engine.
"""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from typing import Any

from support.aws.relay import Answer, Relay

Body = dict[str, Any]
KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/local"


class LocalGaps(Relay):
    """In front of DynamoDB Local, which keeps what each access key has apart: so each has tables of its own."""

    def __init__(self, upstream: str) -> None:
        super().__init__(upstream)
        self._access_key = f"LOCAL{uuid.uuid4().hex[:12].upper()}"
        self._tags: dict[str, dict[str, str]] = {}
        self._recovery: dict[str, str] = {}
        self._encryption: dict[str, Body] = {}

    def _answer(self, headers: Mapping[str, str], sent: bytes) -> Answer:
        operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
        own = getattr(self, f"_{operation}", None)
        if own is not None:
            return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(own(json.loads(sent))).encode()
        if operation == "CreateTable":
            sent = self._remember(json.loads(sent))
        status, answered, content = self._pass_on(self._as_own(headers), sent)
        if operation in ("CreateTable", "DescribeTable", "UpdateTable") and status == 200:
            content = self._with_encryption(json.loads(content))
            answered = {"Content-Type": answered["Content-Type"]}  # the checksum was of other bytes
        return status, answered, content

    def _as_own(self, headers: Mapping[str, str]) -> Mapping[str, str]:
        """Nothing checks the signature."""
        signed = re.sub(r"Credential=[^/]+", f"Credential={self._access_key}", headers.get("Authorization", ""))
        return {**headers, "Authorization": signed}

    def _remember(self, asked: Body) -> bytes:
        name = asked["TableName"]
        self._tags[name] = {tag["Key"]: tag["Value"] for tag in asked.pop("Tags", [])}
        asked_encryption = asked.pop("SSESpecification", {})
        self._encryption[name] = asked_encryption if asked_encryption.get("Enabled") else {}
        return json.dumps(asked).encode()

    def _with_encryption(self, described: Body) -> bytes:
        table = described.get("Table") or described["TableDescription"]
        if self._encryption.get(table["TableName"]):
            table["SSEDescription"] = {"Status": "ENABLED", "SSEType": "KMS", "KMSMasterKeyArn": KEY_ARN}
        return json.dumps(described).encode()

    # --- operations, by their names -----------------------------------------------------------------------------------

    def _TagResource(self, asked: Body) -> Body:
        tags = self._tags.setdefault(_table_of(asked), {})
        tags.update({tag["Key"]: tag["Value"] for tag in asked["Tags"]})
        return {}

    def _UntagResource(self, asked: Body) -> Body:
        for key in asked["TagKeys"]:
            self._tags.setdefault(_table_of(asked), {}).pop(key, None)
        return {}

    def _ListTagsOfResource(self, asked: Body) -> Body:
        tags = self._tags.get(_table_of(asked), {})
        return {"Tags": [{"Key": key, "Value": value} for key, value in tags.items()]}

    def _DescribeContinuousBackups(self, asked: Body) -> Body:
        status = self._recovery.get(asked["TableName"], "DISABLED")
        return {
            "ContinuousBackupsDescription": {
                "ContinuousBackupsStatus": "ENABLED",
                "PointInTimeRecoveryDescription": {"PointInTimeRecoveryStatus": status, "RecoveryPeriodInDays": 35},
            }
        }

    def _UpdateContinuousBackups(self, asked: Body) -> Body:
        enabled = asked["PointInTimeRecoverySpecification"]["PointInTimeRecoveryEnabled"]
        self._recovery[asked["TableName"]] = "ENABLED" if enabled else "DISABLED"
        return self._DescribeContinuousBackups(asked)


def _table_of(asked: Body) -> str:
    return str(asked["ResourceArn"]).rpartition("/")[2]
