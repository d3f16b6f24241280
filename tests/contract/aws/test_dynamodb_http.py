"""The bare HTTP client: botocore's signatures, every way an answer can come or fail to, retries by type.

The server is a real one, on a real socket; each test says what it answers.
"""

from __future__ import annotations

import asyncio
import re
import zlib
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from docferry.adapters.aws import dynamodb_http
from docferry.adapters.aws.dynamodb_http import DynamoHttp, Endpoint, Signer, endpoint_of
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
from hypothesis import given
from hypothesis import strategies as st

# --- signatures ------------------------------------------------------------------------------------------------------

_printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=60)
_moments = st.datetimes(datetime(2015, 1, 1), datetime(2099, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))
_endpoints = st.builds(
    Endpoint,
    st.sampled_from(("dynamodb.us-east-1.amazonaws.com", "127.0.0.1", "localhost")),
    st.sampled_from((80, 443, 4566)),
    st.booleans(),
    st.sampled_from(("us-east-1", "eu-west-1", "us-gov-west-1")),
)


def head_of(head: bytes) -> tuple[str, dict[str, str]]:
    first, *lines = head.decode().removesuffix("\r\n\r\n").split("\r\n")
    return first, {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}


def signature_of_botocore(headers: dict[str, str], body: bytes, endpoint: Endpoint, credentials: Credentials) -> str:
    names = ("host", "content-type", "x-amz-date", "x-amz-target", "x-amz-security-token")
    scheme = "https" if endpoint.tls else "http"
    request = AWSRequest(
        "POST", f"{scheme}://{endpoint.authority}/", {n: headers[n] for n in names if n in headers}, body
    )
    request.context["timestamp"] = headers["x-amz-date"]
    auth = SigV4Auth(credentials, "dynamodb", endpoint.region)
    text = auth.string_to_sign(request, auth.canonical_request(request))
    signed = ";".join(sorted(request.headers.keys()))
    scope = f"{credentials.access_key}/{auth.credential_scope(request)}"
    return f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders={signed}, Signature={auth.signature(text, request)}"


@given(
    _printable, _printable, st.one_of(st.none(), _printable), _endpoints, st.binary(max_size=200), _moments, _moments
)
def test_signature_is_botocores(
    key: str, secret: str, token: str | None, endpoint: Endpoint, body: bytes, now: datetime, later: datetime
) -> None:
    credentials = Credentials(key, secret, token)
    signer = Signer(credentials, endpoint)
    for moment in (now, later):  # the day's key is kept, and must not outlive the day
        first, headers = head_of(signer.headers("DynamoDB_20120810.PutItem", body, moment))
        assert first == "POST / HTTP/1.1"
        assert headers["content-length"] == str(len(body))
        assert headers.get("x-amz-security-token") == token
        assert headers["authorization"] == signature_of_botocore(headers, body, endpoint, credentials)


def test_port_is_named_only_where_it_is_not_the_schemes_own() -> None:
    assert Endpoint("h", 443, True, "r").authority == "h"
    assert Endpoint("h", 80, False, "r").authority == "h"
    assert Endpoint("h", 443, False, "r").authority == "h:443"


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


