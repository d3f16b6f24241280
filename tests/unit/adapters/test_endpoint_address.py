"""An endpoint that could never be one is refused by its setting's name, before the first request."""

from __future__ import annotations

import boto3
import pytest
from docferry.adapters.aws.endpoint import aws_client
from docferry.errors import ConfigError


@pytest.fixture
def session(monkeypatch: pytest.MonkeyPatch) -> boto3.Session:
    monkeypatch.delenv("AWS_ENDPOINT_URL_DYNAMODB", raising=False)
    return boto3.Session("key", "secret", region_name="us-east-1")


@pytest.mark.parametrize(
    "url", ["garbage", "https//host", "http://", "http://[::1", "ftp://host", "http://host:99999", "http://host:port"]
)
def test_endpoint_that_is_none_is_refused_by_name(
    url: str, session: boto3.Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    with pytest.raises(ConfigError, match="AWS_ENDPOINT_URL"):
        aws_client(session.client, "dynamodb")


@pytest.mark.parametrize("url", ["http://127.0.0.1:4566", "https://vpce-1.dynamodb.us-east-1.vpce.amazonaws.com"])
def test_endpoint_that_is_one_is_taken(url: str, session: boto3.Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", url)
    assert aws_client(session.client, "dynamodb").meta.endpoint_url == url
