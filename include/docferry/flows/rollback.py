"""The way back from whatever mode, and the end of it."""

from __future__ import annotations

from collections.abc import Sequence

from docferry.core.modes import Mode, ModeState, state_of
from docferry.errors import MoveRefused, PreflightFailed, Problem
from docferry.flows.approvals import FINALIZE, require_approval
from docferry.flows.background import aside
from docferry.flows.cutover import Cutover, SwitchReport, back_out
from docferry.flows.cutover_back import require_ready_to_return, switch_to_mongodb
from docferry.flows.fence import lift
from docferry.flows.flip import back_to_mongodb
from docferry.flows.guard import is_overdue
from docferry.flows.modes import change_mode, mode_record, read_mode
from docferry.flows.readiness import foreign_readers
from docferry.ports import Sink, Target


def plan_rollback(job: Cutover, waived: Sequence[str] = ()) -> str:
    """What a rollback would do now, in words. Raises PreflightFailed or MoveRefused where it would be refused."""
    now = read_mode(job.ledger)
    if now.mode is Mode.HOLD:
        _require_overdue(now)
        return f"the hold, which nobody ends, goes back to {now.behind}; run it again from there"
    if now.mode is Mode.DYNAMODB_ONLY:
        require_ready_to_return(job, waived)
        return "writes wait for a moment, MongoDB has applied everything, the fence is lifted, MongoDB leads"
    if now.mode is Mode.FINAL:
        raise MoveRefused("FINAL is the end: MongoDB is not kept up to date any more")
    if now.mode is Mode.MONGO_ONLY:
        return "nothing: MongoDB leads"
    return "a change of mode: the application reads and writes MongoDB alone"


async def roll_back(job: Cutover, target: Target, sink: Sink, waived: Sequence[str] = ()) -> SwitchReport:
    """MongoDB leads and serves alone. Idempotent.

    Raises: PreflightFailed, MoveRefused, before anything was touched; HoldFailed, and then all is as it was.
    """
    before = await aside(read_mode, job.ledger, stop=job.stop)
    if before.mode is Mode.HOLD:
        _require_overdue(before)
        before = await aside(back_out, job, "rolled back by hand: nobody had ended the hold", stop=job.stop)
    if before.mode is Mode.FINAL:
        raise MoveRefused("FINAL is the end: MongoDB is not kept up to date any more")
    if before.mode is Mode.DYNAMODB_ONLY:
        return await switch_to_mongodb(job, target, sink, waived)
    after = await aside(_to_mongodb_alone, job, before, stop=job.stop)
    return SwitchReport(before=str(before), after=str(after), epoch=after.epoch, instances=0, compared=0, held_s=0.0)


def _to_mongodb_alone(job: Cutover, before: ModeState) -> ModeState:
    """MongoDB led all the while. A fence that somebody left is lifted."""
    if before.mode is not Mode.MONGO_ONLY:
        back_to_mongodb(job.flip(), "rolled back")
    lift(job.fencing())
    return read_mode(job.ledger)


def _require_overdue(now: ModeState) -> None:
    """A hold that somebody is carrying out is left to him."""
    if not is_overdue(now):
        problem = Problem(
            where="mode", what=f"is {now}: the leader is being changed", suggestion="wait for it, or for its deadline"
        )
        raise PreflightFailed("rollback", [problem])


def finalize(job: Cutover) -> ModeState:
    """The soak is over: reverse replication stops, and MongoDB is left as it is.

    Raises: MoveRefused; PreflightFailed without an approval, and with everybody who still works with MongoDB.
    """
    record = mode_record(job.ledger)
    after = state_of(record.body).move(Mode.FINAL)
    require_approval(job.ledger, FINALIZE)
    if readers := list(foreign_readers(job.watching())):
        raise PreflightFailed(f"{job.migration.name}: the end of MongoDB", readers)
    change_mode(job.ledger, record, after, job.identity, "the soak is over")
    job.progress.say(f"the mode is {after}: MongoDB is not kept up to date any more")
    return after
