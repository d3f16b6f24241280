"""A DynamoDB that answers at once, so that what is measured is the client. A process of its own: uvloop, no framework.

Items are counted by scanning the bytes. Of every twentieth BatchWriteItem the body is decoded and checked in full, and
five of its 25 items come back as UnprocessedItems: one in a hundred of all.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import uvloop

DECODE_EVERY, GIVEN_BACK = 20, 5
TAGS = {"S": str, "N": str, "B": str, "BOOL": bool, "NULL": bool, "M": dict, "L": list}


class Books:
    """What has been received since the last reset."""

    def __init__(self) -> None:
        self.items = self.requests = self.decoded = self.unprocessed = self.disordered = 0
        self._versions: dict[bytes, bytes] = {}

    def answer_put(self, body: bytes) -> bytes:
        self.items += 1
        self.requests += 1
        if b'"ConditionExpression"' in body:
            self._look_at_order(body)
        return b"{}"

    def answer_delete(self) -> bytes:
        self.requests += 1
        return b"{}"

    def _look_at_order(self, body: bytes) -> None:
        """Versions of one item must grow. They are texts that sort, as is `_v`."""
        item = orjson.loads(body)["Item"]
        key = f"{item['PK']['S']} {item['SK']['S']}".encode()
        version = item["_v"]["S"].encode()
        self.disordered += version <= self._versions.get(key, b"")
        self._versions[key] = version

    def answer_batch(self, body: bytes) -> bytes:
        count = body.count(b'"PutRequest"')
        self.requests += 1
        if self.requests % DECODE_EVERY:
            self.items += count
            return b'{"UnprocessedItems":{},"ConsumedCapacity":[{"TableName":"Shop","CapacityUnits":%d.0}]}' % (
                count * 3
            )
        ((table, requests),) = orjson.loads(body)["RequestItems"].items()
        if len(requests) != count:
            raise ValueError(f"counted {count} items, decoded {len(requests)}")
        for request in requests:
            check(request["PutRequest"]["Item"])
        self.decoded += count
        back = requests[:GIVEN_BACK] if count > GIVEN_BACK else []
        self.unprocessed += len(back)
        self.items += count - len(back)
        capacity = [{"TableName": table, "CapacityUnits": 3.0 * (count - len(back))}]
        return orjson.dumps({"UnprocessedItems": {table: back} if back else {}, "ConsumedCapacity": capacity})

    def answer_stats(self) -> bytes:
        return orjson.dumps({name: value for name, value in vars(self).items() if not name.startswith("_")})


def check(item: dict[str, Any]) -> None:
    """Raises ValueError if this is no item that DynamoDB would take."""
    if not (item["PK"]["S"] and item["SK"]["S"] and "entityType" in item):
        raise ValueError("an item without its keys")
    _check({"M": item})


def _check(value: dict[str, Any]) -> None:
    ((tag, content),) = value.items()
    if not isinstance(content, TAGS[tag]):
        raise ValueError(f"{tag} with {type(content).__name__}")
    values: Any = content
    for inner in values.values() if tag == "M" else values if tag == "L" else ():
        _check(inner)


class Connection(asyncio.Protocol):
    """HTTP/1.1 as far as the three contenders use it: keep-alive, Content-Length, no pipelining."""

    def __init__(self, books: Books) -> None:
        self.books = books
        self.parts: list[bytes] = []
        self.have = self.need = 0
        self.head = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self.parts.append(data)
        self.have += len(data)
        if not self.head and not self._read_head():
            return
        if self.have >= self.need:
            body = b"".join(self.parts)
            head, self.head, self.parts, self.have = self.head, b"", [], 0
            self.transport.write(self._reply(head, body))

    def _read_head(self) -> bool:
        data = b"".join(self.parts)
        end = data.find(b"\r\n\r\n")
        if end < 0:
            return False
        self.head = data[: end + 2].lower()
        at = self.head.find(b"content-length:")
        self.need = int(self.head[at + 15 : self.head.index(b"\r", at)]) if at >= 0 else 0
        if b"expect: 100-continue" in self.head:
            self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.parts = [data[end + 4 :]]
        self.have = len(self.parts[0])
        return True

    def _reply(self, head: bytes, body: bytes) -> bytes:
        try:
            if b".batchwriteitem\r" in head:
                reply = self.books.answer_batch(body)
            elif b".putitem\r" in head:
                reply = self.books.answer_put(body)
            elif b".deleteitem\r" in head:
                reply = self.books.answer_delete()
            elif head.startswith(b"get /stats"):
                reply = self.books.answer_stats()
            elif head.startswith(b"get /reset"):
                self.books.__init__()  # type: ignore[misc]
                reply = b"{}"
            else:
                raise ValueError("an operation that no contender needs")
        except (ValueError, KeyError, TypeError) as error:
            text = orjson.dumps({"__type": "ValidationException", "message": str(error)})
            return b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text)
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: %d\r\nContent-Length: %d\r\n\r\n%s"
            % (zlib.crc32(reply), len(reply), reply)
        )


async def serve() -> None:
    books = Books()
    server = await asyncio.get_running_loop().create_server(lambda: Connection(books), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


class Server:
    """The running server, seen from outside."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self.url = f"http://127.0.0.1:{int(process.stdout.readline())}"

    def reset(self) -> None:
        self._get("/reset")

    def stats(self) -> dict[str, int]:
        return self._get("/stats")

    def _get(self, path: str) -> dict[str, int]:
        with urllib.request.urlopen(self.url + path, timeout=10) as reply:
            answer: dict[str, int] = json.load(reply)
            return answer


@contextmanager
def running_server() -> Iterator[Server]:
    """The server in a process of its own, for as long as the block."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.server"], stdout=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    uvloop.run(serve())