def chunked(*chunks: bytes, trailer: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n")
        for chunk in chunks:
            writer.write(f"{len(chunk):X};name=value\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(f"0\r\n{trailer}\r\n".encode())

    return answer


def error(kind: str, status: int = 400, message: str = "no") -> Answer:
    prefix = "com.amazonaws.dynamodb.v20120810#"
    return reply(f'{{"__type":"{prefix}{kind}","message":"{message}"}}'.encode(), status)


def crc(body: bytes, wrong: int = 0) -> str:
    return f"x-amz-crc32: {zlib.crc32(body) ^ wrong}\r\n"


async def hang(writer: asyncio.StreamWriter) -> None:
    """No answer, and the connection stays open."""


async def hang_up(writer: asyncio.StreamWriter) -> bool:
    return True


def raw(data: bytes) -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> bool:
        writer.write(data)
        return True

    return answer


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
    monkeypatch.setattr(dynamodb_http, "BACKOFF_BASE_S", 0.001)
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
                    session or boto3.Session("key", "secret", region_name="us-east-1"), retry_for_s, timeout_s
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
GOOD: dict[str, Answer] = {
    "content-length": reply(BODY),
    "checksum": reply(BODY, headers=crc(BODY)),
    "one chunk": chunked(BODY),
    "many chunks and a trailer": chunked(*(BODY[i : i + 1] for i in range(len(BODY))), trailer="x-checksum: 1\r\n"),
    "connection: close": reply(BODY, headers="Connection: Close\r\n"),
    "until the end of the connection": reply(BODY, headers="Connection: close\r\n", length=False),
}


@pytest.mark.parametrize("form", GOOD)
def test_answer_of_any_form_is_read_whole(call: Call, form: str) -> None:
    called = call(GOOD[form], times=3)
    assert (called.answers, called.error) == ([BODY] * 3, None)
    assert len(called.server.requests) == 3


def test_large_answer_is_read_whole(call: Call) -> None:
    body = b'"' + bytes(range(32, 34)) * 2_000_000 + b'"'
    assert call(reply(body, headers=crc(body))).answers == [body]


def test_empty_answer_is_an_answer(call: Call) -> None:
    assert call(reply(b"")).answers == [b""]


def test_request_is_what_dynamodb_expects(call: Call) -> None:
    called = call(reply(), body=b'{"TableName":"T"}')
    ((headers, body),) = called.server.requests
    assert body == b'{"TableName":"T"}'
    assert headers["x-amz-target"] == "DynamoDB_20120810.PutItem"
    assert headers["content-type"] == "application/x-amz-json-1.0"
    assert headers["host"] == called.http.endpoint.authority
    credentials = Credentials("key", "secret")
    assert headers["authorization"] == signature_of_botocore(headers, body, called.http.endpoint, credentials)


def test_connection_is_kept_and_given_up_when_the_server_says_so(call: Call) -> None:
    assert call(reply(), times=5).server.connections == 1
    assert call(chunked(b"{}"), times=5).server.connections == 1
    assert call(reply(headers="Connection: close\r\n"), times=5).server.connections == 5


def test_connection_that_the_server_closed_meanwhile_costs_nothing_but_a_new_one(call: Call) -> None:
    async def answer_and_leave(writer: asyncio.StreamWriter) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        return True

    called = call(answer_and_leave, times=4)
    assert called.answers == [b"{}"] * 4
    assert called.server.connections == 4


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
        http = DynamoHttp(boto3.Session("key", "secret", region_name="us-east-1"), 0.0)
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
    "empty 413": (reply(b"", 413), PermanentStoreError),
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


def refreshing_session(refresh: Callable[[], dict[str, str]]) -> boto3.Session:
    """Credentials that have run out and are fetched anew each time: they live for less than botocore's margin."""
    session = boto3.Session(region_name="us-east-1")
    session._session._credentials = RefreshableCredentials.create_from_metadata(
        {"access_key": "old", "secret_key": "old", "token": "old", "expiry_time": _in_s(-60)}, refresh, "test"
    )
    return session


def _in_s(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()


def test_credentials_that_ran_out_are_fetched_anew(call: Call) -> None:
    count = iter(range(1, 100))

    def refresh() -> dict[str, str]:
        number = next(count)
        # Within botocore's mandatory margin of ten minutes: asked again at the next signature.
        return {"access_key": f"k{number}", "secret_key": "s", "token": f"t{number}", "expiry_time": _in_s(60)}

    called = call(reply(), times=3, session=refreshing_session(refresh))
    assert called.error is None
    tokens = [headers["x-amz-security-token"] for headers, _ in called.server.requests]
    keys = [re.findall(r"Credential=(\w+)/", headers["authorization"])[0] for headers, _ in called.server.requests]
    assert len(set(tokens)) == 3
    assert [key[1:] for key in keys] == [token[1:] for token in tokens]


def test_credentials_that_cannot_be_fetched_are_access_denied(call: Call) -> None:
    def refresh() -> dict[str, str]:
        raise CredentialRetrievalError(provider="test", error_msg="no way")

    assert isinstance(call(reply(), session=refreshing_session(refresh)).error, AccessDenied)


def test_no_credentials_is_a_clear_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    for name in ("AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StoreError, match="credentials") as caught:
        DynamoHttp(boto3.Session(region_name="us-east-1"))
    assert not caught.value.retryable


def test_endpoint_is_the_one_boto3_would_use(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    session = boto3.Session("key", "secret", region_name="eu-west-1")
    assert endpoint_of(session) == Endpoint("dynamodb.eu-west-1.amazonaws.com", 443, True, "eu-west-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:4566")
    session = boto3.Session("key", "secret", region_name="eu-west-1")
    assert endpoint_of(session) == Endpoint("127.0.0.1", 4566, False, "eu-west-1")
