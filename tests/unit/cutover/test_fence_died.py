"""A fence whose process was stopped, died, or lost its lease."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.fence_plan import FencePlan
from docferry.errors import (
    AccessDenied,
    LeaseHeld,
    LeaseLost,
    Stopped,
)
from docferry.flows.fence import record as fence_record
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.record import Recorded
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.times import now_ms
from docferry.testing.fakes import APP, FakeFence, FakeLedger
from support.cutover.fakes import ROLES, WITHIN_S, Process, ledger, mongo, one, quick, recorded

__all__ = ["ledger", "mongo", "one", "quick"]


def test_stop_while_it_waits_takes_everything_back(one: Process, mongo: FakeFence, ledger: FakeLedger) -> None:
    mongo.begin()
    threading.Timer(0.1, one.stop.set).start()
    with pytest.raises(Stopped):
        fence(one.job, 20.0)
    assert not mongo.blocked
    assert recorded(ledger) is Recorded.DOWN


def test_stop_before_it_began_touches_nothing(one: Process, mongo: FakeFence, ledger: FakeLedger) -> None:
    one.stop.set()
    with pytest.raises(Stopped):
        fence(one.job, WITHIN_S)
    assert mongo.calls == []
    assert ledger.read(*fence_record.FENCE) is None


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), ZeroDivisionError()])
def test_whatever_ends_the_process_the_application_writes_on(
    one: Process, mongo: FakeFence, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def end() -> Timestamp:
        raise error

    monkeypatch.setattr(mongo, "mark_time", end)
    with pytest.raises(type(error)):
        fence(one.job, WITHIN_S)
    assert not mongo.blocked


# --- two processes ---------------------------------------------------------------------------------------------------


def died(mongo: FakeFence, ledger: FakeLedger, name: str, how: Callable[[FakeFence], None]) -> None:
    """A process that ended without a word, in the middle of a revocation."""
    process = Process(mongo, ledger, name, fence="revoke", app_users=("app", "batch"))

    class Killed(BaseException):
        pass

    def kill(plan: FencePlan) -> None:
        raise Killed

    how(mongo)
    was = mongo.lift_fence
    mongo.lift_fence = kill  # type: ignore[method-assign]
    with pytest.raises(Killed):
        fence(process.job, WITHIN_S)
    mongo.lift_fence = was  # type: ignore[method-assign]
    record = ledger.read(*fence_record.FENCE)
    assert record is not None
    body = {**record.body, "owner": name, "mark": name, "until": now_ms() + 60_000}
    ledger.write(*fence_record.FENCE, body, expect=record)


@pytest.fixture
def two_users(mongo: FakeFence) -> FakeFence:
    mongo.roles["admin.batch"] = {("myapp", "readWrite")}
    mongo.found = replace(mongo.found, users=(*mongo.found.users, replace(mongo.found.users[1], id="admin.batch")))
    return mongo


@pytest.mark.parametrize("again", [lift, lambda job: fence(job, WITHIN_S)], ids=["lift", "fence"])
def test_process_that_died_between_two_revocations_is_cleaned_up_after(
    two_users: FakeFence, ledger: FakeLedger, again: Callable[[Job], Any]
) -> None:
    def half(mongo: FakeFence) -> None:
        mongo.break_off = AccessDenied("killed here")

    died(two_users, ledger, "dead", half)
    assert two_users.roles[APP] != ROLES
    assert two_users.roles["admin.batch"] == {("myapp", "readWrite")}
    assert recorded(ledger) is Recorded.RAISING
    other = Process(two_users, ledger, "other", fence="revoke", app_users=("app", "batch"))
    with pytest.raises(LeaseHeld, match="dead"):
        again(other.job)
    Process.dead.add("dead")
    again(other.job)
    lift(other.job)
    assert two_users.roles == {APP: ROLES, "admin.batch": {("myapp", "readWrite")}}


def test_process_that_died_after_raising_is_lifted(two_users: FakeFence, ledger: FakeLedger) -> None:
    died(two_users, ledger, "dead", lambda mongo: mongo.faults["mark_time"].fail_next(AccessDenied("killed here")))
    assert all(("myapp", "readWrite") not in roles for roles in two_users.roles.values())
    Process.dead.add("dead")
    assert lift(Process(two_users, ledger, "other").job).was is Recorded.RAISING
    assert two_users.roles == {APP: ROLES, "admin.batch": {("myapp", "readWrite")}}


def lose_lease(mongo: FakeFence, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch, found: Recorded) -> None:
    """Another process takes over while the fence is raised, and brings the record into this state."""
    raised = mongo.mark_time

    def taken_over() -> Timestamp:
        record = ledger.read(*fence_record.FENCE)
        assert record is not None
        body = {**record.body, "owner": "", "mark": "another", "state": found.value, "fence": 99}
        ledger.write(*fence_record.FENCE, body, expect=record)
        return raised()

    monkeypatch.setattr(mongo, "mark_time", taken_over)


@pytest.mark.parametrize("found", [Recorded.DOWN, Recorded.LIFTING])
def test_fence_that_another_has_lifted_meanwhile_does_not_stay_up(
    one: Process, mongo: FakeFence, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch, found: Recorded
) -> None:
    lose_lease(mongo, ledger, monkeypatch, found)
    with pytest.raises(LeaseLost):
        fence(one.job, WITHIN_S)
    assert not mongo.blocked


def test_fence_that_another_has_raised_meanwhile_stays_up(
    one: Process, mongo: FakeFence, ledger: FakeLedger, monkeypatch: pytest.MonkeyPatch
) -> None:
    lose_lease(mongo, ledger, monkeypatch, Recorded.UP)
    with pytest.raises(LeaseLost):
        fence(one.job, WITHIN_S)
    assert mongo.blocked
