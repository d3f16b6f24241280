"""A DynamoDB that answers as a test tells it, for as many connections as the fast writer opens."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import boto3
import pytest
from docferry.adapters.aws.dynamodb import DynamoTarget
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.core.backoff import Backoff
from docferry.core.mapping.items import Item

T = TypeVar("T")
Answer = Callable[[str, dict[str, Any], int], tuple[int, Any]]

QUICK = Backoff(for_s=5.0, first_s=0.01)


class NoLimit:
    async def take(self, units: float) -> None: ...

    def settle(self, estimated: float, consumed: float) -> None: ...


class Server:
    """Answers by a function of the operation, the request and its length. Status 0: the connection breaks."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.seen: list[tuple[str, int, int]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
                body = await reader.readexactly(int(headers["content-length"]))
                operation, request = headers["x-amz-target"].rpartition(".")[2], json.loads(body)
                puts = next(iter(request.get("RequestItems", {"": [0]}).values()))
                self.seen.append((operation, len(puts), len(body)))
                status, reply = self.answer(operation, request, len(body))
                if not status:
                    return
                text = json.dumps(reply).encode()
                writer.write(b"HTTP/1.1 %d A\r\nContent-Length: %d\r\n\r\n%s" % (status, len(text), text))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            return
        finally:
            writer.close()


def answered_by(
    monkeypatch: pytest.MonkeyPatch,
    answer: Answer,
    use: Callable[[DynamoTarget], Awaitable[T]],
    backoff: Backoff = QUICK,
) -> tuple[T, Server]:
    server = Server(answer)

    async def work() -> T:
        listening = await asyncio.start_server(server.serve, "127.0.0.1", 0, limit=1 << 26)
        port = listening.sockets[0].getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", f"http://127.0.0.1:{port}")
        http = DynamoHttp(boto3.Session("k", "s", region_name="us-east-1"), backoff)
        try:
            return await use(DynamoTarget(http))
        finally:
            await http.close()
            listening.close()

    return asyncio.run(work()), server


def item(key: str, **attributes: Any) -> Item:
    return {"PK": {"S": key}, "SK": {"S": key}, **attributes}
