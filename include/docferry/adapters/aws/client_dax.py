"""DynamoDB through a DAX cluster, over AWS's own client for Python (the extra `dax`: amazon-dax-client).

It has never run against a cluster: there is no emulator of DAX's data plane. What is sent to AWS's client, and what is made of
its answers and errors, is held by tests against a stand-in.

That client blocks, and signs when it opens a connection, not when it sends a request: the guard is asked right before each
attempt, and its own retries are off, because they would pass the guard by.
"""

from __future__ import annotations

import asyncio
import importlib
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from docferry.adapters.aws.boto_values import from_boto, to_boto
from docferry.adapters.aws.client_dynamodb import BACKOFF
from docferry.adapters.aws.dynamodb_http import CONNECT_TIMEOUT_S, REQUEST_TIMEOUT_S
from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call as aws_call
from docferry.adapters.aws.errors import error_for, error_for_sdk
from docferry.core.backoff import Backoff
from docferry.core.settings import DaxSettings
from docferry.errors import (
    ConfigError,
    InvariantBroken,
    Problem,
    RequestRefused,
    StoreError,
    Throttled,
    TimedOut,
    TransientStoreError,
    Unavailable,
)
from docferry.ports.flows import Guard

METHODS: Final = {
    "GetItem": "get_item",
    "BatchGetItem": "batch_get_item",
    "Query": "query",
    "TransactWriteItems": "transact_write_items",
}
"""All that the client sends through DAX. Scans go past it."""

_OWN_CODES: Final[Mapping[str, type[StoreError]]] = {
    "NoRouteException": Unavailable,
    "EndOfStreamException": Unavailable,
    "DecoderException": Unavailable,
    "MalformedResultException": Unavailable,
    "RequestLimitExceededException": Throttled,
    "IllegalArgumentException": RequestRefused,
    "NotImplementedException": RequestRefused,
}
"""DAX's codes that DynamoDB has not (amazondax.DaxError 2.0.3, read 2026-11-24)."""

_GONE: Final = frozenset({408, 500, 503})
"""What its client gives for a connection that broke, without a code."""

_REASONS: Final = frozenset({
    "None", "ConditionalCheckFailed", "ItemCollectionSizeLimitExceeded", "TransactionConflict",
    "ProvisionedThroughputExceeded", "ThrottlingError", "ValidationError",
})  # fmt: skip


def require_dax() -> Any:
    """AWS's client for DAX. Raises ConfigError if it is not installed."""
    try:
        return importlib.import_module("amazondax")
    except ImportError as error:
        problem = Problem(
            where="dax",
            what="the file has a DAX cluster, and the package amazon-dax-client is not installed",
            suggestion="pip install 'docferry[dax]' wherever the client runs: who writes past the cache leaves it stale",
        )
        raise ConfigError("environment", [problem]) from error


def opener(session: boto3.Session, dax: DaxSettings, region: str) -> Callable[[], Any]:
    """What opens AWS's client to the cluster. Raises ConfigError at once; opening raises StoreError, if there is no cluster."""
    package = require_dax()

    def open_client() -> Any:
        url = _endpoint(session, dax, region)
        config = Config(retries={"max_attempts": 0}, connect_timeout=CONNECT_TIMEOUT_S, read_timeout=REQUEST_TIMEOUT_S)
        return package.AmazonDaxClient(session._session, region_name=region, endpoint_url=url, config=config)

    return open_client


def _endpoint(session: boto3.Session, dax: DaxSettings, region: str) -> str:
    control = aws_client(session.client, "dax", region_name=region)
    (cluster,) = aws_call(control.describe_clusters, ClusterNames=[dax.cluster])["Clusters"]
    endpoint = cluster.get("ClusterDiscoveryEndpoint")
    if endpoint is None:
        raise Unavailable(f"the DAX cluster {dax.cluster} has no endpoint yet", operation="DescribeClusters")
    scheme = "daxs" if dax.encryption else "dax"
    return endpoint.get("URL") or f"{scheme}://{endpoint['Address']}:{endpoint['Port']}"


