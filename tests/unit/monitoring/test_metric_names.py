"""The table of metrics is what CloudWatch takes, and what the playbook names."""

from __future__ import annotations

import pytest
from botocore.loaders import Loader
from docferry.core.metric_names import METRICS, MIGRATION_PROGRESS, NAMESPACE, QUERY_LATENCY
from support.place import ROOT


def test_units_are_cloudwatchs() -> None:
    known = Loader().load_service_model("cloudwatch", "service-2")["shapes"]["StandardUnit"]["enum"]
    assert {str(one.unit) for one in METRICS} <= set(known)


def test_the_playbooks_metrics_are_there_with_its_dimensions() -> None:
    found = {one.name: one for one in METRICS}
    assert NAMESPACE == "MongoDB-Migration"
    assert len(found) == len(METRICS)
    assert (
        found["MigrationProgress"].dimensions("shop", "MongoDB-to-DynamoDB")["MigrationType"] == "MongoDB-to-DynamoDB"
    )
    assert found["DataConsistency"].dimensions("shop") == {"Migration": "shop"}
    assert found["QueryLatency"].dimensions("shop", "DynamoDB") == {"Migration": "shop", "Database": "DynamoDB"}
    assert found["MonthlyCost"].dimensions("shop", "DynamoDB")["Service"] == "DynamoDB"


def test_the_page_lists_each_metric_with_its_unit_and_dimension() -> None:
    page = (ROOT / "docs" / "monitoring.md").read_text()
    for one in METRICS:
        values = f"`{one.dimension}`: {', '.join(one.values)}" if one.dimension else ""
        assert f"| `{one.name}` | {one.unit} | {values} | {one.what} |" in page


def test_a_value_that_a_metric_has_not_is_refused() -> None:
    with pytest.raises(ValueError, match="QueryLatency has no Database 'Oracle'"):
        QUERY_LATENCY.dimensions("shop", "Oracle")
    with pytest.raises(ValueError, match="MigrationProgress has no"):
        MIGRATION_PROGRESS.dimensions("shop")
