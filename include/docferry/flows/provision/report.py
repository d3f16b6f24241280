"""What provisioning plans, and what it did, as values and as text."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from enum import StrEnum
from typing import Any

from docferry.core.estate.values import (
    Action,
    EstateChange,
    EstatePlan,
    EstateStep,
)

CREATING = frozenset({Action.CREATE_TABLE, Action.CREATE_CLUSTER, Action.CREATE_REPLICA, Action.CREATE_RESOURCE})


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
    """What a run did. In a dry run nothing was done, and `refusals` says what a real run would refuse; `others`: those of them
    that say that a table is another migration's."""

    resources: tuple[ResourceReport, ...]
    plan: EstatePlan
    dry_run: bool = False
    notes: tuple[str, ...] = ()
    unverified: tuple[str, ...] = ()
    refusals: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

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


def report_applied(was: ResourceReport, steps: tuple[EstateStep, ...]) -> ResourceReport:
    outcome = ResourceOutcome.CHANGED if steps else ResourceOutcome.UNCHANGED
    if any(step.action in CREATING for step in steps):
        outcome = ResourceOutcome.CREATED
    applied = tuple(f"{step.action} {step.detail}".rstrip() for step in steps)
    return replace(was, outcome=outcome, applied=applied)


def render_plan(plan: ProvisionPlan | ProvisionReport) -> str:
    """The plan as a diff: + is made, ~ finishes an interrupted run, ! changes what exists, x is refused always."""
    estate = plan.estate if isinstance(plan, ProvisionPlan) else plan.plan
    lines = [line for step in estate.steps for line in _render_step(step)]
    for difference in estate.blocked:
        sign = "!" if difference.tolerable else "x"
        lines += [f"{sign} {difference.resource}: {difference.why}", *_render_change(difference.change)]
    lines += [f"  note: {note}" for note in estate.notes]
    lines += [f"  unverified: {what}" for what in estate.unverified]
    if isinstance(plan, ProvisionReport):
        lines += [f"x {other}" for other in plan.others]
    else:
        lines += [f"  {resource} is being changed right now" for resource in plan.busy]
    if not estate.steps and not estate.blocked:
        lines.insert(0, "nothing to do: all is as the file says")
    return "\n".join(lines)


def _render_step(step: EstateStep) -> Iterator[str]:
    made = step.action in CREATING or all(change.have == "missing" for change in step.changes)
    sign = "!" if step.needs_permission else "+" if made else "~"
    yield f"{sign} {step.resource}: {step.action} {step.detail}".rstrip()
    for change in step.changes:
        yield from _render_change(change)


def _render_change(change: EstateChange) -> list[str]:
    lines = [f"    + {change.field}: {change.want}"]
    return lines if change.have == "missing" else [f"    - {change.field}: {change.have}", *lines]
