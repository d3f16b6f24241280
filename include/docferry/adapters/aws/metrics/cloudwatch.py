"""CloudWatch behind `ports.metrics.MetricSink`: batched PutMetricData. botocore itself compresses what is longer than 10 KB."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

from docferry.adapters.aws.endpoint import aws_client
from docferry.adapters.aws.errors import call
from docferry.core.backoff import Backoff
from docferry.core.metric_data import Measurement, requests_of
from docferry.core.metric_names import NAMESPACE
from docferry.errors import MigrationError, TransientStoreError

ONCE = Config(retries={"mode": "standard", "total_max_attempts": 1}, connect_timeout=3, read_timeout=5)
"""Seconds. How a call is tried again is `BACKOFF`'s to say."""
BACKOFF = Backoff(for_s=30.0, first_s=0.2, cap_s=5.0)
"""Within a minute the next measurements are due."""


class CloudWatchMetrics:
    """Publishes in the namespace MongoDB-Migration. Blocks; use it beside what must not wait. Thread-safe."""

    def __init__(self, session: boto3.Session, region: str, backoff: Backoff = BACKOFF) -> None:
        self._session, self._region, self._backoff = session, region, backoff
        self._hurried = threading.Event()
        self.lost = 0
        self.why_lost = ""

    def __repr__(self) -> str:
        return f"CloudWatchMetrics({self._region!r}, {self.lost} lost)"

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None:
        """Each request by itself: one that is lost does not lose the others."""
        for data in requests_of(migration, measurements, at_ms):
            try:
                self._put(data)
            except MigrationError as error:
                self.lost += len(data)
                self.why_lost = str(error)

    def hurry(self) -> None:
        """See the port."""
        self._hurried.set()

    def _put(self, data: list[dict[str, Any]]) -> None:
        """Raises: StoreError, RetryExhausted, ConfigError."""
        attempts = self._backoff.attempts("PutMetricData")
        while True:
            try:
                call(self._client.put_metric_data, Namespace=NAMESPACE, MetricData=data)
            except TransientStoreError as error:
                if self._hurried.wait(attempts.failed(error)):
                    raise
            else:
                return

    @cached_property
    def _client(self) -> Any:
        return aws_client(self._session.client, "cloudwatch", region_name=self._region, config=ONCE)
