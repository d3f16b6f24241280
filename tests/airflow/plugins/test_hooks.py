"""Airflow connections become what the library needs, and their secrets stay out of the logs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from docferry.errors import ConfigError
from docferry.sandbox import SandboxStack
from pymongo.uri_parser import parse_uri

pytestmark = pytest.mark.usefixtures("airflow_home")


def mongo(monkeypatch: pytest.MonkeyPatch, **fields: Any) -> str:
    from docferry_airflow.hooks.mongo import DocferryMongoHook

    monkeypatch.setenv("AIRFLOW_CONN_M", json.dumps({"conn_type": "mongo"} | fields))
    return DocferryMongoHook(mongo_conn_id="m").get_uri_with_options()


def test_mongo_uri_holds_hosts_password_and_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = mongo(
        monkeypatch,
        host="a:27017,b:27018",
        login="me@x",
        password="p/w:?",
        extra={"replicaSet": "rs0", "authSource": "admin", "tls": True, "compressors": ["zlib"], "maxPoolSize": 7},
    )
    parts = parse_uri(uri)
    assert parts["nodelist"] == [("a", 27017), ("b", 27018)]
    assert (parts["username"], parts["password"]) == ("me@x", "p/w:?")
    assert {"replicaSet": "rs0", "authSource": "admin", "tls": True, "maxPoolSize": 7}.items() <= parts[
        "options"
    ].items()


def test_mongo_uri_without_options_is_the_providers(monkeypatch: pytest.MonkeyPatch) -> None:
    assert mongo(monkeypatch, host="a", port=1, schema="db") == "mongodb://a:1/db"


def test_mongo_uri_allows_invalid_certificates_only_if_told(monkeypatch: pytest.MonkeyPatch) -> None:
    uri = mongo(monkeypatch, host="a", extra={"ssl": True, "allow_insecure": True})
    assert parse_uri(uri)["options"]["tlsAllowInvalidCertificates"] is True


def test_mongo_uri_is_masked_in_logs(monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk import log

    redact = vars(log)["redact"]
    uri = mongo(monkeypatch, host="a", login="me", password="a secret of some length")
    assert "secret" not in str(redact(f"connecting to {uri}"))


def aws(monkeypatch: pytest.MonkeyPatch, **extra: Any) -> Any:
    from docferry_airflow.hooks.aws import DocferryAwsHook

    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_DYNAMODB"):
        monkeypatch.delenv(name, raising=False)
    fields = {"conn_type": "aws", "login": "AKIA", "password": "hush", "extra": extra}
    monkeypatch.setenv("AIRFLOW_CONN_A", json.dumps(fields))
    return DocferryAwsHook(aws_conn_id="a", region_name="eu-west-1").get_session_with_endpoints()


def test_every_client_of_the_session_goes_to_the_connections_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    services = {"dax": {"endpoint_url": "http://other:2"}}
    session = aws(monkeypatch, endpoint_url="http://one:1", service_config=services)
    assert session.client("dynamodb").meta.endpoint_url == "http://one:1"
    assert session.client("dynamodb", region_name="us-east-1").meta.endpoint_url == "http://one:1"
    assert session._session.create_client("dax").meta.endpoint_url == "http://other:2"


def test_session_without_endpoint_goes_to_the_region_with_the_connections_credentials(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    session = aws(monkeypatch)
    client = session.client("dynamodb")
    assert client.meta.endpoint_url == "https://dynamodb.eu-west-1.amazonaws.com"
    keys = session.get_credentials().get_frozen_credentials()
    assert (keys.access_key, keys.secret_key) == ("AKIA", "hush")


def test_credentials_that_expire_are_refreshed_by_the_handed_on_session(
    stack: SandboxStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    from botocore.credentials import RefreshableCredentials

    session = aws(
        monkeypatch,
        role_arn="arn:aws:iam::123456789012:role/docferry",
        region_name="us-east-1",
        service_config={"sts": {"endpoint_url": stack.aws.endpoint}},
    )
    credentials = session.get_credentials()
    assert isinstance(credentials, RefreshableCredentials)
    assert credentials.get_frozen_credentials().token


def test_fast_writer_and_boto3_agree_on_the_endpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from docferry.adapters.aws.endpoint import endpoint_of

    endpoint = endpoint_of(aws(monkeypatch, endpoint_url="http://one:1", verify=str(tmp_path / "ca.pem")))
    assert (endpoint.host, endpoint.port, endpoint.tls, endpoint.region) == ("one", 1, False, "eu-west-1")
    with pytest.raises(ConfigError, match=r"ca\.pem"):  # the connection's certificates, which are not there
        endpoint_of(aws(monkeypatch, endpoint_url="https://one:1", verify=str(tmp_path / "ca.pem")))
