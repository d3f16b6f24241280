"""DynamoDB for an application: blocking over urllib3, asynchronous over our own HTTP client. Both sign the same way."""

from __future__ import annotations

import asyncio
import ssl
import time
import zlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import boto3
import orjson
import urllib3

from docferry.adapters.aws.dynamodb_http import (
    CONNECT_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
    DynamoHttp,
    connection_error,
    error_of,
)
from docferry.adapters.aws.endpoint import Endpoint, endpoint_of
from docferry.adapters.aws.signing import signer_of
from docferry.core.backoff import Backoff
from docferry.errors import StoreError, TimedOut, TransientStoreError, Unavailable
from docferry.ports.flows import Guard
from docferry.ports.tracing import span

MOST_IDLE = 256
"""Connections that are kept; a thread beyond that opens one for its request."""
BACKOFF = Backoff(for_s=10.0, first_s=0.1, cap_s=5.0)
"""A request of a user waits behind it."""


class AsyncCalls:
    """Calls of an asynchronous application. Belongs to the event loop that first uses it."""

    blocking = False

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
    """Calls of a synchronous application: may be shared between threads, each of which waits for its own answer.

    The connections are urllib3's, as botocore's are: a connection that the server closed while it was idle is not used again.
    """

    blocking = True

    def __init__(
        self, session: boto3.Session, backoff: Backoff = BACKOFF, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> None:
        self._endpoint = endpoint_of(session)
        self._signer = signer_of(session, self._endpoint)
        self._backoff, self._timeout_s = backoff, timeout_s
        self._connections = _connections(self._endpoint, timeout_s)

    def __repr__(self) -> str:
        return f"SyncCalls({self._endpoint.authority!r})"

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        body, attempts = orjson.dumps(request), self._backoff.attempts(operation)
        with span(operation, "dynamodb"):
            while True:
                try:
                    reply: dict[str, Any] = orjson.loads(self._once(operation, body, guard))
                    return reply
                except TransientStoreError as error:
                    await self.sleep(attempts.failed(error))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it blocks, as all of this does

    def forked(self) -> None:
        self._connections = _connections(self._endpoint, self._timeout_s)

    async def close(self) -> None:
        self._connections.clear()

    def _once(self, operation: str, body: bytes, guard: Guard | None) -> bytes:
        signed_at = datetime.now(UTC)  # before the guard: see DynamoHttp
        if guard is not None:
            guard()
        headers = self._signer.signed(operation, body, signed_at) | _UNSENT
        try:
            reply = self._connections.request("POST", self._endpoint.url, body=body, headers=headers, retries=False)
        except urllib3.exceptions.HTTPError as error:
            raise self._error(operation, error) from error
        data = reply.data
        checksum = reply.headers.get("x-amz-crc32")
        if checksum is not None and checksum != str(zlib.crc32(data)):
            raise Unavailable(f"the reply to {operation} arrived damaged (crc32)", operation=operation)
        if reply.status != 200:
            raise error_of(operation, reply.status, data)
        return data

    def _error(self, operation: str, error: urllib3.exceptions.HTTPError) -> StoreError:
        """urllib3 wraps what went wrong, sometimes twice."""
        cause: BaseException = error
        while True:
            inner = getattr(cause, "original_error", None) or cause.__cause__ or next(iter(cause.args[-1:]), None)
            if isinstance(cause, ssl.SSLCertVerificationError) or not isinstance(inner, Exception):
                break
            cause = inner
        timeouts = urllib3.exceptions.ReadTimeoutError, urllib3.exceptions.ConnectTimeoutError
        if isinstance(error, timeouts) and not isinstance(error, urllib3.exceptions.NewConnectionError):
            text = f"DynamoDB did not answer {operation} within {self._timeout_s:.0f} s"
            return TimedOut(text, operation=operation)
        return connection_error(self._endpoint, operation, cause if isinstance(cause, Exception) else error)


_UNSENT = {"User-Agent": urllib3.util.SKIP_HEADER, "Accept-Encoding": urllib3.util.SKIP_HEADER}
"""What urllib3 would add: signed requests are sent as they were signed."""


def _connections(endpoint: Endpoint, timeout_s: float) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "timeout": urllib3.Timeout(connect=CONNECT_TIMEOUT_S, read=timeout_s),
        "maxsize": MOST_IDLE,
        "ssl_context": endpoint.context,
    }
    proxy = endpoint.proxy
    if proxy is None:
        return urllib3.PoolManager(**options)
    return urllib3.ProxyManager(f"http://{proxy.host}:{proxy.port}", proxy_headers=proxy.headers, **options)
