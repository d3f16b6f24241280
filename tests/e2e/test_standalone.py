"""The whole way through a real `airflow standalone`, while two of its tasks are killed with SIGKILL."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import psutil
import pytest
import yaml
from docferry.embedded import EmbeddedStack, load_shop, shop_documents
from docferry.embedded.airflow import (
    AirflowApi,
    EmbeddedAirflow,
    TaskState,
    aws_connection,
    mongo_connection,
    repository,
)
from docferry.embedded.shop import COLLECTIONS, ShopPlan
from grid import find_browser, look
from independent import judge
from pymongo import MongoClient

pytestmark = pytest.mark.slow

DATABASE = "standalone"
PLAN = ShopPlan(users=500, awkward=120)
SLOW = {"budget_wcu": 250, "chunk_documents": 250, "page_documents": 25}
"""So slow that a task is surely at work when it is killed: all of it takes half a minute."""
HEARTBEAT = {
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT": "30",
    "AIRFLOW__SCHEDULER__TASK_INSTANCE_HEARTBEAT_TIMEOUT_DETECTION_INTERVAL": "5",
}


@dataclass
class Loaded:
    """A finished run of all three phases, with what the tasks returned."""

    api: AirflowApi
    run_id: str
    killed: list[TaskState]
    tasks: Mapping[str, TaskState]
    totals: Mapping[str, Any]
    compared: Mapping[str, Any]


@pytest.fixture(scope="module")
def airflow(stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedAirflow]:
    migrations = tmp_path_factory.mktemp("migrations")
    tree = yaml.safe_load((repository() / "include" / "migrations" / "shop.yaml").read_text())
    tree |= {"source": {"database": DATABASE}, "backfill": SLOW, "ledger": {"table": "StandaloneLedger"}}
    tree["tables"] = {"Standalone": tree["tables"]["Shop"]}
    for collection in tree["collections"].values():
        collection["table"] = "Standalone"
    (migrations / "shop.yaml").write_text(yaml.safe_dump(tree, sort_keys=False))
    load_shop(stack.mongo.uri("docferry"), database=DATABASE, users=PLAN.users, awkward=PLAN.awkward)
    connections = {
        "mongo_default": mongo_connection(stack.mongo.uri("docferry")),
        "aws_default": aws_connection(stack.aws.env()),
    }
    with EmbeddedAirflow(migrations=migrations, connections=connections, settings=HEARTBEAT) as opened:
        yield opened


@pytest.fixture(scope="module")
def loaded(airflow: EmbeddedAirflow) -> Loaded:
    api = airflow.api
    api.wait_for_dags(["shop.provision", "shop.backfill", "shop.validate"])
    assert finished(api, "shop.provision") == "success"
    run_id = api.trigger("shop.backfill")
    killed = [kill(airflow, run_id, "users.load", with_supervisor=False)]
    killed.append(kill(airflow, run_id, "orders.load", with_supervisor=True))
    state = api.wait_for_run("shop.backfill", run_id, timeout_s=240)
    tasks = {task.name: task for task in api.tasks("shop.backfill", run_id)}
    assert state == "success", "\n".join(f"{task.name} {task.state}" for task in tasks.values())
    check_id = api.trigger("shop.validate")
    assert api.wait_for_run("shop.validate", check_id, timeout_s=120) == "success"
    return Loaded(
        api=api,
        run_id=run_id,
        killed=killed,
        tasks=tasks,
        totals=api.result("shop.backfill", run_id, "report_totals"),
        compared=api.result("shop.validate", check_id, "compare_every_document"),
    )


def finished(api: AirflowApi, dag_id: str) -> str:
    return api.wait_for_run(dag_id, api.trigger(dag_id), timeout_s=120)


def kill(airflow: EmbeddedAirflow, run_id: str, task_id: str, *, with_supervisor: bool) -> TaskState:
    """SIGKILL a task in the middle of its work; with its supervisor, Airflow learns of it by the missing heartbeat."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        for task in airflow.api.tasks("shop.backfill", run_id):
            if task.task_id == task_id and task.state == "running" and (process := process_of(airflow, task)):
                time.sleep(2)  # it has started; now it is in the middle of something
                victims = [process.parent(), process] if with_supervisor else [process]
                for victim in victims:
                    assert victim is not None
                    victim.kill()
                return task
        time.sleep(0.3)
    raise AssertionError(f"{task_id} was never seen at work")


