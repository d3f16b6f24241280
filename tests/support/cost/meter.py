"""A proxy before the emulator that computes capacity by AWS's rules, and tells it in the replies: the emulator's reads all
cost the same, whatever their size, and of some it tells nothing.

The rules: AWS, "DynamoDB read and write operations" and "Using Global Secondary Indexes", "Write capacity units". Written without
the code that is tested: sizes are counted here once more. Writes are served one after the other.
"""

from __future__ import annotations

import http.client
import json
import re
import threading
import zlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

Item = Mapping[str, Any]


def size_of(item: Item) -> int:
    """As AWS documents it."""
    return sum(len(name.encode()) + _size(value) for name, value in item.items())


def _size(value: Mapping[str, Any]) -> int:
    ((kind, inner),) = value.items()
    if kind == "S":
        return len(inner.encode())
    if kind == "N":
        digits = inner.lstrip("-").replace(".", "").strip("0")
        return -(-len(digits) // 2) + 1 + int(inner.startswith("-"))
    if kind == "B":
        return int(len(inner.rstrip("=")) * 3 // 4)
    if kind == "M":
        return 3 + sum(1 + len(name.encode()) + _size(one) for name, one in inner.items())
    if kind == "L":
        return 3 + sum(1 + _size(one) for one in inner)
    return 1


def reads(size: int, consistent: bool) -> float:
    return max(1, -(-size // 4096)) * (1.0 if consistent else 0.5)


def writes(size: int) -> float:
    return float(max(1, -(-size // 1024)))


class Meter:
    """`read_units` and `write_units` by table; `in_transactions` of the write units. Failed conditions are counted, though no
    reply tells them."""

    def __init__(self, upstream: str) -> None:
        parts = urlsplit(upstream)
        self._upstream = (parts.hostname or "", parts.port or 80)
        self.read_units: defaultdict[str, float] = defaultdict(float)
        self.write_units: defaultdict[str, float] = defaultdict(float)
        self.in_transactions: defaultdict[str, float] = defaultdict(float)
        self._counting, self._writing = threading.Lock(), threading.Lock()
        self._local = threading.local()
        meter = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                status, reply = meter.answer(dict(self.headers), body)
                self.send_response(status)
                self.send_header("content-type", "application/x-amz-json-1.0")
                self.send_header("content-length", str(len(reply)))
                self.send_header("x-amz-crc32", str(zlib.crc32(reply)))
                self.end_headers()
                self.wfile.write(reply)

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name="meter", daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()

    # --- requests ----------------------------------------------------------------------------------------------------

    def answer(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        operation = next((one for name, one in headers.items() if name.lower() == "x-amz-target"), "").rpartition(".")[
            2
        ]
        count = getattr(self, f"_{operation.lower()}", None)
        if count is None:
            return self._send(headers, body)
        request = json.loads(body)
        if operation in ("GetItem", "BatchGetItem", "Query", "Scan"):
            status, reply = self._send(headers, body)
            return (
                (status, self._told(count(headers, request, json.loads(reply)), request, reply))
                if status == 200
                else (status, reply)
            )
        with self._writing:
            places = count(request)
            before = [self._stored(headers, table, item) for table, item in places]
            status, reply = self._send(headers, body)
        factor = 2.0 if operation == "TransactWriteItems" else 1.0
        spent: defaultdict[str, float] = defaultdict(float)
        for (table, item), old in zip(places, before, strict=True):
            spent[table] += factor * writes(max(size_of(item), size_of(old)))
            if status == 200:
                spent[table] += _in_indexes(old, item)
        if factor == 2.0 and status == 200:
            self._add(self.in_transactions, spent)
        if status == 200:
            return status, self._told(([], spent), json.loads(body), reply)
        if b"ConditionalCheckFailed" in reply:
            self._add(self.write_units, spent)
        return status, reply

    def _send(self, headers: Mapping[str, str], body: bytes) -> tuple[int, bytes]:
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection(*self._upstream, timeout=30)
        kept = {
            name: one for name, one in headers.items() if name.lower() not in ("host", "content-length", "connection")
        }
        connection.request("POST", "/", body, kept)
        reply = connection.getresponse()
        return reply.status, reply.read()

    def _ask(self, headers: Mapping[str, str], operation: str, request: Mapping[str, Any]) -> dict[str, Any]:
        target = {name: one for name, one in headers.items() if name.lower() != "x-amz-target"}
        status, reply = self._send(
            target | {"X-Amz-Target": f"DynamoDB_20120810.{operation}"}, json.dumps(request).encode()
        )
        assert status == 200, reply
        found: dict[str, Any] = json.loads(reply)
        return found

    def _stored(self, headers: Mapping[str, str], table: str, item: Item) -> Item:
        key = {name: item[name] for name in ("PK", "SK")}
        found: Item = self._ask(headers, "GetItem", {"TableName": table, "Key": key, "ConsistentRead": True}).get(
            "Item", {}
        )
        return found

    def _told(
        self, spent: tuple[Iterable[tuple[str, float]], Mapping[str, float]], request: Mapping[str, Any], reply: bytes
    ) -> bytes:
        """The reply with these units in it, if the request asks for them."""
        by_reads, by_writes = spent
        in_reads: defaultdict[str, float] = defaultdict(float)
        for table, units in by_reads:
            in_reads[table] += units
        self._add(self.read_units, in_reads)
        self._add(self.write_units, by_writes)
        body = json.loads(reply)
        if request.get("ReturnConsumedCapacity", "NONE") != "NONE":
            all_ = [*in_reads.items(), *by_writes.items()]
            told = [{"TableName": table, "CapacityUnits": units} for table, units in all_]
            body["ConsumedCapacity"] = told if "TableName" not in request else told[0]
        return json.dumps(body).encode()

    def _add(self, to: defaultdict[str, float], units: Mapping[str, float]) -> None:
        with self._counting:
            for table, number in units.items():
                to[table] += number

    # --- reads -------------------------------------------------------------------------------------------------------

    def _getitem(self, _: Any, request: Any, reply: Any) -> Any:
        assert "ProjectionExpression" not in request, "not needed so far"
        return [(request["TableName"], reads(size_of(reply.get("Item", {})), request.get("ConsistentRead", False)))], {}

    def _batchgetitem(self, _: Any, request: Any, reply: Any) -> Any:
        """Each item is rounded up by itself; one that is not there costs as the smallest."""
        spent = []
        for table, asked in request["RequestItems"].items():
            consistent, found = asked.get("ConsistentRead", False), reply["Responses"].get(table, [])
            missing = len(asked["Keys"]) - len(found)
            spent.append(
                (table, sum(reads(size_of(one), consistent) for one in found) + missing * reads(0, consistent))
            )
        return spent, {}

    def _query(self, headers: Any, request: Any, reply: Any) -> Any:
        """Of a page: by what was looked at, whatever is projected."""
        items = reply["Items"]
        if "ProjectionExpression" in request:
            whole = {name: one for name, one in request.items() if name != "ProjectionExpression"}
            used = set(
                re.findall(r"#\w+", json.dumps([whole.get("KeyConditionExpression"), whole.get("FilterExpression")]))
            )
            names = {name: one for name, one in whole.pop("ExpressionAttributeNames", {}).items() if name in used}
            whole |= {"ExpressionAttributeNames": names} if names else {}
            items = self._ask(headers, "Query" if "KeyConditionExpression" in request else "Scan", whole)["Items"]
        return [(request["TableName"], reads(sum(map(size_of, items)), request.get("ConsistentRead", False)))], {}

    _scan = _query

    # --- writes ------------------------------------------------------------------------------------------------------

    def _putitem(self, request: Any) -> Sequence[tuple[str, Item]]:
        return [(request["TableName"], request["Item"])]

    def _batchwriteitem(self, request: Any) -> Sequence[tuple[str, Item]]:
        return [(table, one["PutRequest"]["Item"]) for table, all_ in request["RequestItems"].items() for one in all_]

    def _transactwriteitems(self, request: Any) -> Sequence[tuple[str, Item]]:
        """Puts; the ledger's checks are not what is measured here."""
        puts = [one["Put"] for one in request["TransactItems"] if "Put" in one]
        return [(one["TableName"], one["Item"]) for one in puts]


def _in_indexes(old: Item, new: Item) -> float:
    """Of all indexes, which project everything: an entry that is new, goes, changes, or moves, which is two writes."""
    names = {name.removesuffix("PK") for item in (old, new) for name in item if name.endswith("PK") and name != "PK"}
    return sum(_in_index(old, new, name) for name in names)


def _in_index(old: Item, new: Item, index: str) -> float:
    keys = [tuple(json.dumps(item.get(f"{index}{part}")) for part in ("PK", "SK")) for item in (old, new)]
    was, is_ = f"{index}PK" in old, f"{index}PK" in new
    if was and is_ and keys[0] == keys[1]:
        return 0.0 if dict(old) == dict(new) else writes(max(size_of(old), size_of(new)))
    return was * writes(size_of(old)) + is_ * writes(size_of(new))
