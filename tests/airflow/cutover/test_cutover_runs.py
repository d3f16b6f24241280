"""The phases that change who serves, as DAG runs in this process, under an application that writes: there, approved, and back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from docferry import wiring
from docferry.config import parse_migration
from docferry.core.cutover.modes import Mode
from docferry.errors import WritesHeld
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reports import latest_report
from docferry.sandbox import SandboxStack
from docferry.sandbox.airflow import aws_connection, mongo_connection
from support.airflow.home import ROOT
from support.backfill.rig import Rig, eventually
from support.client.rig import connected
from support.client.traffic import Traffic, in_mongodb
from support.replicate.rig import Following, end, live_shop
from support.validate.planting import require_equal

pytestmark = pytest.mark.cutover

MOMENTS = (datetime(2026, 2, 1, tzinfo=UTC) + timedelta(minutes=n) for n in itertools.count())


@pytest.fixture
def rig(airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    with SandboxStack() as stack:
        made = live_shop(stack.env(), tmp_path)
        let_writes_wait(made)
        images = {"StreamEnabled": True, "StreamViewType": "NEW_AND_OLD_IMAGES"}
        made.dynamodb.update_table(TableName=made.table, StreamSpecification=images)
        connected(made, monkeypatch, stack)
        monkeypatch.setenv("DOCFERRY_MIGRATIONS", str(made.file.parent))
        monkeypatch.setenv("AIRFLOW_CONN_MONGO_DEFAULT", mongo_connection(stack.mongo.uri("docferry")))
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", aws_connection(stack.aws.env()))
        yield made
        end(made)


def let_writes_wait(rig: Rig) -> None:
    """For as long as a busy machine needs to change the leader."""
    tree = yaml.safe_load(rig.file.read_text())
    tree["cutover"] = {**tree.get("cutover", {}), "hold_s": 60, "drain_s": 30}
    rig.file.write_text(yaml.safe_dump(tree, sort_keys=False))
    rig.migration = parse_migration(rig.file.read_bytes(), str(rig.file))


@pytest.fixture
def dags(rig: Rig) -> Any:
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import BundleDagBag, sync_bag_to_db

    bag = BundleDagBag(dag_folder=ROOT / "dags", bundle_path=ROOT / "dags", bundle_name="dags-folder")
    assert bag.import_errors == {}
    bundles: Any = DagBundlesManager  # not annotated
    bundles().sync_bundles_to_db()
    sync_bag_to_db(bag, "dags-folder", None)
    return bag.dags


def run(dags: Any, rig: Rig, phase: str, **conf: Any) -> tuple[str, dict[str, Any]]:
    """The run's state, and what its tasks returned."""
    dag = dags[f"{rig.migration.name}.{phase}"]
    done = dag.test(logical_date=next(MOMENTS), run_conf=dag.params.dump() | conf)
    return str(done.state), {ti.task_id: ti.xcom_pull(task_ids=ti.task_id) for ti in done.get_task_instances()}


def would(dags: Any, rig: Rig, phase: str, **conf: Any) -> dict[str, str]:
    """What the tasks of a dry run say that they would do. It changes nothing, and asks nobody."""
    before, report = read_mode(rig.ledger), latest_report(rig.ledger)
    state, returned = run(dags, rig, phase, dry_run=True, **conf)
    assert (state, read_mode(rig.ledger), latest_report(rig.ledger)) == ("success", before, report)
    return {task: told["would"] for task, told in returned.items() if isinstance(told, dict) and "would" in told}


@contextmanager
def somebody_answers(rig: Rig, option: str, why: str) -> Iterator[list[str]]:
    """As a person does under Required Actions: sees the request, and answers it through Airflow's own API."""
    from airflow.api_fastapi.app import create_app, get_auth_manager
    from airflow.api_fastapi.auth.managers.simple.user import SimpleAuthManagerUser
    from fastapi.testclient import TestClient

    client = TestClient(create_app(apps="core"))
    token = get_auth_manager().generate_jwt(SimpleAuthManagerUser(username="maria", role="admin"))
    headers = {"Authorization": f"Bearer {token}"}
    over, bodies = threading.Event(), list[str]()

    def answer() -> None:
        while not over.wait(0.5):
            asked = client.get(
                "/api/v2/dags/~/dagRuns/~/hitlDetails",
                params={"response_received": False, "state": "awaiting_input"},
                headers=headers,
            ).json()
            for one in asked["hitl_details"]:
                ti = one["task_instance"]
                bodies.append(one["body"])
                time.sleep(1.0)
                place = f"/api/v2/dags/{ti['dag_id']}/dagRuns/{ti['dag_run_id']}/taskInstances/{ti['task_id']}/-1/hitlDetails"
                client.patch(place, json={"chosen_options": [option], "params_input": {"why": why}}, headers=headers)

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    try:
        yield bodies
    finally:
        over.set()
        thread.join(timeout=10)


