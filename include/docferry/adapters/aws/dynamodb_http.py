"""DynamoDB over bare asyncio streams: one signed POST with ready bytes, pooled connections, retries by error type.

botocore signs and sends about 300 requests a second in one process and its serialiser costs more than our whole codec;
this sends thousands. What it does not do itself it takes from botocore: credentials (refreshed when they expire),
endpoint, region, proxy, CA bundle.
"""

from __future__ import annotations

import asyncio
import http.client
import re
import select
import socket
import ssl
import time
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime

import boto3
import orjson

from docferry.adapters.aws.endpoint import Endpoint, endpoint_of, proxy_refused, untrusted
from docferry.adapters.aws.errors import error_for
from docferry.adapters.aws.signing import signer_of
from docferry.core.backoff import Backoff
from docferry.errors import StoreError, Throttled, TimedOut, TransientStoreError, Unavailable
from docferry.ports.flows import Guard, Unanswered
from docferry.ports.tracing import span

REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
BACKOFF = Backoff(for_s=120.0, first_s=0.1, cap_s=5.0)
"""How one request is tried again before it is given up: for longer than a table takes to split a partition."""
MAX_RESPONSE_BYTES = 64 * 1024 * 1024
BUFFER_BYTES = 1 << 20
FRESH_S = 0.2
"""A connection that was used so recently is not looked at: servers keep one for seconds at least."""
_TUNNEL_STATUS = re.compile(r"Tunnel connection failed: (\d+)")


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    idle_since: float = 0.0

    def is_usable(self) -> bool:
        """Whether the server has not closed it meanwhile, as far as can be known here.

        A loop that was busy has not read the end yet: then the socket is readable, which no idle one should be.
        """
        if self.writer.is_closing() or self.reader.at_eof():
            return False
        if time.monotonic() - self.idle_since < FRESH_S:
            return True
        poll = select.poll()
        poll.register(self.writer.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class Pool:
    """Idle connections to one endpoint. Belongs to one event loop."""

    endpoint: Endpoint
    idle: list[_Connection] = field(default_factory=list)

    async def open(self) -> tuple[_Connection, bool]:
        """(connection, whether it has been used before)."""
        while self.idle:
            connection = self.idle.pop()
            if connection.is_usable():
                return connection, True
            connection.close()
        async with asyncio.timeout(CONNECT_TIMEOUT_S):
            reader, writer = await self._connect()
        return _Connection(reader, writer), False

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        to, proxy = self.endpoint, self.endpoint.proxy
        if proxy is None:
            return await asyncio.open_connection(to.host, to.port, ssl=to.context, limit=BUFFER_BYTES)
        if not to.tls:  # the proxy reads each request, and passes it on
            return await asyncio.open_connection(proxy.host, proxy.port, limit=BUFFER_BYTES)
        tunnel = await asyncio.to_thread(open_tunnel, to)
        return await asyncio.open_connection(sock=tunnel, ssl=to.context, server_hostname=to.host, limit=BUFFER_BYTES)

    def close(self) -> None:
        while self.idle:
            self.idle.pop().close()


def open_tunnel(endpoint: Endpoint) -> socket.socket:
    """A connection through the proxy, not encrypted yet. Blocks. Raises: OSError, its text with the status of a refusal."""
    if endpoint.proxy is None:
        raise ValueError("there is no proxy")
    proxy = endpoint.proxy
    connection = http.client.HTTPConnection(proxy.host, proxy.port, timeout=CONNECT_TIMEOUT_S)
    connection.set_tunnel(endpoint.host, endpoint.port, proxy.headers)
    try:
        connection.connect()
    except BaseException:
        connection.close()
        raise
    tunnel: socket.socket = connection.sock
    tunnel.setblocking(False)
    return tunnel


def connection_error(endpoint: Endpoint, operation: str, error: Exception) -> StoreError:
    """The error for a connection that broke, or did not come about."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted(endpoint, operation, error.verify_message)
    refused = _TUNNEL_STATUS.search(str(error))
    if refused and not refused[1].startswith("5"):
        return proxy_refused(endpoint, operation, int(refused[1]))
    through = f" (through the proxy {endpoint.proxy.host}:{endpoint.proxy.port})" if endpoint.proxy else ""
    text = f"the connection to DynamoDB at {endpoint.authority}{through} broke in {operation}: {type(error).__name__}"
    return Unavailable(text, operation=operation)


class DynamoHttp:
    """Calls DynamoDB operations with bodies of bytes. Use it from one event loop, close it there."""

    def __init__(
        self, session: boto3.Session, backoff: Backoff = BACKOFF, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self.endpoint = endpoint_of(session)
        self._signer = signer_of(session, self.endpoint)
        self._pool = Pool(self.endpoint)
        self._backoff, self._timeout_s = backoff, timeout_s
        self.throttles = self.served = 0

    def __repr__(self) -> str:
        return f"DynamoHttp({self.endpoint.authority!r})"

    async def close(self) -> None:
        self._pool.close()

    async def call(
        self,
        operation: str,
        body: bytes,
        guard: Guard | None = None,
        unanswered: Unanswered | None = None,
        *,
        one_of_many: bool = False,
    ) -> bytes:
        """The reply's bytes. Retries transient errors with full jitter; `guard` runs before each signature.

        `unanswered` keeps each attempt whose fate is not known. `one_of_many`: while others get through, one that is throttled
        has to wait for its turn and is not given up: an on-demand table that is driven past twice its peak grows in minutes.

        Raises: PermanentStoreError at once, RetryExhausted as `backoff` says, and whatever `guard` raises.
        """
        with span(operation, "dynamodb"):
            return await self._tried(operation, body, guard, unanswered, one_of_many)

    async def _tried(
        self, operation: str, body: bytes, guard: Guard | None, unanswered: Unanswered | None, one_of_many: bool
    ) -> bytes:
        attempts, served = self._backoff.attempts(operation), self.served
        while True:
            try:
                return await self._once(operation, body, guard, unanswered)
            except TransientStoreError as error:
                self.throttles += error.code.startswith(("Provisioned", "Throttl"))
                in_turn = one_of_many and isinstance(error, Throttled) and self.served > served
                served = self.served
                await asyncio.sleep(attempts.excused() if in_turn else attempts.failed(error))

    async def _once(self, operation: str, body: bytes, guard: Guard | None, unanswered: Unanswered | None) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                status, headers, reply = await self._send(operation, body, guard, unanswered)
        except TimeoutError as error:
            text = f"DynamoDB did not answer {operation} within {self._timeout_s:.0f} s"
            raise TimedOut(text, operation=operation) from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            raise connection_error(self.endpoint, operation, error) from error
        checksum = headers.get(b"x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(reply)).encode():
            raise Unavailable(f"the reply to {operation} arrived damaged (crc32)", operation=operation)
        if status != 200:
            raise error_of(operation, status, reply)
        self.served += 1
        return reply

    async def _send(
        self, operation: str, body: bytes, guard: Guard | None, unanswered: Unanswered | None
    ) -> tuple[int, dict[bytes, bytes], bytes]:
        if self._signer.must_refresh:  # not in the event loop: a metadata server takes its time
            await asyncio.to_thread(self._signer.refresh)
        connection, _used = await self._pool.open()
        done = False
        try:
            # Looked at before the guard: a process that is frozen behind it signs for the time before it was frozen, so
            # the signature's life ends with what the guard has seen, not when the process wakes.
            signed_at = datetime.now(UTC)
            if guard is not None:
                guard()
            head = self._signer.head(operation, body, signed_at)
            ticket = unanswered.sent(int(signed_at.timestamp() * 1000)) if unanswered is not None else 0
            connection.writer.write(head + body)
            status, headers = _parse_head(await connection.reader.readuntil(b"\r\n\r\n"))
            reply = await _read_body(connection.reader, headers)
            if unanswered is not None and status < 500:  # a server or a proxy in trouble does not say what became of it
                unanswered.answered(ticket)
            done = headers.get(b"connection", b"").lower() != b"close"
            return status, headers, reply
        finally:
            if done:
                connection.idle_since = time.monotonic()
                self._pool.idle.append(connection)
            else:
                connection.close()


def _parse_head(head: bytes) -> tuple[int, dict[bytes, bytes]]:
    first, *lines = head[:-4].split(b"\r\n")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        name, _, value = line.partition(b":")
        headers[name.lower()] = value.strip()
    return int(first.split(b" ", 2)[1]), headers


async def _read_body(reader: asyncio.StreamReader, headers: dict[bytes, bytes]) -> bytes:
    length = headers.get(b"content-length")
    if length is not None:
        if int(length) > MAX_RESPONSE_BYTES:
            raise ValueError("reply too long")
        return await reader.readexactly(int(length))
    if headers.get(b"transfer-encoding", b"").lower() != b"chunked":
        return await reader.read()
    chunks: list[bytes] = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        chunks.append(await reader.readexactly(size))
        await reader.readexactly(2)
    while (await reader.readuntil(b"\r\n")) != b"\r\n":
        pass  # trailers
    return b"".join(chunks)


def error_of(operation: str, status: int, reply: bytes) -> StoreError:
    """The error for a reply that is not 200."""
    try:
        body = orjson.loads(reply)
        code = str(body.get("__type", "")).rpartition("#")[2]
        message = str(body.get("message") or body.get("Message") or "")
    except (orjson.JSONDecodeError, AttributeError):
        code, message = "", ""
    if not code and status >= 500:
        return Unavailable(f"DynamoDB answered {operation} with {status}", operation=operation, code=str(status))
    return error_for(operation, code or str(status), message, status)
