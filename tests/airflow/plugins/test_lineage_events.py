"""Events of OpenLineage, as Airflow's own provider writes them to files while our DAGs run: in a process of its own, because the
provider listens only where it was set up before Airflow is imported."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from docferry.sandbox import SandboxStack
from support.place import ROOT

pytestmark = pytest.mark.cutover  # over a minute on a busy machine

SCRIPT = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
from support.airflow.runs import opened_runs

uri, env, directory = json.loads(sys.stdin.read())
stack = SimpleNamespace(mongo=SimpleNamespace(uri=lambda user: uri), env=lambda: env)
with opened_runs(stack, Path(directory), "told", users=20) as runs:
    for phase, conf in (("provision", {}), ("backfill", {}), ("replicate", {"until_caught_up": True}), ("validate", {})):
        state, states, _ = runs.run(phase, **conf)
        assert state == "success", (phase, states)
"""
TABLE = "dynamodb://us-east-1 ToldTable"
Sets = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def events(stack: SandboxStack, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Of runs of provision, backfill, replicate and validate: those of tasks that have succeeded."""
    directory = tmp_path_factory.mktemp("told")
    files = directory / "events"
    transport = {"type": "file", "log_file_path": str(files / "event"), "append": False}
    files.mkdir()
    env = os.environ | {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests"), str(ROOT / "plugins"), env.get("PYTHONPATH", "")])
    given = json.dumps([stack.mongo.uri("docferry"), stack.env(), str(directory)])
    ran = subprocess.run([sys.executable, "-c", SCRIPT], input=given, env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    found = [json.loads(file.read_text()) for file in files.iterdir()]
    return [one for one in found if one["eventType"] == "COMPLETE"]


def data_sets(events: list[dict[str, Any]], task: str) -> tuple[Sets, Sets]:
    """Inputs and outputs that the runs of a task have named."""
    of_task = [one for one in events if one["job"]["name"] == f"told.{task}"]
    assert of_task, sorted({one["job"]["name"] for one in events})
    inputs, outputs = (
        {f"{one['namespace']} {one['name']}": one for event in of_task for one in event[kind]}
        for kind in ("inputs", "outputs")
    )
    return inputs, outputs


def rows(sets: Mapping[str, Mapping[str, Any]], facets: str, statistics: str) -> dict[str, int]:
    return {name.split()[-1]: one[facets][statistics]["rowCount"] for name, one in sets.items() if one.get(facets)}


@pytest.mark.timeout(300)
def test_a_load_tells_its_collection_its_table_and_how_much_it_has_moved(events: list[dict[str, Any]]) -> None:
    inputs, outputs = data_sets(events, "backfill.users.load")
    (users,) = inputs
    assert users.startswith("mongodb://127.0.0.1:")
    assert rows(inputs, "inputFacets", "inputStatistics") == {"told.users": 20}
    assert set(outputs) == {TABLE}
    assert rows(outputs, "outputFacets", "outputStatistics")["ToldTable"] > 20


def test_replication_tells_all_collections_and_their_tables(events: list[dict[str, Any]]) -> None:
    inputs, outputs = data_sets(events, "replicate.follow_changes")
    assert {name.split()[-1] for name in inputs} == {
        f"told.{name}" for name in ("users", "orders", "products", "categories")
    }
    assert set(outputs) == {TABLE}


def test_a_validation_reads_both_and_writes_none(events: list[dict[str, Any]]) -> None:
    inputs, outputs = data_sets(events, "validate.compare_every_document")
    assert TABLE in inputs
    assert len(inputs) == 5
    assert rows(inputs, "inputFacets", "inputStatistics")["told.users"] > 0
    assert outputs == {}


def test_no_event_tells_a_password_or_a_document(events: list[dict[str, Any]], stack: SandboxStack) -> None:
    password = stack.mongo.uri("docferry").partition("://docferry:")[2].partition("@")[0]
    text = json.dumps(events)
    assert password not in text
    assert "@example" not in text
