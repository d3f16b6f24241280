"""DAG runs against the real stack, in this process: the DAGs of one migration file, with the shop in its database."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from docferry.config import load_migration
from docferry.rehearsal.shop import ShopCounts, load_shop
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import aws_connection, mongo_connection

from support.airflow.home import ROOT, write_migration
from support.backfill.rig import Rig

MOMENTS = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in itertools.count())


class Runs:
    """Our DAGs for one migration file, run in this process."""

    def __init__(self, name: str, shop: ShopCounts, rig: Rig) -> None:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

        self.name, self.shop, self.rig, self.client, self.table = name, shop, rig, rig.dynamodb, rig.table
        bag = BundleDagBag(dag_folder=ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags-folder")
        assert bag.import_errors == {}
        bundles: Any = DagBundlesManager  # not annotated
        bundles().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
        self.dags = bag.dags
        # dag.test() leaves the conf of one run in the DAG's params, where the next would find it.
        self.defaults = {dag_id: dag.params.dump() for dag_id, dag in bag.dags.items()}

    def run(self, phase: str, skipping: str | None = None, **conf: Any) -> tuple[str, dict[str, str], dict[str, Any]]:
        """The run's state, the tasks' states, and what the tasks returned (the last of mapped ones). Tasks whose names match
        `skipping` are not carried out, and count as well."""
        dag = self.dags[f"{self.name}.{phase}"]
        conf = self.defaults[dag.dag_id] | conf
        run = dag.test(logical_date=next(MOMENTS), run_conf=conf, mark_success_pattern=skipping)
        tasks = {
            f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: ti for ti in run.get_task_instances()
        }
        states = {name: str(ti.state) for name, ti in tasks.items()}
        returned = {name: ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index) for name, ti in tasks.items()}
        return str(run.state), states, returned

    def items(self) -> int:
        pages = self.client.get_paginator("scan").paginate(TableName=self.table, Select="COUNT", ConsistentRead=True)
        return sum(page["Count"] for page in pages)


@contextmanager
def opened_runs(stack: SandboxStack, directory: Path, name: str, users: int, **changes: Any) -> Iterator[Runs]:
    """The shop loaded into MongoDB, and the DAGs of its file, whose first keys are changed by `changes`."""
    settings = {"backfill": {"chunk_documents": 60, "page_documents": 25}, "target": {"replicas": []}}
    file = write_migration(directory, name, **settings, **changes)
    shop = load_shop(stack.mongo.uri("docferry"), database=name, users=users, awkward=60)
    rig = Rig(stack.env(), file, load_migration(file))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCFERRY_MIGRATIONS", str(directory))
        patch.setenv("DOCFERRY_REPORTS", str(directory / "reports"))
        patch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", mongo_connection(stack.mongo.uri("docferry")))
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(stack.env()))
        yield Runs(name, shop, rig)
    rig.close()
