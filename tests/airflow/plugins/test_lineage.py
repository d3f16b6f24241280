"""What OpenLineage is told, by Airflow's own provider: data sets and counts, and nothing of a document or a user."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from support.airflow.home import write_migration

MONGO = "mongodb://one:27017,two:27017"
DYNAMO = "dynamodb://us-east-1"
VALIDATED = {"collections": [{"collection": "users", "documents": 5}, {"collection": "orders", "documents": 7}]}
Told = dict[str, int | None]


@pytest.fixture
def migration(airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    connection = {"conn_type": "mongo", "host": "two:27017,one:27017", "login": "docferry", "password": "secret"}
    monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", json.dumps(connection))
    return str(write_migration(tmp_path, "lineage", target={"replicas": []}))


def told(places: list[Any], facets: str, statistics: str) -> Told:
    """Namespace and name of each data set, and how many rows are told of it."""
    return {
        f"{one.namespace} {one.name}": getattr(getattr(one, facets).get(statistics), "rowCount", None) for one in places
    }


def lineage(operator: Any, summary: Any) -> tuple[Told, Told]:
    """Inputs and outputs of a task that has returned this."""
    from airflow.providers.openlineage.extractors.base import DefaultExtractor

    operator._summary = summary
    found = DefaultExtractor(operator).extract_on_complete(SimpleNamespace())
    assert found is not None
    return told(found.inputs, "inputFacets", "inputStatistics"), told(found.outputs, "outputFacets", "outputStatistics")


def test_load_goes_from_a_collection_to_its_table(migration: str) -> None:
    from docferry_airflow.operators.backfill import LoadRangeOperator

    chunks = {"label": "all", "chunks": ["00000"]}
    load = LoadRangeOperator(task_id="load", migration_file=migration, collection="users", id_range=chunks)
    users, table = f"{MONGO} lineage.users", f"{DYNAMO} LineageTable"
    assert lineage(load, {"read": 9, "items": 20}) == ({users: 9}, {table: 20})
    assert lineage(load, None) == ({users: None}, {table: None})


def test_stream_is_counted_where_it_can_have_gone_to_one_table_only(migration: str) -> None:
    from docferry_airflow.operators.replicate import ReplicateOperator
    from docferry_airflow.operators.reverse import ReverseOperator

    inputs, outputs = lineage(ReplicateOperator(task_id="follow", migration_file=migration), {"written": 3})
    assert (len(inputs), outputs) == (4, {f"{DYNAMO} LineageTable": 3})
    inputs, outputs = lineage(ReverseOperator(task_id="back", migration_file=migration), {"applied": 3})
    assert (inputs, set(outputs.values())) == ({f"{DYNAMO} LineageTable": None}, {None})
    assert set(outputs) == {f"{MONGO} lineage.{name}" for name in ("users", "orders", "products", "categories")}


def test_validation_reads_both_and_writes_none(migration: str) -> None:
    from docferry_airflow.operators.validate import ValidateOperator

    compare = ValidateOperator(task_id="compare", migration_file=migration, collections=["users", "orders"])
    assert lineage(compare, VALIDATED) == (
        {f"{MONGO} lineage.users": 5, f"{MONGO} lineage.orders": 7, f"{DYNAMO} LineageTable": None},
        {},
    )
