"""DynamoDB through DAX: what is sent to AWS's client, what is made of its answers, and what goes past it.

No emulator has DAX's data plane. The stand-in holds each request against botocore's model of DynamoDB, as AWS's client does.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Mapping
from types import ModuleType, SimpleNamespace
from typing import Any

import botocore.session
import pytest
from botocore.exceptions import ClientError
from botocore.validate import validate_parameters
from docferry.adapters.aws.client_dax import METHODS, AsyncDaxCalls, SyncDaxCalls, opener
from docferry.client.transport.dax_route import RoutedCalls
from docferry.client.transport.sync_driver import run
from docferry.core.backoff import Backoff
from docferry.core.settings import DaxSettings
from docferry.errors import (
    AccessDenied,
    ConditionFailed,
    ConfigError,
    InvariantBroken,
    LeaseLost,
    RequestRefused,
    RetryExhausted,
    StoreError,
    Throttled,
    TimedOut,
    Unavailable,
)

MODEL = botocore.session.get_session().get_service_model("dynamodb")
KEY = {"PK": {"S": "a"}, "SK": {"S": "b"}}
ITEM = KEY | {"raw": {"B": "AAE="}, "deep": {"M": {"l": {"L": [{"BS": ["AAE="]}]}}}}
BOTO_ITEM = KEY | {"raw": {"B": b"\0\1"}, "deep": {"M": {"l": {"L": [{"BS": [b"\0\1"]}]}}}}


class StandIn:
    """In place of AmazonDaxClient: validates and records requests, and answers as it is told."""

    def __init__(self, *answers: Any) -> None:
        self.answers, self.closed = list(answers), 0
        self.sent: list[Any] = []

    def __getattr__(self, method: str) -> Callable[..., Any]:
        operation = next((name for name, one in METHODS.items() if one == method), None)
        if operation is None:
            raise AttributeError(method)

        def send(**arguments: Any) -> Any:
            validate_parameters(arguments, MODEL.operation_model(operation).input_shape)
            self.sent.append((method, arguments))
            answer = self.answers.pop(0)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        return send

    def close(self) -> None:
        self.closed += 1


def refusal(code: Any, status: int = 400, **more: Any) -> ClientError:
    error = ClientError({"Error": {"Message": "no", **({"Code": code} if code else {})},
                         "ResponseMetadata": {"HTTPStatusCode": status}}, "Op")  # fmt: skip
    for name, value in more.items():
        setattr(error, name, value)
    return error


@pytest.fixture(params=[SyncDaxCalls, AsyncDaxCalls])
def call(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """One call through a stand-in, blocking or awaited."""
    runner: Any = run if request.param is SyncDaxCalls else asyncio.run

    def through(
        client: StandIn, operation: str, asked: Mapping[str, Any], guard: Any = None, retry_for_s: float = 5
    ) -> Any:
        return runner(
            request.param(lambda: client, Backoff(for_s=retry_for_s, first_s=0.1)).call(operation, asked, guard)
        )

    return through


# --- requests and answers --------------------------------------------------------------------------------------------


REQUESTS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "GetItem": (
        {"TableName": "Item", "Key": {"PK": {"B": "AAE="}}, "ConsistentRead": True},
        {"TableName": "Item", "Key": {"PK": {"B": b"\0\1"}}, "ConsistentRead": True},
        {"Item": BOTO_ITEM, "ResponseMetadata": {"HTTPStatusCode": 200}},
        {"Item": ITEM},
    ),
    "BatchGetItem": (
        {"RequestItems": {"Keys": {"Keys": [KEY | {"x": {"B": "AAE="}}], "ConsistentRead": False}}},
        {"RequestItems": {"Keys": {"Keys": [KEY | {"x": {"B": b"\0\1"}}], "ConsistentRead": False}}},
        {"Responses": {"Item": [BOTO_ITEM]}, "UnprocessedKeys": {"Item": {"Keys": [{"PK": {"B": b"\0"}}]}}},
        {"Responses": {"Item": [ITEM]}, "UnprocessedKeys": {"Item": {"Keys": [{"PK": {"B": "AA=="}}]}}},
    ),
    "Query": (
        {"TableName": "T.1", "KeyConditionExpression": "PK = :pk", "ExpressionAttributeValues": {":pk": {"B": "AAE="}},
         "ExclusiveStartKey": KEY, "ConsistentRead": True},
        {"TableName": "T.1", "KeyConditionExpression": "PK = :pk", "ExpressionAttributeValues": {":pk": {"B": b"\0\1"}},
         "ExclusiveStartKey": KEY, "ConsistentRead": True},
        {"Items": [BOTO_ITEM], "LastEvaluatedKey": {"PK": {"B": b"\0"}}, "Count": 1},
        {"Items": [ITEM], "LastEvaluatedKey": {"PK": {"B": "AA=="}}, "Count": 1},
    ),
    "TransactWriteItems": (
        {"TransactItems": [{"Put": {"TableName": "T.1", "Item": ITEM, "ConditionExpression": "#v = :v",
                                    "ExpressionAttributeNames": {"#v": "Item"},
                                    "ExpressionAttributeValues": {":v": {"B": "AAE="}}}}],
         "ClientRequestToken": "x" * 36},
        {"TransactItems": [{"Put": {"TableName": "T.1", "Item": BOTO_ITEM, "ConditionExpression": "#v = :v",
                                    "ExpressionAttributeNames": {"#v": "Item"},
                                    "ExpressionAttributeValues": {":v": {"B": b"\0\1"}}}}],
         "ClientRequestToken": "x" * 36},
        {"ResponseMetadata": {}},
        {},
    ),
}  # fmt: skip


@pytest.mark.parametrize("operation", sorted(METHODS))
def test_request_and_answer_change_only_the_form_of_binaries(call: Callable[..., Any], operation: str) -> None:
    asked, sent, answer, expected = REQUESTS[operation]
    client = StandIn(answer)
    assert call(client, operation, asked) == expected
    assert client.sent == [(METHODS[operation], sent)]


def test_operation_that_has_no_business_there_is_our_bug(call: Callable[..., Any]) -> None:
    with pytest.raises(InvariantBroken, match="Scan"):
        call(StandIn(), "Scan", {"TableName": "Tab"})


# --- guard, retries, errors ------------------------------------------------------------------------------------------

GET = {"TableName": "Tab", "Key": KEY}


def test_guard_is_asked_before_each_attempt(call: Callable[..., Any]) -> None:
    asked: list[int] = []
    client = StandIn(refusal("ThrottlingException"), refusal("NoRouteException"), {})
    call(client, "GetItem", GET, lambda: asked.append(len(client.sent)))
    assert asked == [0, 1, 2]


def test_guard_that_says_no_sends_nothing(call: Callable[..., Any]) -> None:
    def lost() -> None:
        raise LeaseLost("instances/x")

    client = StandIn({})
    with pytest.raises(LeaseLost):
        call(client, "GetItem", GET, lost)
    assert client.sent == []


def test_trouble_that_stays_is_told_with_its_cause(call: Callable[..., Any]) -> None:
    client = StandIn(*[refusal("ThrottlingException")] * 50)
    with pytest.raises(RetryExhausted) as caught:
        call(client, "GetItem", GET, retry_for_s=0.05)
    assert isinstance(caught.value.__cause__, Throttled)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal("ConditionalCheckFailedException"), ConditionFailed),
        (refusal("AccessDeniedException"), AccessDenied),
        (refusal("ValidationException"), RequestRefused),
        (refusal(("ValidationException", "NotImplementedException")), RequestRefused),
        (refusal("IllegalArgumentException"), RequestRefused),
        (refusal("NoRouteException", 0), Unavailable),
        (refusal("EndOfStreamException", 0), Unavailable),
        (refusal("RequestLimitExceededException"), Throttled),
        (refusal("", 408), Unavailable),
        (refusal("TransactionCanceledException", cancellation_reasons=["None", None, "ConditionalCheckFailed"]), ConditionFailed),
        (refusal("TransactionCanceledException", cancellation_reasons=["TransactionConflict", "x"]), Unavailable),
        (TimeoutError(), TimedOut),
        (ConnectionResetError(), Unavailable),
    ],
    ids=repr,
)  # fmt: skip
def test_errors_of_the_cluster_are_ours(call: Callable[..., Any], error: Exception, kind: type[StoreError]) -> None:
    client = StandIn(error)
    with pytest.raises((StoreError, RetryExhausted)) as caught:
        call(client, "TransactWriteItems", REQUESTS["TransactWriteItems"][0], retry_for_s=-1)
    found = caught.value.__cause__ if isinstance(caught.value, RetryExhausted) else caught.value
    assert type(found) is kind
    assert found.__cause__ is error


def test_unknown_code_is_permanent_and_says_so(call: Callable[..., Any]) -> None:
    with pytest.raises(StoreError, match="which docferry does not know") as caught:
        call(StandIn(refusal("OddException")), "GetItem", GET)
    assert not caught.value.retryable


# --- opening ---------------------------------------------------------------------------------------------------------

DAX = DaxSettings(cluster="cache", subnet_group="nets", security_groups=("sg-1",), role_arn="arn:aws:iam::1:role/dax")


def session(endpoint: Mapping[str, Any] | None) -> Any:
    def describe_clusters(ClusterNames: list[str]) -> dict[str, Any]:
        assert ClusterNames == ["cache"]
        return {"Clusters": [{"ClusterDiscoveryEndpoint": endpoint} if endpoint else {}]}

    meta = SimpleNamespace(endpoint_url="https://dax.us-east-1.amazonaws.com")
    control = SimpleNamespace(describe_clusters=describe_clusters, meta=meta)
    return SimpleNamespace(_session="botocore's", client=lambda service, region_name: control)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    found: list[Any] = []

    def client(*arguments: Any, **named: Any) -> StandIn:
        found.append((arguments, named))
        return StandIn()

    package = ModuleType("amazondax")
    package.AmazonDaxClient = client  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "amazondax", package)
    return found


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ({"URL": "daxs://cache.x", "Address": "cache.x", "Port": 9111}, "daxs://cache.x"),
        ({"Address": "cache.x", "Port": 9111}, "daxs://cache.x:9111"),
    ],
)
def test_client_is_opened_to_the_clusters_endpoint_without_retries_of_its_own(
    opened: list[Any], endpoint: dict[str, Any], url: str
) -> None:
    opener(session(endpoint), DAX, "eu-west-1")()
    ((arguments, named),) = opened
    assert arguments == ("botocore's",)
    assert (named["endpoint_url"], named["region_name"]) == (url, "eu-west-1")
    assert named["config"].retries == {"max_attempts": 0}


def test_cluster_without_an_endpoint_is_not_there_yet(opened: list[Any]) -> None:
    with pytest.raises(Unavailable, match="cache has no endpoint yet"):
        opener(session(None), DAX, "us-east-1")()
    assert opened == []


def test_missing_package_is_told_at_once_and_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "amazondax", None)
    with pytest.raises(ConfigError, match=r"pip install 'docferry\[dax\]'"):
        opener(session(None), DAX, "us-east-1")


def test_fork_opens_a_client_of_its_own_and_leaves_the_other_alone() -> None:
    clients: list[StandIn] = []

    def open_client() -> StandIn:
        clients.append(StandIn({}))
        return clients[-1]

    calls = SyncDaxCalls(open_client)
    run(calls.call("GetItem", GET))
    calls.forked()
    run(calls.call("GetItem", GET))
    run(calls.close())
    assert [one.closed for one in clients] == [0, 1]


# --- what goes past it -----------------------------------------------------------------------------------------------


def no_guard() -> None:
    """Nothing is refused."""


class Named:
    """Calls that say only whose they are."""

    blocking = True

    def __init__(self, name: str) -> None:
        self.name, self.closed, self.forks = name, 0, 0

    async def call(self, operation: str, request: Mapping[str, Any], guard: Any = None) -> dict[str, Any]:
        return {"by": self.name, "guard": guard}

    async def sleep(self, seconds: float) -> None: ...

    def forked(self) -> None:
        self.forks += 1

    async def close(self) -> None:
        self.closed += 1


@pytest.mark.parametrize(
    ("leads", "lists", "operation", "request_", "by"),
    [
        (False, True, "GetItem", {}, "plain"),
        (False, True, "TransactWriteItems", {}, "plain"),
        (True, False, "GetItem", {}, "cache"),
        (True, False, "GetItem", {"ConsistentRead": True}, "cache"),
        (True, False, "BatchGetItem", {}, "cache"),
        (True, False, "TransactWriteItems", {}, "cache"),
        (True, False, "Query", {"ConsistentRead": True}, "cache"),
        (True, False, "Query", {"ConsistentRead": False}, "plain"),
        (True, False, "Query", {"IndexName": "GSI1"}, "plain"),
        (True, True, "Query", {"IndexName": "GSI1"}, "cache"),
        (True, True, "Scan", {}, "plain"),
    ],
)
def test_call_goes_through_the_cache_only_where_it_cannot_be_stale(
    leads: bool, lists: bool, operation: str, request_: dict[str, Any], by: str
) -> None:
    plain, cache = Named("plain"), Named("cache")
    routed = RoutedCalls(plain, cache, lambda: leads, lists=lists)
    assert run(routed.call(operation, request_, no_guard)) == {"by": by, "guard": no_guard}
    routed.forked()
    run(routed.close())
    assert [(one.forks, one.closed) for one in (plain, cache)] == [(1, 1), (1, 1)]
