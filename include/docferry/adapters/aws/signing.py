"""AWS Signature Version 4 for DynamoDB. A contract test holds it against botocore's own."""

from __future__ import annotations

import hashlib
import hmac
from datetime import UTC, datetime
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError

from docferry.adapters.aws.endpoint import SERVICE, Endpoint
from docferry.adapters.aws.errors import error_for_sdk
from docferry.errors import StoreError, Unavailable

TARGET = "DynamoDB_20120810."


class Signer:
    """Signatures for one service and region; the day's key is kept. Shared between threads: what is kept is one tuple."""

    def __init__(self, credentials: Any, endpoint: Endpoint) -> None:
        self._credentials = credentials  # botocore's: refreshes itself
        self._endpoint = endpoint
        self._kept: tuple[str, str, bytes] = ("", "", b"")
        self._had_keys = False

    def __repr__(self) -> str:
        return f"Signer({self._endpoint.region!r})"

    @property
    def must_refresh(self) -> bool:
        """Whether the next signature fetches credentials first, from IMDS, STS or SSO: it may take seconds."""
        asked = getattr(self._credentials, "refresh_needed", None)
        return bool(asked is not None and asked())

    def refresh(self) -> None:
        """Fetch credentials now, if they are due. Raises as `signed` does."""
        self._keys("sign")

    def signed(self, operation: str, body: bytes, now: datetime | None = None) -> dict[str, str]:
        """The headers of a request, signature included.

        Raises: AccessDenied if there are no credentials; Unavailable if they cannot be fetched anew, but could before.
        """
        keys, target = self._keys(operation), TARGET + operation
        stamp = (now or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
        host = self._endpoint.authority
        token = f"x-amz-security-token:{keys.token}\n" if keys.token else ""
        names = "content-type;host;x-amz-date;" + ("x-amz-security-token;" if token else "") + "x-amz-target"
        canonical = (
            f"POST\n/\n\ncontent-type:application/x-amz-json-1.0\nhost:{host}\nx-amz-date:{stamp}\n{token}"
            f"x-amz-target:{target}\n\n{names}\n{hashlib.sha256(body).hexdigest()}"
        )
        scope = f"{stamp[:8]}/{self._endpoint.region}/{SERVICE}/aws4_request"
        digest = hashlib.sha256(canonical.encode()).hexdigest()
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{digest}"
        signature = hmac.new(self._signing_key(keys.secret_key, stamp[:8]), text.encode(), hashlib.sha256).hexdigest()
        headers = {
            "Host": host,
            "Content-Type": "application/x-amz-json-1.0",
            "X-Amz-Date": stamp,
            "X-Amz-Target": target,
            "Authorization": f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, SignedHeaders={names}, "
            f"Signature={signature}",
        }
        if keys.token:
            headers["X-Amz-Security-Token"] = keys.token
        return headers

    def head(self, operation: str, body: bytes, now: datetime | None = None) -> bytes:
        """The whole request head, ready to send before `body`."""
        headers = self.signed(operation, body, now)
        path, proxy = "/", self._endpoint.proxy
        if proxy is not None and not self._endpoint.tls:
            path, headers = self._endpoint.url, headers | proxy.headers
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
        return f"POST {path} HTTP/1.1\r\n{lines}Content-Length: {len(body)}\r\n\r\n".encode()

    def _keys(self, operation: str) -> Any:
        try:
            keys = self._credentials.get_frozen_credentials()
        except BotoCoreError as error:
            if (
                self._had_keys
            ):  # they are fetched anew minutes before they end: a metadata server that stumbles is asked again
                text = f"{operation}: the AWS credentials could not be refreshed: {error}"
                raise Unavailable(text, operation=operation, code=type(error).__name__) from error
            raise error_for_sdk(operation, error) from error
        self._had_keys = True
        return keys

    def _signing_key(self, secret: str, day: str) -> bytes:
        kept_secret, kept_day, key = self._kept
        if (kept_secret, kept_day) != (secret, day):
            key = ("AWS4" + secret).encode()
            for part in (day, self._endpoint.region, SERVICE, "aws4_request"):
                key = hmac.new(key, part.encode(), hashlib.sha256).digest()
            self._kept = (secret, day, key)
        return key


def signer_of(session: boto3.Session, endpoint: Endpoint) -> Signer:
    """A signer with the session's credentials. Raises StoreError if there are none."""
    credentials = session.get_credentials()
    if credentials is None:
        text = "there are no AWS credentials: set the AWS variables, a profile, or the aws connection"
        raise StoreError(text, operation="sign", code="NoCredentials")
    return Signer(credentials, endpoint)
