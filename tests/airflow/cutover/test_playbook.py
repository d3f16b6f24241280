"""The playbook's own tasks: one run of a phase however often the task is tried, and waiting for what the ledger says."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.config import Migration, load_migration
from docferry.core.cutover.instances import INSTANCES, Instance
from docferry.core.cutover.modes import MODE, Mode, ModeState
from docferry.flows.ledger.load_headers import LateWrites, LoadHeader, LoadHeaders
from docferry.flows.ledger.positions import REPLICATION, ReplicationState, replication_checkpoint
from docferry.flows.ledger.times import now_ms
from docferry.ports.flows import Identity, StreamPosition
from docferry.testing.fakes import FakeLedger
from support.airflow.home import write_migration

RUN = "manual__1"
ME = Identity(name="me", mark="me", ended=lambda mark: False)


class Ti:
    """A task instance as the operator sees it: which runs there are, in which state."""

    def __init__(self, runs: dict[str, str], max_tries: int = 3) -> None:
        self.runs, self.max_tries = runs, max_tries
        self.paused = False

    def get_dr_count(self, dag_id: str, run_ids: list[str]) -> int:
        return sum(f"{dag_id}/{one}" in self.runs for one in run_ids)

    def get_dagrun_state(self, dag_id: str, run_id: str) -> str:
        return self.runs[f"{dag_id}/{run_id}"]

    def get_dag(self, dag_id: str) -> Any:
        return type("Dag", (), {"is_paused": self.paused})

    def xcom_push(self, **_: Any) -> None: ...


@pytest.fixture
def phase(airflow_home: Path) -> Any:
    from docferry_airflow.operators.phase import PhaseOperator

    made = PhaseOperator(task_id="stop", phase="stop_mongo_writes", retries=3)
    made.trigger_dag_id = "shop.stop_mongo_writes"  # as rendered
    return made


def carry_out(phase: Any, ti: Ti) -> Any:
    return phase.execute({"ti": ti, "run_id": RUN})


def run_name(time: int) -> str:
    return f"shop.stop_mongo_writes/playbook__{RUN}__{time}__stop"


def test_first_attempt_starts_a_run_of_the_phase(phase: Any) -> None:
    from airflow.sdk.exceptions import DagRunTriggerException

    with pytest.raises(DagRunTriggerException) as started:
        carry_out(phase, Ti({}))
    found = started.value
    assert f"{found.trigger_dag_id}/{found.dag_run_id}" == run_name(1)
    assert (found.wait_for_completion, found.deferrable, found.reset_dag_run) == (True, True, False)


def test_paused_phase_fails_at_once_instead_of_waiting_for_ever(phase: Any) -> None:
    from airflow.sdk.exceptions import AirflowException

    ti = Ti({})
    ti.paused = True
    with pytest.raises(AirflowException, match="paused"):
        carry_out(phase, ti)


def test_another_attempt_waits_for_the_run_of_the_one_before(phase: Any) -> None:
    from airflow.sdk.exceptions import TaskDeferred

    with pytest.raises(TaskDeferred) as waits:
        carry_out(phase, Ti({run_name(1): "running"}))
    assert waits.value.trigger.run_ids == [run_name(1).partition("/")[2]]


def test_another_attempt_takes_the_success_of_the_one_before(phase: Any) -> None:
    assert carry_out(phase, Ti({run_name(1): "success"})) is None


def test_failed_phase_is_not_repeated_by_itself_but_once_the_task_is_cleared(phase: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException, DagRunTriggerException

    with pytest.raises(AirflowFailException, match="see its run"):
        carry_out(phase, Ti({run_name(1): "failed"}))
    with pytest.raises(DagRunTriggerException) as started:  # cleared after its first try: Airflow gives it three more
        carry_out(phase, Ti({run_name(1): "failed"}, max_tries=4))
    assert str(started.value.dag_run_id) == run_name(2).partition("/")[2]


def test_run_that_fails_while_it_is_waited_for_fails_the_task_for_good(phase: Any) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    run_id = run_name(1).partition("/")[2]
    event = ("trigger", {"run_ids": [run_id], run_id: "failed"})
    with pytest.raises(AirflowFailException, match="clear this task"):
        phase.execute_complete({}, event)


# --- waiting ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def migration(tmp_path: Path) -> Migration:
    return load_migration(write_migration(tmp_path, "shop"))


def look(name: str, migration: Migration, ledger: FakeLedger, **options: Any) -> bool:
    from docferry_airflow.sensors import ledger as sensors

    sensor = getattr(sensors, name)(task_id="wait", migration_file=migration.path, **options)
    return bool(sensor.look(migration, ledger))


def test_application_is_waited_for_until_an_instance_is_registered(airflow_home: Path, migration: Migration) -> None:
    ledger, now = FakeLedger(), now_ms()
    assert not look("ApplicationRunsSensor", migration, ledger)
    one = Instance(id="i", name="web", mark="alive", epoch=0, registered_ms=now, beat_ms=now, until_ms=now + 60_000)
    ledger.write(INSTANCES, "i", one.to_body(), expect=None)
    assert look("ApplicationRunsSensor", migration, ledger)


def test_replication_is_waited_for_until_it_is_near(airflow_home: Path, migration: Migration) -> None:
    ledger = FakeLedger()
    assert not look("ReplicationNearSensor", migration, ledger)
    position = StreamPosition(time=Timestamp(1, 1), token={"_data": "x"}, scope="shop")
    body = replication_checkpoint(ReplicationState(position=position, at_ms=now_ms(), lag_s=900))
    record = ledger.write(*REPLICATION, body, expect=None)
    assert not look("ReplicationNearSensor", migration, ledger)
    ledger.write(*REPLICATION, body | {"lag_s": 1}, expect=record)
    assert look("ReplicationNearSensor", migration, ledger)


def test_wait_for_replication_says_until_when_the_load_of_a_dead_worker_may_still_write(
    airflow_home: Path, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing else tells why replication has not begun: for 15 minutes, after a worker was killed."""
    from docferry_airflow.sensors import ledger as sensors

    said: list[str] = []
    monkeypatch.setattr(sensors.log, "info", lambda text, *words: said.append(text % words))
    ledger, name = FakeLedger(), migration.collections[0].name
    late = LateWrites(orphaned_ms=now_ms())
    LoadHeaders(ledger).write(LoadHeader(collection=name, mapping="digest", late=late))
    assert not look("ReplicationNearSensor", migration, ledger)
    until = datetime.fromtimestamp(late.until_ms(900) / 1000, UTC)
    expected = f"load of {name} is over: a process that ended while it wrote; waiting until {until:%H:%M:%S} UTC"
    assert said[0].endswith(expected)


