"""Fence and marker follow the mode: what does not fit is seen, and put right.

A process that lifts the fence may stand still just before its request leaves (a paused machine, SIGSTOP), for longer than its
lease lives, and another may have made DynamoDB the leader meanwhile. The request cannot carry a condition. So `lift` looks at the
mode under the fence's lease, and again behind the request; and the replicator looks every second, for a process that died
in between.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from docferry.core.cutover.fence_plan import FenceState
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import FenceFailed, LeaseHeld, LeaseLost, RetryExhausted, TransientStoreError
from docferry.flows.fence.marker import mark_leader, marker_misfit
from docferry.flows.fence.raising import Never
from docferry.flows.fence.record import LIFT_S, Recorded, held, lift_under, recorded_fence, state_in_mongodb
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger.modes import read_mode
from docferry.flows.ledger.rooms.fence import fence_in

LOOK_S = 1.0
WAIT_S = 0.1
_VALIDATE = "what clients without docferry wrote to MongoDB meanwhile is not in DynamoDB: run docferry validate"
_NOT_NOW = (LeaseHeld, LeaseLost, TransientStoreError, RetryExhausted)


def may_be_lifted(mode: ModeState) -> bool:
    """Whether MongoDB may be opened to the application in this mode; in HOLD it may not, for either direction."""
    return mode.mode is not Mode.HOLD and not mode.mode.dynamodb_leads


def misfit(job: Job) -> str:
    """In what fence and marker do not fit the mode, in words; '' if they do. Reads only.

    In HOLD both are on their way, and the change of leader judges them itself: nothing is said then.
    """
    mode = read_mode(job.ledger)
    found = [_fence_misfit(job, mode), marker_misfit(job)]
    return "; ".join(one for one in found if one)


def _fence_misfit(job: Job, mode: ModeState) -> str:
    recorded, plan, _ = recorded_fence(job.ledger)
    if plan is None or mode.mode is Mode.HOLD:
        return ""
    found = job.fence.fence_state(plan)
    if mode.mode.dynamodb_leads and recorded is Recorded.UP and found is not FenceState.UP:
        return f"DynamoDB leads, and the fence on MongoDB ({plan.kind}) is {found}: others may write to MongoDB"
    if may_be_lifted(mode) and found is FenceState.UP:
        return f"MongoDB leads, and the fence ({plan.kind}) is up: the application cannot write"
    return ""


def put_right(job: Job) -> bool:
    """Make marker and fence what the mode asks; whether one of them had to be changed.

    A fence that a late lift took away while DynamoDB leads is raised again; one that a late process raised, or that a dead one
    left, while MongoDB leads is lifted. In HOLD only a fence that the ledger says to be up is raised again.

    Raises: LeaseHeld while another process works on the fence; FenceFailed if MongoDB does not say that it is as it should be;
            StoreError.
    """
    marked = mark_leader(job)
    if marked:
        job.progress.say("the marker in MongoDB did not say who leads, and does so now")
    if _stands_in_vain(job):
        return _raise_again(job) or marked
    mode = read_mode(job.ledger)
    if may_be_lifted(mode) and _fence_misfit(job, mode):
        return _lift_again(job) or marked
    return marked


def _raise_again(job: Job) -> bool:
    with held(job) as lease:
        if not _stands_in_vain(job):
            return False
        if (plan := fence_in(lease.record).plan) is None:
            return False
        retrying("raise the fence again", lambda: job.fence.raise_fence(plan), Never(), LIFT_S)
        if (found := state_in_mongodb(job, plan, LIFT_S, Never())) is not FenceState.UP:
            raise FenceFailed(
                f"the fence ({plan.kind}) was raised again, but MongoDB says that it is {found}",
                taken_back=False,
                advice=f"MongoDB may be open while DynamoDB leads; {_VALIDATE}",
            )
    job.progress.say(
        f"ALARM: the fence on MongoDB ({plan.kind}) was down while DynamoDB leads, and is up again: what was written to MongoDB "
        "meanwhile is not in DynamoDB; run docferry validate"
    )
    return True


def _lift_again(job: Job) -> bool:
    """Under the lease, so that no process is raising it at the moment."""
    with held(job) as lease:
        mode = read_mode(job.ledger)
        if not may_be_lifted(mode) or not _fence_misfit(job, mode):
            return False
        if (plan := fence_in(lease.record).plan) is None:
            return False
        lift_under(job, lease, plan, Never())
    put_right_behind_a_lift(job)
    job.progress.say(f"ALARM: the fence on MongoDB ({plan.kind}) was up while MongoDB leads, and is lifted")
    return True


def put_right_behind_a_lift(job: Job) -> None:
    """After a request that lifts: if the mode is no longer one in which MongoDB may be opened, close it again.

    Raises: FenceFailed, which says that the lift came too late.
    """
    if may_be_lifted(mode := read_mode(job.ledger)):
        return
    told = "it is up again" if _until_raised(job) else "it is up"
    raise FenceFailed(f"the fence was lifted too late: the mode is {mode} by now; {told}", advice=f"W{_VALIDATE[1:]}")


def close_again(job: Job) -> None:
    """After a fence that was taken back: it may have come so late that DynamoDB leads, behind another's fence."""
    if read_mode(job.ledger).mode.dynamodb_leads:
        _until_raised(job)


