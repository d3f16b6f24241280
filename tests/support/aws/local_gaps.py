"""What DynamoDB Local does not know, answered in front of it: tags, point-in-time recovery, encryption with a key.

Everything else is passed on, so that the commands of a migration run on AWS's own engine.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

Body = dict[str, Any]
KEY_ARN = "arn:aws:kms:us-east-1:000000000000:key/local"


class LocalGaps:
    """A server on 127.0.0.1 in front of DynamoDB Local, for the `with` block. Its `url` goes where DynamoDB Local's would."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self._tags: dict[str, dict[str, str]] = {}
        self._recovery: dict[str, str] = {}
        self._encryption: dict[str, Body] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler(self._answer))
        self._server.daemon_threads = True

    def __enter__(self) -> LocalGaps:
        threading.Thread(target=self._server.serve_forever, name="DynamoDB Local's gaps", daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def _answer(self, headers: Mapping[str, str], sent: bytes) -> tuple[int, Mapping[str, str], bytes]:
        operation = headers.get("X-Amz-Target", "").rpartition(".")[2]
        own = getattr(self, f"_{operation}", None)
        if own is not None:
            return 200, {"Content-Type": "application/x-amz-json-1.0"}, json.dumps(own(json.loads(sent))).encode()
        if operation == "CreateTable":
            sent = self._remember(json.loads(sent))
        status, answered, content = self._pass_on(headers, sent)
        if operation in ("CreateTable", "DescribeTable", "UpdateTable") and status == 200:
            content = self._with_encryption(json.loads(content))
            answered = {"Content-Type": answered["Content-Type"]}  # the checksum was of other bytes
        return status, answered, content

    def _pass_on(self, headers: Mapping[str, str], sent: bytes) -> tuple[int, Mapping[str, str], bytes]:
        connection = HTTPConnection(*self._upstream, timeout=60)
        passed = {
            name: value for name, value in headers.items() if name.lower() not in ("content-length", "connection")
        }
        connection.request("POST", "/", sent, passed)
        answer = connection.getresponse()
        content = answer.read()
        connection.close()
        kept = ("content-type", "x-amz-crc32", "x-amzn-requestid")
        return answer.status, {name: value for name, value in answer.getheaders() if name.lower() in kept}, content

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


def handler(
    answer: Callable[[Mapping[str, str], bytes], tuple[int, Mapping[str, str], bytes]],
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            sent = self.rfile.read(int(self.headers["Content-Length"]))
            status, headers, content = answer(dict(self.headers.items()), sent)
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:
            """Nothing: documents stay out of logs."""

    return Handler
