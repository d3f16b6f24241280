"""The rules for one table: what differs, what can be changed in place, and what each step leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from docferry.core.estate.keys import keys_of, show_keys, show_projection
from docferry.core.estate.resources import MARKER
from docferry.core.estate.tags import extra_tags, tag_changes
from docferry.core.estate.values import (
    LEFTOVERS,
    REPLICA_MARKER,
    STREAM_VIEW,
    UNASKED,
    Action,
    Dimension,
    EstateChange,
    EstateDifference,
    EstatePlan,
    EstateStep,
    Finding,
    IndexState,
    ScalingState,
    TableSpec,
    TableState,
    on_off,
    spec_digest,
)


def plan_table(spec: TableSpec, state: TableState | None) -> EstatePlan:
    """The steps that make `state` what `spec` says; all of them, so that a person sees the whole of it beforehand."""
    if state is None:
        create = EstateStep(
            resource=spec.resource,
            action=Action.CREATE_TABLE,
            spec=spec,
            changes=_creation(spec),
            needs_permission=False,
        )
        return EstatePlan(steps=(create,)) + plan_table(spec, created_table(spec))
    found = [finding for rule in _TABLE_RULES for finding in rule(spec, state)]
    ours = state.tags.get(MARKER) == spec_digest(spec)
    excused = UNASKED | (LEFTOVERS if ours else frozenset())
    steps = tuple(replace(f, needs_permission=f.action not in excused) for f in found if isinstance(f, EstateStep))
    return EstatePlan(
        steps=steps,
        blocked=tuple(f for f in found if isinstance(f, EstateDifference)),
        notes=tuple(extra_tags(spec.resource, spec.tags, state.tags)),
    )


def created_table(spec: TableSpec) -> TableState:
    """What CreateTable leaves behind: everything but PITR, TTL and autoscaling, and the marker."""
    read, write = _units(spec)
    return TableState(
        name=spec.name,
        keys=spec.keys,
        indexes=tuple(_new_index(spec, index) for index in spec.indexes),
        billing=spec.billing,
        read_units=read,
        write_units=write,
        encryption=spec.encryption,
        kms_key=spec.kms_key,
        stream=STREAM_VIEW if spec.stream else None,
        deletion_protection=spec.deletion_protection,
        tags=creation_tags(spec),
    )


def creation_tags(spec: TableSpec) -> dict[str, str]:
    """The file's tags, whose the table is, and the marker."""
    return {**spec.tags, **spec.owner_tag, MARKER: spec_digest(spec)}


def predict_table(state: TableState | None, step: EstateStep) -> TableState:
    """The state that `step` leaves behind when all goes well.

    Raises: KeyError for a step that is not about one table; TypeError for a step on a table that is not there.
    """
    spec = step.spec
    if not isinstance(spec, TableSpec):
        raise KeyError(step.action)
    if step.action is Action.CREATE_TABLE:
        return created_table(spec)
    if state is None:
        raise TypeError(f"{step.action} needs a table")
    return replace(state, **_EFFECTS[step.action](spec, state, step))


def _new_index(spec: TableSpec, index: str) -> IndexState:
    read, write = _units(spec)
    return replace(_wanted_index(spec, index), read_units=read, write_units=write)


def _wanted_index(spec: TableSpec, index: str) -> IndexState:
    design = spec.design(index)
    projection = show_projection(design.projection, design.include)
    return IndexState(name=index, keys=keys_of(design.key), projection=projection)


def _units(spec: TableSpec) -> tuple[int, int]:
    if spec.billing != "provisioned" or spec.capacity is None:
        return 0, 0
    return spec.capacity.read_units, spec.capacity.write_units


def _effect_billing(spec: TableSpec, state: TableState, _step: EstateStep) -> dict[str, Any]:
    read, write = _units(spec)
    indexes = tuple(replace(index, read_units=read, write_units=write) for index in state.indexes)
    return {"billing": spec.billing, "read_units": read, "write_units": write, "indexes": indexes}


def _effect_capacity(spec: TableSpec, state: TableState, step: EstateStep) -> dict[str, Any]:
    made = created_table(spec)
    read, write = made.read_units, made.write_units
    if not step.detail:
        return {"read_units": read, "write_units": write}
    changed = (replace(i, read_units=read, write_units=write) if i.name == step.detail else i for i in state.indexes)
    return {"indexes": tuple(changed)}


def _effect_scaling(spec: TableSpec, state: TableState, step: EstateStep) -> dict[str, Any]:
    kept = (target for target in state.scaling if target.detail != step.detail)
    return {"scaling": (*kept, *(target for target in spec.scaling if target.detail == step.detail))}


