"""DynamoDB for an application: blocking over `http.client`, asynchronous over our own HTTP client. Both sign the same way."""

from __future__ import annotations

import asyncio
import http.client
import socket
import ssl
import threading
import time
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import orjson

from docferry.adapters.aws.dynamodb_http import (
    CONNECT_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    TARGET,
    DynamoHttp,
    Endpoint,
    Signer,
    endpoint_of,
    error_of,
)
from docferry.adapters.aws.errors import translated
from docferry.core.backoff import Backoff
from docferry.errors import StoreError, TimedOut, TransientStoreError, Unavailable
from docferry.ports.flows import Guard

BACKOFF = Backoff(for_s=10.0, first_s=0.1, cap_s=5.0)
"""A request of a user waits behind it."""


class AsyncCalls:
    """Calls of an asynchronous application. Belongs to the event loop that first uses it."""

    def __init__(
        self, session: boto3.Session, backoff: Backoff = BACKOFF, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._session, self._backoff, self._timeout_s = session, backoff, timeout_s
        self._http = DynamoHttp(session, backoff, timeout_s)

    def __repr__(self) -> str:
        return f"AsyncCalls({self._http!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        reply: dict[str, Any] = orjson.loads(await self._http.call(operation, orjson.dumps(request), guard))
        return reply

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def forked(self) -> None:
        self._http = DynamoHttp(self._session, self._backoff, self._timeout_s)

    async def close(self) -> None:
        await self._http.close()


class SyncCalls:
    """Calls of a synchronous application: may be shared between threads, each of which waits for its own answer."""

    def __init__(
        self, session: boto3.Session, backoff: Backoff = BACKOFF, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        self._endpoint = endpoint_of(session)
        self._credentials = session.get_credentials()
        if self._credentials is None:
            text = "there are no AWS credentials: set the AWS variables, a profile, or the aws connection"
            raise StoreError(text, operation="sign", code="NoCredentials")
        self._backoff = backoff
        self._lock = threading.Lock()
        self._idle: list[_Connection] = []
        self._tls = ssl.create_default_context(cafile=self._endpoint.ca_bundle) if self._endpoint.tls else None

    def __repr__(self) -> str:
        return f"SyncCalls({self._endpoint.authority!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        body, attempts = orjson.dumps(request), self._backoff.attempts(operation)
        while True:
            try:
                reply: dict[str, Any] = orjson.loads(self._once(operation, body, guard))
                return reply
            except TransientStoreError as error:
                await self.sleep(attempts.failed(error))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it blocks, as all of this does

    def forked(self) -> None:
        self._lock = threading.Lock()
        self._idle = []

    async def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.http.close()

    def _once(self, operation: str, body: bytes, guard: Guard | None) -> bytes:
        with self._lock:
            connection = self._idle.pop() if self._idle else None
        connection = connection or _Connection(self._endpoint, self._credentials, self._tls, self._timeout_s)
        try:
            reply = connection.send(operation, body, guard)
        except BaseException:
            connection.http.close()
            raise
        with self._lock:
            self._idle.append(connection)
        status, data = reply
        if status != 200:
            raise error_of(operation, status, data)
        return data


class _Connection:
    """One connection, and the signer of its requests: a signer keeps the day's key, and is not shared between threads."""

    def __init__(self, endpoint: Endpoint, credentials: Any, tls: ssl.SSLContext | None, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._signer, self._place = Signer(credentials, endpoint), endpoint.authority
        if tls is None:
            self.http = http.client.HTTPConnection(endpoint.host, endpoint.port, timeout=CONNECT_TIMEOUT_S)
        else:
            self.http = http.client.HTTPSConnection(
                endpoint.host, endpoint.port, timeout=CONNECT_TIMEOUT_S, context=tls
            )

    def _socket(self) -> socket.socket:
        if self.http.sock is None:
            self.http.connect()
        opened: socket.socket = self.http.sock
        opened.settimeout(self._timeout_s)
        return opened

    def send(self, operation: str, body: bytes, guard: Guard | None) -> tuple[int, bytes]:
        """(status, body) of the reply. A connection that the server has closed meanwhile is opened anew."""
        try:
            wire = self._socket()
            signed_at = datetime.now(UTC)  # before the guard: see DynamoHttp
            if guard is not None:
                guard()
            with translated(operation):
                head = self._signer.headers(TARGET + operation, body, signed_at)
            wire.sendall(head + body)
            response = http.client.HTTPResponse(wire, method="POST")
            response.begin()
            data = response.read()
        except TimeoutError as error:
            text = f"DynamoDB did not answer {operation} within {self._timeout_s:.0f} s"
            raise TimedOut(text, operation=operation) from error
        except (OSError, http.client.HTTPException) as error:
            text = f"the connection to DynamoDB at {self._place} broke in {operation}: {type(error).__name__}"
            raise Unavailable(text, operation=operation) from error
        checksum = response.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(data)):
            raise Unavailable(f"the reply to {operation} arrived damaged (crc32)", operation=operation)
        if response.will_close:
            self.http.close()
        return response.status, data
