"""What operators add to the flows: stopping in time, retrying what is worth it, and a log that holds no document."""

from __future__ import annotations

import inspect
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from docferry import errors
from docferry.config import load_migration
from docferry.errors import MigrationError, Stopped
from docferry.flows.rollback_points.job import list_points
from docferry.rehearsal.shop import load_shop
from docferry.sandbox import SandboxStack
from support.airflow.home import write_migration
from support.backfill.rig import Rig, eventually
from support.pace import Pace

pytestmark = pytest.mark.usefixtures("airflow_home")

CONTINUES = {"RetryExhausted", "LeaseLost"}
"""Not retryable inside a process, but worth another attempt by Airflow."""


def context(run_id: str = "manual__1", try_number: int = 1) -> Any:
    run = SimpleNamespace(dag_id="killed.backfill", run_id=run_id)
    return {"dag_run": run, "ti": SimpleNamespace(task_id="users.load", map_index=0, try_number=try_number)}


@pytest.mark.parametrize(
    "kind", [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, MigrationError)]
)
def test_retry_follows_the_type_of_the_error(kind: type[MigrationError]) -> None:
    from airflow.sdk import RetryAction
    from docferry_airflow.operators.base import RetryByErrorType

    error = kind.__new__(kind)
    decision = RetryByErrorType().evaluate(error, 1, 5)
    expected = RetryAction.RETRY if kind.retryable or kind.__name__ in CONTINUES else RetryAction.FAIL
    assert decision.action is expected


def test_errors_of_others_are_left_to_airflow() -> None:
    from airflow.sdk import RetryAction
    from docferry_airflow.operators.base import RetryByErrorType

    assert RetryByErrorType().evaluate(OSError("x"), 1, 5).action is RetryAction.DEFAULT


def test_progress_is_told_every_few_seconds_first_and_last_always() -> None:
    from docferry_airflow.operators.base import TaskProgress

    lines: list[str] = []
    progress = TaskProgress(SimpleNamespace(info=lines.append), every_s=60)
    for done in range(0, 1000, 10):
        progress.advance("users 00000", done, 1000)
    progress.advance("users 00000", 1000, 1000, "done")
    assert len(lines) == 2
    assert lines[0].startswith("users 00000: 0 of about 1,000 (0%)")
    assert lines[-1].endswith(", done")


@pytest.fixture
def prepared(connections: SandboxStack, tmp_path: Path) -> tuple[str, list[dict[str, Any]], int]:
    """A collection that takes half a minute to load; its ranges and its size."""
    from docferry_airflow.operators.backfill import PrepareCollectionOperator
    from docferry_airflow.operators.provision import ProvisionOperator

    slow = {"budget_wcu": 150, "page_documents": 50, "chunk_documents": 10_000}
    path = str(write_migration(tmp_path, "killed", backfill=slow, target={"replicas": []}))
    shop = load_shop(connections.mongo.uri("docferry"), database="killed", users=1_000, awkward=60)
    ProvisionOperator(task_id="provision", migration_file=path).execute(context())
    ranges = PrepareCollectionOperator(task_id="prepare", migration_file=path, collection="users").execute(context())
    return path, ranges, shop["users"].documents


