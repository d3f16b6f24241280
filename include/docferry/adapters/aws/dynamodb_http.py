"""DynamoDB over bare asyncio streams: one signed POST with ready bytes, pooled connections, retries by error type.

botocore signs and sends about 300 requests a second in one process and its serialiser costs more than our whole codec;
this sends thousands. What it does not do itself it takes from botocore: credentials (refreshed when they expire),
endpoint, region, CA bundle. A contract test holds its signatures against botocore's own.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import ssl
import zlib
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import boto3
import orjson

from docferry.adapters.aws.errors import error_for, translated
from docferry.core.backoff import Backoff
from docferry.errors import StoreError, TimedOut, TransientStoreError, Unavailable
from docferry.ports.flows import Guard

SERVICE = "dynamodb"
TARGET = "DynamoDB_20120810."
REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
BACKOFF = Backoff(for_s=120.0, first_s=0.1, cap_s=5.0)
"""How one request is tried again before it is given up: for longer than a table takes to split a partition."""
MAX_RESPONSE_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where DynamoDB is. `ca_bundle` None means the system's certificates."""

    host: str
    port: int
    tls: bool
    region: str
    ca_bundle: str | None = None

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"


def endpoint_of(session: boto3.Session) -> Endpoint:
    """The endpoint that boto3 itself would use: AWS_ENDPOINT_URL*, profile, or the region's."""
    client = session.client(SERVICE)
    parts = urlsplit(client.meta.endpoint_url)
    tls = parts.scheme == "https"
    bundle = session._session.get_config_variable("ca_bundle")
    return Endpoint(parts.hostname or "", parts.port or (443 if tls else 80), tls, client.meta.region_name, bundle)


class Signer:
    """AWS Signature Version 4 for one service and region; the day's key is kept."""

    def __init__(self, credentials: Any, endpoint: Endpoint) -> None:
        self._credentials = credentials  # botocore's: refreshes itself
        self._endpoint = endpoint
        self._day: tuple[str, str] = ("", "")
        self._key = b""

    def __repr__(self) -> str:
        return f"Signer({self._endpoint.region!r})"

    def headers(self, target: str, body: bytes, now: datetime | None = None) -> bytes:
        """The whole request head, ready to send before `body`."""
        keys = self._credentials.get_frozen_credentials()
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        host = self._endpoint.authority
        token = f"x-amz-security-token:{keys.token}\n" if keys.token else ""
        names = "content-type;host;x-amz-date;" + ("x-amz-security-token;" if token else "") + "x-amz-target"
        canonical = (
            f"POST\n/\n\ncontent-type:application/x-amz-json-1.0\nhost:{host}\nx-amz-date:{stamp}\n{token}"
            f"x-amz-target:{target}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
        )
        scope = f"{stamp[:8]}/{self._endpoint.region}/{SERVICE}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.new(self._signing_key(keys.secret_key, stamp[:8]), text.encode(), hashlib.sha256).hexdigest()
        return (
            f"POST / HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/x-amz-json-1.0\r\nX-Amz-Date: {stamp}\r\n"
            f"X-Amz-Target: {target}\r\n"
            + (f"X-Amz-Security-Token: {keys.token}\r\n" if keys.token else "")
            + f"Authorization: AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()

    def _signing_key(self, secret: str, day: str) -> bytes:
        if self._day != (secret, day):
            key = ("AWS4" + secret).encode()
            for part in (day, self._endpoint.region, SERVICE, "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self._day, self._key = (secret, day), key
        return self._key


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def close(self) -> None:
        self.writer.close()


@dataclass(slots=True)
class Pool:
    """Idle connections to one endpoint. Belongs to one event loop."""

    endpoint: Endpoint
    idle: list[_Connection] = field(default_factory=list)
    context: ssl.SSLContext | None = None

    async def open(self) -> tuple[_Connection, bool]:
        """(connection, whether it has been used before)."""
        while self.idle:
            connection = self.idle.pop()
            if not connection.writer.is_closing() and not connection.reader.at_eof():
                return connection, True
            connection.close()
        if self.endpoint.tls and self.context is None:
            self.context = ssl.create_default_context(cafile=self.endpoint.ca_bundle)
        opening = asyncio.open_connection(self.endpoint.host, self.endpoint.port, ssl=self.context, limit=1 << 20)
        reader, writer = await asyncio.wait_for(opening, CONNECT_TIMEOUT_S)
        return _Connection(reader, writer), False

    def close(self) -> None:
        while self.idle:
            self.idle.pop().close()


class DynamoHttp:
    """Calls DynamoDB operations with bodies of bytes. Use it from one event loop, close it there."""

    def __init__(
        self, session: boto3.Session, backoff: Backoff = BACKOFF, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self.endpoint = endpoint_of(session)
        credentials = session.get_credentials()
        if credentials is None:
            text = "there are no AWS credentials: set the AWS variables, a profile, or the aws connection"
            raise StoreError(text, operation="sign", code="NoCredentials")
        self._signer = Signer(credentials, self.endpoint)
        self._pool = Pool(self.endpoint)
        self._backoff, self._timeout_s = backoff, timeout_s
        self.throttles = 0

    def __repr__(self) -> str:
        return f"DynamoHttp({self.endpoint.authority!r})"

    async def close(self) -> None:
        self._pool.close()

    async def call(self, operation: str, body: bytes, guard: Guard | None = None) -> bytes:
        """The reply's bytes. Retries transient errors with full jitter; `guard` runs before each signature.

        Raises: PermanentStoreError at once, RetryExhausted as `backoff` says, and whatever `guard` raises.
        """
        attempts = self._backoff.attempts(operation)
        while True:
            try:
                return await self._once(operation, body, guard)
            except TransientStoreError as error:
                self.throttles += error.code.startswith(("Provisioned", "Throttl"))
                await asyncio.sleep(attempts.failed(error))

    async def _once(self, operation: str, body: bytes, guard: Guard | None) -> bytes:
        try:
            async with asyncio.timeout(self._timeout_s):
                status, headers, reply = await self._send(operation, body, guard)
        except TimeoutError as error:
            text = f"DynamoDB did not answer {operation} within {self._timeout_s:.0f} s"
            raise TimedOut(text, operation=operation) from error
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, ValueError, IndexError) as error:
            text = (
                f"the connection to DynamoDB at {self.endpoint.authority} broke in {operation}: {type(error).__name__}"
            )
            raise Unavailable(text, operation=operation) from error
        checksum = headers.get(b"x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(reply)).encode():
            raise Unavailable(f"the reply to {operation} arrived damaged (crc32)", operation=operation)
        if status != 200:
            raise error_of(operation, status, reply)
        return reply

    async def _send(self, operation: str, body: bytes, guard: Guard | None) -> tuple[int, dict[bytes, bytes], bytes]:
        connection, _used = await self._pool.open()
        done = False
        try:
            # Looked at before the guard: a process that is frozen behind it signs for the time before it was frozen, so
            # the signature's life ends with what the guard has seen, not when the process wakes.
            signed_at = datetime.now(UTC)
            if guard is not None:
                guard()
            with translated(operation):  # credentials that cannot be fetched or refreshed
                head = self._signer.headers(TARGET + operation, body, signed_at)
            connection.writer.write(head + body)
            status, headers = _parse_head(await connection.reader.readuntil(b"\r\n\r\n"))
            reply = await _read_body(connection.reader, headers)
            done = headers.get(b"connection", b"").lower() != b"close"
            return status, headers, reply
        finally:
            if done:
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
