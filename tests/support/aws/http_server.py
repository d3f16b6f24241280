"""A server of one connection that answers a request as a test tells it, and a call to it through the fast writer."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Awaitable, Callable

import boto3
import pytest
from docferry.adapters.aws import dynamodb_http
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.core.backoff import Backoff


def head_of(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


# --- a server that does as it is told --------------------------------------------------------------------------------

Answer = Callable[[asyncio.StreamWriter], Awaitable[bool | None]]


class Server:
    """Answers each request by the next of its answers (the last one again and again); keeps what it was sent."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[dict[str, str], bytes]] = []
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        try:
            while True:
                _, headers = head_of(await reader.readuntil(b"\r\n\r\n"))
                self.requests.append((headers, await reader.readexactly(int(headers["content-length"]))))
                answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
                if await answer(writer):
                    writer.close()
                    return
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def reply(
    body: bytes = b"{}", status: int = 200, headers: str = "", length: bool = True, cut: int | None = None
) -> Answer:
    """One ordinary answer; `cut` ends the connection after that many bytes of it."""

    async def answer(writer: asyncio.StreamWriter) -> bool:
        head = (
            f"HTTP/1.1 {status} Whatever\r\n"
            + (f"Content-Length: {len(body)}\r\n" if length else "")
            + headers
            + "\r\n"
        )
        writer.write((head.encode() + body)[:cut])
        return cut is not None or not length

    return answer


def crc(body: bytes, wrong: int = 0) -> str:
    return f"x-amz-crc32: {zlib.crc32(body) ^ wrong}\r\n"


class Called:
    """The outcome of a call: what came back, or the error; and what the server saw."""

    def __init__(self, server: Server, http: DynamoHttp) -> None:
        self.server, self.http = server, http
        self.answers: list[bytes] = []
        self.error: Exception | None = None


Call = Callable[..., Called]


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch) -> Call:
    """Calls a server with these answers, `times` over one client."""
    for name in ("AWS_ENDPOINT_URL", "AWS_PROFILE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)

    def start(
        *answers: Answer,
        times: int = 1,
        body: bytes = b"{}",
        retry_for_s: float = 10.0,
        timeout_s: float = dynamodb_http.REQUEST_TIMEOUT_S,
        session: boto3.Session | None = None,
        guard: Callable[[], None] | None = None,
    ) -> Called:
        async def use() -> Called:
            async with Server(*answers) as server:
                monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
                http = DynamoHttp(
                    session or boto3.Session("key", "secret", region_name="us-east-1"),
                    Backoff(for_s=retry_for_s, first_s=0.002),
                    timeout_s,
                )
                called = Called(server, http)
                try:
                    for _ in range(times):
                        called.answers.append(await http.call("PutItem", body, guard))
                except Exception as found:
                    called.error = found
                await http.close()
                return called

        return asyncio.run(use())

    return start


# --- answers ---------------------------------------------------------------------------------------------------------

BODY = b'{"ConsumedCapacity":{"CapacityUnits":1.0}}'