class _Dax:
    """One attempt after the other, blocking. Shared between threads, as AWS's client may be."""

    def __init__(self, open_client: Callable[[], Any], backoff: Backoff = BACKOFF) -> None:
        self._open_client, self._backoff = open_client, backoff
        self._lock = threading.Lock()
        self._client: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"

    def _once(self, operation: str, request: Mapping[str, Any], guard: Guard | None) -> dict[str, Any]:
        """Raises: StoreError, and whatever `guard` raises."""
        method = METHODS.get(operation)
        if method is None:
            raise InvariantBroken(f"{operation} does not go through DAX")
        try:
            send = getattr(self._opened(), method)
            arguments = encode_request(request)
            if guard is not None:
                guard()
            return decode_reply(send(**arguments))
        except ClientError as error:
            raise _error_of(operation, error) from error
        except BotoCoreError as error:
            raise error_for_sdk(operation, error) from error
        except TimeoutError as error:
            raise TimedOut(f"DAX did not answer {operation} in time", operation=operation) from error
        except OSError as error:
            text = f"the connection to DAX broke in {operation}: {type(error).__name__}"
            raise Unavailable(text, operation=operation) from error

    def _opened(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = self._open_client()
            return self._client

    def forked(self) -> None:
        """The threads of AWS's client stayed behind in the parent: a new one is opened."""
        self._lock = threading.Lock()
        self._client = None

    def _end(self) -> None:
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.close()


class SyncDaxCalls(_Dax):
    """For a synchronous application."""

    blocking = True

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        attempts = self._backoff.attempts(operation)
        while True:
            try:
                return self._once(operation, request, guard)
            except TransientStoreError as error:
                await self.sleep(attempts.failed(error))

    async def sleep(self, seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 - it blocks, as all of this does

    async def close(self) -> None:
        self._end()


class AsyncDaxCalls(_Dax):
    """For an asynchronous application: each call waits in a thread."""

    blocking = False

    async def call(self, operation: str, request: Mapping[str, Any], guard: Guard | None = None) -> dict[str, Any]:
        attempts = self._backoff.attempts(operation)
        while True:
            try:
                return await asyncio.to_thread(self._once, operation, request, guard)
            except TransientStoreError as error:
                await self.sleep(attempts.failed(error))

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def close(self) -> None:
        await asyncio.to_thread(self._end)


def _error_of(operation: str, error: ClientError) -> StoreError:
    details = error.response.get("Error", {})
    code, message = details.get("Code", ""), str(details.get("Message", error))
    status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode") or 0)
    code = code[-1] if isinstance(code, tuple) else str(code)
    if code in _OWN_CODES:
        return _OWN_CODES[code](f"{operation}: {message} [{code}, from DAX]", operation=operation, code=code)
    if not code and status in _GONE:
        return Unavailable(f"{operation}: {message} [{status}, from DAX]", operation=operation)
    reasons = [one for one in getattr(error, "cancellation_reasons", None) or () if one in _REASONS]
    if reasons:
        message = f"{message} [{', '.join(reasons)}]"
    return error_for(operation, code, message, status)


# --- requests and replies: base64 on our side, bytes on theirs -------------------------------------------------------

_MAPS: Final = frozenset({"Key", "Item", "ExpressionAttributeValues", "ExclusiveStartKey", "LastEvaluatedKey"})
_LISTS: Final = frozenset({"Keys", "Items"})
_BY_TABLE: Final = frozenset({"RequestItems", "Responses", "UnprocessedKeys"})
_Values = Callable[[Mapping[str, Any]], dict[str, Any]]


def encode_request(request: Mapping[str, Any]) -> dict[str, Any]:
    """A request as boto3's client takes it. Shape: {"Key": {"PK": {"B": "AAE="}}} -> {"Key": {"PK": {"B": b"\\x00\\x01"}}}"""
    return _walked(request, to_boto)


def decode_reply(reply: Mapping[str, Any]) -> dict[str, Any]:
    """A reply in wire form, without what belongs to the transport."""
    return _walked({name: value for name, value in reply.items() if name != "ResponseMetadata"}, from_boto)


def _walked(part: Mapping[str, Any], convert: _Values) -> dict[str, Any]:
    return {name: _converted(name, value, convert) for name, value in part.items()}


def _converted(name: str, value: Any, convert: _Values) -> Any:
    if name in _MAPS:
        return _item(value, convert)
    if name in _LISTS:
        return [_item(one, convert) for one in value]
    if name in _BY_TABLE:  # a table may bear any name
        return {
            table: [_item(one, convert) for one in content] if isinstance(content, list) else _walked(content, convert)
            for table, content in value.items()
        }
    if name == "TransactItems":
        return [{action: _walked(content, convert) for action, content in one.items()} for one in value]
    return value


def _item(item: Mapping[str, Any], convert: _Values) -> dict[str, Any]:
    return {name: convert(value) for name, value in item.items()}
