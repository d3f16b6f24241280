"""A scratch stack is removed again: what `provision` and `replicas` have made for a file, in the reverse order.

The same rules and the same looks decide in the dry run and in the run; a run that was killed is continued by the next, because
each step is planned from what AWS says. The ledger goes last: until then it can say whether anything works with the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from docferry.core.estate.kinds.backup import Vault
from docferry.core.estate.removal.plan import plan_resource_removal, plan_table_removal
from docferry.core.estate.resources import AwsCall, OfTable, Resource, page_through
from docferry.core.estate.values import DesiredEstate, EstatePlan, TableSpec, TableState
from docferry.errors import InvariantBroken, PreflightFailed, Problem
from docferry.flows.kernel.job import Job
from docferry.flows.ledger.rooms.owners import drop_claim, forget_records, read_owners
from docferry.flows.provision.release import in_use
from docferry.flows.provision.run import Patience, StepRun
from docferry.flows.provision.subjects import ResourceLook, Subject, plan_of


@dataclass(frozen=True, slots=True, kw_only=True)
class DestroyReport:
    """`steps` were taken, or would be (`dry_run`); `left` is there still, and why; `refusals` are why nothing is removed."""

    migration: str
    dry_run: bool
    steps: tuple[str, ...] = ()
    left: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def render(self) -> str:
        lines = [f"- {one}" for one in self.steps]
        lines += [f"x {one}" for one in self.refusals]
        lines += [f"  left: {one}" for one in self.left]
        if not self.steps and not self.refusals:
            lines.insert(0, "nothing to remove")
        if self.dry_run and not self.refusals:
            lines.append(f"nothing was removed; with --confirm {self.migration} it is")
        return "\n".join(lines)


def destroy(
    job: Job,
    desired: DesiredEstate,
    *,
    dry_run: bool,
    recovery_points: bool = False,
    patience: Patience | None = None,
) -> DestroyReport:
    """Remove the stack of the job's file. `desired` is what it asks for, with what waits for FINAL. `recovery_points`: those in
    its vault, too.

    Holds:  idempotent; in a dry run nothing is changed, and `refusals` says what a run would refuse.
    Raises: PreflightFailed (before anything is removed); Stopped (run again to continue); RetryExhausted; StoreError.
    """
    run = StepRun(
        estate=job.estate, allow_changes=False, progress=job.progress, stop=job.stop, patience=patience or Patience(),
        task="destroy",
    )  # fmt: skip
    removal = _Removal(job=job, desired=desired, emptied=recovery_points)
    report = DestroyReport(migration=job.migration.name, dry_run=dry_run)
    if problems := run.patiently("asking whether it is used", lambda: list(removal.refused())):
        return removal.refuse(report, problems)
    subjects = run.patiently("reading the estate", removal.subjects)
    if not dry_run:
        for subject in subjects:
            run.wait_until_settled(subject)
    plan = run.patiently("reading the estate", lambda: plan_of(subjects)).estate
    steps = tuple(f"{one.resource}: {one.action} {one.detail}".rstrip() for one in plan.steps)
    report = replace(report, steps=steps, left=(*removal.left(), *plan.notes))
    if problems := [Problem(where=one.resource, what=one.why) for one in plan.blocked]:
        return removal.refuse(report, problems)
    if dry_run:
        return report
    removal.carry_out(run, subjects)
    if rest := plan_of(subjects).estate.steps:
        raise InvariantBroken("AWS still shows what was removed: " + ", ".join(one.resource for one in rest))
    return report


@dataclass(frozen=True, slots=True, kw_only=True)
class _Removal:
    job: Job
    desired: DesiredEstate
    emptied: bool

    @property
    def own(self) -> tuple[TableSpec, ...]:
        """The ledger, and the table of its journals."""
        return tuple(one for one in self.desired.tables if not one.owner_tag)

    @property
    def tables(self) -> tuple[TableSpec, ...]:
        return tuple(one for one in self.desired.tables if one.owner_tag)

    def subjects(self) -> tuple[Subject, ...]:
        """In the order in which they go: what uses a table before it, its key behind it, the ledger last."""
        around = self.desired.around
        beside = [*reversed(around.with_replicas), *reversed(around.after)]
        staying = {one.name for one in self.tables if self._others(one)}
        return (
            *(self._resource(one) for one in beside if not (isinstance(one, OfTable) and one.name in staying)),
            *(self._table(one) for one in reversed(self.tables)),
            *(self._resource(one) for one in reversed(around.keys)),
            *(self._own_table(one) for one in reversed(self.own)),
        )

    # --- may it be? ---

    def refuse(self, report: DestroyReport, problems: Sequence[Problem]) -> DestroyReport:
        """A dry run tells of it. Raises: PreflightFailed otherwise."""
        if not report.dry_run:
            raise PreflightFailed(f"{self.job.migration.name}, whose stack is to be removed", problems)
        return replace(report, refusals=tuple(map(str, problems)))

    def refused(self) -> Iterator[Problem]:
        """Why nothing may be removed, but for what a resource says itself."""
        target = self.job.migration.target
        if not target.scratch:
            advice = "write `scratch: true` under target, if all that is in the tables may be lost"
            yield Problem(
                where="target.scratch", what="the file does not say that this stack is a scratch one", suggestion=advice
            )
        if not target.account:
            yield Problem(
                where="target.account", what="names no account", suggestion="name the one that the stack is in"
            )
        yield from self.used()

    def used(self) -> Iterator[Problem]:
        """What works with the tables. Without a ledger nothing could tell."""
        if self._fetch(self.own[0]) is not None:
            yield from in_use(self.job)
        elif there := [one.name for one in self.tables if self._fetch(one) is not None]:
            what = f"is gone, and {', '.join(there)} there: nothing can say whether it is used"
            yield Problem(where=self.own[0].resource, what=what, suggestion="docferry provision makes it; then again")

    # --- what there is ---

    def left(self) -> Iterator[str]:
        """What is not removed, and refuses nothing."""
        if self.desired.dax is not None:
            yield f"{self.desired.dax.resource} and its groups: delete them with AWS's own tools"
        if others := self._other_records():
            yield f"the ledger {self.own[0].name}: holds records of {', '.join(others)}; those of this migration are deleted"

    def _fetch(self, spec: TableSpec) -> TableState | None:
        state = self.job.estate.fetch_table(spec.name)
        return None if state is not None and state.status == "DELETING" else state

    def _others(self, spec: TableSpec) -> list[str]:
        """The other migrations that have items in a table, by the ledger."""
        claims = read_owners(self.job.ledger, spec.name).claims
        return sorted(one.migration for one in claims if one.migration != self.job.migration.name)

    def _other_records(self) -> list[str]:
        """Which other partitions are in the ledger and in the table of the journals."""
        ours = (f"{self.job.migration.name}#", *(f"table:{one.name}#" for one in self.tables if not self._others(one)))
        return sorted(
            {pk.partition("#")[0] for one in self.own for pk, _ in self._keys(one.name) if not pk.startswith(ours)}
        )

    def _keys(self, table: str) -> Iterator[tuple[str, str]]:
        call = AwsCall(
            service="dynamodb",
            operation="scan",
            arguments={"TableName": table, "ProjectionExpression": "PK, SK", "ConsistentRead": True},
            absent=("ResourceNotFoundException",),
        )
        for item in page_through(self.job.estate.ask, call, "Items", "LastEvaluatedKey", "ExclusiveStartKey"):
            yield item["PK"]["S"], str(next(iter(item["SK"].values())))

    def _resource(self, spec: Resource) -> Subject:
        ask = self.job.estate.ask
        wanted = replace(spec, emptied=self.emptied) if isinstance(spec, Vault) else spec

        def look() -> ResourceLook:
            seen = wanted.observe(ask)
            plan = plan_resource_removal(wanted, seen, ask)
            return ResourceLook(plan=plan, settled=seen is None or seen.settled, fields={})

        return Subject(resource=spec.resource, look=look)

    def _table(self, spec: TableSpec) -> Subject:
        return self._of_table(spec, lambda: self._others(spec))

    def _own_table(self, spec: TableSpec) -> Subject:
        return self._of_table(spec, self._other_records)

    def _of_table(self, spec: TableSpec, others: Callable[[], list[str]]) -> Subject:
        estate = self.job.estate

        def look() -> ResourceLook:
            state = estate.fetch_table(spec.name)
            if state is None or state.status == "DELETING":
                return ResourceLook(plan=EstatePlan(), settled=state is None, fields={})
            abroad: Mapping[str, TableState | None] = {
                region: estate.fetch_table(spec.name, region) for region in state.replicas
            }
            plan = plan_table_removal(spec, state, abroad, others())
            plan = plan if spec.owner_tag else replace(plan, notes=())  # `left` says it
            return ResourceLook(plan=plan, settled=state.settled, fields={})

        return Subject(resource=spec.resource, look=look)

    # --- doing it ---

    def carry_out(self, run: StepRun, subjects: tuple[Subject, ...]) -> None:
        """The tables only while nothing works with them; what the ledger says of this migration once they are gone."""
        tables, own = {one.resource for one in self.tables}, {one.resource for one in self.own}
        for number, subject in enumerate(subjects):
            if subject.resource in tables and (problems := list(self.used())):
                raise PreflightFailed(f"{self.job.migration.name}, whose tables are to be removed", problems)
            if subject.resource in own:
                self._forget()
            run.apply_all(subject, number, len(subjects))

    def _forget(self) -> None:
        """In a ledger that stays, no record of ours: the next stack of this name begins from nothing."""
        if self._fetch(self.own[0]) is None or not self._other_records():
            return
        for table in self.tables:
            drop_claim(self.job.ledger, table.name, self.job.migration.name)
        mine = f"{self.job.migration.name}#"
        found = [(pk.removeprefix(mine), sk) for pk, sk in self._keys(self.own[0].name) if pk.startswith(mine)]
        forget_records(self.job.ledger, found)
