"""What an application's calls come to in CloudWatch: all of them, in bounded memory, told at the end of the process, too."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from docferry import embedded_metrics
from docferry.client.metrics.summed import EmbeddedMetrics, SummedMetrics
from docferry.core.metric_data import Measurement
from support.place import SHOP_FILE


class Sink:
    def __init__(self) -> None:
        self.lost, self.why_lost = 0, ""
        self.told: list[Measurement] = []

    def publish(self, migration: str, measurements: Sequence[Measurement], at_ms: int) -> None:
        self.told += measurements

    def hurry(self) -> None: ...


def test_calls_are_summed_by_database_and_memory_does_not_grow_with_them() -> None:
    sink = Sink()
    metrics = SummedMetrics("shop", sink, every_s=3_600)
    for number in range(20_000):
        metrics.record("dynamodb", "get", 0.0001 * (1 + number % 5_000), "Throttled" if number % 100 == 0 else "")
    metrics.record("mongodb", "find", 0.002)
    metrics.close()
    found = {(one.metric.name, one.label): one for one in sink.told}
    assert found["Calls", "DynamoDB"].latest == 20_000
    assert found["FailedCalls", "DynamoDB"].latest == 200
    assert found["QueryLatency", "MongoDB"].counts == {2.0: 1.0}
    latencies = found["QueryLatency", "DynamoDB"].counts
    assert sum(latencies.values()) == 20_000
    assert len(latencies) < 400
    assert max(latencies) == 500


def test_a_line_is_the_embedded_metric_format_and_keeps_the_distribution_of_many_calls() -> None:
    stream = io.StringIO()
    metrics = SummedMetrics("shop", EmbeddedMetrics(stream), every_s=3_600)
    for number in range(1_000):
        metrics.record("mongodb", "find", 0.5 if number % 10 == 0 else 0.001)
    metrics.close()
    lines = {next(iter(_names(line))): line for line in map(json.loads, stream.getvalue().splitlines())}
    line = lines["QueryLatency"]
    (directive,) = line["_aws"]["CloudWatchMetrics"]
    assert directive["Namespace"] == "MongoDB-Migration"
    assert directive["Dimensions"] == [["Migration", "Database"]]
    assert (line["Migration"], line["Database"]) == ("shop", "MongoDB")
    assert len(line["QueryLatency"]) == 100
    assert line["QueryLatency"].count(500.0) == 10
    assert lines["Calls"]["Calls"] == 1_000


def _names(line: dict[str, dict[str, list[dict[str, list[dict[str, str]]]]]]) -> set[str]:
    return {one["Name"] for each in line["_aws"]["CloudWatchMetrics"] for one in each["Metrics"]}


def test_a_stream_that_is_closed_loses_values_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.StringIO()
    metrics = SummedMetrics("shop", EmbeddedMetrics(stream), every_s=3_600)
    metrics.record("mongodb", "find", 0.001)
    stream.close()
    metrics.close()
    assert metrics.lost == 3
    assert "3 values of metrics were lost" in caplog.text


def test_a_process_that_ends_has_told_all_and_its_child_tells_its_own(tmp_path: Path) -> None:
    out = tmp_path / "lines"
    code = f"""
import os, docferry
metrics = docferry.embedded_metrics({str(SHOP_FILE)!r}, open({str(out)!r}, "a"))
metrics.record("mongodb", "find", 0.001)
if os.fork() == 0:
    for _ in range(2):
        metrics.record("dynamodb", "get", 0.001)
else:
    os.wait()
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env={**os.environ})
    found = [json.loads(line) for line in out.read_text().splitlines()]
    assert {(one["Database"], one["Calls"]) for one in found if "Calls" in one} == {("MongoDB", 1), ("DynamoDB", 2)}


def test_the_file_names_the_migration() -> None:
    stream = io.StringIO()
    metrics = embedded_metrics(SHOP_FILE, stream)
    metrics.record("mongodb", "find", 0.001)
    metrics.close()
    assert json.loads(stream.getvalue().splitlines()[0])["Migration"] == "shop"
