"""The steps at whose end a thing is gone: of a table, and of every kind of `kinds`. Pure.

    plan_resource_removal(spec, seen, ask) -> EstatePlan    `blocked` says why it must stay, `notes` what is left alone
    plan_table_removal(spec, state, ...) -> EstatePlan      replicas first, the table last

Only what bears the migration's own tag is ever removed. Kinds that AWS cannot tag are named by the migration, or are a part of a
table that is its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from docferry.core.estate.resources import Ask, Resource, Seen
from docferry.core.estate.tags import AWS_OWN, OWNER
from docferry.core.estate.values import (
    Action,
    EstateChange,
    EstateDifference,
    EstatePlan,
    EstateStep,
    TableSpec,
    TableState,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MustStay(EstateDifference):
    """What is the migration's own, and must not be removed: `why` says what to do first."""

    def __str__(self) -> str:
        return f"{self.resource}: {self.why}"


def must_stay(resource: str, why: str) -> EstatePlan:
    change = EstateChange(field="it", have="there", want="gone")
    return EstatePlan(blocked=(MustStay(resource=resource, change=change, why=why),))


def plan_resource_removal(spec: Resource, seen: Seen | None, ask: Ask) -> EstatePlan:
    """One request after the other, until nothing of it is left. Raises StoreError of `ask`."""
    if seen is None:
        return EstatePlan()
    if seen.tags is not None and not bears(seen.tags, spec.owner):
        return EstatePlan(notes=(f"{spec.resource}: bears no tag of this migration's; left alone",))
    if by := _of_another_tool(seen.tags or {}):
        return must_stay(spec.resource, by)
    call = spec.removal(seen, ask)
    if call is None:
        return EstatePlan()
    if why := spec.stays(seen, ask):
        return must_stay(spec.resource, why)
    point = str(call.arguments.get("RecoveryPointArn", ""))
    detail = f"({call.operation.replace('_', ' ')}{f' {point}' if point else ''})"
    return EstatePlan(steps=(_step(spec, Action.REMOVE_RESOURCE, detail),))


def plan_table_removal(
    spec: TableSpec, state: TableState | None, abroad: Mapping[str, TableState | None], others: Sequence[str] = ()
) -> EstatePlan:
    """`abroad`: the table as its replicas' regions have it. `others`: the migrations that use it, too, by the ledger.

    A table that others use, too, is let go, as `release` does. One without the tag stops all.
    """
    if state is None:
        return EstatePlan()
    others = sorted({*others, *(_others_of(state, spec.owner_tag) if spec.owner_tag else ())})
    if others:
        steps = [_step(spec, Action.RELEASE_TABLE, tag) for tag in spec.owner_tag if tag in state.tags]
        left = f"{spec.resource}: is also of {', '.join(others)}; left, with its items"
        return EstatePlan(steps=tuple(steps), notes=(left,))
    if spec.owner_tag and not bears(state.tags, spec.owner_tag):
        tag = next(iter(spec.owner_tag))
        return must_stay(spec.resource, f"bears no tag {tag} = {spec.owner_tag[tag]}: it is not this file's")
    if by := _of_another_tool(state.tags):
        return must_stay(spec.resource, by)
    return EstatePlan(steps=tuple(_to_its_end(spec, state, abroad)))


def _others_of(state: TableState, owner: Mapping[str, str]) -> list[str]:
    """The other migrations whose tags the table bears."""
    return sorted(tag.removeprefix(OWNER) for tag in state.tags if tag.startswith(OWNER) and tag not in owner)


def bears(tags: Mapping[str, str], owner: Mapping[str, str]) -> bool:
    return bool(owner) and all(tags.get(tag) == ledger for tag, ledger in owner.items())


def _of_another_tool(tags: Mapping[str, str]) -> str:
    stack = tags.get(f"{AWS_OWN}cloudformation:stack-name")
    return f"belongs to the CloudFormation stack {stack}: delete that" if stack else ""


def _to_its_end(spec: TableSpec, state: TableState, abroad: Mapping[str, TableState | None]) -> Iterator[EstateStep]:
    for target in state.scaling:
        yield _step(spec, Action.REMOVE_SCALING, target.detail)
    for region, there in abroad.items():
        if there is not None and there.deletion_protection:
            yield _step(spec, Action.UNPROTECT, region, region)
        yield _step(spec, Action.REMOVE_REPLICA, region)
    if state.deletion_protection:
        yield _step(spec, Action.UNPROTECT)
    yield _step(spec, Action.DELETE_TABLE)


def _step(spec: Resource | TableSpec, action: Action, detail: str = "", region: str | None = None) -> EstateStep:
    return EstateStep(
        resource=spec.resource, action=action, spec=spec, detail=detail, region=region, needs_permission=False
    )