def process_of(airflow: EmbeddedAirflow, task: TaskState) -> psutil.Process | None:
    for process in psutil.Process(airflow.process.pid).children(recursive=True):
        try:
            if f"airflow worker -- {task.id}" in " ".join(process.cmdline()):
                return process
        except psutil.NoSuchProcess:
            continue
    return None


@pytest.mark.timeout(420)
def test_two_killed_tasks_were_tried_again_and_every_document_is_accounted_for_once(loaded: Loaded) -> None:
    assert [task.try_number for task in loaded.killed] == [1, 1]
    again = {task.id: task for task in loaded.tasks.values()}
    assert all(task.try_number > 1 for name, task in loaded.tasks.items() if name in {t.name for t in loaded.killed})
    assert all(task.state in ("success", "skipped") for task in again.values())
    for one in loaded.totals["collections"]:
        assert one["state"] == "complete"
        assert one["read"] == one["written"] + one["superseded"] + one["dead"] == PLAN.size(one["collection"])
    assert sum(one["dead"] for one in loaded.totals["collections"]) == PLAN.unstorable
    assert loaded.compared["ok"] is True


def test_a_comparison_that_shares_no_code_with_docferry_finds_nothing(loaded: Loaded, stack: EmbeddedStack) -> None:
    unstorable = {
        name: frozenset(
            judge.id_key(entry.document["_id"]) for entry in shop_documents(name, PLAN) if not entry.storable
        )
        for name in COLLECTIONS
    }
    env = stack.env()
    keys = {"aws_access_key_id": env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
    client = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=stack.aws.endpoint, **keys)
    with MongoClient[Any](stack.mongo.uri("docferry")) as mongo:
        verdict = judge.judge_shop(mongo[DATABASE], client, "Standalone", unstorable)
    assert verdict.counts == (0, 0, 0), str(verdict)
    assert verdict.documents == sum(PLAN.size(name) for name in COLLECTIONS)


def test_a_second_run_changes_nothing_and_says_so(loaded: Loaded) -> None:
    run_id = loaded.api.trigger("shop.backfill")
    assert loaded.api.wait_for_run("shop.backfill", run_id, timeout_s=120) == "success"
    assert loaded.api.result("shop.backfill", run_id, "users.finish")["already_complete"] is True
    assert loaded.api.result("shop.backfill", run_id, "report_totals")["collections"] == loaded.totals["collections"]


def test_grid_names_collections_and_ranges(loaded: Loaded, tmp_path: Path) -> None:
    if find_browser() is None:
        pytest.skip("there is no chromium (apt-get install chromium)")
    picture = Path(os.environ.get("DOCFERRY_GRID_PICTURE", tmp_path / "grid.png"))
    seen = look(loaded.api, "shop.backfill", loaded.run_id, "orders.load", picture)
    assert picture.stat().st_size > 20_000
    assert all(name in seen.grid for name in (*COLLECTIONS, "plan_the_load", "prepare", "load", "finish"))
    labels = [task.label for task in loaded.tasks.values() if task.task_id == "orders.load"]
    assert len(set(labels)) == len(labels) > 2
    assert all(label in seen.ranges for label in labels)


def test_no_secret_is_in_any_log_of_airflow(loaded: Loaded, airflow: EmbeddedAirflow, stack: EmbeddedStack) -> None:
    password = stack.mongo.uri("docferry").partition("://docferry:")[2].partition("@")[0]
    assert len(password) > 7
    logs = [path for path in airflow.home.rglob("*.log") if path.is_file()]
    assert len(logs) > 10
    assert [path.name for path in logs if password in path.read_text(errors="replace")] == []
