"""The phases as DAG runs against the real stack, one process: load, load again, tamper, mend."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from docferry.rehearsal.shop import ShopCounts, load_shop
from docferry.sandbox import SandboxStack
from support.airflow.home import ROOT, write_migration
from support.backfill.rig import table_names

NAME = "runs"
USERS = 120
MOMENTS = (datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=n) for n in itertools.count())


class Runs:
    """Our DAGs for one migration file, run in this process."""

    def __init__(self, shop: ShopCounts, client: Any) -> None:
        from airflow.dag_processing.bundles.manager import DagBundlesManager
        from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

        self.shop, self.client, self.table = shop, client, f"{NAME.title()}Table"
        bag = BundleDagBag(dag_folder=ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags-folder")
        assert bag.import_errors == {}
        bundles: Any = DagBundlesManager  # not annotated
        bundles().sync_bundles_to_db()
        sync_bag_to_db(bag, "dags-folder", None)
        self.dags = bag.dags
        # dag.test() leaves the conf of one run in the DAG's params, where the next would find it.
        self.defaults = {dag_id: dag.params.dump() for dag_id, dag in bag.dags.items()}

    def run(self, phase: str, **conf: Any) -> tuple[str, dict[str, str], dict[str, Any]]:
        """The run's state, the tasks' states, and what the tasks returned (the last of mapped ones)."""
        dag = self.dags[f"{NAME}.{phase}"]
        run = dag.test(logical_date=next(MOMENTS), run_conf=self.defaults[dag.dag_id] | conf)
        tasks = {
            f"{ti.task_id}[{ti.map_index}]" if ti.map_index >= 0 else ti.task_id: ti for ti in run.get_task_instances()
        }
        states = {name: str(ti.state) for name, ti in tasks.items()}
        returned = {name: ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index) for name, ti in tasks.items()}
        return str(run.state), states, returned

    def items(self) -> int:
        pages = self.client.get_paginator("scan").paginate(TableName=self.table, Select="COUNT", ConsistentRead=True)
        return sum(page["Count"] for page in pages)


@pytest.fixture(scope="module")
def runs(stack: SandboxStack, airflow_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runs]:
    from docferry.sandbox.airflow import aws_connection, mongo_connection

    migrations = tmp_path_factory.mktemp("migrations")
    write_migration(migrations, NAME, backfill={"chunk_documents": 60, "page_documents": 25}, target={"replicas": []})
    shop = load_shop(stack.mongo.uri("docferry"), database=NAME, users=USERS, awkward=60)
    env = stack.env()
    keys = {"aws_access_key_id": env["AWS_ACCESS_KEY_ID"], "aws_secret_access_key": env["AWS_SECRET_ACCESS_KEY"]}
    client = boto3.client("dynamodb", region_name="us-east-1", endpoint_url=stack.aws.endpoint, **keys)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DOCFERRY_MIGRATIONS", str(migrations))
        patch.setenv("DOCFERRY_REPORTS", str(tmp_path_factory.mktemp("reports")))
        patch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", mongo_connection(stack.mongo.uri("docferry")))
        patch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(env))
        yield Runs(shop, client)


@pytest.mark.timeout(300)
def test_phases_carry_the_shop_and_a_second_run_changes_nothing(runs: Runs) -> None:
    state, states, _ = runs.run("provision", dry_run=True)
    assert state == "success"
    assert runs.table not in table_names(runs.client)

    _, _, first = runs.run("provision")
    assert first["switch_images_on"]["collections"]["users"] == "switched on"
    assert set(first["make_tables"]["resources"].values()) == {"created"}
    priced = first["say_what_it_costs"]
    assert priced["files"] == ["cost.html", "cost.json", "cost.md"]
    assert priced["once_usd"] > 0
    assert "no saving is claimed" in priced["sentence"]
    _, _, second = runs.run("provision")
    assert second["switch_images_on"]["changed_anything"] is False
    assert set(second["make_tables"]["resources"].values()) == {"unchanged"}

    state, states, plan = runs.run("backfill", dry_run=True)
    assert state == "success"
    assert {name for name, found in states.items() if found == "success"} == {"plan_the_load"}
    assert plan["plan_the_load"]["fits"] is True
    assert plan["plan_the_load"]["cost"]["load_usd"] > 0
    assert runs.items() == 0

    state, states, loaded = runs.run("backfill", collections=["users"])
    assert (state, states["users.finish"], states["orders.prepare"]) == ("success", "success", "skipped")
    assert runs.items() == runs.shop["users"].items

    state, states, loaded = runs.run("backfill")
    assert state == "success"
    assert len([name for name in states if name.startswith("orders.load[")]) == 4
    for collection in ("users", "orders", "products", "categories"):
        counts, expected = loaded[f"{collection}.finish"], runs.shop[collection]
        assert counts["read"] == expected.documents == counts["written"] + counts["superseded"] + counts["dead"]
        assert (counts["dead"], counts["items"]) == (expected.unstorable, expected.items)
    assert loaded["users.finish"]["already_complete"] is True
    assert runs.items() == runs.shop.items
    consumed = {row["what"]: row["write_units"] for row in loaded["report_totals"]["cost"]["rows"]}
    assert consumed == {f"load of {name}": loaded[f"{name}.finish"]["units"] for name in runs.shop.collections}

    state, states, again = runs.run("backfill")
    assert state == "success"
    assert all(again[f"{name}.finish"]["already_complete"] for name in ("users", "orders", "products", "categories"))

    state, states, compared = runs.run("validate")
    assert (state, states["mend_differences"]) == ("success", "skipped")
    assert compared["compare_every_document"]["ok"] is True
    assert "differences" not in compared["compare_every_document"]


@pytest.mark.timeout(300)
def test_a_planted_difference_fails_validate_and_repair_mends_it(runs: Runs) -> None:
    if runs.table not in table_names(runs.client):
        pytest.fail("the test above has to run first")
    found = runs.client.scan(
        TableName=runs.table, FilterExpression="entityType = :t", ExpressionAttributeValues={":t": {"S": "PRODUCT"}}
    )["Items"][0]
    runs.client.put_item(TableName=runs.table, Item=found | {"name": {"S": "planted"}})
    state, states, _ = runs.run("validate")
    assert (state, states["compare_every_document"]) == ("failed", "failed")
    state, states, _ = runs.run("validate", repair=True)
    assert (state, states["mend_differences"], states["compare_every_document"]) == ("success",) * 3
