"""A connection that the migration file names and Airflow does not have ends the task at once, by its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from docferry.config import load_migration
from support.airflow.home import write_migration

pytestmark = pytest.mark.usefixtures("airflow_home")

HAVE = {"mongo_here": "mongodb://127.0.0.1:1", "aws_here": "aws://"}


def migration_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo: str, aws: str) -> Path:
    for name, uri in HAVE.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{name.upper()}", uri)
    path = write_migration(tmp_path, "shop")
    text = path.read_text()
    path.write_text(text.replace("mongo_default", mongo).replace("aws_default", aws))
    return path


@pytest.mark.parametrize(
    ("mongo", "aws", "field", "kind"),
    [("mongo_gone", "aws_here", "source.connection", "mongo"), ("mongo_here", "aws_gone", "target.connection", "aws")],
)
def test_missing_connection_is_not_tried_again_and_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mongo: str, aws: str, field: str, kind: str
) -> None:
    from airflow.sdk.exceptions import AirflowFailException
    from docferry_airflow.hooks.connections import connections_from_airflow

    path = migration_with(tmp_path, monkeypatch, mongo, aws)
    gone = mongo if mongo.endswith("gone") else aws
    with pytest.raises(AirflowFailException) as failed:
        connections_from_airflow(load_migration(path))
    for named in (gone, field, str(path), f"of type {kind}"):
        assert named in str(failed.value)


def test_operators_and_sensors_end_at_once_without_their_connection(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowFailException
    from docferry_airflow.operators.validate import ValidateOperator
    from docferry_airflow.sensors.approval import PhaseApprovalSensor
    from docferry_airflow.sensors.ledger import MongoDBLeadsSensor

    path = str(migration_with(tmp_path, monkeypatch, "mongo_gone", "aws_here"))
    context: Any = {"dag_run": _Run, "ti": _Task}
    for begin in (
        lambda: ValidateOperator(task_id="validate", migration_file=path).execute(context),
        lambda: MongoDBLeadsSensor(task_id="wait", migration_file=path).poke(context),
        lambda: PhaseApprovalSensor(task_id="ask", migration_file=path, phase="finalize").poke(context),
    ):
        with pytest.raises(AirflowFailException, match="mongo_gone"):
            begin()


class _Run:
    dag_id, run_id = "shop.validate", "manual__1"


class _Task:
    task_id, map_index, try_number = "validate", -1, 1
