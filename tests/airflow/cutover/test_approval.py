"""What a person is asked before a phase, and what becomes of the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.flows.ledger import approvals
from docferry.flows.ledger.reports import CollectionResult, ValidationReport, record_report, shown_ms
from docferry.flows.ledger.times import now_ms
from docferry.testing.fakes import FakeLedger
from support.mappings import SHOP

pytestmark = pytest.mark.usefixtures("airflow_home")

PHASE = "flip_reads"


class Asked:
    """Airflow's side of a question: what was shown, how often, and what the task keeps meanwhile."""

    def __init__(self) -> None:
        self.questions: list[dict[str, Any]] = []
        self.kept: dict[str, Any] = {}
        self.context: Any = {"ti": SimpleNamespace(id="ti", xcom_push=self.push, xcom_pull=self.pull)}

    def push(self, key: str, value: Any) -> None:
        self.kept[key] = value

    def pull(self, task_ids: str, key: str) -> Any:
        return self.kept.get(key)

    def ask(self, **question: Any) -> None:
        self.questions.append(question)

    @property
    def body(self) -> str:
        return str(self.questions[-1]["body"])


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, airflow_home: Path) -> Asked:
    made = Asked()
    monkeypatch.setattr("airflow.sdk.execution_time.hitl.upsert_hitl_detail", made.ask)
    return made


def sensor_of(ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch, **cutover: Any) -> Any:
    from docferry_airflow.sensors.approval import PhaseApprovalSensor

    migration = replace(SHOP, cutover=replace(SHOP.cutover, **cutover))
    sensor = PhaseApprovalSensor(task_id="wait_for_approval", migration_file="none.yaml", phase=PHASE, mode="poke")
    monkeypatch.setattr(sensor, "_ledger", lambda: ledger)
    monkeypatch.setattr(sensor, "_migration", lambda: migration)
    return sensor


def validated(age_s: float = 0) -> FakeLedger:
    ledger = FakeLedger()
    at_ms = now_ms() - int(age_s * 1000)
    report = ValidationReport(
        migration="shop",
        at_ms=at_ms,
        sample=None,
        collections=(CollectionResult(collection="users", documents=2, items=3),),
        unchecked=0,
        differences=(),
        suspects={},
        extra_keys={},
        foreign_keys={},
        versions=frozenset(),
        read_from=Timestamp(at_ms // 1000, 1),
    )
    record_report(ledger, report)
    return ledger


def answer(why: str, chosen: str = "Approve", by: str = "maria") -> dict[str, Any]:
    return {"chosen_options": [chosen], "params_input": {"why": why}, "responded_by_user": {"name": by}}


def parked(call: Any, *arguments: Any) -> None:
    from airflow.sdk.exceptions import TaskAwaitingInput

    with pytest.raises(TaskAwaitingInput):
        call(*arguments)


@pytest.mark.parametrize(
    ("age_s", "age"),
    [
        (10.5, "10 seconds"),
        (118.5, "118 seconds"),
        (125, "2 minutes"),
        (3 * 3600 + 50, "3 hours"),
        (50 * 3600, "2 days"),
    ],
)
def test_question_says_when_the_report_was_made_and_how_old_it_is(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, age_s: float, age: str
) -> None:
    ledger = validated(age_s)
    parked(sensor_of(ledger, monkeypatch).execute, asked.context)
    assert f"{shown_ms(approvals.evidence_of(ledger).at_ms)}, {age} before" in asked.body


@pytest.mark.parametrize("why", ["", "ok", "  ok   "])
def test_approval_without_a_reason_is_asked_for_again_and_then_counts(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    ledger = validated()
    sensor = sensor_of(ledger, monkeypatch)
    parked(sensor.execute, asked.context)
    parked(sensor.execute_complete, asked.context, answer(why))
    assert len(asked.questions) == 2
    digest = approvals.evidence_of(ledger).digest
    assert approvals.approvals_of(ledger, PHASE, digest) == []

    sensor.execute_complete(asked.context, answer("all is equal"))
    (found,) = approvals.approvals_of(ledger, PHASE, digest)
    assert (found.by, found.why) == ("maria (Airflow)", "all is equal")


def test_rejection_needs_no_reason_and_ends_the_run(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    sensor = sensor_of(validated(), monkeypatch)
    parked(sensor.execute, asked.context)
    with pytest.raises(AirflowFailException, match="flip_reads was rejected by maria"):
        sensor.execute_complete(asked.context, answer("", "Reject"))


def test_question_says_what_happens_next_how_to_go_back_and_where_the_migration_stands(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    parked(sensor_of(validated(), monkeypatch).execute, asked.context)
    facts = ("| leads | MongoDB (MONGO_ONLY) |", "is not known", "| dead letters | 0 |")
    for told in ("reads come from DynamoDB", "rollback", *facts):
        assert told in asked.body


def test_answer_of_a_person_whom_the_file_does_not_name_does_not_count(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = validated()
    sensor = sensor_of(ledger, monkeypatch, approvers=("anna",))
    parked(sensor.execute, asked.context)
    parked(sensor.execute_complete, asked.context, answer("all is equal", by="maria"))
    assert approvals.list_approvals(ledger) == []
    assert sensor.execute_complete(asked.context, answer("all is equal", by="anna"))["by"] == "anna (Airflow)"


def test_four_eyes_are_those_of_two_persons(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = validated()
    sensor = sensor_of(ledger, monkeypatch, four_eyes=True)
    parked(sensor.execute, asked.context)
    for _ in range(2):
        parked(sensor.execute_complete, asked.context, answer("all is equal", by="maria"))
        assert "maria (Airflow) has approved it: all is equal." in asked.body
    assert sensor.execute_complete(asked.context, answer("I agree", by="anna"))["by"] == "anna (Airflow)"
    assert {one.person for one in approvals.list_approvals(ledger)} == {"maria", "anna"}
    sensor.execute(asked.context)  # and is not asked again
    assert len(asked.questions) == 3
