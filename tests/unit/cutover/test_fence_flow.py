"""The fence on fakes: what is in its way, what is taken back, and which process lifts what another left."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from bson.timestamp import Timestamp
from docferry.core.cutover.fence_plan import FenceKind, FenceState
from docferry.errors import (
    AccessDenied,
    FenceBroken,
    FenceFailed,
    PreflightFailed,
    RequestRefused,
    ResumeTokenLost,
    TimedOut,
    Unavailable,
)
from docferry.flows.fence import record as fence_record
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.quiet import require_quiet
from docferry.flows.fence.record import Recorded, recorded_fence
from docferry.ports.flows import Record
from docferry.testing.fakes import APP, OWN, FakeFence, FakeLedger
from support.cutover.fakes import ROLES, WITHIN_S, Process, ledger, mongo, one, quick, recorded

__all__ = ["ledger", "mongo", "one", "quick"]


@pytest.fixture
def revoking(mongo: FakeFence, ledger: FakeLedger) -> Process:
    return Process(mongo, ledger, fence="revoke", app_users=("app",))


def is_free(ledger: FakeLedger) -> bool:
    record = ledger.read(*fence_record.FENCE)
    return record is not None and record.body["owner"] == ""


# --- up and down -----------------------------------------------------------------------------------------------------


def test_write_block_refuses_the_application_and_lets_docferry_write(
    one: Process, mongo: FakeFence, ledger: FakeLedger
) -> None:
    before = mongo.write()
    report = fence(one.job, WITHIN_S)
    assert (report.plan.kind, report.attempts, report.stood) == (FenceKind.WRITE_BLOCK, 1, False)
    assert report.time > before
    with pytest.raises(RequestRefused):
        mongo.write()
    mongo.write(OWN)
    require_quiet(one.job, report.time, report.plan)
    assert recorded_fence(ledger) == (Recorded.UP, report.plan, report.time)
    assert is_free(ledger)


@pytest.mark.parametrize("kind", ["write_block", "revoke"])
def test_lift_by_another_process_gives_everything_back(mongo: FakeFence, ledger: FakeLedger, kind: str) -> None:
    before = {user: set(roles) for user, roles in mongo.roles.items()}
    report = fence(Process(mongo, ledger, fence=kind, app_users=("app",)).job, WITHIN_S)
    assert mongo.fence_state(report.plan) is FenceState.UP
    lifted = lift(Process(mongo, ledger, "another").job)  # whose file says nothing of users any more
    assert (lifted.plan, lifted.was, lifted.lifted) == (report.plan, Recorded.UP, True)
    assert (mongo.roles, mongo.blocked) == (before, False)
    assert recorded_fence(ledger) == (Recorded.DOWN, report.plan, None)
    mongo.write()


def test_revocation_takes_only_the_roles_that_write(revoking: Process, mongo: FakeFence) -> None:
    report = fence(revoking.job, WITHIN_S)
    assert mongo.roles[APP] == {("myapp", "dbAdmin"), ("admin", f"docferry.fence.fake.{APP}")}
    assert report.to_dict()["grants"] == [
        {"user": APP, "roles": [["myapp", "readWrite"]], "stand_in": f"docferry.fence.fake.{APP}"}
    ]


def test_fence_that_is_up_stays_with_its_time(one: Process, mongo: FakeFence, ledger: FakeLedger) -> None:
    first = fence(one.job, WITHIN_S)
    mongo.write(OWN)
    again = fence(Process(mongo, ledger, "another").job, WITHIN_S)
    assert (again.stood, again.time, again.plan) == (True, first.time, first.plan)
    assert mongo.calls.count("raise_fence write_block") == 1


def test_fence_that_somebody_took_away_is_raised_anew_at_a_later_time(one: Process, mongo: FakeFence) -> None:
    first = fence(one.job, WITHIN_S)
    mongo.blocked = False
    stray = mongo.write()
    again = fence(one.job, WITHIN_S)
    assert not again.stood
    assert again.time > stray > first.time
    assert mongo.blocked


def test_lift_without_a_fence_changes_nothing(one: Process, mongo: FakeFence) -> None:
    mongo.blocked = True  # somebody else's
    assert lift(one.job).to_dict() == {"fence": None, "was": "down", "lifted": False}
    assert mongo.blocked
    mongo.blocked = False
    fence(one.job, WITHIN_S)
    assert lift(one.job).lifted
    assert not lift(one.job).lifted
    assert mongo.calls.count("lift_fence write_block") == 1


# --- what is in the way ----------------------------------------------------------------------------------------------


def test_open_transaction_is_out_waited_before_anything_is_attempted(one: Process, mongo: FakeFence) -> None:
    mongo.begin("reports", looks=5)
    report = fence(one.job, WITHIN_S)
    assert report.attempts == 1
    assert len(report.waited_for) == 1
    assert "reports" in report.waited_for[0]
    assert any("reports" in line for line in one.said.lines)
    assert mongo.calls.index("raise_fence write_block") > mongo.calls.index("open_transactions") + 4


def test_transaction_that_has_just_begun_does_not_keep_an_attempt_back(one: Process, mongo: FakeFence) -> None:
    mongo.begin(open_s=0.1, looks=3)
    report = fence(one.job, WITHIN_S)
    assert report.attempts > 1
    assert mongo.blocked


@pytest.mark.parametrize("kind", ["write_block", "revoke"])
def test_fence_that_is_late_is_taken_back_and_names_what_was_in_its_way(
    mongo: FakeFence, ledger: FakeLedger, kind: str
) -> None:
    before = {user: set(roles) for user, roles in mongo.roles.items()}
    process = Process(mongo, ledger, fence=kind, app_users=("app",))
    mongo.begin("nightly")
    began = time.monotonic()
    with pytest.raises(FenceFailed, match="nightly") as caught:
        fence(process.job, 0.2)
    assert 0.2 <= time.monotonic() - began < 1.5
    assert caught.value.taken_back
    assert "transaction open for 5.0 s" in caught.value.in_the_way[0]
    assert (mongo.roles, mongo.blocked) == (before, False)
    assert recorded(ledger) is Recorded.DOWN
    assert is_free(ledger)
    mongo.write()


def test_attempts_that_time_out_until_the_deadline_are_taken_back(
    one: Process, mongo: FakeFence, ledger: FakeLedger
) -> None:
    mongo.begin("short", open_s=0.5)
    with pytest.raises(FenceFailed, match=r"short.*|did not block") as caught:
        fence(one.job, 0.5)
    assert caught.value.in_the_way
    assert "did not block writes in time" in str(caught.value)
    assert mongo.calls.count("raise_fence write_block") > 1
    assert recorded(ledger) is Recorded.DOWN


@pytest.mark.parametrize("kind", ["write_block", "revoke"])
def test_transactions_are_killed_only_if_the_file_allows_and_after_half_the_time(
    mongo: FakeFence, ledger: FakeLedger, kind: str
) -> None:
    mongo.begin()
    process = Process(mongo, ledger, fence=kind, app_users=("app",), kill_transactions=True)
    began = time.monotonic()
    report = fence(process.job, 0.4)
    assert report.killed == 1
    assert time.monotonic() - began >= 0.2
    assert any("killed, as the file allows" in line for line in process.said.lines)


def test_revocation_counts_only_once_running_operations_have_ended(revoking: Process, mongo: FakeFence) -> None:
    mongo.run("update in myapp.users", looks=4)
    report = fence(revoking.job, WITHIN_S)
    assert "update in myapp.users" in report.waited_for[0]
    assert len(mongo.writes_after(Timestamp(1, 0))) == 4
    require_quiet(revoking.job, report.time, report.plan)


def test_running_operation_is_not_killed(mongo: FakeFence, ledger: FakeLedger) -> None:
    mongo.run()
    process = Process(mongo, ledger, fence="revoke", app_users=("app",), kill_transactions=True)
    with pytest.raises(FenceFailed, match=r"update in myapp\.users"):
        fence(process.job, 0.1)
    assert "kill_transactions" not in mongo.calls


# --- errors ----------------------------------------------------------------------------------------------------------


def test_lost_answer_of_the_write_block_is_no_failure(one: Process, mongo: FakeFence) -> None:
    mongo.faults["raise_fence"].lose_next_answers(TimedOut("no answer", operation="block writes"))
    report = fence(one.job, WITHIN_S)
    assert report.attempts == 2
    assert mongo.blocked


@pytest.mark.parametrize("method", ["facts", "open_transactions", "raise_fence", "mark_time", "fence_state"])
def test_member_that_is_away_for_a_moment_is_asked_again(one: Process, mongo: FakeFence, method: str) -> None:
    mongo.faults[method].fail_next(Unavailable("no primary"), Unavailable("no primary"))
    assert fence(one.job, 5.0).plan.kind is FenceKind.WRITE_BLOCK
    assert mongo.blocked


@pytest.mark.parametrize("method", ["open_transactions", "raise_fence", "still_writing", "mark_time", "fence_state"])
@pytest.mark.parametrize("kind", ["write_block", "revoke"])
def test_error_that_will_not_go_away_ends_it_and_is_told_and_the_fence_is_taken_back(
    mongo: FakeFence, ledger: FakeLedger, kind: str, method: str
) -> None:
    before = {user: set(roles) for user, roles in mongo.roles.items()}
    mongo.faults[method].fail_next(AccessDenied("not allowed"))
    process = Process(mongo, ledger, fence=kind, app_users=("app",))
    if (kind, method) in {("write_block", "still_writing"), ("revoke", "open_transactions")}:
        fence(process.job, WITHIN_S)  # not asked
        return
    with pytest.raises(AccessDenied):
        fence(process.job, WITHIN_S)
    assert (mongo.roles, mongo.blocked) == (before, False)
    assert recorded(ledger) is Recorded.DOWN
    assert is_free(ledger)


def test_fence_that_cannot_be_taken_back_says_so_and_is_lifted_by_the_next(
    revoking: Process, mongo: FakeFence, ledger: FakeLedger
) -> None:
    mongo.faults["mark_time"].fail_next(AccessDenied("not allowed"))
    mongo.faults["lift_fence"].fail_next(AccessDenied("not this either"))
    with pytest.raises(FenceFailed, match="could NOT be taken back") as caught:
        fence(revoking.job, WITHIN_S)
    assert not caught.value.taken_back
    assert isinstance(caught.value.__cause__, AccessDenied)
    assert recorded(ledger) is Recorded.RAISING
    assert lift(Process(mongo, ledger, "another").job).was is Recorded.RAISING
    assert mongo.roles[APP] == ROLES


@pytest.mark.parametrize("kind", ["write_block", "revoke"])
def test_lift_that_no_majority_confirms_lets_the_application_write_and_is_finished_by_the_next(
    mongo: FakeFence, ledger: FakeLedger, kind: str
) -> None:
    process = Process(mongo, ledger, fence=kind, app_users=("app",))
    fence(process.job, WITHIN_S)
    mongo.faults["lift_fence"].lose_next_answers(TimedOut("no majority has it yet", operation="lift", code="64"))
    assert lift(process.job).lifted
    mongo.write()
    assert recorded(ledger) is Recorded.LIFTING
    assert any("no majority has it yet" in line for line in process.said.lines)
    assert lift(Process(mongo, ledger, "another").job).was is Recorded.LIFTING
    assert recorded(ledger) is Recorded.DOWN


def test_nothing_is_taken_before_it_is_in_the_ledger(revoking: Process, mongo: FakeFence, ledger: FakeLedger) -> None:
    fence(revoking.job, WITHIN_S)
    lift(revoking.job)
    raised = mongo.calls.count("raise_fence revoke")
    refused = RefusingLedger(ledger, lambda body: body.get("state") == "raising")
    with pytest.raises(Unavailable):
        fence(replace(revoking.job, ledger=refused), WITHIN_S)
    assert mongo.calls.count("raise_fence revoke") == raised
    assert mongo.roles[APP] == ROLES


def test_fence_that_cannot_be_recorded_is_taken_back(revoking: Process, mongo: FakeFence, ledger: FakeLedger) -> None:
    refusing = RefusingLedger(ledger, lambda body: body.get("state") == "up")
    with pytest.raises(Unavailable):
        fence(replace(revoking.job, ledger=refusing), WITHIN_S)
    assert mongo.roles[APP] == ROLES
    assert recorded(ledger) is Recorded.DOWN


class RefusingLedger:
    """A ledger that is away for some writes."""

    def __init__(self, ledger: FakeLedger, refuses: Callable[[Any], bool]) -> None:
        self._ledger, self._refuses = ledger, refuses
        self.read, self.glance, self.list, self.delete = ledger.read, ledger.glance, ledger.list, ledger.delete
        self.of_table = ledger.of_table

    def write(self, section: str, key: str, body: Mapping[str, Any], *, expect: Record | None, **more: Any) -> Record:
        if self._refuses(body):
            raise Unavailable("the ledger is away")
        return self._ledger.write(section, key, body, expect=expect, **more)


# --- what keeps it from being tried ----------------------------------------------------------------------------------


def test_fence_that_would_not_hold_is_refused_before_anything_is_touched(mongo: FakeFence, ledger: FakeLedger) -> None:
    mongo.found = replace(mongo.found, scope=replace(mongo.found.scope, databases=("other",)))
    with pytest.raises(PreflightFailed) as caught:
        fence(Process(mongo, ledger).job, WITHIN_S)
    assert {problem.where for problem in caught.value.problems} == {"cutover.fence write_block", "cutover.app_users"}
    assert [one for one in mongo.calls if one.startswith(("raise", "lift"))] == []
    assert recorded(ledger) is Recorded.DOWN


def test_users_without_a_role_that_writes_are_refused(revoking: Process, mongo: FakeFence) -> None:
    mongo.roles[APP] = {("myapp", "dbAdmin")}
    with pytest.raises(PreflightFailed, match="nothing to revoke"):
        fence(revoking.job, WITHIN_S)


def test_write_block_of_somebody_else_is_refused_and_left_alone(one: Process, mongo: FakeFence) -> None:
    mongo.blocked = True
    with pytest.raises(PreflightFailed, match="blocks writes already"):
        fence(one.job, WITHIN_S)
    assert mongo.blocked


# --- the proof -------------------------------------------------------------------------------------------------------


def test_writes_behind_the_fence_are_named_without_what_they_wrote(one: Process, mongo: FakeFence) -> None:
    report = fence(one.job, WITHIN_S)
    mongo.blocked = False
    mongo.write(OWN)
    mongo.write()
    with pytest.raises(FenceBroken, match=r"insert in myapp\.users at .* by admin\.app") as caught:
        require_quiet(one.job, report.time, report.plan)
    assert len(caught.value.strays) == 1


def test_oplog_that_no_longer_reaches_the_fence_proves_nothing(one: Process, mongo: FakeFence) -> None:
    report = fence(one.job, WITHIN_S)
    mongo.oldest = Timestamp(9, 9)
    with pytest.raises(ResumeTokenLost):
        require_quiet(one.job, report.time, report.plan)
