"""Raise the fence on MongoDB, lift it, and prove that nobody has written behind it.

What is about to be taken is in the ledger (section `fence`) before it is taken, so a later `lift`, by whatever process, gives
back exactly that. Whoever raises or lifts holds a lease on the record meanwhile. Record and MongoDB agree like this:

    state     MongoDB                                             who died here leaves
    down      no fence                                            nothing
    raising   no fence, a part, or all of it                      a lift to be done; `fence` and `lift` both begin with it
    up        the fence; `time` is behind every earlier write     the fence
    lifting   all of it, a part, or no fence (or no majority      the rest of the lift
              that would keep it so)
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeVar

from bson.timestamp import Timestamp

from docferry.config import Migration
from docferry.core.cutover.fence_plan import (
    FenceKind,
    FencePlan,
    FenceState,
    OpenTransaction,
    RunningOperation,
    choose_fence,
    user_id,
)
from docferry.errors import (
    FenceBroken,
    FenceFailed,
    LeaseLost,
    MigrationError,
    PreflightFailed,
    Problem,
    Stopped,
    TransientStoreError,
)
from docferry.flows.kernel.retry import retrying
from docferry.flows.ledger import state
from docferry.ports.flows import Fence, Identity, Ledger, Progress, StopSignal

T = TypeVar("T")

FENCE = ("fence", "mongodb")
LEASE_S = 10.0
PAUSE_S = 0.1
BREATHE_S = 0.5
"""After an attempt that held readers up: they get their turn before the next one."""
LONG_S = 1.0
"""A transaction that has been open for longer would outlast an attempt, so none is made before it has ended."""
LIFT_S = 30.0
"""How long lifting is tried again while MongoDB does not answer."""
REMIND_S = 2.0


class Recorded(StrEnum):
    """What the ledger says about the fence; the table above says what it means."""

    DOWN = "down"
    RAISING = "raising"
    UP = "up"
    LIFTING = "lifting"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fencing:
    """Everything the fence needs."""

    migration: Migration
    fence: Fence
    ledger: Ledger
    identity: Identity
    progress: Progress
    stop: StopSignal


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
            "time": state.encode_time(self.time),
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


def fence(job: Fencing, within_s: float) -> FenceReport:
    """Make MongoDB refuse the application's writes within so many seconds, or leave everything as it was.

    A fence that is up already stays, with its time; one that somebody left half done is lifted first.

    Raises: PreflightFailed if neither kind of fence would hold, before anything was touched; FenceFailed at the deadline, with
            what was in the way (it may come up to a second late); LeaseHeld, LeaseLost, Stopped, StoreError. Whatever it
            raises, the fence has been taken back, unless FenceFailed says otherwise.
    """
    began = time.monotonic()
    if job.stop.is_set():
        raise Stopped("asked to stop before the fence was raised; nothing was changed")
    with _held(job) as lease:
        if (standing := _standing(job, lease, within_s)) is not None:
            return standing
        plan = _plan(job, within_s)
        report = _Raising(job, lease, plan, began, within_s).run()
    report.seconds = time.monotonic() - began
    return report


def lift(job: Fencing) -> LiftReport:
    """Take the fence away, as the ledger's record says. Idempotent, and for whatever a process left that died.

    Raises: LeaseHeld while somebody raises it; FenceFailed if MongoDB then says that it is not down; Stopped, RetryExhausted,
            StoreError: run it again.
    """
    with _held(job) as lease:
        was = Recorded(lease.body.get("state", Recorded.DOWN))
        if "kind" not in lease.body:
            return LiftReport(plan=None, was=was, lifted=False)
        plan = FencePlan.from_body(lease.body)
        if was is Recorded.DOWN and _state(job, plan, LIFT_S) is not FenceState.UP:
            return LiftReport(plan=plan, was=was, lifted=False)
        _lift(job, lease, plan, job.stop)
        return LiftReport(plan=plan, was=was, lifted=True)


def recorded_fence(ledger: Ledger) -> tuple[Recorded, FencePlan | None, Timestamp | None]:
    """What the ledger says: state, plan, and the fence's time while it is up. One read."""
    record = ledger.read(*FENCE)
    body = record.body if record is not None else {}
    plan = FencePlan.from_body(body) if "kind" in body else None
    text = body.get("time", "")
    return Recorded(body.get("state", Recorded.DOWN)), plan, state.decode_time(text) if text else None


def require_quiet(job: Fencing, since: Timestamp) -> None:
    """Prove that nobody but docferry has written to the migration's collections behind `since`.

    Raises: FenceBroken with the first such writes; ResumeTokenLost if the oplog no longer tells; Stopped, RetryExhausted,
            StoreError.
    """
    strays = retrying("read the oplog behind the fence", lambda: job.fence.writes_after(since), job.stop)
    if strays:
        raise FenceBroken(state.encode_time(since), [str(one) for one in strays])


