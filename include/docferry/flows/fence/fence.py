"""Raise the fence on MongoDB, and lift it."""

from __future__ import annotations

import time

from docferry.core.cutover.fence_plan import (
    FenceState,
)
from docferry.errors import (
    MoveRefused,
    Stopped,
)
from docferry.flows.fence.marker import mark_leader
from docferry.flows.fence.raising import Raising
from docferry.flows.fence.record import (
    LIFT_S,
    FenceReport,
    LiftReport,
    Recorded,
    held,
    lift_under,
    plan_fence,
    state_in_mongodb,
)
from docferry.flows.fence.watch import close_again, may_be_lifted, put_right_behind_a_lift
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import Lease
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.fence import fence_in

DOWN_BEFORE = (
    "ALARM: the fence on MongoDB ({kind}) was down before it was to be lifted: what clients without docferry wrote to MongoDB "
    "while DynamoDB led is not in DynamoDB; run docferry validate"
)
"""A lift that came late took it away, and its process died before it could put it back."""


def fence(job: Job, within_s: float) -> FenceReport:
    """Make MongoDB refuse the application's writes within so many seconds, or leave everything as it was.

    A fence that is up already stays, with its time; one that was left half done is lifted first.

    Raises: PreflightFailed if neither kind of fence would hold, before anything was touched; FenceFailed at the deadline, with
            what was in the way (it may come up to a second late); LeaseHeld, LeaseLost, Stopped, StoreError. Whatever it
            raises, the fence has been taken back, unless FenceFailed says otherwise.
    """
    began = time.monotonic()
    if job.stop.is_set():
        raise Stopped("asked to stop before the fence was raised; nothing was changed")
    try:
        with held(job) as lease:
            if (standing := _standing(job, lease, within_s)) is not None:
                return standing
            plan = plan_fence(job, within_s)
            report = Raising(job, lease, plan, began, within_s).run()
    except BaseException:
        close_again(job)  # what was taken back may have been another's by then
        raise
    report.seconds = time.monotonic() - began
    return report


def lift(job: Job) -> LiftReport:
    """Take the fence away, as the ledger's record says. Idempotent, and for whatever a process left that died.

    MongoDB must lead, by the mode as it is read under the fence's lease: it is opened behind the mode, never before it, and the
    marker says so first. The mode is read again behind the request: a process may have stood still before it, and DynamoDB lead
    by then.

    Raises: MoveRefused where MongoDB may not be opened, and nothing was touched; LeaseHeld while another process works on the
            fence; FenceFailed if MongoDB says that it is not down, or the lift came too late (it is up again then); Stopped,
            RetryExhausted, StoreError: run it again.
    """
    sent = False
    try:
        with held(job) as lease:
            was, plan = (found := fence_in(lease.record)).state, found.plan
            if plan is None:
                return LiftReport(plan=None, was=was, lifted=False)
            if not may_be_lifted(mode := read_mode(job.ledger)):
                raise MoveRefused(
                    f"the fence stays: the mode is {mode}, and MongoDB may not be opened to the application"
                )
            mark_leader(job)
            in_mongodb = state_in_mongodb(job, plan, LIFT_S)
            if was is Recorded.DOWN and in_mongodb is not FenceState.UP:
                return LiftReport(plan=plan, was=was, lifted=False)
            if was is Recorded.UP and in_mongodb is FenceState.DOWN:
                job.progress.say(DOWN_BEFORE.format(kind=plan.kind))
            sent = True
            lift_under(job, lease, plan, job.stop)
    except BaseException:
        if sent:
            put_right_behind_a_lift(job)
        raise
    put_right_behind_a_lift(job)
    return LiftReport(plan=plan, was=was, lifted=True)


def _standing(job: Job, lease: Lease, within_s: float) -> FenceReport | None:
    """The fence that is up already. One that was left half done is lifted, and then there is none."""
    recorded, plan, time_of_fence = (record := fence_in(lease.record)).state, record.plan, record.time
    if recorded is Recorded.DOWN or plan is None:
        return None
    found = state_in_mongodb(job, plan, within_s)
    if recorded is Recorded.UP and found is FenceState.UP and time_of_fence is not None:
        return FenceReport(plan=plan, time=time_of_fence, stood=True)
    job.progress.say(
        f"the ledger says that a fence ({plan.kind}) is {recorded}, MongoDB says {found}: it is lifted first"
    )
    lift_under(job, lease, plan, job.stop)
    return None
