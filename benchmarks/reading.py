"""A DynamoDB that holds items in memory and answers reads at once: each item is encoded once, when it arrives.

GetItem, BatchGetItem and Scan are answered from those bytes; a scan's pages are put together at the first request for
them and kept. Pages end at 1 MB of items before the projection, as DynamoDB's do. Segments are halves, quarters, ... of
the items in order of arrival.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import orjson
import uvloop

from benchmarks.server import Books, Connection, Server

PAGE_BYTES = 1_000_000


class Shelf:
    """The items, by key, as bytes."""

    def __init__(self) -> None:
        self.items: dict[tuple[str, str], bytes] = {}
        self.pages: dict[tuple[Any, ...], list[bytes]] = {}
        self.requests = 0

    def answer(self, operation: bytes, body: bytes) -> bytes:
        self.requests += 1
        request = orjson.loads(body)
        if operation == b"getitem":
            found = self.items.get(_key(request["Key"]))
            return b'{"Item":%s}' % found if found else b"{}"
        if operation == b"batchgetitem":
            return self._batch(request["RequestItems"])
        if operation == b"scan":
            return self._scan(request)
        if operation == b"batchwriteitem":
            return self._write(request["RequestItems"])
        raise ValueError("an operation that no contender needs")

    def _batch(self, tables: dict[str, Any]) -> bytes:
        ((table, asked),) = tables.items()
        found = [self.items.get(_key(key)) for key in asked["Keys"]]
        items = b",".join([item for item in found if item])
        return b'{"Responses":{%s:[%s]},"UnprocessedKeys":{}}' % (orjson.dumps(table), items)

    def _write(self, tables: dict[str, Any]) -> bytes:
        self.pages.clear()
        for requests in tables.values():
            for request in requests:
                item = request["PutRequest"]["Item"]
                self.items[_key(item)] = orjson.dumps(item)
        return b'{"UnprocessedItems":{}}'

    def _scan(self, request: dict[str, Any]) -> bytes:
        names = tuple(request.get("ExpressionAttributeNames", {}).values())
        place = request.get("Segment", 0), request.get("TotalSegments", 1), names
        if place not in self.pages:
            self.pages[place] = list(self._encode_pages(*place))
        start = request.get("ExclusiveStartKey")
        return self.pages[place][int(start["page"]["N"]) if start else 0]

    def _encode_pages(self, segment: int, segments: int, names: tuple[str, ...]) -> Iterator[bytes]:
        mine = list(self.items.values())[segment::segments]
        cuts, size = [0], 0
        for position, item in enumerate(mine):
            size += len(item)
            if size > PAGE_BYTES:
                cuts.append(position + 1)
                size = 0
        for number, (start, end) in enumerate(zip(cuts, [*cuts[1:], len(mine)], strict=True)):
            page = [_project(item, names) if names else item for item in mine[start:end]]
            more = b"" if number == len(cuts) - 1 else b',"LastEvaluatedKey":{"page":{"N":"%d"}}' % (number + 1)
            yield b'{"Items":[%s]%s}' % (b",".join(page), more)


def _key(item: dict[str, Any]) -> tuple[str, str]:
    return item["PK"]["S"], item["SK"]["S"]


def _project(item: bytes, names: tuple[str, ...]) -> bytes:
    decoded = orjson.loads(item)
    return orjson.dumps({name: decoded[name] for name in names if name in decoded})


class ReadingConnection(Connection):
    """The same HTTP, other answers."""

    def __init__(self, shelf: Shelf) -> None:
        super().__init__(Books())
        self.shelf = shelf

    def _reply(self, head: bytes, body: bytes) -> bytes:
        try:
            if head.startswith(b"get /stats"):
                reply = orjson.dumps({"items": len(self.shelf.items), "requests": self.shelf.requests})
            else:
                at = head.index(b"x-amz-target:")
                reply = self.shelf.answer(head[head.index(b".", at) + 1 : head.index(b"\r", at)], body)
        except (ValueError, KeyError, TypeError, IndexError) as error:
            reply = orjson.dumps({"__type": "ValidationException", "message": repr(error)})
            return b"HTTP/1.1 400 Bad Request\r\nContent-Length: %d\r\n\r\n%s" % (len(reply), reply)
        return (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/x-amz-json-1.0\r\nx-amz-crc32: %d\r\nContent-Length: %d\r\n\r\n%s"
            % (zlib.crc32(reply), len(reply), reply)
        )


async def serve() -> None:
    shelf = Shelf()
    server = await asyncio.get_running_loop().create_server(lambda: ReadingConnection(shelf), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


@contextmanager
def running_reading_server() -> Iterator[Server]:
    """The server in a process of its own, for as long as the block."""
    process = subprocess.Popen([sys.executable, "-m", "benchmarks.reading"], stdout=subprocess.PIPE, text=True)
    try:
        yield Server(process)
    finally:
        process.terminate()
        process.wait(10)


if __name__ == "__main__":
    uvloop.run(serve())
