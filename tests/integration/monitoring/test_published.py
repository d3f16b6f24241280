"""Metrics where people look for them: in the emulator's CloudWatch, behind its alarms, and on the page of a long run."""

from __future__ import annotations

import json
import re
import signal
import urllib.request
from datetime import UTC, datetime, timedelta
from typing import Any

import docferry
import pytest
from docferry.client.metrics.summed import SummedMetrics
from docferry.core.metric_names import (
    CALLS,
    FAILED_CALLS,
    METRICS,
    NAMESPACE,
    QUERY_LATENCY,
    REPLICATION_LAG,
    MetricName,
)
from prometheus_client.parser import text_string_to_metric_families
from support.backfill.rig import eventually, session_of
from support.cli.shop import Shop, finish, shop

__all__ = ["shop"]

pytestmark = pytest.mark.xdist_group("monitoring")


@pytest.fixture(scope="module")
def watched(shop: Shop) -> Shop:
    shop.change_file(monitoring={"every_s": 10})
    return shop


def client(shop: Shop, service: str) -> Any:
    return session_of(shop.env).client(service, endpoint_url=shop.env["AWS_ENDPOINT_URL"])


def published(cloudwatch: Any) -> set[tuple[str, frozenset[tuple[str, str]]]]:
    pages = cloudwatch.get_paginator("list_metrics").paginate(Namespace=NAMESPACE)
    return {
        (one["MetricName"], frozenset((each["Name"], each["Value"]) for each in one["Dimensions"]))
        for page in pages
        for one in page["Metrics"]
    }


def named(metric: MetricName, label: str = "") -> tuple[str, frozenset[tuple[str, str]]]:
    return metric.name, frozenset(metric.dimensions("cli", label).items())


def test_flows_publish_the_playbooks_metrics_by_name_and_dimension(watched: Shop) -> None:
    for command in (("replicate", "--for", "3"), ("validate",)):
        ran = watched.run(*command)
        assert ran.code == 0, ran.err
        assert "were lost" not in ran.err
    cloudwatch = client(watched, "cloudwatch")
    found = published(cloudwatch)
    known = {named(metric, label) for metric in METRICS for label in metric.values or ("",)}
    assert found <= known
    assert {name for name, _ in found} >= {
        "MigrationProgress", "DataConsistency", "MonthlyCost", "ReplicationLag", "DocumentRate", "DeadLetters", "WindowLeft",
        "ValidationAge", "HoldOverdue", "HeldTime", "GuardConflicts", "StrayWrites", "UnservedCalls",
    }  # fmt: skip
    assert value_of(cloudwatch, "DataConsistency", {"Migration": "cli"}) == 100
    assert value_of(cloudwatch, "DeadLetters", {"Migration": "cli"}) == 1


def value_of(cloudwatch: Any, name: str, dimensions: dict[str, str]) -> float:
    now = datetime.now(UTC)
    points = cloudwatch.get_metric_statistics(
        Namespace=NAMESPACE, MetricName=name, Dimensions=[{"Name": k, "Value": v} for k, v in dimensions.items()],
        StartTime=now - timedelta(minutes=30), EndTime=now + timedelta(minutes=5), Period=3600, Statistics=["Maximum"],
    )["Datapoints"]  # fmt: skip
    return float(points[-1]["Maximum"])


def test_an_alarm_on_the_lag_fires_and_reaches_a_topic(watched: Shop) -> None:
    """Replication that has stopped: its lag grows, another flow publishes it, the alarm tells a queue behind SNS."""
    assert watched.run("replicate", "--until-caught-up").code == 0
    cloudwatch, sns, sqs = (client(watched, name) for name in ("cloudwatch", "sns", "sqs"))
    topic = sns.create_topic(Name="night")["TopicArn"]
    queue = sqs.create_queue(QueueName="pager")["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=queue, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=arn)
    dimensions = REPLICATION_LAG.dimensions("cli", "forward")
    cloudwatch.put_metric_alarm(
        AlarmName="lag", Namespace=NAMESPACE, MetricName=REPLICATION_LAG.name, Statistic="Maximum", Period=60,
        Dimensions=[{"Name": name, "Value": value} for name, value in dimensions.items()],
        EvaluationPeriods=1, Threshold=0, ComparisonOperator="GreaterThanThreshold", AlarmActions=[topic],
        TreatMissingData=REPLICATION_LAG.missing,
    )  # fmt: skip
    assert watched.run("validate").code == 0

    def paged() -> str:
        found = sqs.receive_message(QueueUrl=queue, WaitTimeSeconds=1).get("Messages", [])
        return json.loads(found[0]["Body"])["Message"] if found else ""

    message = json.loads(eventually(paged, "the alarm's message"))
    assert (message["AlarmName"], message["NewStateValue"]) == ("lag", "ALARM")


def test_a_run_serves_a_page_that_prometheus_parses(watched: Shop) -> None:
    process = watched.start("replicate", str(watched.file), "--metrics-port", "0")
    try:
        assert process.stderr is not None
        line = next(line for line in process.stderr if "metrics for Prometheus" in line)
        found = re.search(r"http://\S+", line)
        assert found is not None
        text = eventually(lambda: scraped(found[0]), "a page of metrics")
    finally:
        process.send_signal(signal.SIGINT)
        finish(process)
    families = {one.name: one for one in text_string_to_metric_families(text)}
    (progress,) = families["docferry_migration_progress_percent"].samples
    assert progress.labels == {"migration": "cli", "migration_type": "MongoDB-to-DynamoDB"}
    assert progress.value == 100
    assert families["docferry_dead_letters"].samples[0].value == 1


def scraped(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=10) as reply:
            return str(reply.read().decode())
    except OSError:  # nothing was measured yet: 503
        return ""


def test_an_application_publishes_its_latencies_and_failures_by_database(
    watched: Shop, monkeypatch: pytest.MonkeyPatch
) -> None:
    watched.change_file(monitoring={"application": True})
    for name, value in watched.env.items():
        monkeypatch.setenv(name, value)
    db = docferry.connect(watched.file)
    metrics = db._parts.metrics._metrics
    assert isinstance(metrics, SummedMetrics)
    db.users.find_one({"username": "nobody"})
    db.close()
    metrics.close()
    cloudwatch = client(watched, "cloudwatch")
    labels = {"Migration": "cli", "Database": "MongoDB"}
    assert {named(metric, "MongoDB") for metric in (QUERY_LATENCY, CALLS, FAILED_CALLS)} <= published(cloudwatch)
    assert value_of(cloudwatch, "QueryLatency", labels) > 0
    assert value_of(cloudwatch, "FailedCalls", labels) == 0