@contextmanager
def followed_once_mongodb_leads(rig: Rig) -> Iterator[None]:
    """As the DAG `replicate` does, which waits until then."""
    over = threading.Event()

    def follow() -> None:
        while read_mode(rig.ledger).mode not in (Mode.MONGO_ONLY, Mode.DUAL_WRITE):
            if over.wait(0.2):
                return
        with Following(rig):
            over.wait()

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(timeout=60)


@pytest.mark.timeout(900)  # 273 s were seen, with three others at work
def test_phases_take_the_application_there_and_back(rig: Rig, dags: Any) -> None:
    with wiring.connect(rig.file) as manager, Traffic(manager, writers=2) as traffic:
        with Following(rig):
            eventually(lambda: traffic.writes > 20, "some writes")
            assert "writes to both databases" in would(dags, rig, "dual_write")["begin_dual_write"]
            assert run(dags, rig, "dual_write")[0] == "success"
            assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE
            require_equal(rig)
            assert run(dags, rig, "flip_reads", dry_run=True, reads=0)[0] == "failed", "nobody has approved it"
            with somebody_answers(rig, "Reject", "not tonight"):
                assert run(dags, rig, "flip_reads", reads=0)[0] == "failed"
            assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE
            assert [(one.by, one.what) for one in approvals.list_answers(rig.ledger)] == [
                ("maria (Airflow)", "rejected")
            ]
            with somebody_answers(rig, "Approve", "seen and agreed") as bodies:
                state, _ = run(dags, rig, "flip_reads", soak_minutes=0.02, reads=0, slower=0)
            assert state == "success"
            assert "All compared documents are equal: all that has not changed since" in bodies[0]
            (found,) = approvals.list_approvals(rig.ledger)
            assert (found.by, found.why) == ("maria (Airflow)", "seen and agreed")
            assert read_mode(rig.ledger).percent == 100
            assert run(dags, rig, "stop_mongo_writes", dry_run=True)[0] == "failed", "nobody has approved it"
            evidence = approvals.evidence_of(rig.ledger).digest
            approvals.approve(rig.ledger, approvals.STOP_MONGO_WRITES, evidence, "maria", "tonight it is")
            assert would(dags, rig, "stop_mongo_writes") == {
                "switch_to_dynamodb_only": "DynamoDB can become the leader"
            }
            with somebody_answers(rig, "Approve", "tonight it is"):
                state, returned = run(dags, rig, "stop_mongo_writes")
        assert (state, returned["switch_to_dynamodb_only"]["after"]) == ("success", "DYNAMODB_ONLY")
        before = traffic.writes
        eventually(lambda: traffic.writes > before + 20, "writes to DynamoDB alone")
        _, planned = run(dags, rig, "rollback", dry_run=True, waived=["validation"])
        assert "MongoDB leads" in planned["give_mongodb_the_lead"]["would"]
        assert read_mode(rig.ledger).mode is Mode.DYNAMODB_ONLY
        with followed_once_mongodb_leads(rig), somebody_answers(rig, "DUAL_WRITE", "") as bodies:
            state, returned = run(dags, rig, "rollback", waived=["validation"])
        assert (state, returned["give_mongodb_the_lead"]["after"]) == ("success", "DUAL_WRITE")
        near, far = bodies[0].splitlines()
        assert near.startswith("- **DUAL_WRITE**: writes wait for a moment")
        assert far.startswith("- **MONGO_ONLY**: writes wait for a moment")
        with somebody_answers(rig, "leave everything as it is", ""):
            assert run(dags, rig, "rollback")[0] == "success"
        assert read_mode(rig.ledger).mode is Mode.DUAL_WRITE
        state, returned = run(dags, rig, "rollback", to="MONGO_ONLY")
        assert (state, returned["give_mongodb_the_lead"]["after"]) == ("success", "MONGO_ONLY")
    held = [
        one for one in traffic.errors if isinstance(one, WritesHeld)
    ]  # a change of leader may take longer than they wait
    assert [one for one in traffic.errors if one not in held] == []
    assert in_mongodb(rig.database) == traffic.acknowledged()
