"""Provision: plan -> diff -> apply -> read back. And replicas, a step of its own after the load.

One step at a time: after each, AWS is asked until it says what was wanted, and the rest is planned anew from what it
says. So a run that was killed anywhere is continued by the next one, and a request whose answer was lost is never
sent twice blindly.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from docferry.core.estate.dax import dax_fields, plan_dax
from docferry.core.estate.replicas import check_replicable, plan_replica
from docferry.core.estate.tables import plan_table, table_fields
from docferry.core.estate.values import (
    Action,
    DaxSpec,
    DesiredEstate,
    EstateChange,
    EstatePlan,
    EstateStep,
    ReplicaSpec,
    TableSpec,
    TableState,
)
from docferry.errors import (
    EstateDrift,
    InvariantBroken,
    PreflightFailed,
    Problem,
    RetryExhausted,
    Stopped,
    TransientStoreError,
)
from docferry.ports.flows import Estate, Progress, StopSignal


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long to wait, in seconds.

    `poll_s` between two looks · `settle_s` for AWS to finish a change (an index of a big table takes hours) · `agree_s` for its
    eventually consistent answers to say what was asked · `trouble_s` of nothing but transient errors.
    """

    poll_s: float = 2.0
    settle_s: float = 6 * 3600.0
    agree_s: float = 120.0
    trouble_s: float = 300.0


class ResourceOutcome(StrEnum):
    """What became of one resource."""

    CREATED = "created"
    CHANGED = "changed"  # or finished, where an earlier run of ours was interrupted
    UNCHANGED = "unchanged"
    PLANNED = "planned"  # a dry run: it would be created or changed


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceReport:
    """One resource: what was done to it, and every field as it was read back afterwards."""

    resource: str
    outcome: ResourceOutcome
    applied: tuple[str, ...] = ()
    fields: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionPlan:
    """The plan for all resources, in the order in which they are made. `busy`: being changed right now, so it may shift."""

    estate: EstatePlan
    resources: tuple[ResourceReport, ...]
    busy: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ProvisionReport:
    """What a run did. In a dry run nothing was done, and `refusals` says what a real run would refuse."""

    resources: tuple[ResourceReport, ...]
    plan: EstatePlan
    dry_run: bool = False
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    @property
    def changed_anything(self) -> bool:
        return any(
            resource.outcome in {ResourceOutcome.CREATED, ResourceOutcome.CHANGED} for resource in self.resources
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "changed_anything": self.changed_anything,
            "dry_run": self.dry_run,
            "resources": [
                {**asdict(r), "outcome": r.outcome.value, "applied": list(r.applied)} for r in self.resources
            ],
            "steps": [f"{step.resource}: {step.action}" for step in self.plan.steps],
            "refusals": list(self.refusals),
            "notes": list(self.notes),
            "unverified": list(self.unverified),
        }


def plan_provision(desired: DesiredEstate, estate: Estate) -> ProvisionPlan:
    """Ask AWS what is there and plan the rest. Changes nothing.

    Raises: PreflightFailed, if something that the DAX section names does not exist; StoreError.
    """
    return _plan(_subjects(desired, estate))


def provision(
    desired: DesiredEstate,
    estate: Estate,
    *,
    allow_changes: bool = False,
    dry_run: bool = False,
    progress: Progress,
    stop: StopSignal,
    patience: Patience | None = None,
) -> ProvisionReport:
    """Make AWS hold what the file asks for: ledger, tables, DAX. Not replicas: see `add_replicas`.

    Holds:  idempotent; nothing is touched unless the whole plan is allowed; nothing is ever deleted.
    Raises: PreflightFailed, EstateDrift (before anything was touched); Stopped (run again to continue); RetryExhausted;
            StoreError; InvariantBroken, if AWS accepted a step and does not show it.
    """
    run = _Run(
        estate=estate, allow_changes=allow_changes, progress=progress, stop=stop, patience=patience or Patience()
    )
    return run.carry_out(run.patiently("reading the estate", lambda: _subjects(desired, estate)), dry_run=dry_run)


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
    run = _Run(
        estate=estate, allow_changes=allow_changes, progress=progress, stop=stop, patience=patience or Patience()
    )
    return run.carry_out(
        run.patiently("reading the estate", lambda: _replica_subjects(desired, estate)), dry_run=dry_run
    )


# --- what is looked at -----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """One resource at one moment."""

    plan: EstatePlan
    settled: bool
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Subject:
    resource: str
    look: Callable[[], _Look]


