"""Puts what measures before what publishes: for flows, and for applications that want other metrics than the default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from docferry.adapters.aws.metrics.cloudwatch import CloudWatchMetrics
from docferry.adapters.local.scrape import ScrapedMetrics
from docferry.client.metrics.summed import EmbeddedMetrics, SummedMetrics
from docferry.config import load_migration
from docferry.core.settings import MonitoringSettings
from docferry.flows.kernel.job import Job
from docferry.flows.reporting.monitor import monitored
from docferry.ports.metrics import MetricSink
from docferry.wiring import Connections


@contextmanager
def measured(
    connections: Connections,
    job: Job,
    *,
    port: int | None = None,
    host: str = "127.0.0.1",
    local: Sequence[MetricSink] = (),
) -> Iterator[None]:
    """Measure and publish while the block runs, as the file says; `port`: also on a page for Prometheus."""
    settings = job.migration.monitoring
    shared = None
    if settings is not None and settings.cloudwatch:
        shared = CloudWatchMetrics(connections.aws(job.migration), job.migration.target.region)
    with ExitStack() as opened:
        sinks = list(local)
        if port is not None:
            page = opened.enter_context(ScrapedMetrics(port, host))
            job.progress.say(f"metrics for Prometheus: http://{host}:{page.port}/metrics")
            sinks.append(page)
        with monitored(job, shared=shared, local=sinks):
            yield


def embedded_metrics(file: str | Path, stream: IO[str]) -> SummedMetrics:
    """For `docferry.connect(file, metrics=...)`: the application's latencies and failures as lines on a stream of its own, in
    CloudWatch's embedded metric format, as often as the file's `monitoring.every_s` says. Raises ConfigError."""
    migration = load_migration(file)
    every_s = (migration.monitoring or MonitoringSettings()).every_s
    return SummedMetrics(migration.name, EmbeddedMetrics(stream), every_s)
