"""An AWS connection as a session whose every client goes where the connection says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import boto3
from airflow.providers.amazon.aws.hooks.base_aws import AwsBaseHook
from botocore.session import Session


class DocferryAwsHook(AwsBaseHook):
    """The provider's hook, which also gives its connection away as one session.

    :param aws_conn_id: The connection. Its extra may hold ``endpoint_url``, or ``service_config`` with one a service.
    :param region_name: The region of the target.
    """

    def __init__(self, *, aws_conn_id: str, region_name: str) -> None:
        super().__init__(aws_conn_id=aws_conn_id, region_name=region_name, client_type="dynamodb")

    def get_session_with_endpoints(self) -> boto3.Session:
        """A session with the connection's credentials (refreshed when they expire), region, endpoints and CA bundle.

        Why: the provider applies endpoints per client, through the hook. The fast writer and the control plane make
        their own clients, in several regions, from one session.
        """
        session = self.get_session(region_name=self.region_name)
        core = EndpointSession(self.conn_config.get_service_endpoint_url)
        core._credentials = session.get_credentials()
        core.set_config_variable("region", session.region_name)
        core.set_default_client_config(self.config)
        if isinstance(self.verify, str):
            core.set_config_variable("ca_bundle", self.verify)
        return boto3.Session(botocore_session=core)


class EndpointSession(Session):  # type: ignore[misc] # botocore has no types
    """A botocore session that asks a function for each service's endpoint; None means the service's own."""

    def __init__(self, endpoint_of: Callable[[str], str | None]) -> None:
        super().__init__()
        self._endpoint_of = endpoint_of

    def create_client(self, service_name: str, *args: Any, **kwargs: Any) -> Any:
        kwargs["endpoint_url"] = kwargs.get("endpoint_url") or self._endpoint_of(service_name)
        return super().create_client(service_name, *args, **kwargs)
