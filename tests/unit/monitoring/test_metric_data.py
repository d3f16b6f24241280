"""Measurements in requests of PutMetricData within its limits, and as a page that Prometheus reads."""

from __future__ import annotations

import json

from docferry.core import metric_names as names
from docferry.core.metric_data import (
    MOST_BYTES,
    MOST_METRICS,
    Measurement,
    prometheus_name,
    prometheus_text,
    requests_of,
)
from prometheus_client.parser import text_string_to_metric_families

AT = 1_790_000_000_000


def test_a_request_holds_no_more_than_cloudwatch_takes_and_nothing_is_left_out() -> None:
    many = [Measurement(names.QUERY_LATENCY, {float(n): 2.0 for n in range(400)}, "DynamoDB") for _ in range(50)]
    many += [Measurement.of(names.DEAD_LETTERS, n) for n in range(2_500)]
    requests = list(requests_of("shop", many, AT))
    assert all(len(one) <= MOST_METRICS and len(json.dumps(one, default=str)) < MOST_BYTES * 1.1 for one in requests)
    data = [datum for one in requests for datum in one]
    assert all(0 < len(datum["Values"]) <= 150 and len(datum["Values"]) == len(datum["Counts"]) for datum in data)
    assert sum(sum(datum["Counts"]) for datum in data) == 50 * 400 * 2 + 2_500
    assert not list(requests_of("shop", [], AT))


def test_a_page_is_what_prometheus_parses() -> None:
    told = [
        Measurement.of(names.REPLICATION_LAG, 2.5, "forward"),
        Measurement.of(names.WINDOW_LEFT, 80, "oplog"),
        Measurement.of(names.WINDOW_LEFT, 100, "images"),
        Measurement.of(names.MONTHLY_COST, 12.25, "DynamoDB"),
    ]
    families = {one.name: one for one in text_string_to_metric_families(prometheus_text('a"b\\c', told, AT))}
    (lag,) = families["docferry_replication_lag_seconds"].samples
    assert (lag.labels, lag.value) == ({"migration": 'a"b\\c', "direction": "forward"}, 2.5)
    assert {one.labels["window"]: one.value for one in families["docferry_window_left_percent"].samples} == {
        "oplog": 80, "images": 100,
    }  # fmt: skip
    assert families["docferry_monthly_cost"].type == "gauge"
    assert families["docferry_measured_timestamp_seconds"].samples[0].value == AT / 1000


def test_no_two_metrics_share_a_name_in_prometheus() -> None:
    assert len({prometheus_name(one) for one in names.METRICS}) == len(names.METRICS)
