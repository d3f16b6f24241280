"""A process that noted that it would lift the fence, and fell silent, may yet do so: DynamoDB does not lead meanwhile."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from docferry.core.cutover.fence_plan import FencePlan
from docferry.core.cutover.modes import Mode, ModeState
from docferry.flows.cutover.reasons import fence as no_fence
from docferry.flows.cutover.reasons import lift_on_its_way
from docferry.flows.cutover.refusals import Asked
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.ready import LATE_LIFT
from docferry.flows.ledger.rooms.fence import FENCE
from docferry.flows.ledger.times import now_ms
from docferry.flows.preflight.thresholds import LATE_LIFT_S
from docferry.ports.flows import Identity
from docferry.testing.fakes import FakeFence, FakeLedger
from docferry.testing.jobs import change_job
from support.cutover.jobs import job_of, set_mode


class Killed(BaseException):
    """Not an error that a flow could put right."""


class Dying(FakeFence):
    dies = True

    def lift_fence(self, plan: FencePlan) -> None:
        if self.dies:
            raise Killed
        super().lift_fence(plan)


Silent = tuple[Dying, FakeLedger]


@pytest.fixture
def silent() -> Silent:
    """A fence whose lifter has been silent since its lease ran out."""
    mongo, ledger = Dying(), FakeLedger()
    set_mode(ledger, ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100))
    slow = job_of(mongo, ledger, "slow")
    fence(slow, 1.0)
    with pytest.raises(Killed):
        lift(slow)
    mongo.dies = False
    silent_since(ledger, 0)
    return mongo, ledger


def silent_since(ledger: FakeLedger, seconds: float, **changes: Any) -> None:
    """As if it had stood still before it could give the lease back."""
    record = ledger.read(*FENCE)
    assert record is not None
    held = {"owner": "slow", "mark": "slow", "until": now_ms() - int(seconds * 1000) - 1}
    ledger.write(*FENCE, {**record.body, **held, **changes}, expect=record)


def named(mongo: FakeFence, ledger: FakeLedger, waived: tuple[str, ...] = ()) -> list[str]:
    return lacking(Asked(job=job_of(mongo, ledger, "operator"), waived=waived))


def lacking(asked: Asked) -> list[str]:
    return [str(one) for one in (*lift_on_its_way(asked), *no_fence(asked))]


def test_lift_of_a_silent_process_is_named_and_waived_by_who_knows_that_it_is_gone(silent: Silent) -> None:
    (said,) = named(*silent)
    assert "may be lifted yet by slow" in said
    assert named(*silent, (LATE_LIFT,)) == []


def test_it_is_remembered_when_another_has_lifted_the_fence(silent: Silent) -> None:
    lift(job_of(*silent, "another"))
    (said,) = named(*silent)
    assert "may be lifted yet by slow" in said


def test_it_is_over_after_a_quarter_of_an_hour(silent: Silent) -> None:
    silent_since(silent[1], LATE_LIFT_S + 1)
    assert named(*silent) == []


def test_process_that_is_proved_dead_sends_nothing(silent: Silent) -> None:
    operator = job_of(*silent, "operator")
    knows = change_job(operator, identity=Identity(name="operator", mark="operator", ended=lambda mark: mark == "slow"))
    assert lacking(Asked(job=knows)) == []
    lift(knows)
    assert named(*silent) == []


def test_fence_that_a_late_lift_has_opened_is_told_of_on_the_way_back() -> None:
    """The process that lifted it died before it could look at the mode again, and no process watched in between."""
    mongo, ledger = FakeFence(), FakeLedger()
    set_mode(ledger, ModeState(mode=Mode.DYNAMODB_READS, epoch=3, percent=100))
    fence(job_of(mongo, ledger, "switch"), 1.0)
    set_mode(ledger, ModeState(mode=Mode.DYNAMODB_ONLY, epoch=5, floor=1))
    mongo.blocked = False
    set_mode(ledger, ModeState(mode=Mode.MONGO_ONLY, epoch=7))
    heard: list[str] = []
    back = change_job(job_of(mongo, ledger, "back"), progress=SimpleNamespace(say=heard.append))
    assert lift(back).lifted
    (said,) = heard
    assert said.startswith("ALARM: the fence on MongoDB (write_block) was down before it was to be lifted")
    assert "docferry validate" in said
