"""Measurements, and how they are told: to PutMetricData in as many requests as its limits ask for, to logs, to Prometheus. Pure.

Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html (1,000 metrics and 1 MB a request,
150 different values a metric); from memory, not read today. Requests stay far below the megabyte.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from docferry.core.metric_names import MIGRATION, NAMESPACE, MetricName, Unit

MOST_METRICS = 1_000
MOST_VALUES = 150
MOST_BYTES = 150_000
"""Of a request as JSON, before it is compressed."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """What one metric was at one moment, or over a time. `label` is the value of its own dimension.

    `counts` are values and how often each was seen: of a gauge one value, once.
    """

    metric: MetricName
    counts: Mapping[float, float]
    label: str = ""

    @classmethod
    def of(cls, metric: MetricName, value: float, label: str = "") -> Measurement:
        """A gauge."""
        return cls(metric, {float(value): 1.0}, label)

    @property
    def latest(self) -> float:
        """The value of a gauge; of several values the greatest."""
        return max(self.counts)


def requests_of(migration: str, measurements: Iterable[Measurement], at_ms: int) -> Iterator[list[dict[str, Any]]]:
    """`MetricData` of one request after the other, as boto3 takes it; each within the limits, none empty."""
    request: list[dict[str, Any]] = []
    size = 0
    for datum in _data(migration, measurements, datetime.fromtimestamp(at_ms / 1000, UTC)):
        added = len(json.dumps(datum, default=str))
        if request and (len(request) == MOST_METRICS or size + added > MOST_BYTES):
            yield request
            request, size = [], 0
        request.append(datum)
        size += added
    if request:
        yield request


def _data(migration: str, measurements: Iterable[Measurement], at: datetime) -> Iterator[dict[str, Any]]:
    for one in measurements:
        dimensions = one.metric.dimensions(migration, one.label)
        values = iter(sorted(one.counts.items()))
        while part := list(islice(values, MOST_VALUES)):
            yield {
                "MetricName": one.metric.name,
                "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
                "Timestamp": at,
                "Unit": str(one.metric.unit),
                "Values": [value for value, _ in part],
                "Counts": [count for _, count in part],
            }


# --- embedded metric format ------------------------------------------------------------------------------------------

MOST_EMBEDDED = 100
"""Values of one metric in a line."""


def embedded_lines(migration: str, measurements: Iterable[Measurement], at_ms: int) -> Iterator[str]:
    """A line for each measurement in CloudWatch's embedded metric format.

    A line holds 100 values of a metric at most: of more, as many are told as come nearest to their distribution.
    Source: https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html,
    from memory, not read today.
    """
    for one in measurements:
        dimensions = one.metric.dimensions(migration, one.label)
        told = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(dimensions)],
            "Metrics": [{"Name": one.metric.name, "Unit": str(one.metric.unit)}],
        }
        values = _spread(one.counts)
        yield json.dumps(
            {
                "_aws": {"Timestamp": at_ms, "CloudWatchMetrics": [told]},
                **dimensions,
                one.metric.name: values if len(values) > 1 else values[0],
            }
        )


def _spread(counts: Mapping[float, float]) -> list[float]:
    """All values, or of more than 100 those in the middle of each of 100 equal parts."""
    total, most = sum(counts.values()), MOST_EMBEDDED
    if total <= most:
        return [value for value, count in sorted(counts.items()) for _ in range(int(count))]
    found: list[float] = []
    seen = 0.0
    for value, count in sorted(counts.items()):
        seen += count
        while len(found) < most and (len(found) + 0.5) * total / most <= seen:
            found.append(value)
    return found


# --- Prometheus ------------------------------------------------------------------------------------------------------

PROMETHEUS = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of `prometheus_text`. Source: https://prometheus.io/docs/instrumenting/exposition_formats/, from memory."""
_SUFFIXES = {
    Unit.PERCENT: "_percent",
    Unit.SECONDS: "_seconds",
    Unit.MILLISECONDS: "_milliseconds",
    Unit.COUNT_PER_SECOND: "_per_second",
}
_MEASURED = "docferry_measured_timestamp_seconds"


def prometheus_name(metric: MetricName) -> str:
    """ReplicationLag is docferry_replication_lag_seconds."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", metric.name).lower()
    return f"docferry_{words}{_SUFFIXES.get(metric.unit, '')}"


def prometheus_text(migration: str, measurements: Iterable[Measurement], at_ms: int) -> str:
    """A page for a scrape: gauges, and when they were measured."""
    groups: dict[str, list[str]] = {}
    for one in measurements:
        name = prometheus_name(one.metric)
        lines = groups.setdefault(name, [f"# HELP {name} {one.metric.what}", f"# TYPE {name} gauge"])
        lines.append(f"{name}{_labels(one.metric.dimensions(migration, one.label))} {one.latest!r}")
    at = _labels({MIGRATION: migration})
    groups[_MEASURED] = [f"# TYPE {_MEASURED} gauge", f"{_MEASURED}{at} {at_ms / 1000!r}"]
    return "\n".join([*(line for lines in groups.values() for line in lines), ""])


def _labels(dimensions: Mapping[str, str]) -> str:
    words = {re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower(): value for name, value in dimensions.items()}
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in words.items()) + "}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
