"""From HOLD to the new leader or back: what both directions share.

The state in the ledger is HOLD, or where it was, or where it is going; reads never stop. If the change fails or the deadline
comes, the mode goes back, and fence and marker behind it. A process that dies in the middle leaves that to `hold_watch`: the
process that watches beside it, and the next one that replicates, put back what is past its deadline.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from docferry.core.cutover.instances import Instance
from docferry.core.cutover.modes import Mode, ModeState
from docferry.errors import (
    HoldFailed,
    InvariantBroken,
    LeaseHeld,
    MigrationError,
    MoveRefused,
    PreflightFailed,
    Problem,
    Stopped,
)
from docferry.flows.fence.fence import fence, lift
from docferry.flows.fence.marker import mark_leader
from docferry.flows.kernel.job import Job
from docferry.flows.kernel.threads import in_thread
from docferry.flows.ledger.modes import (
    change_mode,
    mode_in,
    mode_record,
    read_mode,
    request_replication_yield,
    wait_for_acknowledgements,
)
from docferry.flows.ledger.times import now_ms
from docferry.flows.validate.changed import ChangeWatch
from docferry.ports.flows import (
    Record,
    Target,
)

ROOM_S = 120.0
"""How long other replicators stay away; asked again when writes begin to wait."""
TAKE_OVER_S = 60.0
CATCH_UP_S = 300.0
POLL_S = 0.05
SETTLE_S = 2.0
"""How long going back waits for the marker: without a majority it cannot be read, and whatever replicates puts it right."""
REFENCE_S = 10.0


@dataclass(slots=True, kw_only=True)
class SwitchReport:
    """A change of leader. `held_s` is how long writes waited at most, `steps` how long each part of that took, in seconds;
    `evidence` what proves, in words, that the new leader has all; `compared` how many documents, or journals' entries, that
    were."""

    before: str
    after: str
    epoch: int
    instances: int
    compared: int
    held_s: float
    evidence: str = ""
    steps: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "before": self.before,
            "after": self.after,
            "epoch": self.epoch,
            "instances": self.instances,
            "compared": self.compared,
            "held_s": round(self.held_s, 3),
            "evidence": self.evidence,
            "steps": {name: round(seconds, 3) for name, seconds in self.steps.items()},
        }


# --- before writes wait ---


async def take_over(job: Job, what: str, follow: Callable[[], Awaitable[Any]]) -> None:
    """Become the one who replicates (`what` says how), as soon as the earlier one has made room."""
    began = time.monotonic()
    while True:
        try:
            await follow()
            return
        except LeaseHeld as error:
            if time.monotonic() - began > TAKE_OVER_S:
                raise
            job.progress.say(f"waiting for the earlier {what} to end: {error}")
            await asyncio.sleep(0.5)


def raise_if_ended(following: asyncio.Task[None]) -> None:
    """Raises what ended replication; InvariantBroken if nothing did."""
    if following.done():
        following.result()
        raise InvariantBroken("replication ended before it was told to")


async def wait_until_lag_below(
    job: Job,
    leader: str,
    what: str,
    near_s: float,
    lag_s: Callable[[], float | None],
    following: asyncio.Task[None],
) -> None:
    """Until replication (`what` names it) is close behind. Raises PreflightFailed if it does not get there."""
    began = time.monotonic()
    while (lag := lag_s()) is None or lag > near_s:
        raise_if_ended(following)
        raise_if_stopped(job)
        if time.monotonic() - began > CATCH_UP_S:
            found = f"lags {lag} s" if lag is not None else "could not tell how far it is behind"
            problem = Problem(where=what, what=found, suggestion="wait until it has caught up")
            raise PreflightFailed(f"{leader} as the leader", [problem])
        await asyncio.sleep(POLL_S)


async def end_switch(job: Job, following: asyncio.Task[None], watching: ChangeWatch | None = None) -> None:
    """End what a switch has begun: its replication, which has been told to end, its look at the change stream, its claim to
    replicate alone.

    What ended replication was raised by the switch already. A cancellation of the switch goes on, behind all of this.
    """
    try:
        await asyncio.wait({following})
        if not following.cancelled():
            following.exception()
    finally:
        try:
            if watching is not None:
                await watching.close()
        finally:
            await asyncio.shield(asyncio.to_thread(request_replication_yield, job.ledger, job.identity.name, 0))


def tables_of(job: Job) -> list[str]:
    return sorted({mapping.table for mapping in job.migration.mappings.values()})


def raise_if_stopped(job: Job) -> None:
    if job.stop.is_set():
        raise Stopped("asked to stop before the leader was changed; nothing has changed")


# --- while writes wait ---


class Hold:
    """From HOLD to the new leader, or back. `until_equal` and `go_ahead` are what each direction does meanwhile."""

    ahead: Mode
    leader: str
    record: Record
    """The mode's, while this holds."""

    def __init__(self, job: Job, target: Target, following: asyncio.Task[None]) -> None:
        self.job, self.target, self.following = job, target, following
        self.steps: dict[str, float] = {}
        self.evidence = ""
        self.marked = self.acks_until = 0.0
        """Until when instances may acknowledge (monotonic seconds): the rest of the hold is for what comes behind."""

    async def run(self) -> SwitchReport:
        """Raises HoldFailed, with the reason; everything is as it was then, or the error says that it is not."""
        job, hold_s = self.job, self.job.migration.cutover.hold_s
        before = await in_thread(mode_record, job.ledger)
        held = mode_in(before).hold(self.ahead, now_ms() + int(hold_s * 1000))
        await asyncio.to_thread(request_replication_yield, job.ledger, job.identity.name, ROOM_S)
        began = self.marked = time.monotonic()
        self.acks_until = began + hold_s - job.migration.cutover.drain_s
        self.record = record = await asyncio.to_thread(
            change_mode, job.ledger, before, held, job.identity, f"{self.leader} is to lead"
        )
        try:
            async with asyncio.timeout(hold_s):
                await self._acknowledged(held)
                instances, compared = await self.until_equal(held)
            after = await self.go_ahead(record, held)
        except BaseException as error:
            going_back = asyncio.to_thread(back_out_after, job, error, self.steps, self.ahead, held.epoch)
            raise await asyncio.shield(going_back) from error
        held_s = time.monotonic() - began
        job.progress.say(f"{self.leader} leads; writes waited for {held_s:.2f} s at most")
        return SwitchReport(
            before=str(mode_in(before)), after=str(after), epoch=after.epoch, instances=instances, compared=compared,
            held_s=held_s, evidence=self.evidence, steps=self.steps,
        )  # fmt: skip

    async def until_equal(self, held: ModeState) -> tuple[int, int]:
        """(live instances, how much was compared), once both databases are equal and nothing moves. Raises HoldFailed."""
        raise NotImplementedError

    async def go_ahead(self, record: Record, held: ModeState) -> ModeState:
        """Make the mode what it was to become. Raises HoldFailed past the deadline."""
        raise NotImplementedError

    def mark(self, step: str) -> None:
        """Note how long a step took."""
        now = time.monotonic()
        self.steps[step] = now - self.marked
        self.marked = now

    def require_time(self, held: ModeState) -> None:
        if now_ms() >= held.deadline_ms:
            raise HoldFailed("the deadline has passed", self.steps)

    async def require_acknowledged(self, held: ModeState, until: float) -> None:
        """Every live instance says that it has no write in flight, by monotonic time `until`."""
        job = self.job
        silent = await asyncio.to_thread(
            wait_for_acknowledgements, job.ledger, job.identity, held.epoch, until, job.stop
        )
        raise_if_stopped(job)
        if silent:
            raise HoldFailed(describe_silent(silent), self.steps)

    async def _acknowledged(self, held: ModeState) -> None:
        await self.require_acknowledged(held, self.acks_until)
        self.mark("acknowledged")


