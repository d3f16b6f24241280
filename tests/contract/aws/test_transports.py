"""Proxies, certificates and credentials: each works in both transports, or is refused before the first request.

The servers are real ones, with certificates of a CA of their own.
"""

from __future__ import annotations

import asyncio
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
import uvloop
from botocore.credentials import RefreshableCredentials
from botocore.exceptions import CredentialRetrievalError
from docferry.adapters.aws.client_dynamodb import AsyncCalls, SyncCalls
from docferry.adapters.aws.endpoint import aws_client, endpoint_of
from docferry.client.transport.sync_driver import run
from docferry.core.backoff import Backoff
from docferry.errors import AccessDenied, ConfigError, PermanentStoreError, RetryExhausted, StoreError
from support.aws.servers import EmptyDynamo, Proxy, make_certificates

VARIABLES = (
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB", "AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy", "AWS_PROFILE", "AWS_SESSION_TOKEN",
    "AWS_USE_FIPS_ENDPOINT", "AWS_USE_DUALSTACK_ENDPOINT", "SSL_CERT_FILE", "SSL_CERT_DIR",
)  # fmt: skip
KINDS = ("blocking", "asyncio", "uvloop")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def server(certificates: tuple[Path, Path]) -> Iterator[EmptyDynamo]:
    with EmptyDynamo(certificates[1]) as made:
        yield made


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def session() -> boto3.Session:
    return boto3.Session("key", "secret", region_name="us-east-1")


def use(
    kind: str, made_of: boto3.Session, calls: int = 1, between: Callable[[], None] = lambda: None, **options: Any
) -> None:
    """So many calls over one transport, one after the other."""

    async def all_calls(transport: Any) -> None:
        for number in range(calls):
            if number:
                between()
            assert await transport.call("ListTables", {}) == {}
        await transport.close()

    def asynchronous() -> Any:
        async def start() -> None:
            await all_calls(AsyncCalls(made_of, **options))

        return start()

    if kind == "blocking":
        run(all_calls(SyncCalls(made_of, **options)))
    else:
        (uvloop.run if kind == "uvloop" else asyncio.run)(asynchronous())


# --- certificates ----------------------------------------------------------------------------------------------------


