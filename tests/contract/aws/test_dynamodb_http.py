"""The bare HTTP client: botocore's signatures, every way an answer can come or fail to, retries by type.

The server is a real one, on a real socket; each test says what it answers.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials, RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from docferry.adapters.aws.dynamodb_http import DynamoHttp
from docferry.adapters.aws.endpoint import Endpoint, endpoint_of
from docferry.adapters.aws.signing import Signer
from docferry.errors import (
    AccessDenied,
    StoreError,
)
from hypothesis import given
from hypothesis import strategies as st
from support.aws.http_server import BODY, Answer, Call, call, crc, head_of, reply

__all__ = ["call"]

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
        first, headers = head_of(signer.head("PutItem", body, moment))
        assert first == "POST / HTTP/1.1"
        assert headers["content-length"] == str(len(body))
        assert headers.get("x-amz-security-token") == token
        assert headers["authorization"] == signature_of_botocore(headers, body, endpoint, credentials)


def test_port_is_named_only_where_it_is_not_the_schemes_own() -> None:
    assert Endpoint("h", 443, True, "r").authority == "h"
    assert Endpoint("h", 80, False, "r").authority == "h"
    assert Endpoint("h", 443, False, "r").authority == "h:443"


def chunked(*chunks: bytes, trailer: str = "") -> Answer:
    async def answer(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n")
        for chunk in chunks:
            writer.write(f"{len(chunk):X};name=value\r\n".encode() + chunk + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.005)
        writer.write(f"0\r\n{trailer}\r\n".encode())

    return answer


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