def describe_silent(instances: Sequence[Instance]) -> str:
    names = ", ".join(f"{one.name} ({one.id[:8]})" for one in instances[:5])
    return f"{len(instances)} instance(s) have not acknowledged: {names}"


# --- going back ------------------------------------------------------------------------------------------------------


def back_out(job: Job, why: str, hold: int | None = None) -> ModeState:
    """From HOLD to where it was, and then fence and marker as that mode asks. Idempotent. `hold`: only the hold of that epoch.

    MongoDB is opened behind the mode, never before it: if it led, the fence is lifted; if DynamoDB does, it stands.
    Raises: FenceFailed, StoreError, RetryExhausted, LeaseHeld: the next caller goes on, and the replicator.
    """
    while True:
        record = mode_record(job.ledger)
        now = mode_in(record)
        if now.mode is Mode.HOLD:
            if hold is not None and now.epoch != hold:
                return now  # another's: this one was put back while its process was frozen
            try:
                change_mode(job.ledger, record, back := now.go_back(), job.identity, why)
            except MoveRefused:
                continue
            job.progress.say(f"the mode is {back} again: {why}")
            now = back
        settle(job, now)
        return now


def settle(job: Job, mode: ModeState) -> None:
    """Fence and marker as this mode asks, which others may have made it while this process was frozen: what it did when it
    woke, it did behind their backs. Raises as `back_out`."""
    mark_leader(job, SETTLE_S)
    if mode.mode.dynamodb_leads:
        fence(job, REFENCE_S)
    else:
        lift(job)


def back_out_after(
    job: Job, error: BaseException, steps: Mapping[str, float], ahead: Mode, hold: int | None = None
) -> BaseException:
    """Go back, and say so: the error to raise. If going back fails, too, the process that watches the hold goes on.

    A process that was asked to stop goes back all the same, and then stops.
    """
    job = replace(job, stop=threading.Event())
    why = f"{type(error).__name__}: {error}" if isinstance(error, MigrationError) else type(error).__name__
    why = error.why if isinstance(error, HoldFailed) else why
    if isinstance(error, TimeoutError):
        why = f"{job.migration.cutover.hold_s:.0f} s have passed"
    try:
        now = back_out(job, why[:500], hold)
    except MigrationError as lost:
        return HoldFailed(why, steps, **_left(job, lost))
    if now.mode is ahead or now.mode is Mode.HOLD:  # the change was made, and what came behind it failed
        return HoldFailed(why, steps, went=str(now))
    return HoldFailed(why, steps) if isinstance(error, MigrationError | TimeoutError) else error


def _left(job: Job, lost: MigrationError) -> dict[str, str]:
    """How far going back came, having failed with `lost`."""
    try:
        mode = read_mode(job.ledger)
    except MigrationError:
        return {"stuck": str(lost)}
    return {"stuck": str(lost)} if mode.mode is Mode.HOLD else {"unsettled": str(lost), "went": str(mode)}