def test_named_ca_bundle_is_trusted(
    kind: str, server: EmptyDynamo, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
    for variable in ("AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE"):
        monkeypatch.setenv(variable, str(certificates[0]))
        use(kind, session(), calls=2)
        monkeypatch.delenv(variable)
    assert len(server.requests) == 4
    assert server.connections == 2


def test_unknown_ca_is_refused_at_once_and_says_what_to_do(
    kind: str, server: EmptyDynamo, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
    started = time.monotonic()
    with pytest.raises(PermanentStoreError, match=r"certificate of localhost:\d+ is not trusted.*AWS_CA_BUNDLE"):
        use(kind, session())
    assert time.monotonic() - started < 5
    assert server.requests == []


@pytest.mark.parametrize("content", [None, "this is no certificate"])
def test_ca_bundle_that_cannot_be_read_is_refused_before_the_first_request(
    kind: str, content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    with pytest.raises(ConfigError, match=r"bundle\.pem cannot be used"):
        use(kind, session())


# --- proxies ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("login", ["", "user:p@ss"])
def test_tunnel_through_a_proxy(
    kind: str, login: str, server: EmptyDynamo, certificates: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = f"Basic {b64encode(login.encode()).decode()}" if login else ""
    with Proxy(expected) as proxy:
        at = "user:p%40ss@" if login else ""
        monkeypatch.setenv("HTTPS_PROXY", f"http://{at}127.0.0.1:{proxy.port}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificates[0]))
        use(kind, session(), calls=2)
        assert proxy.asked == [f"CONNECT localhost:{server.port}"]
    assert [one["path"] for one in server.requests] == ["/", "/"]
    assert "proxy-authorization" not in server.requests[0]


def test_plain_requests_go_through_a_proxy(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmptyDynamo() as server, Proxy() as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{proxy.port}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        use(kind, session())
        assert proxy.asked == [f"POST {server.url}/"]
        assert server.requests[0]["host"] == f"localhost:{server.port}"


def test_no_proxy_is_minded(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmptyDynamo() as server:
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        monkeypatch.setenv("NO_PROXY", "localhost")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        use(kind, session())
        assert len(server.requests) == 1


@pytest.mark.parametrize("status", [403, 407])
def test_proxy_that_refuses_is_told_at_once(
    kind: str, status: int, server: EmptyDynamo, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Proxy(refuse_with=status) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        with pytest.raises(PermanentStoreError, match=rf"proxy 127\.0\.0\.1:{proxy.port} refused .* HTTP {status}"):
            use(kind, session())


def test_proxy_that_is_away_is_named(kind: str, server: EmptyDynamo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
    with pytest.raises(RetryExhausted, match=r"through the proxy 127\.0\.0\.1:9"):
        use(kind, session(), backoff=Backoff(for_s=0.1))


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "socks5://127.0.0.1:1", "http://127.0.0.1:port", "http://"])
def test_proxy_of_another_kind_is_refused_before_the_first_request(
    kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        use(kind, session())


# --- endpoints -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["nonsense", "http://", "http://host:port", "https://gateway/dynamodb", "http:/host"])
def test_endpoint_that_is_none_is_a_problem_of_the_environment(
    kind: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", url)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        use(kind, session())


def test_every_service_names_the_variable_of_a_wrong_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "nonsense")
    for service in ("dynamodb", "dynamodbstreams", "s3"):
        with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL_" + service.upper()):
            aws_client(session().client, service)


def test_fips_and_dual_stack_endpoints_are_botocores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_USE_FIPS_ENDPOINT", "true")
    assert endpoint_of(session()).host == "dynamodb-fips.us-east-1.amazonaws.com"
    monkeypatch.delenv("AWS_USE_FIPS_ENDPOINT")
    monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", "https://vpce-1-abc.dynamodb.us-east-1.vpce.amazonaws.com")
    assert endpoint_of(session()).authority == "vpce-1-abc.dynamodb.us-east-1.vpce.amazonaws.com"


# --- idle connections ------------------------------------------------------------------------------------------------


def test_connection_that_the_server_closed_while_it_was_idle_costs_no_attempt(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with EmptyDynamo(idle_s=0.3) as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)

        def idle() -> None:
            deadline = time.monotonic() + 5
            while server.closed < server.connections and time.monotonic() < deadline:
                time.sleep(0.01)

        use(kind, session(), calls=3, between=idle, backoff=Backoff(for_s=0.0))
        assert len(server.requests) == 3
        assert server.connections == 3


# --- credentials -----------------------------------------------------------------------------------------------------


class Metadata:
    """A source of credentials that live for so many seconds; it can be out of order."""

    def __init__(self, live_s: float = 60.0) -> None:
        self.live_s, self.given, self.broken = live_s, 0, 0

    def fetch(self) -> dict[str, str]:
        if self.broken:
            self.broken -= 1
            raise CredentialRetrievalError(provider="iam-role", error_msg="the metadata server does not answer")
        self.given += 1
        expiry = (datetime.now(UTC) + timedelta(seconds=self.live_s)).isoformat()
        return {"access_key": f"k{self.given}", "secret_key": "s", "token": f"t{self.given}", "expiry_time": expiry}

    def session(self) -> boto3.Session:
        made = boto3.Session(region_name="us-east-1")
        made._session._credentials = RefreshableCredentials.create_from_metadata(self.fetch(), self.fetch, "iam-role")
        return made


def test_credentials_are_fetched_anew_in_the_middle(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with EmptyDynamo() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        use(kind, Metadata().session(), calls=3)
        tokens = [one["x-amz-security-token"] for one in server.requests]
        assert len(set(tokens)) == 3
        keys = [one["authorization"].split("Credential=")[1].split("/")[0] for one in server.requests]
        assert [key[1:] for key in keys] == [token[1:] for token in tokens]


def test_source_of_credentials_that_stumbles_in_the_middle_is_asked_again(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    metadata = Metadata()
    made = metadata.session()

    def stumble() -> None:
        metadata.broken = 2

    with EmptyDynamo() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        use(kind, made, calls=2, between=stumble)
        assert len(server.requests) == 2


def test_source_of_credentials_that_never_answers_is_access_denied(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    metadata = Metadata()
    made = metadata.session()
    metadata.broken = 1_000
    with EmptyDynamo() as server:
        monkeypatch.setenv("AWS_ENDPOINT_URL_DYNAMODB", server.url)
        with pytest.raises(StoreError) as refused:
            use(kind, made)
    assert isinstance(refused.value, AccessDenied)
