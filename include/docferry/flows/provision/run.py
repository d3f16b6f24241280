"""Carrying a plan out: one step at a time, each awaited, the rest planned anew from what AWS says."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from docferry.config import Migration
from docferry.core.estate.resources import OfTable
from docferry.core.estate.values import (
    DesiredEstate,
    EstatePlan,
    EstateStep,
    TableSpec,
)
from docferry.core.estate.wanted import Around
from docferry.errors import (
    ControlPlaneBusy,
    EstateDrift,
    InvariantBroken,
    Problem,
    RetryExhausted,
    Stopped,
    TransientStoreError,
)
from docferry.flows.ledger.rooms.owners import claim_tables, not_owned, require_owned
from docferry.flows.provision.report import (
    ProvisionPlan,
    ProvisionReport,
    report_applied,
)
from docferry.flows.provision.subjects import (
    ResourceLook,
    Subject,
    about,
    awaited,
    plan_of,
    replica_subjects,
    table_subjects,
)
from docferry.ports.flows import Estate, Ledger, Progress, StopSignal

BUSY_POLLS = 10
"""So many polls apart are attempts at what AWS has no time for: TTL takes one change an hour."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds.

    `poll_s` between two looks · `settle_s` for AWS to finish a change (an index of a big table takes hours) · `agree_s` for its
    eventually consistent answers to say what was asked · `trouble_s` of nothing but transient errors, unless AWS says that it is
    busy: that is waited for as for a change of ours.
    """

    poll_s: float = 2.0
    settle_s: float = 6 * 3600.0
    agree_s: float = 120.0
    trouble_s: float = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Ownership:
    """Whose the tables are: `lacking` says why they are not the file's, `require` and `claim` raise PreflightFailed then; `claim`
    notes that they are."""

    lacking: Callable[[], Sequence[Problem]]
    require: Callable[[], None]
    claim: Callable[[], None]


def ownership(migration: Migration, ledger: Ledger, estate: Estate) -> Ownership:
    """By the ledger and the tables' tags."""
    given = (migration, ledger, estate.fetch_table)
    return Ownership(
        lacking=partial(not_owned, *given), require=partial(require_owned, *given), claim=partial(claim_tables, *given)
    )


UNOWNED = Ownership(lacking=lambda: (), require=lambda: None, claim=lambda: None)
"""Not asked: replicas are of tables that are owned already."""


def plan_provision(desired: DesiredEstate, estate: Estate) -> ProvisionPlan:
    """Ask AWS what is there and plan the rest. Changes nothing.

    Raises: PreflightFailed, if something that the DAX section names does not exist; StoreError.
    """
    return plan_of(table_subjects(desired, estate))


def provision(
    desired: DesiredEstate,
    estate: Estate,
    *,
    allow_changes: bool = False,
    dry_run: bool = False,
    progress: Progress,
    stop: StopSignal,
    patience: Patience | None = None,
    ownership: Ownership = UNOWNED,
) -> ProvisionReport:
    """Make AWS hold what the file asks for: ledger, keys, tables, DAX, and what is beside them. Not replicas: see `add_replicas`.

    `ownership` is asked before anything is touched, and told once the ledger is there, before any table is touched.

    Holds:  idempotent; nothing is touched unless the whole plan is allowed; nothing is ever deleted.
    Raises: PreflightFailed, EstateDrift (before any table was touched); Stopped (run again to continue); RetryExhausted;
            StoreError; InvariantBroken, if AWS accepted a step and does not show it.
    """
    run = StepRun(
        estate=estate, allow_changes=allow_changes, progress=progress, stop=stop, patience=patience or Patience(),
        ownership=ownership, waiting=(*desired.around.waiting, *_awaiting(desired, estate)),
    )  # fmt: skip
    return run.carry_out(run.patiently("reading the estate", lambda: table_subjects(desired, estate)), dry_run=dry_run)


def _awaiting(desired: DesiredEstate, estate: Estate) -> Iterator[str]:
    for name in sorted(awaited(desired, estate)) if desired.imported else ():
        yield f"table {name}: is made by the import (docferry backfill), which then sets the rest of it"


