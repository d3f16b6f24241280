"""Which alarms and which widgets a migration has: of the file's thresholds, on docferry's own metrics and on DynamoDB's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from docferry.core import metric_names as m
from docferry.core.estate.kinds.alarms import Alarm, Topic
from docferry.core.estate.kinds.dashboard import Dashboard
from docferry.core.estate.resources import AwsPlace, Resource
from docferry.core.settings import TableSettings
from docferry.core.settings_estate import AlarmSettings

DYNAMODB = "AWS/DynamoDB"
CALLS = ("BatchGetItem", "BatchWriteItem", "GetItem", "PutItem", "Query", "TransactWriteItems")
"""DynamoDB counts its own errors by operation: those that the application and docferry live on."""
SUSTAINED_MIN = 5
"""Minutes in a row. DynamoDB throttles for moments while it splits a partition, and a load is meant to reach its limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Watch:
    """A metric of docferry's, and what of it is too much."""

    metric: m.MetricName
    threshold: float
    above: bool = True
    minutes: int = 1
    statistic: str = "Maximum"


def alarm_resources(
    migration: str, tables: Sequence[TableSettings], settings: AlarmSettings, place: AwsPlace, tags: Mapping[str, str]
) -> Iterator[Resource]:
    """The topic, its alarms, the dashboard."""
    topic = Topic(name=settings.topic, arn=place.arn("sns", settings.topic), tags=tags)
    yield topic
    for watch in _watches(settings):
        for value in watch.metric.values or ("",):
            yield _own(migration, watch, value, topic.arn, place, tags)
    for table in tables:
        yield from _of_table(migration, table, settings, topic.arn, place, tags)
    if settings.dashboard:
        arn = f"arn:{place.partition}:cloudwatch::{place.account}:dashboard/{_name(migration)}"
        yield Dashboard(name=_name(migration), arn=arn, document=dashboard_body(migration, tables, place))


def _watches(of: AlarmSettings) -> Iterator[_Watch]:
    yield _Watch(metric=m.REPLICATION_LAG, threshold=of.replication_lag_s, minutes=SUSTAINED_MIN)
    yield _Watch(metric=m.DEAD_LETTERS, threshold=of.dead_letters)
    yield _Watch(metric=m.VALIDATION_AGE, threshold=of.validation_age_s)
    yield _Watch(metric=m.WINDOW_LEFT, threshold=of.window_left_percent, above=False, statistic="Minimum")
    yield _Watch(metric=m.HOLD_OVERDUE, threshold=of.hold_overdue_s, minutes=SUSTAINED_MIN)
    if of.monthly_cost_usd is not None:
        yield _Watch(metric=m.MONTHLY_COST, threshold=of.monthly_cost_usd, minutes=SUSTAINED_MIN)


def _name(migration: str) -> str:
    return f"docferry-{migration}"


def _own(migration: str, watch: _Watch, value: str, topic: str, place: AwsPlace, tags: Mapping[str, str]) -> Alarm:
    # Only one direction, and only some windows, exist at a time. That nothing is measured at all the alarm of HoldOverdue tells.
    missing = "notBreaching" if watch.metric.dimension else watch.metric.missing
    suffix = f"-{value}" if len(watch.metric.values) > 1 else ""
    return _alarm(
        f"{_name(migration)}-{watch.metric.name}{suffix}", place, tags, topic,
        why=watch.metric.what, namespace=m.NAMESPACE, metric=watch.metric.name,
        dimensions=watch.metric.dimensions(migration, value), statistic=watch.statistic, threshold=float(watch.threshold),
        above=watch.above, minutes=watch.minutes, missing=missing,
    )  # fmt: skip


def _of_table(
    migration: str, table: TableSettings, of: AlarmSettings, topic: str, place: AwsPlace, tags: Mapping[str, str]
) -> Iterator[Alarm]:
    own = {"TableName": table.name}
    indexes = [("WriteThrottleEvents", f"-{one}", {**own, "GlobalSecondaryIndexName": one}) for one in table.indexes]
    throttles = [("ReadThrottleEvents", "", own), ("WriteThrottleEvents", "", own), *indexes]
    errors = [("SystemErrors", f"-{one}", {**own, "Operation": one}) for one in CALLS]
    for threshold, found in ((of.throttles, throttles), (of.system_errors, errors)):
        for metric, suffix, dimensions in found:
            yield _alarm(
                f"{_name(migration)}-{table.name}-{metric}{suffix}", place, tags, topic,
                why=f"{metric} of {' '.join(dimensions.values())}", namespace=DYNAMODB, metric=metric,
                dimensions=dimensions, statistic="Sum", threshold=float(threshold), minutes=SUSTAINED_MIN,
                missing="notBreaching",  # DynamoDB publishes these only when there are any
            )  # fmt: skip


def _alarm(name: str, place: AwsPlace, tags: Mapping[str, str], topic: str, **more: Any) -> Alarm:
    return Alarm(name=name, arn=place.arn("cloudwatch", f"alarm:{name}"), tags=tags, topic=topic, **more)


# --- the dashboard ----------------------------------------------------------------------------------------------------


def dashboard_body(migration: str, tables: Sequence[TableSettings], place: AwsPlace) -> str:
    """One widget a metric of docferry's, two a table; three in a row."""
    found = [_graph(one.name, [_line(migration, one, value) for value in one.values or ("",)]) for one in m.METRICS]
    for table in tables:
        where = ["TableName", table.name]
        for kind in ("Consumed{}CapacityUnits", "{}ThrottleEvents"):
            names = [kind.format(one) for one in ("Read", "Write")]
            title = f"{table.name}: {kind.format('').replace('CapacityUnits', ' units')}"
            found.append(_graph(title, [[DYNAMODB, name, *where] for name in names], "Sum"))
    placed = [_placed(number, one, place.region) for number, one in enumerate(found)]
    return json.dumps({"widgets": placed}, separators=(",", ":"))


def _line(migration: str, metric: m.MetricName, value: str) -> list[str]:
    return [m.NAMESPACE, metric.name, *(text for pair in metric.dimensions(migration, value).items() for text in pair)]


def _graph(title: str, metrics: list[list[str]], statistic: str = "Average") -> dict[str, Any]:
    return {"title": title, "metrics": metrics, "stat": statistic, "period": m.PERIOD_S, "view": "timeSeries"}


def _placed(number: int, properties: Mapping[str, Any], region: str) -> dict[str, Any]:
    where = {"x": number % 3 * 8, "y": number // 3 * 6, "width": 8, "height": 6}
    return {"type": "metric", **where, "properties": {**properties, "region": region}}