_EFFECTS: Mapping[Action, Any] = {
    Action.SET_BILLING: _effect_billing,
    Action.SET_CAPACITY: _effect_capacity,
    Action.SET_SCALING: _effect_scaling,
    Action.ADD_INDEX: lambda spec, state, step: {"indexes": (*state.indexes, _new_index(spec, step.detail))},
    Action.SET_STREAM: lambda spec, state, step: {"stream": STREAM_VIEW if spec.stream else None},
    Action.SET_ENCRYPTION: lambda spec, state, step: {"encryption": spec.encryption, "kms_key": spec.kms_key},
    Action.SET_PROTECTION: lambda spec, state, step: {"deletion_protection": spec.deletion_protection},
    Action.SET_PITR: lambda spec, state, step: {"pitr": spec.pitr},
    Action.SET_TTL: lambda spec, state, step: {"ttl_attribute": spec.ttl_attribute},
    Action.SET_TAGS: lambda spec, state, step: {"tags": {**state.tags, **spec.tags}},
    Action.CLAIM_TABLE: lambda spec, state, step: {"tags": {**state.tags, **spec.owner_tag}},
    Action.RELEASE_TABLE: lambda spec, state, step: {"tags": {k: v for k, v in state.tags.items() if k != step.detail}},
    Action.FINISH: lambda spec, state, step: {"tags": {k: v for k, v in state.tags.items() if k != MARKER}},
    Action.BEGIN_REPLICA: lambda spec, state, step: {"tags": {**state.tags, REPLICA_MARKER: step.detail}},
    Action.CREATE_REPLICA: lambda spec, state, step: {"replicas": {**state.replicas, step.detail: "ACTIVE"}},
    Action.FINISH_REPLICA: lambda spec, state, step: {
        "tags": {k: v for k, v in state.tags.items() if k != REPLICA_MARKER}
    },
}


# --- rules: each yields what one aspect of a table needs, in the order in which it must happen --------------------------


def _step(spec: TableSpec, action: Action, change: EstateChange, detail: str = "") -> EstateStep:
    return EstateStep(resource=spec.resource, action=action, spec=spec, changes=(change,), detail=detail)


