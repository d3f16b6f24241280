"""Carries out calls to AWS's control planes that are given as values, with a client for each service and region."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from botocore.config import Config
from botocore.session import Session

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call_or_none, quota_of
from docferry.core.estate.resources import AwsCall
from docferry.errors import ControlPlaneBusy


class ControlPlane:
    """For one account. Clients are made on first use."""

    def __init__(self, session: Session, region: str, config: Config) -> None:
        self._session, self._region, self._config = session, region, config
        self._clients: dict[tuple[str, str], Any] = {}

    def ask(self, call: AwsCall) -> Mapping[str, Any] | None:
        """The reply; None where AWS says by one of `call.absent` that there is no such thing. Raises StoreError."""
        operation = getattr(self._client(call.service, call.region or self._region), call.operation)
        try:
            return call_or_none(operation, *call.absent, **call.arguments)
        except ControlPlaneBusy as error:
            if call.service == "dynamodb" or error.code != "LimitExceededException":
                raise
            raise quota_of(error) from error

    def _client(self, service: str, region: str) -> Any:
        if (service, region) not in self._clients:
            made = aws_client(self._session.create_client, service, region_name=region, config=self._config)
            self._clients[service, region] = made
        return self._clients[service, region]