def _subjects(desired: DesiredEstate, estate: Estate) -> tuple[_Subject, ...]:
    """DAX's prerequisites are checked here: before anything is created."""
    tables = [_table_subject(_with_key(spec, estate), estate) for spec in desired.tables]
    if desired.dax is None:
        return tuple(tables)
    estate.check_dax(desired.dax)
    return (*tables, _dax_subject(desired.dax, estate))


def _with_key(spec: TableSpec, estate: Estate) -> TableSpec:
    return replace(spec, kms_key=estate.resolve_key(spec.kms_key)) if spec.kms_key else spec


def _table_subject(spec: TableSpec, estate: Estate) -> _Subject:
    def look() -> _Look:
        state = estate.fetch_table(spec.name)
        if state is None:
            return _Look(plan=plan_table(spec, None), settled=True, fields={})
        return _Look(plan=plan_table(spec, state), settled=state.settled, fields=table_fields(state))

    return _Subject(resource=spec.resource, look=look)


def _dax_subject(spec: DaxSpec, estate: Estate) -> _Subject:
    def look() -> _Look:
        state = estate.fetch_dax(spec)
        return _Look(plan=plan_dax(spec, state), settled=state.settled, fields=dax_fields(state))

    return _Subject(resource=spec.resource, look=look)


def _replica_subjects(desired: DesiredEstate, estate: Estate) -> tuple[_Subject, ...]:
    replicas = [replace(r, table=_with_key(r.table, estate)) for r in desired.replicas]
    problems = [p for r in replicas for p in check_replicable(r.table, [r.region], desired.region)]
    if problems:
        raise PreflightFailed("replicas", problems)
    return tuple(_replica_subject(replica, estate) for replica in replicas)


def _replica_subject(replica: ReplicaSpec, estate: Estate) -> _Subject:
    def look() -> _Look:
        main = estate.fetch_table(replica.table.name)
        if main is None:
            what = Problem(where=replica.table.resource, what="it does not exist", suggestion="run provision first")
            raise PreflightFailed("replicas", [what])
        there = estate.fetch_table(replica.table.name, replica.region)
        plan = plan_replica(replica, main, there)
        return _Look(
            plan=plan, settled=main.settled and (there is None or there.settled), fields=_replica_fields(there)
        )

    return _Subject(resource=replica.resource, look=look)


def _replica_fields(there: TableState | None) -> Mapping[str, str]:
    return table_fields(there) if there else {}


def _plan(subjects: tuple[_Subject, ...]) -> ProvisionPlan:
    estate, resources, busy = EstatePlan(), [], []
    for subject in subjects:
        look = subject.look()
        estate += look.plan
        outcome = ResourceOutcome.PLANNED if look.plan.steps else ResourceOutcome.UNCHANGED
        resources.append(ResourceReport(resource=subject.resource, outcome=outcome, fields=look.fields))
        busy += [] if look.settled else [subject.resource]
    return ProvisionPlan(estate=estate, resources=tuple(resources), busy=tuple(busy))


