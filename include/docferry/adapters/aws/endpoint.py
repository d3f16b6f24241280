"""Where DynamoDB is, and the way there: endpoint, proxy, certificates. All as boto3 itself would have it.

What our own transports cannot do is refused here, before the first request, with the name of the setting.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

import boto3
from botocore.exceptions import BotoCoreError
from botocore.httpsession import get_cert_path
from botocore.utils import get_environ_proxies

from docferry.adapters.aws.errors import error_for_sdk
from docferry.errors import ConfigError, PermanentStoreError, Problem

SERVICE = "dynamodb"


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy. `authorization` is the header's value, '' without credentials."""

    host: str
    port: int
    authorization: str = field(default="", repr=False)

    @property
    def headers(self) -> dict[str, str]:
        return {"Proxy-Authorization": self.authorization} if self.authorization else {}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where DynamoDB is. `context` holds the certificates that are trusted, None without TLS."""

    host: str
    port: int
    tls: bool
    region: str
    proxy: Proxy | None = None
    context: ssl.SSLContext | None = field(default=None, repr=False, compare=False)

    @property
    def authority(self) -> str:
        """The Host header: the port only where it is not the scheme's own."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.authority}/"


def aws_client(make: Callable[..., Any], service: str, **options: Any) -> Any:
    """A client of a service, by a session's own method: `aws_client(session.client, "dynamodb")`.

    Raises: ConfigError for an endpoint that is no URL; StoreError for what else botocore refuses.
    """
    try:
        client = make(service, **options)
        parts = urlsplit(client.meta.endpoint_url)
        if parts.scheme not in ("http", "https") or parts.port == 0:  # a port that is no number raises here, too
            raise ValueError(f"Invalid endpoint: {client.meta.endpoint_url}")
    except ValueError as error:
        variable = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}"
        raise _refused(f"AWS_ENDPOINT_URL or {variable}", str(error), "https://host, or https://host:port") from error
    except BotoCoreError as error:
        raise error_for_sdk(f"open a client of {service}", error) from error
    return client


def endpoint_of(session: boto3.Session) -> Endpoint:
    """The endpoint that boto3 itself would use: AWS_ENDPOINT_URL*, FIPS and dual-stack settings, profile, or the region's.

    Raises: ConfigError, naming the setting, for an endpoint, proxy or CA bundle that cannot be used.
    """
    client = aws_client(session.client, SERVICE)
    url = client.meta.endpoint_url
    parts = urlsplit(url)
    if parts.path not in ("", "/") or parts.query:
        raise _refused(
            "AWS_ENDPOINT_URL", f"{url} has a path, and DynamoDB has none", "https://host, or https://host:port"
        )
    tls = parts.scheme == "https"
    return Endpoint(
        parts.hostname or "",
        _port_of(parts, "AWS_ENDPOINT_URL", 443 if tls else 80),
        tls,
        client.meta.region_name,
        _proxy_of(client.meta.config.proxies, url),
        _context_of(session) if tls else None,
    )


def _proxy_of(configured: dict[str, str] | None, url: str) -> Proxy | None:
    scheme = urlsplit(url).scheme
    variable = f"{scheme.upper()}_PROXY"
    text = (get_environ_proxies(url) if configured is None else configured).get(scheme)
    if not text:
        return None
    parts = urlsplit(text if "://" in text else f"http://{text.removeprefix('//')}")
    if parts.scheme != "http" or not parts.hostname:
        what = f"a proxy of the kind {parts.scheme}:// is not supported"
        raise _refused(variable, what, "http://host:port (the connection to AWS inside it is encrypted all the same)")
    login = ":".join(unquote(part or "") for part in (parts.username, parts.password))
    authorization = f"Basic {b64encode(login.encode()).decode()}" if parts.username else ""
    return Proxy(parts.hostname, _port_of(parts, variable, 80), authorization)


def _port_of(parts: SplitResult, where: str, default: int) -> int:
    try:
        return parts.port or default
    except ValueError as error:
        raise _refused(where, f"the port is no number: {error}", "https://host:port") from error


def _context_of(session: boto3.Session) -> ssl.SSLContext:
    """The system's certificates and those that botocore carries; or the bundle that is named, and no others."""
    bundle = session._session.get_config_variable("ca_bundle")
    bundle = bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE")
    try:
        if bundle:
            return ssl.create_default_context(cafile=bundle)
        context = ssl.create_default_context()
        context.load_verify_locations(get_cert_path(True))
        return context
    except OSError as error:  # ssl.SSLError is one
        what = f"the CA bundle {bundle or get_cert_path(True)} cannot be used: {error}"
        raise _refused("AWS_CA_BUNDLE", what, "the path of a PEM file") from error


def untrusted(endpoint: Endpoint, operation: str, reason: object) -> PermanentStoreError:
    """The server's certificate is not trusted: no later attempt changes that."""
    text = (
        f"{operation}: the certificate of {endpoint.authority} is not trusted ({reason}). If a proxy inspects TLS here, or "
        "the endpoint has a CA of its own, name that CA's PEM file in AWS_CA_BUNDLE"
    )
    return PermanentStoreError(text, operation=operation, code="CertificateNotTrusted")


def proxy_refused(endpoint: Endpoint, operation: str, status: int) -> PermanentStoreError:
    """The proxy does not let us through."""
    proxy = f"{endpoint.proxy.host}:{endpoint.proxy.port}" if endpoint.proxy else "the proxy"
    hint = (
        "put its user and password into the proxy's URL"
        if status == 407
        else "ask the administrator of the proxy, or set NO_PROXY"
    )
    text = f"{operation}: the proxy {proxy} refused the connection to {endpoint.authority} with HTTP {status}: {hint}"
    return PermanentStoreError(text, operation=operation, code=f"Proxy{status}")


def _refused(where: str, what: str, suggestion: str) -> ConfigError:
    return ConfigError("environment", [Problem(where=where, what=what, suggestion=suggestion)])
