"""A real `airflow standalone` with the shop in it, and what a person or a fault does to it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import boto3
import psutil
import yaml
from docferry.config import Migration, load_migration
from docferry.flows.ledger.positions import REPLICATION
from docferry.flows.ledger.times import encode_time
from docferry.flows.reporting.status import status_of
from docferry.ports.flows import Ledger
from docferry.rehearsal.independent import judge
from docferry.rehearsal.independent.item_check import compare_all
from docferry.rehearsal.independent.shop_items import SHOP
from docferry.rehearsal.shop import COLLECTIONS, ShopPlan, load_shop, shop_documents
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import (
    SandboxAirflow,
    repository,
)
from docferry.sandbox.airflow_api import AirflowApi, TaskState
from docferry.wiring import connections_from_environment
from pymongo import MongoClient

T = TypeVar("T")

DATABASE = "standalone"
"""The name of the migration, too."""
TABLE = "Standalone"
PLAN = ShopPlan(users=500, awkward=120)
SLOW = {"late_writes_s": 1.0, "budget_wcu": 250, "chunk_documents": 250, "page_documents": 25}
"""So slow that a task is surely at work when it is killed: all of it takes half a minute."""
WAIT_S = 300.0
"""How long anything may take that takes seconds on an idle machine."""
EVERY_MINUTE = {"schedule": "* * * * *"}


def eventually(condition: Callable[[], T], what: str, timeout_s: float = WAIT_S, every_s: float = 0.5) -> T:
    """The first true answer."""
    deadline = time.monotonic() + timeout_s
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain: {what}"
        time.sleep(every_s)
    return answer


def person(airflow: SandboxAirflow, name: str) -> AirflowApi:
    """The API as this user sees it. Airflow makes the password."""
    passwords = json.loads((airflow.home / "passwords.json").read_text())
    return AirflowApi(airflow.url, name, passwords[name])


@dataclass
class Standalone:
    """Airflow, the migration that it carries out, and both databases. The environment must hold the stack's variables."""

    stack: SandboxStack
    airflow: SandboxAirflow
    file: Path
    mongo: MongoClient[Any]
    dynamodb: Any
    migration: Migration = field(init=False)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.migration = load_migration(self.file)
        self.ledger = connections_from_environment(self.migration).ledger(self.migration)

    @property
    def api(self) -> AirflowApi:
        return self.airflow.api

    @property
    def database(self) -> Any:
        return self.mongo[DATABASE]

    # --- what people do ----------------------------------------------------------------------------------------------

    def switch_on(self, phase: str) -> None:
        self.api.set_paused(f"{DATABASE}.{phase}", False)

    def finished(self, phase: str) -> tuple[str, str]:
        """Switch a DAG on, start a run by hand, and return its id and how it ended."""
        self.switch_on(phase)
        run_id = self.api.trigger(f"{DATABASE}.{phase}")
        return run_id, self.api.wait_for_run(f"{DATABASE}.{phase}", run_id, timeout_s=2 * WAIT_S)

    def start_cli(self, *words: str) -> subprocess.Popen[str]:
        """The command line, in a process of its own, on the same migration."""
        command = [sys.executable, "-m", "docferry.cli", words[0], str(self.file), *words[1:]]
        return subprocess.Popen(command, env=os.environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    # --- what happens ------------------------------------------------------------------------------------------------

    def task(
        self, dag_id: str, run_id: str, task_id: str, states: tuple[str, ...], timeout_s: float = WAIT_S
    ) -> TaskState:
        """A task of a run, once it is in one of these states."""

        def found() -> TaskState | None:
            tasks = self.api.tasks(dag_id, run_id)
            return next((one for one in tasks if one.task_id == task_id and one.state in states), None)

        task = eventually(found, f"{task_id} of {run_id} is {' or '.join(states)}", timeout_s)
        assert task is not None
        return task

    def scheduled_run(self, dag_id: str, *states: str, timeout_s: float = WAIT_S) -> str:
        """The id of the latest run in one of the states that was not started by hand."""

        def found() -> str:
            runs = [run for run in self.api.runs(dag_id) if run["run_type"] == "scheduled" and run["state"] in states]
            return runs[0]["dag_run_id"] if runs else ""

        return eventually(found, f"a scheduled run of {dag_id} is {' or '.join(states)}", timeout_s)

    def replication(self) -> Mapping[str, Any]:
        return status_of(self.migration, self.ledger)["replication"] or {}

    def holder(self) -> str:
        """The holder of the replication lease."""
        record = self.ledger.read(*REPLICATION)
        return "" if record is None else str(record.body.get("owner", ""))

    def lease_of(self, *words: str, timeout_s: float = WAIT_S) -> str:
        """The name of the lease's holder, once it has all of these words."""

        def held() -> str:
            holder = self.holder()
            return holder if all(word in holder for word in words) else ""

        return eventually(held, f"the lease belongs to {' '.join(words)}", timeout_s)

    def wait_until_followed(self, timeout_s: float = WAIT_S) -> None:
        """Until everything that has been written up to now is applied."""
        end = encode_time(self.mongo.admin.command("ping")["operationTime"])

        def is_there() -> bool:
            found = self.replication()
            return bool(found) and found["applied_up_to"] >= end and not found["behind"]

        eventually(is_there, f"replication has come to {end}", timeout_s)

    def kill(self, dag_id: str, run_id: str, *task_ids: str) -> list[TaskState]:
        """SIGKILL a task of each of these in the middle of its work, whichever is seen at it first; and the last one's
        supervisor, too, so that Airflow learns of it by the missing heartbeat."""
        killed: dict[str, TaskState] = {}

        def all_killed() -> bool:
            for task in self.api.tasks(dag_id, run_id):
                wanted = task.task_id in task_ids and task.task_id not in killed and task.state == "running"
                if wanted and (process := self._process_of(task)) and self._is_at_work(task, run_id):
                    with_supervisor = len(task_ids) > 1 and task.task_id == task_ids[-1]
                    for victim in [process.parent(), process] if with_supervisor else [process]:
                        assert victim is not None
                        victim.kill()
                    killed[task.task_id] = task
            return len(killed) == len(task_ids)

        eventually(all_killed, f"all of {', '.join(task_ids)} are seen at work", every_s=0.1)
        return [killed[name] for name in task_ids]

    def _is_at_work(self, task: TaskState, run_id: str) -> bool:
        """By the ledger: it holds the replication lease, or a chunk of which it has written some, but not all."""
        if task.map_index < 0:
            return run_id in self.holder() and task.task_id in self.holder()
        mine = f"{run_id} {task.task_id}[{task.map_index}] try"
        chunks = [one.body for one in self.ledger.list(f"chunks:{task.task_id.partition('.')[0]}")]
        return any(mine in one["owner"] and 0 < int(one["read"]) < int(one["expected"]) for one in chunks)

    def _process_of(self, task: TaskState) -> psutil.Process | None:
        for process in psutil.Process(self.airflow.process.pid).children(recursive=True):
            try:
                if f"airflow worker -- {task.id}" in " ".join(process.cmdline()):
                    return process
            except psutil.NoSuchProcess:
                continue
        return None


def write_migration(directory: Path) -> Path:
    """The shop's file under another name, with a database and tables of its own, slow, and validated every minute."""
    tree = yaml.safe_load((repository() / "include" / "migrations" / "shop.yaml").read_text())
    tree |= {
        "migration": DATABASE,
        "source": {"database": DATABASE},
        "backfill": SLOW,
        "ledger": {"table": "StandaloneLedger"},
    }
    tree |= {"validate": EVERY_MINUTE, "tables": {TABLE: tree["tables"]["Shop"]}}
    for collection in tree["collections"].values():
        collection["table"] = TABLE
    file = directory / f"{DATABASE}.yaml"
    file.write_text(yaml.safe_dump(tree, sort_keys=False))
    return file


def load_standalone(stack: SandboxStack) -> None:
    """Its documents, in MongoDB."""
    load_shop(stack.mongo.uri("docferry"), database=DATABASE, users=PLAN.users, awkward=PLAN.awkward)


def dynamodb_client(stack: SandboxStack) -> Any:
    env = stack.env()
    keys = {"aws_access_key_id": env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
    return boto3.client("dynamodb", region_name="us-east-1", endpoint_url=stack.aws.endpoint, **keys)


def unstorable_ids() -> dict[str, list[Any]]:
    """`_id` of the shop's documents that DynamoDB cannot hold."""
    return {
        name: [entry.document["_id"] for entry in shop_documents(name, PLAN) if not entry.storable]
        for name in COLLECTIONS
    }


def read_page(url: str, token: str) -> str:
    """As a browser asks: logged in by the cookie that the UI has."""
    request = urllib.request.Request(url, headers={"Cookie": f"_token={token}"} if token else {})
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
        return str(answer.read().decode())


def judge_followed(standalone: Standalone) -> judge.Verdict:
    """The judge knows what a load leaves; here others have written, too: any version, and tombstones, which are no items."""
    items = []
    for item in judge.scan_table(standalone.dynamodb, TABLE):
        assert re.fullmatch(r"[0-9a-f]{22}", item["_v"]["S"])
        if "_deleted" not in item:
            items.append({**item, "_v": {"S": item["_v"]["S"][:16] + "ffffff"}})
    documents = {name: list(judge.read_documents(standalone.database, name)) for name in COLLECTIONS}
    expected = [one for name, items_of in SHOP.items() for document in documents[name] for one in items_of(document)]
    return compare_all(expected, items, judge.Verdict(documents=sum(map(len, documents.values()))))