# --- the record ------------------------------------------------------------------------------------------------------


@contextmanager
def _held(job: Fencing) -> Iterator[state.Lease]:
    """The lease on the record; whatever ends the block, it is given back, or runs out."""
    lease = state.take_or_create(job.ledger, *FENCE, job.identity, LEASE_S)
    try:
        yield lease
    except LeaseLost:
        lease.abandon()
        raise
    except BaseException as error:
        try:
            lease.release()
        except Exception as lost:  # noqa: BLE001 - told with the error; the lease then runs out
            lease.abandon()
            error.add_note(f"(and the lease on the fence could not be given back: {lost})")
        raise
    lease.release()


def _standing(job: Fencing, lease: state.Lease, within_s: float) -> FenceReport | None:
    """The fence that is up already. What somebody left half done is lifted, and then there is none."""
    recorded = Recorded(lease.body.get("state", Recorded.DOWN))
    if recorded is Recorded.DOWN:
        return None
    plan = FencePlan.from_body(lease.body)
    found = _state(job, plan, within_s)
    if recorded is Recorded.UP and found is FenceState.UP:
        return FenceReport(plan=plan, time=state.decode_time(lease.body["time"]), stood=True)
    job.progress.say(
        f"the ledger says that a fence ({plan.kind}) is {recorded}, MongoDB says {found}: it is lifted first"
    )
    _lift(job, lease, plan, job.stop)
    return None


def _state(job: Fencing, plan: FencePlan, for_s: float, stop: StopSignal | None = None) -> FenceState:
    return retrying("ask for the fence's state", lambda: job.fence.fence_state(plan), stop or job.stop, for_s)


def _plan(job: Fencing, for_s: float) -> FencePlan:
    """Raises PreflightFailed if no fence would hold."""
    cutover = job.migration.cutover
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


def _lift(job: Fencing, lease: state.Lease, plan: FencePlan, stop: StopSignal) -> None:
    """Lift, look, and record it. Raises FenceFailed, Stopped, RetryExhausted, LeaseLost, StoreError."""
    lease.update({"state": Recorded.LIFTING.value})
    lease.update({"state": _lift_in_mongo(job, plan, stop).value, "time": ""})


