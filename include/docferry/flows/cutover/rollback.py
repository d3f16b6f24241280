"""The way back from whatever mode, and the end of it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace

from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import HoldFailed, LeaseHeld, MigrationError, MoveRefused, PreflightFailed, Problem
from docferry.flows.cutover.flip import back_to, begin_dual_write
from docferry.flows.cutover.hold import POLL_S, SwitchReport, back_out, raise_if_stopped
from docferry.flows.cutover.hold_watch import is_overdue
from docferry.flows.cutover.phases import END, STEP_BACK
from docferry.flows.cutover.reasons import replication
from docferry.flows.cutover.refusals import Asked
from docferry.flows.cutover.return_evidence import has_journals
from docferry.flows.cutover.to_mongodb import NOT_PROVED, require_ready_to_return, switch_to_mongodb
from docferry.flows.fence.fence import lift
from docferry.flows.fence.marker import mark_leader
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.modes import change_mode, mode_in, mode_record, read_mode
from docferry.flows.ledger.rooms.instances import let_expire
from docferry.flows.ledger.rooms.watch import Old, end_watch
from docferry.flows.preflight.readiness import LOOK_S
from docferry.flows.replicate.follower import replicate
from docferry.ports.flows import Target

FOLLOWED_WITHIN_S = 120.0
"""How long forward replication is waited for, once MongoDB leads again."""
_ALONE = "the application reads and writes MongoDB alone"
_DUAL = "the application reads MongoDB, and writes both databases"
_FOLLOWED = "once this process has replicated what is written by then, if no other does"


def plan_rollback(job: Job, to: Mode = Mode.MONGO_ONLY, waived: Sequence[str] = ()) -> str:
    """What a rollback as far as `to` would do now, in words. Raises PreflightFailed or MoveRefused where it would be refused."""
    now = read_mode(job.ledger)
    if now.mode is Mode.HOLD:
        _require_overdue(now)
        return f"the hold, which no process ends, goes back to {now.behind}; run it again from there"
    _require_way(now, to)
    if now.mode is to:
        return f"nothing: the mode is {now}"
    if now.mode is Mode.DYNAMODB_ONLY:
        require_ready_to_return(job, waived, to)
        switch = "writes wait for a moment, MongoDB has applied everything, the fence is lifted, MongoDB leads"
        switch += "" if has_journals(job, waived) else f" ({NOT_PROVED})"
        return switch if to is Mode.MONGO_ONLY else f"{switch}; {_FOLLOWED}, {_DUAL}"
    STEP_BACK.require(Asked(job=job, waived=waived, to=to))
    return "a change of mode: " + (_ALONE if to is Mode.MONGO_ONLY else _DUAL)


def plan_ways_back(job: Job, waived: Sequence[str] = ()) -> dict[Mode, str]:
    """Every way back from here, nearest first, and what it would do. Changes nothing.

    Raises: MoveRefused where there is none; PreflightFailed where it would be refused.
    """
    now = read_mode(job.ledger)
    if not now.ways_back:
        raise MoveRefused(_no_way(now))
    return {to: plan_rollback(job, to, waived) for to in now.ways_back}


async def roll_back(job: Job, target: Target, to: Mode = Mode.MONGO_ONLY, waived: Sequence[str] = ()) -> SwitchReport:
    """MongoDB leads, and serves alone; or, as far as DUAL_WRITE, is still followed by dual writes. Idempotent.

    Raises: PreflightFailed, MoveRefused, before anything was touched; HoldFailed, which says where things are: as they were, or
            MongoDB leads, and dual writes have not begun.
    """
    before = await in_thread(read_mode, job.ledger, stop=job.stop)
    if before.mode is Mode.HOLD:
        _require_overdue(before)
        before = await in_thread(back_out, job, "rolled back by hand: the hold was left behind", stop=job.stop)
    _require_way(before, to)
    if before.mode is Mode.DYNAMODB_ONLY:
        report = await switch_to_mongodb(job, target, waived, to)
        return report if to is Mode.MONGO_ONLY else await _begin_dual_write(job, target, report)
    if before.mode is not to:
        await in_thread(STEP_BACK.require, Asked(job=job, waived=waived, to=to), stop=job.stop)
    after = await in_thread(_change, job, before, to, stop=job.stop)
    return SwitchReport(before=str(before), after=str(after), epoch=after.epoch, instances=0, compared=0, held_s=0.0)


def _change(job: Job, before: ModeState, to: Mode) -> ModeState:
    """MongoDB led all the while. A fence that was left up is lifted."""
    if before.mode is not to:
        back_to(job, to, "rolled back")
    mark_leader(job)
    lift(job)
    return read_mode(job.ledger)


async def _begin_dual_write(job: Job, target: Target, report: SwitchReport) -> SwitchReport:
    """MongoDB leads. If no process replicates forward yet, this one does, up to now."""
    try:
        await _replicated(job, target)
        after = await in_thread(begin_dual_write, job, stop=job.stop)
    except MigrationError as error:
        why = f"dual writes have not begun: {error}; `docferry replicate`, then `docferry dual-write`, begins them"
        raise HoldFailed(why, report.steps, went=report.after) from error
    return replace(report, after=after.mode, epoch=after.epoch)


async def _replicated(job: Job, target: Target) -> None:
    began = time.monotonic()
    while list(await in_thread(replication, Asked(job=job), stop=job.stop)):
        raise_if_stopped(job)
        try:
            await replicate(job, target, until=await in_thread(job.source.cluster_time, stop=job.stop))
        except LeaseHeld:  # by a process that has just begun to
            if time.monotonic() - began > FOLLOWED_WITHIN_S:
                return
            await asyncio.sleep(POLL_S)
        else:
            job.progress.say(
                "this process has replicated up to now, and ends: start `docferry replicate`, or the DAG replicate"
            )
            return


def _require_way(now: ModeState, to: Mode) -> None:
    if now.mode is not to and to not in now.ways_back:
        raise MoveRefused(_no_way(now, to))


def _no_way(now: ModeState, to: Mode | None = None) -> str:
    if now.mode is Mode.FINAL:
        return "FINAL is the end: MongoDB is not kept up to date any more"
    ways = ", ".join(now.ways_back) or "none: MongoDB leads, and serves alone"
    return f"from {now} the ways back are {ways}" + (f", not {to}" if to is not None else "")


def _require_overdue(now: ModeState) -> None:
    """A hold that another process is carrying out is left to it."""
    if not is_overdue(now):
        problem = Problem(
            where="mode", what=f"is {now}: the leader is being changed", suggestion="wait for it, or for its deadline"
        )
        raise PreflightFailed("rollback", [problem])


def plan_finalize(job: Job, waived: Sequence[str] = (), look_s: float = LOOK_S) -> str:
    """What `finalize` would do now, in words. Raises as that does before anything is touched."""
    END.require(Asked(job=job, waived=waived, look_s=look_s))
    return "reverse replication stops, and MongoDB is not kept up to date any more: there is no way back"


def finalize(job: Job, waived: Sequence[str] = (), look_s: float = LOOK_S) -> ModeState:
    """The soak is over: reverse replication stops, and MongoDB is left as it is. `waived`: WATCH and STRAYS (flows/watch/ready);
    `look_s`: how long MongoDB's connections are looked at first.

    Raises: MoveRefused; PreflightFailed without an approval, before the watch of MongoDB has ended, with stray writes that
            are not settled, and with everybody who still works with MongoDB.
    """
    record = mode_record(job.ledger)
    plan_finalize(job, waived, look_s)
    after = mode_in(record).move(Mode.FINAL)
    why = "the soak is over" + (f"; waived: {', '.join(waived)}" if waived else "")
    change_mode(job.ledger, record, after, job.identity, why)
    end_watch(job.ledger, Old.MONGODB, f"the end; waived by {job.identity.name}")
    let_expire(job.ledger, job.identity)
    job.progress.say(f"the mode is {after}: MongoDB is not kept up to date any more")
    return after