def _until_raised(job: Job) -> bool:
    until = time.monotonic() + LIFT_S
    while _stands_in_vain(job):
        try:
            return _raise_again(job)
        except LeaseHeld:
            if time.monotonic() > until:
                raise
            time.sleep(WAIT_S)
    return False


class Unseen:
    """For how long the fence could not be looked at: said from QUIET_S on, once every SAY_S, and when it is over."""

    QUIET_S, SAY_S = 5.0, 60.0

    def __init__(self, say: Callable[[str], None], monotonic: Callable[[], float] = time.monotonic) -> None:
        self._say, self._monotonic = say, monotonic
        self._since: float | None = None
        self._due = self.QUIET_S

    def not_now(self, error: Exception) -> None:
        now = self._monotonic()
        self._since = now if self._since is None else self._since
        if now - self._since >= self._due:
            self._due = now - self._since + self.SAY_S
            self._say(f"the fence was not looked at for {now - self._since:.0f} s: {type(error).__name__}: {error}")

    def seen(self) -> None:
        if self._since is not None and self._due > self.QUIET_S:
            self._say(f"the fence is looked at again, after {self._monotonic() - self._since:.0f} s")
        self._since, self._due = None, self.QUIET_S


@contextmanager
def fence_watched(job: Job) -> Iterator[None]:
    """Around replication: first and every second fence and marker are compared with the mode, and put right.

    What cannot be asked at the moment is asked again, and said; anything else is raised at the end of the block.
    """
    ended, trouble = threading.Event(), []

    def watch() -> None:
        unseen = Unseen(job.progress.say)
        while not ended.wait(LOOK_S):
            try:
                put_right(job)
                unseen.seen()
            except _NOT_NOW as error:
                unseen.not_now(error)
            except Exception as error:  # noqa: BLE001 - raised at the end of the block
                job.progress.say(
                    f"ALARM: the fence on MongoDB is not watched any more: {type(error).__name__}: {error}"
                )
                trouble.append(error)
                return

    with suppress(*_NOT_NOW):
        put_right(job)
    thread = threading.Thread(target=watch, name="fence watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(timeout=LIFT_S)
    if trouble:
        raise trouble[0]


def _stands_in_vain(job: Job) -> bool:
    """The ledger says that the fence is up, DynamoDB leads or is about to, and MongoDB says that it is not up."""
    mode, (recorded, plan, _) = read_mode(job.ledger), recorded_fence(job.ledger)
    due = mode.mode.dynamodb_leads or mode.mode is Mode.HOLD
    if plan is None or recorded is not Recorded.UP or not due:
        return False
    return state_in_mongodb(job, plan, LIFT_S, Never()) is not FenceState.UP