# --- carrying it out -------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Trouble:
    """Transient errors in a row: since when (monotonic seconds), and how many."""

    since: float
    attempts: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Run:
    estate: Estate
    allow_changes: bool
    progress: Progress
    stop: StopSignal
    patience: Patience

    def carry_out(self, subjects: tuple[_Subject, ...], *, dry_run: bool) -> ProvisionReport:
        if not dry_run:
            for subject in subjects:
                self.wait_until_settled(subject)
        plan = self.patiently("reading the estate", lambda: _plan(subjects))
        refusals = plan.estate.refusals(allow_changes=self.allow_changes)
        seen = {"notes": plan.estate.notes, "unverified": plan.estate.unverified, "refusals": refusals}
        if dry_run:
            return ProvisionReport(resources=plan.resources, plan=plan.estate, dry_run=True, **seen)
        if refusals:
            raise EstateDrift(refusals)
        applied = [self.apply_all(subject, number, len(subjects)) for number, subject in enumerate(subjects)]
        after = self.patiently("reading the estate back", lambda: _plan(subjects))
        self.insist(after.estate)
        resources = tuple(_report(was, steps) for was, steps in zip(after.resources, applied, strict=True))
        for resource in resources:
            self.progress.say(f"{resource.resource}: {resource.outcome}")
        return ProvisionReport(
            resources=resources, plan=plan.estate, notes=after.estate.notes, unverified=after.estate.unverified
        )

    def insist(self, plan: EstatePlan) -> None:
        """What is read back at the end is what was asked, or this run fails."""
        left = [*plan.refusals(allow_changes=self.allow_changes), *(f"{s.resource}: {s.action}" for s in plan.steps)]
        if left:
            raise InvariantBroken(
                "read back after provisioning, the estate is not what the file says: " + "; ".join(left)
            )

    def apply_all(self, subject: _Subject, number: int, total: int) -> tuple[EstateStep, ...]:
        """Step by step until nothing is left to do; returns what was done."""
        done: list[EstateStep] = []
        trouble: _Trouble | None = None
        look = self.wait_until_settled(subject)
        while look.plan.steps:
            step = look.plan.steps[0]
            self._allow(look.plan)
            self.progress.say(f"{step.resource}: {step.action} {step.detail}".rstrip())
            try:
                self.estate.apply(step)
            except TransientStoreError as error:
                # The answer may be lost and the step done: look again before anything is sent twice.
                trouble = self._bear(error, step.action, trouble)
                look = self.wait_until_settled(subject)
                if all(left.key != step.key for left in look.plan.steps):
                    done.append(step)
                continue
            trouble = None
            look = self.wait_until_done(subject, step)
            done.append(step)
        self.progress.advance("provision", number + 1, total, subject.resource)
        return tuple(done)

    def wait_until_settled(self, subject: _Subject) -> _Look:
        deadline = time.monotonic() + self.patience.settle_s
        for looks, look in enumerate(self._looks(subject), start=1):
            if look.settled:
                return look
            self._not_after(deadline, f"{subject.resource} to become active", looks)
        raise InvariantBroken("unreachable: looking never ends by itself")

    def wait_until_done(self, subject: _Subject, step: EstateStep) -> _Look:
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

    def _looks(self, subject: _Subject) -> Iterator[_Look]:
        """Look, pause, look again: the first pauses are short, because most changes are quick."""
        pause_s = min(0.05, self.patience.poll_s)
        while True:
            yield self.patiently(f"reading {subject.resource}", subject.look)
            self._pause(pause_s)
            pause_s = min(pause_s * 2, self.patience.poll_s)

    def _allow(self, plan: EstatePlan) -> None:
        """Between the plan and now somebody may have changed something: never write over that unasked."""
        if refusals := plan.refusals(allow_changes=self.allow_changes):
            raise EstateDrift(refusals)

    def _bear(self, error: TransientStoreError, what: str, trouble: _Trouble | None) -> _Trouble:
        """Pause before the next attempt. Raises: RetryExhausted, after too long with nothing but trouble."""
        now = time.monotonic()
        trouble = _Trouble(since=trouble.since if trouble else now, attempts=trouble.attempts + 1 if trouble else 1)
        if now - trouble.since > self.patience.trouble_s:
            raise RetryExhausted(what, trouble.attempts, now - trouble.since, str(error)) from error
        self.progress.say(f"{what}: {error}; trying again")
        self._pause(self.patience.poll_s)
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


_CREATING = frozenset({Action.CREATE_TABLE, Action.CREATE_CLUSTER, Action.CREATE_REPLICA})


def _report(was: ResourceReport, steps: tuple[EstateStep, ...]) -> ResourceReport:
    outcome = ResourceOutcome.CHANGED if steps else ResourceOutcome.UNCHANGED
    if any(step.action in _CREATING for step in steps):
        outcome = ResourceOutcome.CREATED
    applied = tuple(f"{step.action} {step.detail}".rstrip() for step in steps)
    return replace(was, outcome=outcome, applied=applied)


# --- for people ------------------------------------------------------------------------------------------------------


def render_plan(plan: ProvisionPlan | ProvisionReport) -> str:
    """The plan as a diff: + is made, ~ finishes an interrupted run, ! changes what exists, x is refused always."""
    estate = plan.estate if isinstance(plan, ProvisionPlan) else plan.plan
    lines = [line for step in estate.steps for line in _render_step(step)]
    for difference in estate.blocked:
        sign = "!" if difference.tolerable else "x"
        lines += [f"{sign} {difference.resource}: {difference.why}", *_render_change(difference.change)]
    lines += [f"  note: {note}" for note in estate.notes]
    lines += [f"  unverified: {what}" for what in estate.unverified]
    if isinstance(plan, ProvisionPlan):
        lines += [f"  {resource} is being changed right now" for resource in plan.busy]
    if not estate.steps and not estate.blocked:
        lines.insert(0, "nothing to do: all is as the file says")
    return "\n".join(lines)


def _render_step(step: EstateStep) -> Iterator[str]:
    made = step.action in _CREATING or all(change.have == "missing" for change in step.changes)
    sign = "!" if step.needs_permission else "+" if made else "~"
    yield f"{sign} {step.resource}: {step.action} {step.detail}".rstrip()
    for change in step.changes:
        yield from _render_change(change)


def _render_change(change: EstateChange) -> list[str]:
    lines = [f"    + {change.field}: {change.want}"]
    return lines if change.have == "missing" else [f"    - {change.field}: {change.have}", *lines]
