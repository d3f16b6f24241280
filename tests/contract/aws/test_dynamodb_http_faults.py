"""What the fast writer does with answers that are none, with errors, and with a process that was frozen."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from docferry.adapters.aws import dynamodb_http
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.core.backoff import Backoff
from docferry.errors import (
    AccessDenied,
    ConditionFailed,
    LeaseLost,
    MigrationError,
    PermanentStoreError,
    RequestRefused,
    RetryExhausted,
    StoreError,
    TableMissing,
    Throttled,
    TimedOut,
    Unavailable,
)
from support.aws.http_server import BODY, Answer, Call, Server, call, crc, reply

__all__ = ["call"]


def error(kind: str, status: int = 400, message: str = "no") -> Answer:
    prefix = "com.amazonaws.dynamodb.v20120810#"
    return reply(f'{{"__type":"{prefix}{kind}","message":"{message}"}}'.encode(), status)


async def hang(writer: asyncio.StreamWriter) -> None:
    """No answer, and the connection stays open."""


async def hang_up(writer: asyncio.StreamWriter) -> bool:
    return True


def raw(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        return True

    return answer


# --- answers that are none -------------------------------------------------------------------------------------------

BAD: dict[str, Answer] = {
    "damaged": reply(BODY, headers=crc(BODY, wrong=1)),
    "cut in the body": reply(BODY, cut=70),
    "cut in the head": reply(BODY, cut=20),
    "no answer": hang_up,
    "a chunk cut": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc"),
    "a chunk of no size": raw(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "content-length that is none": raw(b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\n{}"),
    "endless head": raw(b"HTTP/1.1 200 OK\r\nX: " + b"x" * (3 << 20)),
    "an HTML page with a 500": reply(b"<html><body>Internal Server Error</body></html>", 500),
    "an HTML page with a 503": reply(b"<!DOCTYPE html><p>busy</p>", 503),
    "an empty 502": reply(b"", 502),
    "internal error": error("InternalServerError", 500),
    "throttled": error("ProvisionedThroughputExceededException"),
    "throttled by another name": error("ThrottlingException"),
    "too many requests": error("RequestLimitExceeded"),
}


@pytest.mark.parametrize("kind", BAD)
def test_request_is_tried_again_after_an_answer_that_is_none(call: Call, kind: str) -> None:
    called = call(BAD[kind], BAD[kind], reply(BODY))
    assert (called.answers, called.error) == ([BODY], None)
    assert len(called.server.requests) == 3


@pytest.mark.parametrize("kind", BAD)
def test_request_is_given_up_in_the_end_with_the_cause(call: Call, kind: str) -> None:
    error = call(BAD[kind], retry_for_s=0.0).error
    assert isinstance(error, RetryExhausted)
    assert error.attempts == 1
    assert isinstance(error.__cause__, Throttled if kind[0] == "t" else Unavailable)


def test_throttles_are_counted(call: Call) -> None:
    assert call(BAD["throttled"], BAD["throttled by another name"], reply()).http.throttles == 2


def test_server_that_hangs_is_given_up_by_the_clock(call: Call) -> None:
    called = call(hang, retry_for_s=0.0, timeout_s=0.15)
    assert isinstance(called.error, RetryExhausted)
    assert isinstance(called.error.__cause__, TimedOut)
    again = call(hang, reply(BODY), timeout_s=0.15)
    assert again.answers == [BODY]
    assert again.server.connections == 2  # the late answer must not be read as the next one's


def test_server_that_hangs_in_the_middle_of_an_answer_is_given_up(call: Call) -> None:
    async def half(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{")

    called = call(half, reply(BODY), timeout_s=0.15)
    assert called.answers == [BODY]
    assert called.server.connections == 2


def test_nobody_listening_is_unavailable(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use() -> None:
        async with Server(reply()) as server:
            url = server.url
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
        http = DynamoHttp(boto3.Session("key", "secret", region_name="us-east-1"), Backoff(for_s=0.0))
        with pytest.raises(RetryExhausted) as caught:
            await http.call("PutItem", b"{}")
        assert isinstance(caught.value.__cause__, Unavailable)

    asyncio.run(use())


def test_server_that_is_no_web_server_is_unavailable(call: Call) -> None:
    assert isinstance(call(raw(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), retry_for_s=0.0).error, RetryExhausted)


def test_checksum_that_is_none_is_a_damaged_answer(call: Call) -> None:
    assert isinstance(call(reply(headers="x-amz-crc32: none\r\n"), retry_for_s=0.0).error, RetryExhausted)


# --- errors that stay ------------------------------------------------------------------------------------------------

FINAL: dict[str, tuple[Answer, type[StoreError]]] = {
    "condition": (error("ConditionalCheckFailedException"), ConditionFailed),
    "table": (error("ResourceNotFoundException"), TableMissing),
    "validation": (error("ValidationException"), RequestRefused),
    "access": (error("AccessDeniedException"), AccessDenied),
    "expired": (error("ExpiredTokenException"), AccessDenied),
    "unknown code": (error("SomethingNewException"), PermanentStoreError),
    "HTML with a 403": (reply(b"<html>proxy says no</html>", 403), PermanentStoreError),
    "JSON that is no object": (reply(b"[]", 400), PermanentStoreError),
    "empty 413": (reply(b"", 413), RequestRefused),
}


@pytest.mark.parametrize("kind", FINAL)
def test_error_that_stays_is_raised_at_once_by_its_type(call: Call, kind: str) -> None:
    answer, expected = FINAL[kind]
    called = call(answer)
    assert type(called.error) is expected
    assert isinstance(called.error, StoreError)
    assert called.error.operation == "PutItem"
    assert called.error.code
    assert len(called.server.requests) == 1


def test_error_after_which_the_connection_is_sound_keeps_it(call: Call) -> None:
    called = call(error("ThrottlingException"), error("InternalServerError", 500), reply())
    assert called.server.connections == 1


def test_unknown_code_with_a_500_is_the_servers_trouble(call: Call) -> None:
    assert call(error("SomethingNewException", 500), reply(BODY)).answers == [BODY]


@pytest.mark.parametrize("kind", ["key", "secret"])
def test_error_shows_no_credentials(call: Call, kind: str) -> None:
    session = boto3.Session("AKIDVISIBLE", "verysecretkey", region_name="us-east-1")
    called = call(error("AccessDeniedException"), session=session)
    assert isinstance(called.error, MigrationError)
    shown = f"{called.error!r}{called.error}{vars(called.error)}{called.http!r}{called.http._signer!r}"
    assert {"key": "AKIDVISIBLE", "secret": "verysecretkey"}[kind] not in shown


# --- guard and credentials -------------------------------------------------------------------------------------------


def test_guard_is_asked_before_every_signature(call: Call) -> None:
    asked = []

    def guard() -> None:
        asked.append(1)
        if len(asked) == 3:
            raise LeaseLost("chunk")

    called = call(BAD["throttled"], guard=guard)
    assert isinstance(called.error, LeaseLost)
    assert len(called.server.requests) == 2


def test_process_frozen_behind_the_guard_signs_for_the_time_before_it_was_frozen(
    call: Call, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [datetime(2024, 1, 15, 10, 30, tzinfo=UTC)]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return clock[0]

    def freeze_after_looking() -> None:
        clock[0] += timedelta(hours=1)

    monkeypatch.setattr(dynamodb_http, "datetime", Clock)
    called = call(reply(BODY), guard=freeze_after_looking)
    (headers, _) = called.server.requests[0]
    assert headers["x-amz-date"] == "20240115T103000Z"
