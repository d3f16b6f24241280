"""The migration's metrics through Airflow's own statistics: StatsD or OpenTelemetry, whichever Airflow is configured for."""

from __future__ import annotations

import re
from collections.abc import Sequence

from docferry.core.metric_data import Measurement


class AirflowStats:
    """Behind the library's port `MetricSink`: gauges `docferry.<migration>.<metric>`, and `.<label>` where a metric has one."""

    lost, why_lost = 0, ""

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None:
        """Airflow sends over UDP, or in a thread: nothing is waited for."""
        from airflow.sdk.observability import stats

        for one in measurements:
            words = ("docferry", migration, one.metric.name, *([one.label] if one.label else []))
            stats.gauge(".".join(map(plain, words)), one.latest)

    def hurry(self) -> None:
        """See the port."""


def plain(word: str) -> str:
    """As Airflow allows it in a name of its statistics."""
    return re.sub(r"[^a-zA-Z0-9_-]", "_", word)


def airflow_stats() -> list[AirflowStats]:
    """One, where Airflow tells its statistics to anything; measuring costs reads of the ledger."""
    from airflow.sdk.configuration import conf

    on = any(conf.getboolean("metrics", name, fallback=False) for name in ("statsd_on", "otel_on"))
    return [AirflowStats()] if on else []
