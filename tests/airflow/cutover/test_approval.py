"""What a person is asked before a phase, and what becomes of the answer."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.flows.ledger import approvals
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.reports import CollectionResult, ValidationReport, record_report, shown_ms
from docferry.flows.ledger.times import now_ms
from docferry.flows.reporting.room import room_of
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
    record_in(ledger, age_s)
    return ledger


def record_in(ledger: FakeLedger, age_s: float) -> None:
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


def answer(why: str, chosen: str = "Approve", by: str = "maria") -> dict[str, Any]:
    return {"chosen_options": [chosen], "params_input": {"why": why}, "responded_by_user": {"name": by}}


def parked(call: Any, *arguments: Any) -> None:
    from airflow.sdk.exceptions import TaskAwaitingInput

    with pytest.raises(TaskAwaitingInput):
        call(*arguments)


def trail_of(ledger: FakeLedger) -> str:
    """What the audit trail of the control room says."""
    return "\n".join(one["what"] for one in room_of(SHOP, ledger)["audit"])


@pytest.mark.parametrize(
    ("age_s", "age"),
    [
        (10.5, "10 seconds"),
        (118.5, "118 seconds"),
        (125, "2 minutes"),
        (3 * 3600 + 50, "3 hours"),
        (25 * 3600, "25 hours"),
    ],
)
def test_question_says_when_the_report_was_made_and_how_old_it_is(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, age_s: float, age: str
) -> None:
    ledger = validated(age_s)
    asked_ms = approvals.evidence_of(ledger).at_ms + int(age_s * 1000)
    monkeypatch.setattr("docferry.flows.ledger.times.now_ms", lambda: asked_ms)
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
    assert "did not count: it gives no reason" in trail_of(ledger)
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


def test_rejection_changes_nothing_but_the_audit_trail(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    ledger = validated()
    sensor = sensor_of(ledger, monkeypatch)
    parked(sensor.execute, asked.context)
    mode, digest = read_mode(ledger), approvals.evidence_of(ledger).digest
    with pytest.raises(AirflowFailException, match="not tonight"):
        sensor.execute_complete(asked.context, answer("not tonight", "Reject"))
    assert (read_mode(ledger), approvals.approvals_of(ledger, PHASE, digest)) == (mode, [])
    (told,) = room_of(SHOP, ledger)["audit"]
    assert (told["by"], told["why"]) == ("maria (Airflow)", "not tonight")
    assert told["what"].endswith(": rejected")


@pytest.mark.parametrize(
    ("since", "why"), [("older", "is not fresh any more"), ("newer", "is older than the last one")]
)
def test_approval_of_evidence_that_aged_or_was_replaced_since_it_was_shown_does_not_count(
    asked: Asked, monkeypatch: pytest.MonkeyPatch, since: str, why: str
) -> None:
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    ledger = validated()
    sensor = sensor_of(ledger, monkeypatch)
    parked(sensor.execute, asked.context)
    if since == "newer":
        record_in(ledger, age_s=-1)
    else:
        monkeypatch.setattr("docferry.flows.cutover.reasons.now_ms", lambda: now_ms() + 27 * 3_600_000)
    with pytest.raises(AirflowException, match=f"{why}: it is asked anew") as again:
        sensor.execute_complete(asked.context, answer("all is equal"))
    assert not isinstance(again.value, AirflowFailException)  # it is tried again, and asks on fresh evidence
    assert approvals.list_approvals(ledger) == []
    assert why in room_of(SHOP, ledger)["audit"][0]["what"]


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
    assert "maria is none of those whose approval counts" in trail_of(ledger)
    assert sensor.execute_complete(asked.context, answer("all is equal", by="anna"))["by"] == "anna (Airflow)"


def test_four_eyes_are_those_of_two_persons(asked: Asked, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = validated()
    sensor = sensor_of(ledger, monkeypatch, four_eyes=True)
    parked(sensor.execute, asked.context)
    for _ in range(2):
        parked(sensor.execute_complete, asked.context, answer("all is equal", by="maria"))
        assert "maria (Airflow) has approved it: all is equal." in asked.body
    assert "maria has approved it already, and four eyes are two persons'" in trail_of(ledger)
    assert sensor.execute_complete(asked.context, answer("I agree", by="anna"))["by"] == "anna (Airflow)"
    assert {one.person for one in approvals.list_approvals(ledger)} == {"maria", "anna"}
    sensor.execute(asked.context)  # and is not asked again
    assert len(asked.questions) == 3
