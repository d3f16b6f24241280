"""Puts what measures before what publishes: for flows, and for applications that want other metrics than the default."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from docferry.adapters.aws.metrics.cloudwatch import CloudWatchMetrics
from docferry.adapters.local.scrape import ScrapedMetrics
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
        shared = CloudWatchMetrics(connections.session, job.migration.target.region)
    with ExitStack() as opened:
        sinks = list(local)
        if port is not None:
            page = opened.enter_context(ScrapedMetrics(port, host))
            job.progress.say(f"metrics for Prometheus: http://{host}:{page.port}/metrics")
            sinks.append(page)
        with monitored(job, shared=shared, local=sinks):
            yield