def _lift_in_mongo(job: Fencing, plan: FencePlan, stop: StopSignal) -> Recorded:
    """DOWN; or LIFTING, if the primary lets the application write, but has no majority behind it.

    Why: nobody's writes wait for a member that is down; but after a fail-over the fence may be up once more, so whoever raises or
    lifts next lifts it again.
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


# --- raising ---------------------------------------------------------------------------------------------------------


class _Never:
    """Whoever wants us to stop waits until the application may write again."""

    def is_set(self) -> bool:
        return False


class _Late(Exception):
    """The deadline has passed."""


@dataclass(slots=True)
class _Raising:
    """One fence on its way up. `in_the_way` is what was seen last, `waited_for` everything that was."""

    job: Fencing
    lease: state.Lease
    plan: FencePlan
    began: float
    within_s: float
    in_the_way: Sequence[OpenTransaction | RunningOperation] = ()
    trouble: str = ""
    attempts: int = 0
    killed: int = 0
    told: float = float("-inf")
    waited_for: dict[str, str] = field(default_factory=dict)

    def run(self) -> FenceReport:
        about = {"state": Recorded.RAISING.value, "time": "", "by": self.job.identity.name, "at": state.now_ms()}
        self.lease.update(self.plan.to_body() | about)
        try:
            time_of_fence = self._raise()
            self.lease.update({"state": Recorded.UP.value, "time": state.encode_time(time_of_fence)})
        except BaseException as error:
            self._undo(error)
            raise
        return FenceReport(
            plan=self.plan,
            time=time_of_fence,
            attempts=self.attempts,
            killed=self.killed,
            waited_for=tuple(self.waited_for.values()),
        )

    def _raise(self) -> Timestamp:
        while not self._attempt():
            self._go_on()
        quiet = 0
        while self.plan.kind is FenceKind.REVOKE and quiet < 2:  # what is just beginning shows at the second look
            quiet = quiet + 1 if self._is_quiet() else 0
            self._go_on()
        while (found := self._asked(self.job.fence.mark_time)) is None:
            self._go_on()
        while (seen := self._asked(lambda: self.job.fence.fence_state(self.plan))) is not FenceState.UP:
            self.trouble = f"MongoDB says that the fence is {seen}" if seen else self.trouble
            self._go_on()
        self._check()
        return found

    def _attempt(self) -> bool:
        """Whether the fence was raised. By the write block, only when no transaction is open that would outlast an attempt:
        readers wait behind one."""
        self._check()
        if self.plan.kind is FenceKind.WRITE_BLOCK:
            found = self._asked(self.job.fence.open_transactions)
            if found is None:
                return False
            self._meet([one for one in found if one.open_s >= LONG_S])
            if self.in_the_way:
                return False
            self.in_the_way = found
        self.attempts += 1
        try:
            self.job.fence.raise_fence(self.plan)
        except TransientStoreError as error:
            self.trouble = str(error)
            self._pause(BREATHE_S)
            return False
        return True

    def _is_quiet(self) -> bool:
        found = self._asked(lambda: self.job.fence.still_writing(self.plan))
        if found is not None:
            self._meet(found)
        return found is not None and not found

    def _meet(self, found: Sequence[OpenTransaction | RunningOperation]) -> None:
        """Remember what is in the way and tell it; kill what may be killed, once half of the time is gone."""
        self.in_the_way = found
        for one in found:
            self.waited_for[f"{one.client} {one.user} {one.app}"] = str(one)
        if not found:
            return
        now = time.monotonic()
        if now - self.told >= REMIND_S:
            self.told = now
            self.job.progress.say(f"the fence waits for {len(found)}: {'; '.join(map(str, found[:5]))}")
        transactions = [one for one in found if isinstance(one, OpenTransaction)]
        if transactions and self.job.migration.cutover.kill_transactions and now > self.began + self.within_s / 2:
            self._asked(lambda: self._kill(transactions))

    def _kill(self, transactions: Sequence[OpenTransaction]) -> bool:
        self.job.fence.kill_transactions(transactions)
        self.killed += len(transactions)
        self.job.progress.say(f"killed, as the file allows: {'; '.join(map(str, transactions))}")
        return True

    def _asked(self, call: Callable[[], T]) -> T | None:
        """The answer, None if MongoDB gave none that could be used: then it is asked again, until the deadline."""
        try:
            return call()
        except TransientStoreError as error:
            self.trouble = str(error)
            return None

    def _go_on(self) -> None:
        self._pause(PAUSE_S)
        self._check()

    def _pause(self, seconds: float) -> None:
        until = min(time.monotonic() + seconds, self.began + self.within_s)
        while (left := until - time.monotonic()) > 0 and not self.job.stop.is_set():
            time.sleep(min(left, PAUSE_S))

    def _check(self) -> None:
        if self.job.stop.is_set():
            raise Stopped("asked to stop while the fence was raised; it was taken back")
        self.lease.check()
        if time.monotonic() > self.began + self.within_s:
            raise _Late

    # --- and down again

    def _undo(self, error: BaseException) -> None:
        """Take back what was raised; raises FenceFailed where that is what matters."""
        if isinstance(error, LeaseLost) and self._is_anothers(error):
            return  # whoever holds the lease now goes on from the record
        in_the_way = [str(one) for one in self.in_the_way]
        what = f"the fence on MongoDB ({self.plan.kind}) was not up within {self.within_s:g} s"
        what = what if isinstance(error, _Late) else f"the fence on MongoDB ({self.plan.kind}) was given up: {error}"
        if self.trouble:
            what += f" (the last that MongoDB said: {self.trouble.rstrip('.')})"
        try:
            lifted = _lift_in_mongo(self.job, self.plan, _Never())
        except MigrationError as lost:
            raise FenceFailed(f"{what}; lifting it: {lost}", in_the_way=in_the_way, taken_back=False) from error
        self._record_lifted(lifted, error)
        if isinstance(error, _Late):
            raise FenceFailed(what, in_the_way=in_the_way) from None

    def _record_lifted(self, lifted: Recorded, error: BaseException) -> None:
        try:
            self.lease.update({"state": lifted.value, "time": ""})
        except MigrationError as lost:  # the next run lifts once more what is down already
            error.add_note(f"(and the ledger could not be told that the fence is down: {lost})")

    def _is_anothers(self, error: LeaseLost) -> bool:
        """Whether somebody else took over and wants the fence up. One who took over and lifted it may have done so before our
        last attempt went through, so that we lift it again."""
        try:
            record = self.job.ledger.read(*FENCE)
        except MigrationError as lost:
            text = f"the fence on MongoDB ({self.plan.kind}) was given up: {error}; the ledger does not tell who has it: {lost}"
            raise FenceFailed(text, taken_back=False) from error
        if record is None or record.body.get("mark") == self.job.identity.mark:
            return False
        return record.body.get("state") in (Recorded.RAISING, Recorded.UP)