@pytest.mark.timeout(180)
def test_on_kill_stops_within_five_seconds_and_the_next_attempt_loses_nothing(
    connections: SandboxStack, prepared: tuple[str, list[dict[str, Any]], int]
) -> None:
    from docferry_airflow.operators.backfill import FinishCollectionOperator, LoadRangeOperator

    path, ranges, documents = prepared
    assert len(ranges) == 1
    load = LoadRangeOperator(task_id="load", migration_file=path, collection="users", id_range=ranges[0])
    raised: list[BaseException] = []

    def attempt() -> None:
        try:
            load.execute(context())
        except BaseException as error:
            raised.append(error)

    rig = Rig(connections.env(), Path(path), load_migration(Path(path)))
    thread = threading.Thread(target=attempt)
    thread.start()
    eventually(lambda: rig.progress() or not thread.is_alive(), "a checkpoint")
    rig.close()
    assert thread.is_alive(), f"it ended before it could be killed: {raised}"
    with Pace() as pace:
        load.on_kill()
        thread.join(timeout=60)
    assert isinstance(raised[0], Stopped)
    assert pace.seconds < 5

    fast = Path(path)
    fast.write_text(fast.read_text().replace("budget_wcu: 150", "budget_wcu: 0"))
    done = LoadRangeOperator(task_id="load", migration_file=path, collection="users", id_range=ranges[0])
    second = done.execute(context(try_number=2))
    assert 0 < second["read"] < documents, "the first attempt's checkpoint was used"
    total = FinishCollectionOperator(task_id="finish", migration_file=path, collection="users").execute(context())
    assert total["read"] == documents == total["written"] + total["superseded"] + total["dead"]


def test_purge_shows_the_proof_unasked_and_fails_with_what_is_missing_of_it_when_asked_to_delete(
    connections: SandboxStack, tmp_path: Path
) -> None:
    from docferry_airflow.operators.purge import PurgeTombstonesOperator

    file = write_migration(tmp_path, "purged", target={"replicas": []})
    rig = Rig(connections.env(), file, load_migration(file))
    rig.provision()
    rig.close()
    path = str(file)
    shown = PurgeTombstonesOperator(task_id="purge", migration_file=path).execute(context())
    assert (shown["dry_run"], shown["safe"], shown["purged"]) == (True, False, 0)
    asked = PurgeTombstonesOperator(task_id="purge", migration_file=path, confirmed="purged", prove_only=False)
    with pytest.raises(errors.PreflightFailed, match="docferry replicate"):
        asked.execute(context())


def test_rollback_point_is_made_by_its_operator_and_its_summary_names_it(
    connections: SandboxStack, tmp_path: Path
) -> None:
    from docferry_airflow.operators.points import RollbackPointOperator

    points = {"to": str(tmp_path / "points")}
    file = write_migration(tmp_path, "pointed", target={"replicas": []}, rollback_points=points)
    rig = Rig(connections.env(), file, load_migration(file))
    rig.provision()
    rig.database["users"].insert_many([{"_id": number} for number in range(7)])
    made = RollbackPointOperator(task_id="point", migration_file=str(file)).execute(context())
    assert made["documents"] == 7
    assert Path(made["where"], "pointed", "users.bson").stat().st_size == made["bytes"]
    assert list(made["backups"]) == ["PointedTable"]
    (point,) = list_points(rig.ledger).points
    assert (point.name, point.by) == (made["point"], "airflow killed.backfill manual__1 users.load[0] try 1")
    rig.mongo.drop_database("pointed")
    rig.close()


@pytest.mark.parametrize(
    "name", ["CollectionLoadedSensor", "MongoDBLeadsSensor", "DynamoDBLeadsSensor", "ReplicationNearSensor"]
)
def test_migration_that_is_not_provisioned_is_waited_for_instead_of_failing_over_and_over(
    connections: SandboxStack, tmp_path: Path, name: str
) -> None:
    """A `@continuous` DAG that fails three times is paused, and then no process replicates."""
    from docferry_airflow.sensors import ledger

    path = str(write_migration(tmp_path, "unprovisioned"))
    assert not getattr(ledger, name)(task_id="wait", migration_file=path).poke(context())


def test_a_failing_connection_is_an_error_that_names_it(
    airflow_home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from airflow.sdk.exceptions import AirflowRuntimeError
    from docferry_airflow.operators.provision import ProvisionOperator

    path = str(write_migration(tmp_path, "nowhere", source={"connection": "no_such_connection", "database": "x"}))
    operator = ProvisionOperator(task_id="provision", migration_file=path)
    with pytest.raises((AirflowRuntimeError, Exception), match="no_such_connection"):
        operator.execute(context())
