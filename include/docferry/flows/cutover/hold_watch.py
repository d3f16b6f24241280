"""The second guard of a hold: if the process that changes the leader dies, another one puts everything back.

`watch_hold` is for a process or task beside the change, and for the replicator that has made room for it; `end_dead_hold` for
the process that replicates next.
"""

from __future__ import annotations

import time

from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import LeaseHeld, RetryExhausted, TransientStoreError
from docferry.flows.cutover.hold import back_out
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.modes import read_mode, replication_yield_request, request_replication_yield
from docferry.flows.ledger.times import now_ms

GRACE_S = 1.0
"""How long after the deadline others put HOLD back: the process that holds does it first."""
LOOK_S = 0.25
BEGINS_WITHIN_S = 20.0
WATCH_S = 900.0
"""How long a replicator that has made room watches: longer than a change of leader takes."""


def is_overdue(mode: ModeState, grace_s: float = GRACE_S) -> bool:
    """A hold whose deadline has passed: the process that began it died, or cannot go back."""
    return mode.mode is Mode.HOLD and now_ms() > mode.deadline_ms + int(grace_s * 1000)


def put_back(job: Job) -> bool:
    """Put a hold back that was left behind; whether there was one.

    Raises: LeaseHeld, for as long as the fence is the dead one's; FenceFailed, StoreError, RetryExhausted. The mode may be back
            then, and the fence not yet lifted: the replicator lifts it.
    """
    return _put_back(job, goes_on=False)


def _put_back(job: Job, *, goes_on: bool) -> bool:
    """`goes_on`: it was begun before, and may have come as far as the mode."""
    mode = read_mode(job.ledger)
    if not (is_overdue(mode) or (goes_on and mode.mode is not Mode.HOLD)):
        return False
    back_out(job, "the deadline has passed, and the process that held has not gone back")
    request_replication_yield(job.ledger, job.identity.name, 0)  # the dead one's: replication may go on
    return True


def end_dead_hold(job: Job) -> bool:
    """Before replication begins: a hold that was left behind is waited for, and put back; whether there was one.

    Raises: as `put_back`.
    """
    while not put_back(job):
        if (
            read_mode(job.ledger).mode is not Mode.HOLD
            or replication_yield_request(job.ledger) is not None
            or job.stop.is_set()
        ):
            return False
        time.sleep(LOOK_S)
    return True


def watch_hold(job: Job, for_s: float, begins_within_s: float = BEGINS_WITHIN_S) -> bool:
    """Watch a change of leader to its end, for so long at most; whether a hold that was left behind had to be put back.

    While MongoDB or the ledger cannot be reached it tries again. One that does not begin soon is not waited for.

    Raises: FenceFailed, and what else `back_out` does that no second try mends; what was in the way, once the time is over.
    """
    began, seen, begun = time.monotonic(), False, False
    trouble: Exception | None = None
    while time.monotonic() - began < for_s and not job.stop.is_set():
        try:
            begun = begun or is_overdue(read_mode(job.ledger))
            if _put_back(job, goes_on=begun):
                return True
            at_work = replication_yield_request(job.ledger) is not None or read_mode(job.ledger).mode is Mode.HOLD
            trouble = None
        except (LeaseHeld, TransientStoreError, RetryExhausted) as error:
            trouble, at_work = error, seen
            job.progress.say(f"the hold is watched on: {error}")
        seen = seen or at_work
        if not at_work and (seen or time.monotonic() - began > begins_within_s):
            return False
        time.sleep(LOOK_S)
    if trouble is not None and not job.stop.is_set():
        raise trouble
    return False