def _rule_keys(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.keys != spec.keys:
        change = EstateChange(field="keys", have=show_keys(state.keys), want=show_keys(spec.keys))
        yield EstateDifference(resource=spec.resource, change=change, why="a table's keys are fixed when it is created")


def _rule_billing(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.billing != spec.billing:
        # Every index that exists now must be given its capacity in the same call, those unknown to the file, too.
        indexes = ",".join(i.name for i in state.indexes if not i.local) if spec.billing == "provisioned" else ""
        change = EstateChange(field="billing", have=state.billing, want=_show_billing(spec))
        yield _step(spec, Action.SET_BILLING, change, indexes)
        return
    if spec.billing != "provisioned":
        return
    targets: list[TableState | IndexState] = [state, *(i for i in state.indexes if i.name in spec.indexes)]
    for target in targets:
        name = target.name if isinstance(target, IndexState) else ""
        if not _capacity_fits(spec, name, target):
            have = f"{target.read_units} read, {target.write_units} write"
            yield _step(
                spec,
                Action.SET_CAPACITY,
                EstateChange(field=_capacity_field(name), have=have, want=_show_billing(spec)),
                name,
            )


def _capacity_field(index: str) -> str:
    return f"index {index} capacity" if index else "capacity"


def _capacity_fits(spec: TableSpec, index: str, have: TableState | IndexState) -> bool:
    """Under autoscaling any value of its range is right; otherwise exactly the file's."""
    assert spec.capacity is not None
    scaled = {t.dimension: t for t in spec.scaling if t.index == index}
    pairs: dict[Dimension, tuple[int, int]] = {
        "read": (have.read_units, spec.capacity.read_units),
        "write": (have.write_units, spec.capacity.write_units),
    }
    for dimension, (has, wants) in pairs.items():
        target = scaled.get(dimension)
        fits = target.min_units <= has <= target.max_units if target else has == wants
        if not fits:
            return False
    return True


def _rule_indexes(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    have = {index.name: index for index in state.indexes}
    for name in spec.indexes:
        want = _wanted_index(spec, name)
        if name not in have:
            yield _step(
                spec, Action.ADD_INDEX, EstateChange(field=f"index {name}", have="missing", want=str(want)), name
            )
        elif (have[name].keys, have[name].projection, have[name].local) != (want.keys, want.projection, False):
            change = EstateChange(field=f"index {name}", have=str(have[name]), want=str(want))
            why = "an index is fixed when it is created; docferry deletes none"
            yield EstateDifference(resource=spec.resource, change=change, why=why)
    for name in sorted(set(have) - set(spec.indexes)):
        change = EstateChange(field=f"index {name}", have=str(have[name]), want="no such index")
        yield EstateDifference(resource=spec.resource, change=change, why="docferry deletes no index", tolerable=True)


def _rule_scaling(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    have = {target.detail: target for target in state.scaling}
    want = {target.detail: target for target in spec.scaling}
    for detail, target in want.items():
        if have.get(detail) != target:
            name = _scaling_field(target)
            change = EstateChange(field=name, have=str(have.get(detail, "none")), want=str(target))
            yield _step(spec, Action.SET_SCALING, change, detail)
    if spec.billing != "provisioned":
        return
    for detail in sorted(set(have) - set(want)):
        change = EstateChange(field=_scaling_field(have[detail]), have=str(have[detail]), want="none")
        yield EstateDifference(
            resource=spec.resource, change=change, why="docferry removes no autoscaling", tolerable=True
        )


def _scaling_field(target: ScalingState) -> str:
    return f"autoscaling of {f'index {target.index}' if target.index else 'table'} {target.dimension}"


def _rule_stream(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    want = STREAM_VIEW if spec.stream else None
    if state.stream == want:
        return
    change = EstateChange(field="stream", have=state.stream or "off", want=want or "off")
    if state.stream and want:
        why = "a stream's view is fixed; it would have to be switched off first"
        yield EstateDifference(resource=spec.resource, change=change, why=why)
    else:
        yield _step(spec, Action.SET_STREAM, change)


def _rule_encryption(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    have, want = _show_encryption(state.encryption, state.kms_key), _show_encryption(spec.encryption, spec.kms_key)
    same_key = spec.encryption != "KMS" or spec.kms_key is None or spec.kms_key == state.kms_key
    if state.encryption != spec.encryption or not same_key:
        yield _step(spec, Action.SET_ENCRYPTION, EstateChange(field="encryption", have=have, want=want))


def _rule_protection(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.deletion_protection != spec.deletion_protection:
        change = EstateChange(
            field="deletion protection", have=on_off(state.deletion_protection), want=on_off(spec.deletion_protection)
        )
        yield _step(spec, Action.SET_PROTECTION, change)


def _rule_pitr(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.pitr != spec.pitr:
        yield _step(
            spec,
            Action.SET_PITR,
            EstateChange(field="point-in-time recovery", have=on_off(state.pitr), want=on_off(spec.pitr)),
        )


def _rule_ttl(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if state.ttl_attribute == spec.ttl_attribute:
        return
    change = EstateChange(field="TTL attribute", have=state.ttl_attribute or "off", want=spec.ttl_attribute)
    if state.ttl_attribute is None:
        yield _step(spec, Action.SET_TTL, change)
    else:
        why = "one TTL attribute must be off for an hour before another is on"
        yield EstateDifference(resource=spec.resource, change=change, why=why)


def _rule_tags(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    changes = tag_changes(spec.tags, state.tags)
    if changes:
        yield EstateStep(resource=spec.resource, action=Action.SET_TAGS, spec=spec, changes=changes)


def _rule_owner(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    """Whether that is allowed is decided before any plan (`core.compare.ownership`)."""
    changes = tag_changes(spec.owner_tag, state.tags)
    if changes:
        yield EstateStep(resource=spec.resource, action=Action.CLAIM_TABLE, spec=spec, changes=changes)


def _rule_finish(spec: TableSpec, state: TableState) -> Iterator[Finding]:
    if MARKER in state.tags:
        yield EstateStep(resource=spec.resource, action=Action.FINISH, spec=spec)


_TABLE_RULES = (
    _rule_keys,
    _rule_owner,
    _rule_billing,
    _rule_indexes,
    _rule_scaling,
    _rule_stream,
    _rule_encryption,
    _rule_protection,
    _rule_pitr,
    _rule_ttl,
    _rule_tags,
    _rule_finish,
)


REPLICA_RULES = (_rule_keys, _rule_indexes, _rule_stream, _rule_protection, _rule_pitr, _rule_tags)
"""What each region keeps for itself (PITR, tags, deletion protection) and what must have come along (the rest)."""


def table_fields(state: TableState) -> dict[str, str]:
    """A table as it is, field by field, for reports."""
    return {
        "keys": show_keys(state.keys),
        **{f"index {index.name}": str(index) for index in state.indexes},
        "billing": _show_units(state.billing, state.read_units, state.write_units),
        **{_scaling_field(target): str(target) for target in state.scaling},
        "stream": state.stream or "off",
        "encryption": _show_encryption(state.encryption, state.kms_key),
        "deletion protection": on_off(state.deletion_protection),
        "point-in-time recovery": on_off(state.pitr),
        "TTL attribute": state.ttl_attribute or "off",
        **{f"tag {key}": value for key, value in sorted(state.tags.items())},
        **{f"replica {region}": status for region, status in sorted(state.replicas.items())},
    }


def _creation(spec: TableSpec) -> tuple[EstateChange, ...]:
    made = table_fields(replace(created_table(spec), tags={**spec.tags, **spec.owner_tag}))
    later = {"point-in-time recovery", "TTL attribute"}
    return tuple(
        EstateChange(field=name, have="missing", want=want) for name, want in made.items() if name not in later
    )


def _show_units(billing: str, read_units: int, write_units: int) -> str:
    return billing if billing == "on_demand" else f"provisioned, {read_units} read, {write_units} write"


def _show_billing(spec: TableSpec) -> str:
    made = created_table(spec)
    return _show_units(made.billing, made.read_units, made.write_units)


def _show_encryption(encryption: str, key: str | None) -> str:
    return f"{encryption} ({key})" if encryption == "KMS" and key else encryption
