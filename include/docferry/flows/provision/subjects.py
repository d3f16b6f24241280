"""The resources that a file asks for, each looked at through AWS: what is there, and what is still to do."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from docferry.core.estate.dax import dax_fields, plan_dax
from docferry.core.estate.kinds.functions import EventSourceMapping
from docferry.core.estate.kinds.keys import describe_key
from docferry.core.estate.replicas import check_replicable, plan_replica
from docferry.core.estate.resource_plan import plan_resource
from docferry.core.estate.resources import OfTable, Resource, Seen
from docferry.core.estate.tables import plan_table, table_fields
from docferry.core.estate.values import (
    DaxSpec,
    DesiredEstate,
    EstatePlan,
    ReplicaSpec,
    TableSpec,
    TableState,
)
from docferry.errors import AccessDenied, PermanentStoreError, PreflightFailed, Problem, QuotaUsedUp
from docferry.flows.provision.report import (
    ProvisionPlan,
    ResourceOutcome,
    ResourceReport,
)
from docferry.ports.flows import Estate


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceLook:
    """One resource at one moment."""

    plan: EstatePlan
    settled: bool
    fields: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """`look` raises StoreError; `seen` the same with the resource's name in it."""

    resource: str
    look: Callable[[], ResourceLook]

    def seen(self) -> ResourceLook:
        with about(self.resource):
            return self.look()


_ADVICE = {
    AccessDenied: "docferry iam prints what is needed; a region that the account has not enabled says no in the same way",
    QuotaUsedUp: "",  # its hint says it
}


@contextmanager
def about(what: str) -> Iterator[None]:
    """AWS's refusal inside names what was asked for, and what to do."""
    try:
        yield
    except PermanentStoreError as error:
        kind = type(error)
        advice = _ADVICE.get(kind, "" if error.hint else "mend it, and run the same again, which continues")
        text = f"{what}: {error.message}" + (f" ({advice})" if advice else "")
        raise kind(text, operation=error.operation, code=error.code) from error


def table_subjects(desired: DesiredEstate, estate: Estate) -> tuple[Subject, ...]:
    """The ledger first: it says whose the rest is. DAX's prerequisites are checked here: before anything is created."""
    ours = frozenset(key.name for key in desired.around.keys)
    desired = without_awaited(desired, awaited(desired, estate))
    ledger, *tables = [_table_subject(spec, estate, ours) for spec in desired.tables]
    keys, after = (
        [_resource_subject(one, estate) for one in some] for some in (desired.around.keys, desired.around.after)
    )
    if desired.dax is None:
        return (ledger, *keys, *tables, *after)
    estate.check_dax(desired.dax)
    return (ledger, *keys, *tables, _dax_subject(desired.dax, estate), *after)


def awaited(desired: DesiredEstate, estate: Estate) -> frozenset[str]:
    """The tables that an import shall make, and has not yet."""
    return frozenset(name for name in desired.imported if estate.fetch_table(name) is None)


def without_awaited(desired: DesiredEstate, names: frozenset[str]) -> DesiredEstate:
    """Without these tables, and what is a part of them, or follows their streams."""
    if not names:
        return desired

    def stays(one: Resource) -> bool:
        table = one.name if isinstance(one, OfTable) else one.table if isinstance(one, EventSourceMapping) else ""
        return table not in names

    around = desired.around
    return replace(
        desired,
        tables=tuple(one for one in desired.tables if one.name not in names),
        around=replace(around, after=tuple(filter(stays, around.after))),
    )


def _with_key(spec: TableSpec, estate: Estate, ours: frozenset[str] = frozenset()) -> TableSpec:
    """`ours` are aliases of keys that the file makes: such a key may not be there yet."""
    if spec.kms_key in ours:
        key = describe_key(estate.ask, spec.kms_key)
        return replace(spec, kms_key=key["Arn"]) if key else spec
    return replace(spec, kms_key=estate.resolve_key(spec.kms_key)) if spec.kms_key else spec


def _table_subject(wanted: TableSpec, estate: Estate, ours: frozenset[str]) -> Subject:
    if wanted.kms_key not in ours:
        wanted = _with_key(wanted, estate)

    def look() -> ResourceLook:
        spec = _with_key(wanted, estate, ours) if wanted.kms_key in ours else wanted
        state = estate.fetch_table(spec.name)
        if state is None:
            return ResourceLook(plan=plan_table(spec, None), settled=True, fields={})
        return ResourceLook(plan=plan_table(spec, state), settled=state.settled, fields=table_fields(state))

    return Subject(resource=wanted.resource, look=look)


def _resource_subject(spec: Resource, estate: Estate) -> Subject:
    def look() -> ResourceLook:
        seen = spec.observe(estate.ask)
        return ResourceLook(
            plan=plan_resource(spec, seen), settled=seen is None or seen.settled, fields=_fields_of(seen)
        )

    return Subject(resource=spec.resource, look=look)


def _fields_of(seen: Seen | None) -> Mapping[str, str]:
    if seen is None:
        return {}
    return {**seen.fields, **{f"tag {key}": value for key, value in sorted((seen.tags or {}).items())}}


def _dax_subject(spec: DaxSpec, estate: Estate) -> Subject:
    def look() -> ResourceLook:
        state = estate.fetch_dax(spec)
        return ResourceLook(plan=plan_dax(spec, state), settled=state.settled, fields=dax_fields(state))

    return Subject(resource=spec.resource, look=look)


def replica_subjects(desired: DesiredEstate, estate: Estate) -> tuple[Subject, ...]:
    replicas = [replace(r, table=_with_key(r.table, estate)) for r in desired.replicas]
    problems = [p for r in replicas for p in check_replicable(r.table, [r.region], desired.region)]
    if problems:
        raise PreflightFailed("replicas", problems)
    beside = (_resource_subject(one, estate) for one in desired.around.with_replicas)
    return (*(_replica_subject(replica, estate) for replica in replicas), *beside)


def _replica_subject(replica: ReplicaSpec, estate: Estate) -> Subject:
    def look() -> ResourceLook:
        main = estate.fetch_table(replica.table.name)
        if main is None:
            what = Problem(where=replica.table.resource, what="it does not exist", suggestion="run provision first")
            raise PreflightFailed("replicas", [what])
        there = estate.fetch_table(replica.table.name, replica.region)
        plan = plan_replica(replica, main, there)
        return ResourceLook(
            plan=plan, settled=main.settled and (there is None or there.settled), fields=_replica_fields(there)
        )

    return Subject(resource=replica.resource, look=look)


def _replica_fields(there: TableState | None) -> Mapping[str, str]:
    return table_fields(there) if there else {}


def plan_of(subjects: tuple[Subject, ...]) -> ProvisionPlan:
    estate, resources, busy = EstatePlan(), [], []
    for subject in subjects:
        look = subject.seen()
        estate += look.plan
        outcome = ResourceOutcome.PLANNED if look.plan.steps else ResourceOutcome.UNCHANGED
        resources.append(ResourceReport(resource=subject.resource, outcome=outcome, fields=look.fields))
        busy += [] if look.settled else [subject.resource]
    return ProvisionPlan(estate=estate, resources=tuple(resources), busy=tuple(busy))