@pytest.mark.parametrize(
    ("mode", "forward", "back"),
    [
        (ModeState(), True, False),
        (ModeState(mode=Mode.DYNAMODB_READS, percent=100, epoch=3), True, False),
        (ModeState(mode=Mode.DYNAMODB_READS, percent=100, epoch=3).hold(Mode.DYNAMODB_ONLY, 10**15), False, False),
        (ModeState(mode=Mode.DYNAMODB_ONLY, epoch=4), False, True),
        (ModeState(mode=Mode.FINAL, epoch=5), False, False),
    ],
    ids=str,
)
def test_each_direction_waits_for_its_turn_instead_of_failing_over_and_over(
    airflow_home: Path, migration: Migration, mode: ModeState, forward: bool, back: bool
) -> None:
    ledger = FakeLedger()
    ledger.write(*MODE, mode.to_body(), expect=None)
    assert look("MongoDBLeadsSensor", migration, ledger) is forward
    assert look("DynamoDBLeadsSensor", migration, ledger) is back


def test_soak_counts_from_when_dynamodb_began_to_lead_and_not_while_it_does_not(
    airflow_home: Path, migration: Migration, monkeypatch: pytest.MonkeyPatch
) -> None:
    from docferry.core.cutover.modes import MOVES

    ledger, now = FakeLedger(), now_ms()
    assert not look("DynamoDBHasLedSensor", migration, ledger, hours=0)
    ledger.write(*MODE, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=7).to_body(), expect=None)
    moved = {"before": "HOLD", "after": "DYNAMODB_ONLY", "by": "me", "why": "", "at": now - 2 * 3_600_000}
    ledger.write(MOVES, f"{7:012d}", moved, expect=None)
    assert look("DynamoDBHasLedSensor", migration, ledger, hours=1.9)
    assert not look("DynamoDBHasLedSensor", migration, ledger, hours=2.1)
