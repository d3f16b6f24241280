"""One fence on its way up, and down again if it does not get there."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from bson.timestamp import Timestamp

from docferry.core.cutover.fence_plan import (
    FenceKind,
    FencePlan,
    FenceState,
    OpenTransaction,
    RunningOperation,
    StrayWrite,
)
from docferry.core.settings import ExternalFence
from docferry.errors import (
    FenceFailed,
    LeaseLost,
    MigrationError,
    Stopped,
    TransientStoreError,
)
from docferry.flows.fence.quiet import READ_S, others_since, stray_of
from docferry.flows.fence.record import (
    BREATHE_S,
    LONG_S,
    PAUSE_S,
    REMIND_S,
    FenceReport,
    Recorded,
    lift_in_mongodb,
)
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.leases import Lease
from docferry.flows.ledger.rooms.fence import fence_change, read_fence

T = TypeVar("T")


class Never:
    """A wish to stop waits until the application may write again."""

    def is_set(self) -> bool:
        return False


class _Late(Exception):
    """The deadline has passed."""


@dataclass(slots=True)
class Raising:
    """One fence on its way up. `in_the_way` is what was seen last, `waited_for` everything that was."""

    job: Job
    lease: Lease
    plan: FencePlan
    began: float
    within_s: float
    in_the_way: Sequence[OpenTransaction | RunningOperation | StrayWrite] = ()
    trouble: str = ""
    attempts: int = 0
    killed: int = 0
    told: float = float("-inf")
    waited_for: dict[str, str] = field(default_factory=dict)

    def run(self) -> FenceReport:
        self.lease.update(fence_change(Recorded.RAISING, plan=self.plan))
        try:
            time_of_fence = self._raise()
            self.lease.update(fence_change(Recorded.UP, time=time_of_fence))
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
        if self.plan.kind is FenceKind.EXTERNAL:
            self._await_quiet()
        while (found := self._asked(self._mark_time)) is None:
            self._go_on()
        while (seen := self._asked(lambda: self.job.fence.fence_state(self.plan))) is not FenceState.UP:
            self.trouble = f"MongoDB says that the fence is {seen}" if seen else self.trouble
            self._go_on()
        self._check()
        return found

    def _mark_time(self) -> Timestamp:
        """By the command there is no note in the oplog: a service that has no fence takes none."""
        return self.job.source.cluster_time() if self.plan.kind is FenceKind.EXTERNAL else self.job.fence.mark_time()

    def _await_quiet(self) -> None:
        """The command says that it is closed; that clients have gone on writing shows in the change stream. It counts once no
        client but docferry has written for `quiet_s`."""
        fence = self.job.migration.cutover.fence
        quiet_s = fence.quiet_s if isinstance(fence, ExternalFence) else 0.0
        while not self._asked(lambda: self._was_quiet(quiet_s)):
            self._go_on()

    def _was_quiet(self, quiet_s: float) -> bool:
        """Whether it was, from now on for so long; False at the first write of another client."""
        began = time.monotonic()
        since = self.job.source.cluster_time()
        with others_since(self.job, since) as feed:
            at, until = since, since
            while time.monotonic() - began < quiet_s or at < until:
                self._check()
                batch = feed.read(READ_S)
                if strays := [stray_of(self.job, one) for one in batch.writes if one.time > since]:
                    self._meet(strays)
                    return False
                at, until = batch.position.time, self.job.source.cluster_time()
        self.in_the_way = ()
        return True

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

    def _meet(self, found: Sequence[OpenTransaction | RunningOperation | StrayWrite]) -> None:
        """Remember what is in the way and tell it; kill what may be killed, once half of the time is gone."""
        self.in_the_way = found
        for one in found:
            self.waited_for[_who(one)] = str(one)
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
            return  # the process that holds the lease now goes on from the record
        in_the_way = [str(one) for one in self.in_the_way]
        what = f"the fence on MongoDB ({self.plan.kind}) was not up within {self.within_s:g} s"
        what = what if isinstance(error, _Late) else f"the fence on MongoDB ({self.plan.kind}) was given up: {error}"
        if self.trouble:
            what += f" (MongoDB's last answer: {self.trouble.rstrip('.')})"
        try:
            lifted = lift_in_mongodb(self.job, self.plan, Never())
        except MigrationError as lost:
            raise FenceFailed(f"{what}; lifting it: {lost}", in_the_way=in_the_way, taken_back=False) from error
        self._record_lifted(lifted, error)
        if isinstance(error, _Late):
            raise FenceFailed(what, in_the_way=in_the_way) from None

    def _record_lifted(self, lifted: Recorded, error: BaseException) -> None:
        try:
            self.lease.update(fence_change(lifted))
        except MigrationError as lost:  # the next run lifts once more what is down already
            error.add_note(f"(and the ledger could not be told that the fence is down: {lost})")

    def _is_anothers(self, error: LeaseLost) -> bool:
        """Whether another process took over and wants the fence up. One that took over and lifted it may have done so before our
        last attempt went through, so that we lift it again."""
        try:
            record = read_fence(self.job.ledger)
        except MigrationError as lost:
            text = (
                f"the fence on MongoDB ({self.plan.kind}) was given up: {error}; the ledger does not say which process "
                f"holds it: {lost}"
            )
            raise FenceFailed(text, taken_back=False) from error
        if record.holder.mark in ("", self.job.identity.mark):
            return False
        return record.state in (Recorded.RAISING, Recorded.UP)


def _who(one: OpenTransaction | RunningOperation | StrayWrite) -> str:
    """By which what waits is told once."""
    return one.namespace if isinstance(one, StrayWrite) else f"{one.client} {one.user} {one.app}"