def complete_table(
    desired: DesiredEstate, estate: Estate, spec: TableSpec, *, progress: Progress, stop: StopSignal
) -> ProvisionReport:
    """What an import has made becomes what the file says, without being asked: nothing else has ever used it."""
    beside = tuple(one for one in desired.around.after if isinstance(one, OfTable) and one.name == spec.name)
    (ledger, *_) = desired.tables
    only = DesiredEstate(region=desired.region, tables=(ledger, spec), around=Around(after=beside))
    return provision(only, estate, allow_changes=True, progress=progress, stop=stop)


def add_replicas(
    desired: DesiredEstate,
    estate: Estate,
    *,
    allow_changes: bool = False,
    dry_run: bool = False,
    progress: Progress,
    stop: StopSignal,
    patience: Patience | None = None,
) -> ProvisionReport:
    """Add the file's regions to its tables, one at a time; each gets the table's tags, PITR and deletion protection.

    After the load: replicated writes cost more, and bulk puts refuse global tables. Idempotent; it
    continues what was interrupted.
    Raises: as `provision`; PreflightFailed, if a table is missing or DynamoDB would refuse replicas of it.
    """
    run = StepRun(
        estate=estate, allow_changes=allow_changes, progress=progress, stop=stop, patience=patience or Patience()
    )
    return run.carry_out(
        run.patiently("reading the estate", lambda: replica_subjects(desired, estate)), dry_run=dry_run
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trouble:
    """Transient errors in a row: since when (monotonic seconds), and how many."""

    since: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StepRun:
    estate: Estate
    allow_changes: bool
    progress: Progress
    stop: StopSignal
    patience: Patience
    ownership: Ownership = UNOWNED
    waiting: tuple[str, ...] = ()
    task: str = "provision"

    def carry_out(self, subjects: tuple[Subject, ...], *, dry_run: bool) -> ProvisionReport:
        if not dry_run:
            for subject in subjects:
                self.wait_until_settled(subject)
        plan = self.patiently("reading the estate", lambda: plan_of(subjects))
        plan = replace(plan, estate=plan.estate + EstatePlan(notes=self.waiting))
        others = tuple(map(str, self.patiently("asking whose the tables are", self.ownership.lacking)))
        refusals = (*others, *plan.estate.refusals(allow_changes=self.allow_changes))
        seen = {"notes": plan.estate.notes, "unverified": plan.estate.unverified, "refusals": refusals}
        if dry_run:
            return ProvisionReport(resources=plan.resources, plan=plan.estate, dry_run=True, others=others, **seen)
        if refusals:
            raise EstateDrift(refusals)
        applied = []
        for number, subject in enumerate(subjects):
            applied.append(self.apply_all(subject, number, len(subjects)))
            if number == 0:  # the ledger
                self.patiently("noting whose the tables are", self.ownership.claim)
        after = self.patiently("reading the estate back", lambda: plan_of(subjects))
        self.insist(after.estate)
        resources = tuple(report_applied(was, steps) for was, steps in zip(after.resources, applied, strict=True))
        for resource in resources:
            self.progress.say(f"{resource.resource}: {resource.outcome}")
        return ProvisionReport(
            resources=resources,
            plan=plan.estate,
            notes=(*self.waiting, *after.estate.notes),
            unverified=after.estate.unverified,
        )

    def insist(self, plan: EstatePlan) -> None:
        """What is read back at the end is what was asked, or this run fails."""
        left = [*plan.refusals(allow_changes=self.allow_changes), *(f"{s.resource}: {s.action}" for s in plan.steps)]
        if left:
            raise InvariantBroken(
                "read back after provisioning, the estate is not what the file says: " + "; ".join(left)
            )

    def apply_all(self, subject: Subject, number: int, total: int) -> tuple[EstateStep, ...]:
        """Step by step until nothing is left to do; returns what was done."""
        done: list[EstateStep] = []
        trouble: _Trouble | None = None
        look = self.wait_until_settled(subject)
        while look.plan.steps:
            step = look.plan.steps[0]
            self._allow(look.plan)
            self.progress.say(f"{step.resource}: {step.action} {step.detail}".rstrip())
            try:
                with about(f"{step.resource}: {step.action} {step.detail}".rstrip()):
                    self.estate.apply(step)
            except TransientStoreError as error:
                # The answer may be lost and the step done: look again before anything is sent twice.
                trouble = self._bear(error, f"{step.resource}: {step.action}", trouble)
                look = self.wait_until_settled(subject)
                if all(left.key != step.key for left in look.plan.steps):
                    done.append(step)
                continue
            trouble = None
            look = self.wait_until_done(subject, step)
            done.append(step)
        self.progress.advance(self.task, number + 1, total, subject.resource)
        return tuple(done)

    def wait_until_settled(self, subject: Subject) -> ResourceLook:
        deadline = time.monotonic() + self.patience.settle_s
        for looks, look in enumerate(self._looks(subject), start=1):
            if look.settled:
                return look
            self._not_after(deadline, f"{subject.resource} to become active", looks)
        raise InvariantBroken("unreachable: looking never ends by itself")

    def wait_until_done(self, subject: Subject, step: EstateStep) -> ResourceLook:
        """Until AWS has finished and shows what was asked."""
        settle = time.monotonic() + self.patience.settle_s
        agree: float | None = None
        for looks, look in enumerate(self._looks(subject), start=1):
            if not look.settled:
                agree = None
                self._not_after(settle, f"{step.resource}: {step.action}", looks)
            elif all(left.key != step.key for left in look.plan.steps):
                return look
            else:
                agree = agree or time.monotonic() + self.patience.agree_s
                if time.monotonic() > agree:
                    raise InvariantBroken(
                        f"{step.resource}: AWS accepted '{step.action} {step.detail}' and does not show it"
                    )
        raise InvariantBroken("unreachable: looking never ends by itself")

    def patiently(self, what: str, ask: Callable[[], Any]) -> Any:
        """Ask again while the error may pass."""
        trouble: _Trouble | None = None
        while True:
            try:
                return ask()
            except TransientStoreError as error:
                trouble = self._bear(error, what, trouble)

    def _looks(self, subject: Subject) -> Iterator[ResourceLook]:
        """Look, pause, look again: the first pauses are short, because most changes are quick."""
        pause_s = min(0.05, self.patience.poll_s)
        while True:
            yield self.patiently(f"reading {subject.resource}", subject.seen)
            self._pause(pause_s)
            pause_s = min(pause_s * 2, self.patience.poll_s)

    def _allow(self, plan: EstatePlan) -> None:
        """Between the plan and now something may have been changed: never write over that unasked."""
        if refusals := plan.refusals(allow_changes=self.allow_changes):
            raise EstateDrift(refusals)

    def _bear(self, error: TransientStoreError, what: str, trouble: _Trouble | None) -> _Trouble:
        """Pause before the next attempt. Raises: RetryExhausted, after too long with nothing but trouble."""
        now = time.monotonic()
        trouble = _Trouble(since=trouble.since if trouble else now, attempts=trouble.attempts + 1 if trouble else 1)
        busy = isinstance(error, ControlPlaneBusy)
        if now - trouble.since > (self.patience.settle_s if busy else self.patience.trouble_s):
            raise RetryExhausted(what, trouble.attempts, now - trouble.since, str(error)) from error
        self.progress.say(f"{what}: {error}; trying again")
        self._pause(self.patience.poll_s * (BUSY_POLLS if busy else 1))
        return trouble

    def _not_after(self, deadline: float, what: str, looks: int) -> None:
        if time.monotonic() > deadline:
            why = "AWS has not finished; run again to go on waiting"
            raise RetryExhausted(f"waiting for {what}", looks, self.patience.settle_s, why)

    def _pause(self, seconds: float) -> None:
        """Sleep in short naps, so that a stop is honoured within half a second. Raises: Stopped."""
        until = time.monotonic() + seconds
        while True:
            if self.stop.is_set():
                raise Stopped("provisioning was asked to stop; what was begun is marked, and a re-run continues")
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, 0.5))
