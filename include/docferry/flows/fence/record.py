"""The fence's record in the ledger, what a fence is made of, and taking it away.

What is about to be taken is in the ledger (section `fence`) before it is taken, so a later `lift`, by whatever process, gives
back exactly that. The process that raises or lifts holds a lease on the record meanwhile. Record and MongoDB agree like this:

    state     MongoDB                                             who died here leaves
    down      no fence                                            nothing
    raising   no fence, a part, or all of it                      a lift to be done; `fence` and `lift` both begin with it
    up        the fence; `time` is behind every earlier write     the fence
    lifting   all of it, a part, or no fence (or no majority      the rest of the lift
              that would keep it so)
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import (
    FenceKind,
    FencePlan,
    FenceState,
    choose_fence,
    deletes,
    ttl_problem,
    user_id,
)
from docferry.core.settings import ExternalFence
from docferry.errors import (
    FenceFailed,
    PermanentStoreError,
    PreflightFailed,
    Problem,
    TransientStoreError,
)
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger import leases
from docferry.flows.ledger.leases import Lease
from docferry.flows.ledger.rooms.fence import FENCE as FENCE
from docferry.flows.ledger.rooms.fence import Recorded as Recorded
from docferry.flows.ledger.rooms.fence import fence_change, fence_in, late_change, read_fence
from docferry.flows.ledger.times import encode_time
from docferry.ports.flows import Ledger, StopSignal

LEASE_S = 10.0
PAUSE_S = 0.1
BREATHE_S = 0.5
"""After an attempt that held readers up: they get their turn before the next one."""
LONG_S = 1.0
"""A transaction that has been open for longer would outlast an attempt, so none is made before it has ended."""
LIFT_S = 30.0
"""How long lifting is tried again while MongoDB does not answer."""
REMIND_S = 2.0


@dataclass(slots=True, kw_only=True)
class FenceReport:
    """A fence that is up: nothing of the application's is behind `time` in the oplog. `waited_for` says what was in its way,
    `stood`: it was up already."""

    plan: FencePlan
    time: Timestamp
    attempts: int = 0
    killed: int = 0
    seconds: float = 0.0
    waited_for: tuple[str, ...] = ()
    stood: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return self.plan.to_body() | {
            "time": encode_time(self.time),
            "attempts": self.attempts,
            "killed": self.killed,
            "seconds": round(self.seconds, 3),
            "waited_for": list(self.waited_for),
            "stood": self.stood,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class LiftReport:
    """`plan` None: docferry has never fenced this MongoDB. `lifted` False: there was nothing to lift."""

    plan: FencePlan | None
    was: Recorded
    lifted: bool

    def to_dict(self) -> dict[str, Any]:
        return {"fence": self.plan.to_body() if self.plan else None, "was": self.was.value, "lifted": self.lifted}


def recorded_fence(ledger: Ledger) -> tuple[Recorded, FencePlan | None, Timestamp | None]:
    """What the ledger says: state, plan, and the fence's time while it is up. One read."""
    found = read_fence(ledger)
    return found.state, found.plan, found.time


# --- the record ------------------------------------------------------------------------------------------------------


def held(job: Job) -> AbstractContextManager[Lease]:
    """The lease on the record; whatever ends the block, it is given back, or runs out. Whose lift may be on its way is noted."""
    late = read_fence(job.ledger).late(job.identity)
    lease = leases.take_or_create(job.ledger, *FENCE, job.identity, LEASE_S)
    if late is not None:
        lease.update(late_change(*late))
    return leases.held(lease)


def state_in_mongodb(job: Job, plan: FencePlan, for_s: float, stop: StopSignal | None = None) -> FenceState:
    return retrying("ask for the fence's state", lambda: job.fence.fence_state(plan), stop or job.stop, for_s)


def plan_fence(job: Job, for_s: float) -> FencePlan:
    """Raises PreflightFailed if no fence would hold."""
    cutover = job.migration.cutover
    if isinstance(cutover.fence, ExternalFence):
        return external_plan(job, for_s)
    facts = retrying("ask what a fence would meet", job.fence.facts, job.stop, for_s)
    chosen = choose_fence(facts, cutover)
    if not isinstance(chosen, FenceKind):
        raise PreflightFailed(f"{job.migration.name}: the fence on MongoDB", chosen)
    if chosen is FenceKind.WRITE_BLOCK:
        return FencePlan(kind=chosen)
    names = sorted(set(map(user_id, cutover.app_users)))
    grants = retrying("ask for the roles of the application", lambda: job.fence.grants(names), job.stop, for_s)
    taken = tuple(one for one in grants if one.roles)
    if not taken:
        what = f"{', '.join(names)} may not write to the migration's collections: there is nothing to revoke"
        problem = Problem(
            where="cutover.app_users", what=what, suggestion="name the users that the application writes as"
        )
        raise PreflightFailed(f"{job.migration.name}: the fence on MongoDB", [problem])
    return FencePlan(kind=chosen, grants=taken)


def external_plan(job: Job, for_s: float) -> FencePlan:
    """Raises PreflightFailed if the command refuses, or the fence could not hold by what MongoDB does itself."""
    names = list(job.migration.mappings)
    facts = retrying("ask for the indexes", lambda: job.source.facts_of(names), job.stop, for_s)
    problems = [ttl_problem(one.name) for one in facts if any(map(deletes, one.indexes))]
    memo = ""
    try:
        memo = retrying("ask the command of cutover.fence what it will do", job.fence.external_memo, job.stop, for_s)
    except PermanentStoreError as error:
        advice = "run it by hand with the word plan; docs/cutover.md has its contract"
        problems.append(Problem(where="cutover.fence.external", what=str(error), suggestion=advice))
    if problems:
        raise PreflightFailed(f"{job.migration.name}: the fence on MongoDB", problems)
    return FencePlan(kind=FenceKind.EXTERNAL, memo=memo)


def lift_under(job: Job, lease: Lease, plan: FencePlan, stop: StopSignal) -> None:
    """Lift, look, and record it. Raises FenceFailed, Stopped, RetryExhausted, LeaseLost, StoreError."""
    lease.update(fence_change(Recorded.LIFTING, time=fence_in(lease.record).time))
    lease.update(fence_change(lift_in_mongodb(job, plan, stop)))


def lift_in_mongodb(job: Job, plan: FencePlan, stop: StopSignal) -> Recorded:
    """DOWN; or LIFTING, if the primary lets the application write, but has no majority behind it.

    Why: no writes wait for a member that is down; but after a fail-over the fence may be up once more, so the process that
    raises or lifts next lifts it again.
    """
    trouble: TransientStoreError | None = None

    def lift_once() -> FenceState:
        nonlocal trouble
        trouble = None
        try:
            job.fence.lift_fence(plan)
        except TransientStoreError as error:
            trouble = error
        found = job.fence.fence_state(plan)
        if found is not FenceState.DOWN and trouble is not None:
            raise trouble
        return found

    found = retrying("lift the fence", lift_once, stop, for_s=LIFT_S)
    if found is not FenceState.DOWN:
        raise FenceFailed(f"the fence ({plan.kind}) was lifted, but MongoDB says that it is {found}", taken_back=False)
    if trouble is None:
        return Recorded.DOWN
    job.progress.say(
        f"the fence ({plan.kind}) is lifted, but MongoDB has not confirmed that a majority has it: after a fail-over it may be "
        f"up again, and is then lifted by `docferry rollback` ({trouble})"
    )
    return Recorded.LIFTING
